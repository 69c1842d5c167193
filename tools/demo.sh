#!/usr/bin/env bash
# Shows spanwire at work on this machine, in network namespaces of its own, and checks every frame.

set -euo pipefail

usage() {
    cat <<'END'
usage: sudo tools/demo.sh [--frames N] [--dev] [--keep]

Installs what is missing, builds, lays a wire with a host at each end and one at the monitor port, starts spanwired
on it, publishes a snapshot as a Go control plane writes it, and sends real frames both ways. Each frame and each
copy is compared byte for byte, and each ledger is added up. While traffic runs the rate is changed, and spanwired is
killed and started again. Then everything is removed again.

  --frames N   frames each way in each of the six exchanges (default 6000)
  --dev        with the unoptimised build that tests have
  --keep       leave the namespaces and spanwired standing, and say how to look at them
  --help       this

Exit status: 0 if all of it held, 1 if anything did not, 2 for a wrong option.
END
}

FRAMES=6000 KEEP=
# Where cargo puts a build, and how it is told to make that.
BUILD=release WHAT=(--release --package spanwire --package spanctl --package spanwire-lab)
while (($#)); do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --keep) KEEP=1 ;;
        --dev) BUILD=debug WHAT=(--workspace) ;;
        --frames) FRAMES=${2-}; shift || true ;;
        --frames=*) FRAMES=${1#*=} ;;
        *) echo "demo.sh: unknown option $1 (try --help)" >&2; exit 2 ;;
    esac
    shift || true
