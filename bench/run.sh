#!/bin/sh
# Installs the peers, builds Evenkeel and the benchmark, runs it, and writes docs/benchmarks.md.
# Options go to the benchmark: `bench/run.sh --quick`, `bench/run.sh --help`.
set -eu
cd "$(dirname "$0")/.."

bench/setup.sh
cargo build --release --locked
cargo build --release --locked --manifest-path bench/Cargo.toml
exec "${CARGO_TARGET_DIR:-bench/target}/release/bench" \
    --evenkeel "${CARGO_TARGET_DIR:-target}/release/evenkeel" "$@"
