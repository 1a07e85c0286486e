#!/bin/sh
# Installs the peers, builds Evenkeel and the benchmark, runs it, and writes docs/benchmarks.md, or
# with --http, --tls, --packets or --upgrade docs/benchmarks-http.md and so on.
# Options go to the benchmark: `bench/run.sh --quick`, `bench/run.sh --help`.
set -eu
cd "$(dirname "$0")/.."

case " $* " in
*" --packets "* | *" --upgrade "*) bench/setup.sh --packets ;;
*) bench/setup.sh ;;
esac
target="${CARGO_TARGET_DIR:-bench/target}"
cargo build --release --locked
cargo build --release --locked --manifest-path bench/Cargo.toml
case " $* " in
*" --http "* | *" --tls "*)
    # It takes minutes once; without it the benchmark lists Pingora as absent.
    cargo build --release --locked --manifest-path bench/pingora/Cargo.toml --target-dir "$target" ||
        echo "run: could not build bench/pingora" >&2
    ;;
esac
exec "$target/release/bench" --evenkeel "${CARGO_TARGET_DIR:-target}/release/evenkeel" "$@"
