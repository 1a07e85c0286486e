#!/bin/sh
# Builds Evenkeel and the soak run, and starts it: ten minutes under load, backends dying at random.
# Options go to it: `bench/soak.sh --for 1h --seed 7`, `bench/soak.sh --help`.
set -eu
cd "$(dirname "$0")/.."

cargo build --release --locked
cargo build --release --locked --manifest-path bench/Cargo.toml
exec "${CARGO_TARGET_DIR:-bench/target}/release/soak" \
    --evenkeel "${CARGO_TARGET_DIR:-target}/release/evenkeel" "$@"
