#!/usr/bin/env bash
# Makes the manual pages and shell completions that a wheel carries, packaging/data, with the program itself.
# Run it after any change of commands, flags or their help; tests/suite/cli.rs fails until it was.
# An absolute BINARY instead of a release build, and DIR instead of packaging/data, are for that test.
set -euo pipefail
binary=${1-}
cd "$(dirname "$0")/.."
folder=${2-packaging/data}

if [ -z "$binary" ]; then
    cargo build --release
    binary=${CARGO_TARGET_DIR:-target}/release/clip-onnx
fi

share=$folder/share
rm -rf "$share" # pages of commands that are gone
"$binary" man --out "$share/man/man1"
completion() {
    mkdir -p "$(dirname "$share/$2")"
    "$binary" completions "$1" >"$share/$2"
}
completion bash bash-completion/completions/clip-onnx
completion zsh zsh/site-functions/_clip-onnx
completion fish fish/vendor_completions.d/clip-onnx.fish