done
# Enough that the rate can be changed in the middle of an exchange.
if ! [[ $FRAMES =~ ^[0-9]{1,7}$ ]] || ((10#$FRAMES < 1000 || 10#$FRAMES > 1000000)); then
    echo "demo.sh: --frames wants a number from 1000 to 1000000" >&2
    exit 2
fi
FRAMES=$((10#$FRAMES))
if ((EUID != 0)); then
    echo "demo.sh: needs root, for network namespaces and AF_XDP: sudo tools/demo.sh" >&2
    exit 1
fi

START=$SECONDS
say() { printf '\n== %s  [%d s]\n' "$*" $((SECONDS - START)); }
fail() {
    printf '\nFAILED: %s\n' "$*" >&2
    exit 1
}

# --- whatever happens, nothing stays -----------------------------------------------------------------------------

LAB='' DIR='' DUT='' DAEMON='' CHILD=''
ended() { ! kill -0 "$1" 2>/dev/null; }
stop_daemon() {
    local code=0
    kill -TERM "$DAEMON" 2>/dev/null || true
    for _ in {1..100}; do
        ended "$DAEMON" && break
        sleep 0.1
    done
    ended "$DAEMON" || kill -KILL "$DAEMON" 2>/dev/null || true
    wait "$DAEMON" || code=$?
    DAEMON=''
    return "$code"
}
cleanup() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [[ $CHILD ]]; then
        kill -- "-$CHILD" 2>/dev/null || true
        wait "$CHILD" 2>/dev/null || true
    fi
    if ((code != 0)) && [[ -s $DIR/spanwired.log ]]; then
        echo "what spanwired said last:" >&2
        tail -n 20 "$DIR/spanwired.log" | sed 's/^/  /' >&2
    fi
    if [[ $KEEP && $code == 0 ]]; then
        exit 0
    fi
    [[ -z $DAEMON ]] || stop_daemon || true
    [[ -z $DUT ]] || detach >/dev/null || true
    [[ -z $LAB ]] || "$BIN/spanlab" down "$LAB" || code=1
    [[ -z $DIR ]] || rm -rf "$DIR" || code=1
    exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# Long commands run in the background, so that a signal to this script is not kept waiting for their end, and in a
# process group of their own, so that all of them can be ended.
start() {
    set -m
    "$@" &
    CHILD=$!
    set +m
}
finish() {
    local code=0
    wait "$CHILD" || code=$?
    CHILD=''
    return "$code"
}
run() {
    start "$@"
    finish
}

# --- build -------------------------------------------------------------------------------------------------------

say "setup: what is missing"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/setup.sh
echo "$(cargo --version), $(uname -sr)"

say "$BUILD build (minutes the first time)"
run as_owner cargo build --locked "${WHAT[@]}" ||
    fail "the build"
BIN=$TARGET/$BUILD
spanctl() { "$BIN/spanctl" --dir "$DIR" "$@"; }
# The network namespace alone: "ip netns exec" has a mount namespace of its own too, and what is pinned there goes with it.
in_dut() { nsenter --net="/run/netns/$DUT" "$@"; }
detach() { in_dut "$BIN/spanctl" --dir "$DIR" detach; }

# --- a wire with spanwired on it -----------------------------------------------------------------------------------

say "the lab: gen -- w0a (dut) w0b -- sink, and mon0 -- mon"
"$BIN/spanlab" sweep
DIR=$(mktemp -d "${TMPDIR:-/tmp}/spanwire-demo.XXXXXX")
# A lab that is kept must not be swept away as this script's own once it has ended.
OWNED=(--owner $$)
[[ -z $KEEP ]] || OWNED=()
"$BIN/spanlab" up "${OWNED[@]}" >"$DIR/lab.json" || fail "the lab"
LAB=$(sed -n 's/^ *"lab": "\(.*\)".*/\1/p' "$DIR/lab.json")
DUT=$(sed -n 's/^ *"dut": "\(.*\)".*/\1/p' "$DIR/lab.json")
[[ $LAB && $DUT ]] || fail "spanlab up did not say what it laid"
echo "lab $LAB, regions in $DIR"

say "spanwired, before there is any snapshot"
# A shard that waits long for its processor loses frames, and this machine may be busy with other things: ahead of
# them where that is allowed.
AHEAD=(chrt --fifo 1)
"${AHEAD[@]}" true 2>/dev/null || AHEAD=()
launch() {
    NO_COLOR=1 setsid "${AHEAD[@]}" nsenter --net="/run/netns/$DUT" "$BIN/spanwired" --dir "$DIR" \
        >>"$DIR/spanwired.log" 2>&1 </dev/null &
    DAEMON=$!
}
# Waits until this process has every port and entry in use.
in_use() {
    local shown attempt
    for attempt in {1..100}; do
        shown=$(spanctl --json show) || fail "spanctl show"
        grep -q "\"pid\": $DAEMON," <<<"$shown" && grep -q '"state": "active"' <<<"$shown" &&
            ! grep -qE '"state": "(inactive|unknown)"' <<<"$shown" && return
        ended "$DAEMON" && fail "spanwired ended"
        sleep 0.1
    done
    spanctl show
    fail "not everything is active after 10 s"
}
launch

say "a snapshot as a Go control plane writes it: 11 -> 22 at 1 in 100, 12 -> 22 every frame"
GENERATION=
publish() {
    local said
    said=$(spanctl import "$@") || fail "spanctl import"
    echo "$said"
    GENERATION=$(sed -n 's/^published generation \([0-9]*\):.*/\1/p' <<<"$said")
    [[ $GENERATION ]] || fail "spanctl import did not say which generation it published"
}
publish tests/fixtures/two-instances.snapshot.json --wire 11:12
spanctl wait --generation "$GENERATION" || fail "the snapshot is not in use"
in_use
spanctl show

# --- traffic -------------------------------------------------------------------------------------------------------

# Reads the counters once every clone is out, and checks them.
audit() {
    local stats=''
    for _ in {1..50}; do
        stats=$(spanctl --json stats) || fail "spanctl stats"
        grep -qE '"in_flight": [1-9]' <<<"$stats" || break
        sleep 0.1
    done
    "$BIN/spanlab" ledger --delivered "$@" <<<"$stats" || fail "a ledger"
}
# Frames that the entry of an ingress has observed.
observed() { spanctl --json stats | "$BIN/spanlab" ledger | sed -n "s/^mirror $1 -> .*: observed \([0-9]*\) = .*/\1/p"; }

say "$FRAMES frames each way: what crosses, what is mirrored"
run "$BIN/spanlab" exchange --lab "$LAB" --seed 1 --frames "$FRAMES" --pps 10000 --mirror-a 100 --mirror-b 0 ||
    fail "the first exchange"
spanctl stats
audit --observed "11=$FRAMES" --observed "12=$FRAMES"

say "$FRAMES frames each way while a second import changes 1 in 100 to 1 in 7"
start "$BIN/spanlab" exchange --lab "$LAB" --seed 2 --frames "$FRAMES" --pps $((FRAMES / 2)) --no-monitor
for _ in {1..200}; do
    (($(observed 12) > FRAMES)) && break
    sleep 0.02
done
spanctl export | sed 's/"rate":100}/"rate":7}/' >"$DIR/second.json"
publish "$DIR/second.json"
spanctl wait --generation "$GENERATION" || fail "the second snapshot is not in use"
running=1
ended "$CHILD" && running=
finish || fail "a frame was lost or came twice while the rate changed"
[[ $running ]] || fail "traffic had ended before the rate was changed"
# The changed entry starts afresh, the other one goes on counting.
SEEN=$(observed 11) || fail "a ledger"
((SEEN > 0 && SEEN < FRAMES)) || fail "the new rate saw $SEEN of $FRAMES frames, so it did not begin among them"
echo "the new rate saw the last $SEEN of them"
audit --observed "12=$((2 * FRAMES))"

say "$FRAMES frames each way at the new rate"
run "$BIN/spanlab" exchange --lab "$LAB" --seed 3 --frames "$FRAMES" --pps 10000 --mirror-a 7 --seen-a "$SEEN" --mirror-b 0 ||
    fail "the third exchange"
audit --observed "11=$((SEEN + FRAMES))" --observed "12=$((3 * FRAMES))"

say "$FRAMES frames each way while spanwired is killed, and started again a second later"
start "$BIN/spanlab" exchange --lab "$LAB" --seed 4 --frames "$FRAMES" --pps $((FRAMES / 4)) --no-monitor
for _ in {1..200}; do
    (($(observed 12) > 3 * FRAMES)) && break
    sleep 0.02
done
kill -KILL "$DAEMON"
wait "$DAEMON" 2>/dev/null || true
DAEMON=''
sleep 1
launch
in_use
running=1
ended "$CHILD" && running=
finish || fail "a frame was lost, or came twice, while spanwired was gone"
[[ $running ]] || fail "traffic had ended before spanwired was back"
grep -E 'frames have crossed unseen|while no spanwired ran' "$DIR/spanwired.log" | sed 's/^/  /'
(($(grep -c 'its selector was found on it; [1-9][0-9]* frames have crossed unseen' "$DIR/spanwired.log") == 2)) ||
    fail "the second spanwired has not taken over what crossed"
# Ledgers begin anew with the process.
audit
SEEN=$(observed 11) || fail "a ledger"
SEEN_B=$(observed 12) || fail "a ledger"
((SEEN > 0 && SEEN < FRAMES)) || fail "the second spanwired saw $SEEN of $FRAMES frames"
echo "the second spanwired saw the last $SEEN of them"

say "$FRAMES frames each way, mirrored as before"
run "$BIN/spanlab" exchange --lab "$LAB" --seed 5 --frames "$FRAMES" --pps 10000 --mirror-a 7 --seen-a "$SEEN" --mirror-b 0 ||
    fail "the exchange after the death"
audit --observed "11=$((SEEN + FRAMES))" --observed "12=$((SEEN_B + FRAMES))"

# --- the end -------------------------------------------------------------------------------------------------------

if [[ $KEEP ]]; then
    say "kept: spanwired is process $DAEMON in the namespace $DUT"
    cat <<END
look:    sudo $BIN/spanctl --dir $DIR show
send:    sudo $BIN/spanlab exchange --lab $LAB --no-monitor
watch:   sudo ip netns exec ${DUT%-dut}-mon tcpdump -e -i m0
remove:  sudo kill $DAEMON; sudo nsenter --net=/run/netns/$DUT $BIN/spanctl --dir $DIR detach
         sudo $BIN/spanlab down $LAB; sudo rm -r $DIR
END
else
    say "stopping: frames go on crossing, and nothing is mirrored"
    stop_daemon || fail "spanwired did not end cleanly"
    run "$BIN/spanlab" exchange --lab "$LAB" --seed 6 --frames "$FRAMES" --pps 10000 || fail "the exchange after the stop"

    say "taking it off: nothing may stay attached"
    detach || fail "spanctl detach"
    ! "$BIN/spanlab" exchange --lab "$LAB" --seed 7 --frames 100 --idle-ms 300 >/dev/null || fail "frames still cross"
    ! ip -n "$DUT" -d link show | grep -qE 'prog/xdp|PROMISC' || fail "a port is not as it was"
fi
printf '\nall held: %d frames crossed byte for byte and in order, copies exact at 1 in 100, at 1 in 7 and at every frame,\n' \
    $(((KEEP ? 10 : 12) * FRAMES))
echo 'the rate changed and spanwired killed under traffic, every ledger closed'
