#!/usr/bin/env bash
# Builds the targets with coverage, on the stable toolchain: bash fuzz/build.sh [TARGET...]
# The flags are those of `cargo fuzz build --sanitizer none`. FUZZ_PROFILE=quick compiles in half the time.
set -euo pipefail
cd "$(dirname "$0")"
host=$(rustc -vV | sed -n 's/^host: //p')
flags=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=4
    --cfg=fuzzing
)
bins=()
for target in "$@"; do bins+=(--bin "$target"); done
# For one target triple, so that build scripts are compiled without coverage.
profile=${FUZZ_PROFILE:-release}
RUSTFLAGS="${flags[*]}" cargo build --profile "$profile" --target "$host" "${bins[@]}"
echo "$PWD/target/$host/$profile"
