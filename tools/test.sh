#!/usr/bin/env bash
# Sets up and runs every test there is. Stops at the first step that fails.

set -euo pipefail

usage() {
    cat <<'END'
usage: sudo tools/test.sh [--quick] [--long]

Formatting, lints, every test of the workspace (those on real sockets in network namespaces included), documentation
tests, documentation, cargo check for aarch64 (left out where there is no standard library for it), a virtual machine with
real drivers (tools/vmlab; left out where its packages cannot be had), and tools/demo.sh.

  --quick   without aarch64, the virtual machine and the demo
  --long    with the long campaigns (sets SPANWIRE_LONG=1; one needs a release build, and the demo has that too), all
            virtual machines, and ten minutes of each fuzz target, which need a nightly compiler and cargo-fuzz
  --help    this

Exit status: 0 if every step passed, 1 if one did not, 2 for a wrong option.
END
}

QUICK=
LONG=
# The build of the tests, and not minutes for another one.
DEMO=(--dev)
for option; do
    case $option in
        --help | -h) usage; exit 0 ;;
        --quick) QUICK=1 ;;
        --long) LONG=1 DEMO=(); export SPANWIRE_LONG=1 ;;
        *) echo "test.sh: unknown option $option (try --help)" >&2; exit 2 ;;
    esac
done
if ((EUID != 0)); then
    echo "test.sh: needs root: the tests on real sockets make network namespaces (sudo tools/test.sh)" >&2
    exit 1
fi

step() {
    local name=$1 start=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if ! "$@"; then
        printf '\nFAILED: %s, after %d s\n' "$name" $((SECONDS - start)) >&2
        exit 1
    fi
    printf -- '-- %s: passed, %d s\n' "$name" $((SECONDS - start))
}

# rustup's minimal profile comes without them.
components() {
    cargo fmt --version && cargo clippy --version && return
    as_owner rustup component add rustfmt clippy || {
        echo "cargo fmt and cargo clippy are needed (rustup component add rustfmt clippy)" >&2
        return 1
    }
}

# Ten minutes of each fuzz target. Without a sanitizer: see tools/fuzz/src/lib.rs.
fuzz() {
    as_owner cargo +nightly fuzz --version || {
        echo "needed: rustup toolchain install nightly --profile minimal; cargo install --locked cargo-fuzz" >&2
        return 1
    }
    local target
    for target in image importer junos segments record rings; do
        as_owner mkdir -p "tools/fuzz/corpus/$target" &&
            as_owner cargo +nightly fuzz run --fuzz-dir tools/fuzz -s none "$target" "tools/fuzz/corpus/$target" \
                "tools/fuzz/seeds/$target" -- -max_total_time=600 -timeout=30 -print_final_stats=1 || return
    done
}

# Runs a command as on a machine that has just booted, where the kernel can make it look so: what reaches further back
# than that shows.
just_booted() {
    local up clocks
    read -r up _ </proc/uptime
    clocks=(unshare --time --monotonic "-$((${up%.*} - 1))" --boottime "-$((${up%.*} - 1))" --fork)
    "${clocks[@]}" true 2>/dev/null || { echo 'no time namespaces: with the clocks as they are'; clocks=(); }
    "${clocks[@]}" "$@"
}

# Types and cfgs of the other machine that there is for, without a link: C is compiled as for this one. Where neither its standard
# library nor a way to get that is there, it is left out.
other_machine() {
    local target=aarch64-unknown-linux-gnu libs
    libs=$(as_owner rustc --print target-libdir --target $target) || return
    if ! compgen -G "$libs/libstd-*" >/dev/null && ! as_owner timeout 120 rustup target add $target; then
        echo "left out: no standard library for it (rustup target add $target)"
        return
    fi
    as_owner env CC_aarch64_unknown_linux_gnu=cc AR_aarch64_unknown_linux_gnu=ar \
        cargo check --workspace --locked --target $target
}

# Namespaces of runs that were killed. PREFIX-PID-… of a living process is left alone.
sweep() {
    local prefix
    for prefix in swlab swlabtest sw-steer swclsact swdev swfeat swhooks selector; do
        "$TARGET/debug/spanlab" sweep --prefix "$prefix" || return
    done
}

# Without packages there is no machine to test in, which tools/vmlab/run has said.
virtual_machines() {
    local code=0
    as_owner tools/vmlab/run --bin "$TARGET/debug" --dir "$TARGET/vmlab" "$@" || code=$?
    ((code == 0 || code == 3))
}

# The tests run as root; what they leave in the target directory goes back to the owner of the tree.
give_back() {
    [[ -z $OWNER ]] || chown -R --from=0 "$SUDO_UID:$SUDO_GID" "$TARGET"
}

START=$SECONDS
cd "$(dirname "${BASH_SOURCE[0]}")/.."
printf '== setup\n'
. tools/setup.sh
trap give_back EXIT
printf -- '-- setup: passed, %d s\n' $((SECONDS - START))

step 'components' components
step 'formatting' as_owner cargo fmt --all --check
step 'build' as_owner cargo build --workspace --locked
step 'namespaces of dead runs' sweep
step 'lints' as_owner cargo clippy --workspace --all-targets --locked -- -D warnings
step 'test build' as_owner cargo test --workspace --locked --no-run
# They wait for devices and processes most of their time, so that more of them fit than there are processors.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((4 * $(nproc)))}
step 'tests and documentation tests' just_booted cargo test --workspace --exclude spanbench --locked
# What it measures is told by the kernel's own clock too, which has no namespaces.
step 'tests of spanbench' cargo test --package spanbench --locked
if [[ -n ${SPANWIRE_LONG:-} ]]; then
    # More frames than an unoptimised build gets through.
    step 'soak' as_owner cargo test --release --locked --test pipeline soak -- --nocapture
fi
step 'documentation' as_owner env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
if [[ -z $QUICK ]]; then
    step 'aarch64' other_machine
    [[ $LONG ]] || step 'a virtual machine' virtual_machines --short
    step 'demo' tools/demo.sh "${DEMO[@]}"
fi
if [[ -n $LONG ]]; then
    step 'virtual machines' virtual_machines
    step 'fuzz targets' fuzz
fi
printf '\nevery step passed, %d s\n' $((SECONDS - START))
