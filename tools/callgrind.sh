#!/usr/bin/env bash
# Counts the instructions a shard spends on a frame, and compares them with benches/instructions.tsv.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TABLE=benches/instructions.tsv
ALLOWED=3 # per cent

usage() {
    cat <<END
usage: tools/callgrind.sh [--write]

Runs \`spanbench core\` under callgrind, counts the instructions of Shard::breathe, and says which cases differ by more
than $ALLOWED % from $TABLE. Takes about a minute beside the release build.

  --write   renew $TABLE instead
  --help    this

Exit status: 0 if nothing differs or valgrind is not there, 1 if something does, 2 for a wrong option or a run that
failed.
END
}

fail() {
    echo "callgrind.sh: $*" >&2
    exit 2
}

WRITE=
for option; do
    case $option in
        --write) WRITE=1 ;;
        --help | -h) usage; exit 0 ;;
        *) fail "unknown option $option (try --help)" ;;
    esac
done
if ! command -v valgrind >/dev/null; then
    echo "callgrind.sh: skipped, valgrind is not there (Debian: apt-get install valgrind)"
    exit 0
fi

cargo build --release --locked -q -p spanbench || fail "spanbench does not build"
SPANBENCH=${CARGO_TARGET_DIR:-target}/release/spanbench
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

# Two lengths of a run: what one has more than the other is frames and nothing else. Both are whole slices of 256 batches,
# and each slice gives the shard 64 batches more, which do not count there and do here.
SHORT=16384 LONG=81920
MORE=$(((LONG - SHORT) * (256 + 64) / 256))

# collected CASE BYTES FRAMES: instructions of Shard::breathe and what it calls.
collected() {
    valgrind --quiet --tool=callgrind --callgrind-out-file="$SCRATCH/out" --toggle-collect='*Shard*breathe*' \
        "$SPANBENCH" core --case "$1" --sizes "$2" --runs 1 --frames "$3" >"$SCRATCH/log" 2>&1 ||
        { cat "$SCRATCH/log" >&2; fail "$1, $2 bytes: the run failed"; }
    local count
    count=$(sed -n 's/^totals: \([1-9][0-9]*\)$/\1/p' "$SCRATCH/out")
    [[ $count ]] || fail "$1, $2 bytes: callgrind saw nothing of Shard::breathe"
    echo "$count"
}

# growth CASE BYTES: instructions of the frames that the longer run has more.
growth() {
    local long short
    long=$(collected "$1" "$2" $LONG) && short=$(collected "$1" "$2" $SHORT) || exit
    echo $((long - short))
}

per_frame() { awk -v n="$1" -v frames=$MORE 'BEGIN { printf "%.1f", n / frames }'; }

# The figures hang on these: the compiler writes the instructions, and the C library chooses its memcpy by processor.
made_with() {
    echo "# $(rustc --version), $(valgrind --version), $(sed -n '/^model name/{s/.*: //p;q}' /proc/cpuinfo)"
}

measure() {
    made_with
    printf '# case\tbytes\tinstructions a frame\n'
    local bytes forward with case
    for bytes in 64 512 1514; do
        forward=$(growth 'forward only' $bytes) || exit
        printf 'forward only\t%s\t%s\n' $bytes "$(per_frame "$forward")"
        for case in 'mirror 1 in 1000' 'mirror all'; do
            # The same run has "forward only" before the case.
            with=$(growth "$case" $bytes) || exit
            printf '%s\t%s\t%s\n' "$case" $bytes "$(per_frame $((with - forward)))"
        done
    done
}

measure >"$SCRATCH/table" || exit
if [[ $WRITE ]]; then
    cat "$SCRATCH/table" >"$TABLE"
    echo "wrote $TABLE"
    exit 0
fi
[[ -r $TABLE ]] || fail "$TABLE is not there (make it with --write)"
if [[ $(head -n1 "$TABLE") != "$(made_with)" ]]; then
    echo "$TABLE is from other tools or another processor; differences may be theirs:"
    echo "  then  $(head -n1 "$TABLE")"
    echo "  now   $(made_with)"
fi
awk -F'\t' -v allowed=$ALLOWED '
    /^#/ { next }
    NR == FNR { then[$1, $2] = $3; next }
    {
        key = $1 SUBSEP $2
        verdict = "not in the table"
        if (key in then) {
            change = 100 * ($3 / then[key] - 1)
            verdict = sprintf("%+.1f %%", change)
            is_off = change > allowed || change < -allowed
        } else {
            is_off = 1
        }
        delete then[key]
        differ += is_off
        printf "%-18s %5d bytes %8.1f instructions a frame, %s%s\n", $1, $2, $3, verdict, is_off ? "  DIFFERS" : ""
    }
    END {
        for (key in then) {
            split(key, of, SUBSEP)
            printf "%-18s %5d bytes: in the table and not measured  DIFFERS\n", of[1], of[2]
            differ++
        }
        exit differ > 0
    }' "$TABLE" "$SCRATCH/table"
