#!/usr/bin/env bash
# Builds spanbench and counts the instructions a shard spends on a frame, beside benches/instructions.tsv. Takes about
# a minute after the build. --write renews the table.
# Exit status: 0 if nothing differs or valgrind is not there, 1 if something does, 2 for a wrong option or a run that
# failed.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --release --locked -q -p spanbench || exit 2
exec "${CARGO_TARGET_DIR:-target}/release/spanbench" instructions "$@"
