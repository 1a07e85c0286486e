#!/usr/bin/env bash
# Has testssl.sh look at a listener of each profile: its sections on protocols, ciphers and vulnerabilities. Fails if it
# finds anything worse than LOW. Profiles may be named; without a name, all are looked at. It takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

evenkeel=${EVENKEEL:-${CARGO_TARGET_DIR:-target}/debug/evenkeel}
scanner=$(command -v testssl || command -v testssl.sh) || {
    echo "testssl.sh is not installed: tests/install.sh, or apt-get install testssl.sh" >&2
    exit 1
}
profiles=("$@")
[ ${#profiles[@]} -gt 0 ] || profiles=(intermediate modern)

folder=$(mktemp -d)
proxy=""
trap '[ -z "$proxy" ] || kill "$proxy" 2>/dev/null || true; rm -rf "$folder"' EXIT

# An authority of our own, which testssl.sh is told to trust.
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${key[@]}" -days 30 -subj "/CN=testssl authority" \
    -keyout "$folder/ca.key" -out "$folder/ca.crt" 2>/dev/null
openssl req "${key[@]}" -subj "/CN=localhost" -addext "subjectAltName=DNS:localhost" \
    -keyout "$folder/server.key" -out "$folder/server.csr" 2>/dev/null
openssl x509 -req -in "$folder/server.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -days 30 \
    -CAcreateserial -copy_extensions copy -out "$folder/server.crt" 2>/dev/null

failed=0
for profile in "${profiles[@]}"; do
    cat >"$folder/evenkeel.toml" <<END
[log]
access = "off"
[http.web]
listen = "127.0.0.1:0"
tls    = { certificate = "server.crt", key = "server.key", profile = "$profile" }
route  = [{ reply = { status = 200, body = "hello" } }]
END
    "$evenkeel" run -c "$folder/evenkeel.toml" 2>"$folder/log" &
    proxy=$!
    port=""
    for _ in $(seq 100); do
        port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$folder/log")
        [ -z "$port" ] || break
        sleep 0.1
    done
    [ -n "$port" ] || { cat "$folder/log" >&2; exit 1; }
    rm -f "$folder/found.json"
    # It exits with the number of its findings, good ones among them: the file says which.
    "$scanner" --quiet --warnings off --color 0 --add-ca "$folder/ca.crt" --ip one \
        -p -s -U --jsonfile "$folder/found.json" "localhost:$port" >"$folder/said" 2>&1 || true
    kill "$proxy"
    wait "$proxy" 2>/dev/null || true
    proxy=""
    python3 - "$profile" "$folder/found.json" <<'END' || failed=1
import json, sys
profile, file = sys.argv[1:]
# The tool's own openssl may lack the ciphers of GOST: it says so as a warning.
found = [one for one in json.load(open(file)) if one["id"] != "engine_problem"]
seen = [one for one in found if one["severity"] in ("OK", "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL")]
bad = [one for one in found if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")]
for one in bad:
    print(f'{profile}: {one["severity"]}: {one["id"]}: {one["finding"]}')
print(f"{profile}: testssl.sh looked at {len(seen)} things and found {len(bad)} worse than LOW")
# Fewer would mean that it did not get through.
sys.exit(1 if bad or len(seen) < 30 else 0)
END
done
[ "$failed" = 0 ] || { cat "$folder/said"; exit 1; }
