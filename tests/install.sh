#!/usr/bin/env bash
# Installs the servers and clients that the tests put in front of and behind Evenkeel.
# As root on Debian and Ubuntu it installs what is missing and starts nothing; otherwise it says what to run.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

have() { command -v "$1" >/dev/null; }
# Debian keeps PostgreSQL's own programs beside the PATH, one folder per version.
have_postgres() { compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null || have "$1"; }
# Only OpenBSD's netcat has the options that the tests use.
have_netcat() { have nc && [[ $(nc -h 2>&1 || true) == *OpenBSD* ]]; }

# The dashboard is looked at in Chromium, driven by a package from npm: of the version and with the checksum of the lock file.
drive_chromium() {
    local from=tests/dashboard into=target/dashboard-tools
    cmp --silent $from/package-lock.json $into/package-lock.json && return
    mkdir -p $into
    cp $from/package.json $from/package-lock.json $into
    # What is half done is done again.
    (cd $into && npm ci --ignore-scripts --no-audit --no-fund --silent) || { rm $into/package-lock.json; return 1; }
}

missing=()
{ have_postgres postgres && have_postgres initdb && have_postgres pgbench; } || missing+=(postgresql)
have redis-server || missing+=(redis-server)
{ have redis-cli && have redis-benchmark; } || missing+=(redis-tools)
have nginx || missing+=(nginx)
have haproxy || missing+=(haproxy)
have curl || missing+=(curl)
{ have nghttp && have h2load; } || missing+=(nghttp2-client)
have wrk || missing+=(wrk)
have mosquitto || missing+=(mosquitto)
{ have mosquitto_pub && have mosquitto_sub; } || missing+=(mosquitto-clients)
have python3 || missing+=(python3)
{ have pebble && have pebble-challtestsrv; } || missing+=(pebble)
have keepalived || missing+=(keepalived)
have ip || missing+=(iproute2)
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing+=(libnginx-mod-stream)
have chromium || missing+=(chromium)
have chromedriver || missing+=(chromium-driver)
have gdb || missing+=(gdb)
have promtool || missing+=(prometheus)
have openssl || missing+=(openssl)
{ have testssl || have testssl.sh; } || missing+=(testssl.sh)
have_netcat || missing+=(netcat-openbsd)
have node || missing+=(nodejs)
have npm || missing+=(npm)
if [ ${#missing[@]} -eq 0 ]; then
    drive_chromium
    exit 0
fi

if [ "$(id -u)" -ne 0 ] || ! have apt-get; then
    echo "The tests need programs that are not installed. On Debian or Ubuntu run:" >&2
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

# The tests start their own servers on ports of their own: while we install, no service may start by itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi

echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
drive_chromium
