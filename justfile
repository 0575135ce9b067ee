# Recipes for work on clip-onnx. `just` alone lists them.
# It is a program of its own: `cargo install just`, or `pip install rust-just`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# After an edit only what it touches is compiled again. .ci/run compiles without this, as releases are.
export CARGO_INCREMENTAL := "1"

# Modules of tests/suite that take longer than all others together. `just check` leaves them out.
slow := "--skip inputs_outputs:: --skip mutations:: --skip targets::"

# The recipes.
default:
    @just --list --unsorted

# Compiles everything once: the program, its tests, the examples. The first time takes minutes.
setup:
    cargo test --release --no-run
    cargo clippy --release --all-targets

# Before each commit, below three minutes: format, lints, unit tests, all of the suite but its slow modules.
check:
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings
    cargo test --release --quiet --lib --test suite -- {{ slow }}

# Every test, or those whose name has TEXT: `just test`, `just test cases::`.
test text="":
    cargo test --release -- {{ text }}

# Format, lints, the library without features, and the documentation comments, as .ci/run checks them.
lint:
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings
    cargo check --release --lib --no-default-features
    RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps

# The documentation site, in target/site. Needs `pip install mkdocs-material`.
docs:
    mkdocs build --strict

# The web page, in web/dist, and its unit tests. Needs Node 20. The next build of the program embeds the page.
web:
    cd web && npm ci && npm run build && npm test

# Manual pages and shell completions, in packaging/data. Run it after any change of flags or their help.
packaging:
    scripts/make_packaging.sh

# What the published crate contains, and whether it builds on its own.
crate:
    cargo package --list --allow-dirty
    cargo package --locked --allow-dirty

# Fuzzes all targets, or some, for so many seconds each: `just fuzz 60`, `just fuzz 600 torch`. Findings: fuzz/artifacts.
fuzz seconds="60" *targets:
    bash fuzz/run.sh {{ seconds }} {{ targets }}

# Kills, full disks, limits and races, as .ci/run has them.
faults:
    python3 scripts/check_faults.py

# Licences, sources and duplicate versions of the dependencies. Needs `cargo install --locked cargo-deny`.
deny:
    cargo deny check licenses bans sources

# Everything that must hold before a change lands. Installs what it needs into a temporary environment.
ci:
    CARGO_INCREMENTAL=0 bash .ci/run
