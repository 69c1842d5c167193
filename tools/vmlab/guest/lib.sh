# What scenarios are written with. The machine's own namespace is the device under test; the hosts have one each, named as
# spanlab names its own, so that `spanlab exchange` runs over the NICs.
#
# A check has a name and ends as `ok`, `failed`, or `refused` (spanwire does not do it, and says why): see `result`.

LAB=swlab-1-1 DIR=/run/spanwire DAEMON='' GENERATION=0 IMPORTED=''
PPS=${PPS:-200} FRAMES=${FRAMES:-400} MTU=1500
export SPANWIRE_DIR=$DIR

say() { local up; read -r up _ </proc/uptime; echo; echo "== [$up] $*"; }

# result CHECK ok|failed|refused TEXT…
result() {
    local check=$1 state=$2 up
    shift 2
    read -r up _ </proc/uptime
    echo "-- $check: $state: $*"
    # Tabs and line ends separate.
    printf '%s\t%s\t%s\t%s\n' "$check" "$state" "$up" "$(tr '\t\n' '  ' <<<"$*" | cut -c1-600)" >/dev/ttyS2
}

# --- the lab -----------------------------------------------------------------------------------------------------

ns() { local role=$1; shift; ip netns exec "$LAB-$role" "$@"; }
monitor_of_qemu() { echo "$*" >/dev/ttyS1; }
device() { # MAC-END: the name that the kernel gave it
    local file
    for file in /sys/class/net/*/address; do
        [[ $(cat "$file") != "52:54:00:00:00:0$1" ]] || { file=${file%/address}; echo "${file##*/}"; return; }
    done
}
lay() {
    local role dev port at
    ip netns attach "$LAB-dut" 1
    for role in gen sink mon; do ip netns add "$LAB-$role"; done
    for role in gen sink mon dut; do
        ns $role sh -c 'for conf in all default; do echo 1 >/proc/sys/net/ipv6/conf/$conf/disable_ipv6; done' 2>/dev/null
    done
    for at in 2:w0a 3:w0b 5:mon0; do
        [[ $model != veth ]] || continue
        dev=$(device ${at%:*})
        [[ $dev ]] || { result lab failed "no NIC for ${at#*:}: no driver of $model took it"; finish; }
        ip link set "$dev" name ${at#*:} || result lab failed "$dev is not to be named ${at#*:}"
    done
    for at in 1:gen:g0:w0a 4:sink:s0:w0b 6:mon:m0:mon0; do
        IFS=: read -r at role dev port <<<"$at"
        if [[ $model == veth ]]; then ip link add "$port" type veth peer name "$dev" netns "$LAB-$role"
        else ip link set "$(device $at)" netns "$LAB-$role" name "$dev"; fi
        ns $role ethtool -K $dev tx off rx off gso off tso off gro off >/dev/null 2>&1
        # Without NAPI at its far end a veth drops what XDP redirects to it.
        [[ $model != veth ]] || ns $role ethtool -K $dev gro on txvlan off >/dev/null 2>&1
        ip -n "$LAB-$role" link set $dev arp off promisc on up
    done
    for dev in w0a w0b mon0; do
        ethtool -K $dev gro off lro off >/dev/null 2>&1
        [[ -z ${CHANNELS-} ]] || ethtool -L $dev combined "$CHANNELS" >/dev/null 2>&1
        ip link set $dev arp off up
    done
    links_up || result lab failed "links that do not come up"
    A=$(cat /sys/class/net/w0a/ifindex) B=$(cat /sys/class/net/w0b/ifindex) M=$(cat /sys/class/net/mon0/ifindex)
    for dev in w0a mon0; do
        echo "$dev: $(ethtool -i $dev | sed -n 's/^driver: //p'), $(ethtool -l $dev 2>/dev/null | sed -n '/Current/,$p' | tr -s '\t\n' ' '), $(ethtool -g $dev 2>/dev/null | sed -n '/Current/,$p' | grep -E '^[RT]X:' | tr -s '\t\n' ' ')"
    done
    dmesg -c >/tmp/dmesg.boot
}
links_up() { # until each device of the lab has its carrier
    local i role down
    for i in {1..150}; do
        down=$(for role in gen dut sink mon; do ip -n $LAB-$role -br link show; done | grep -vE '^(lo|spare) | UP ')
        [[ $down ]] || return 0
        sleep 0.1
    done
    echo "$down"
    return 1
}
# set_mtu BYTES: of all devices of the lab, the hosts' first; fails where one does not take it.
set_mtu() {
    local at
    for at in gen:g0 sink:s0 mon:m0 dut:w0a dut:w0b dut:mon0; do
        ip -n "$LAB-${at%:*}" link set "${at#*:}" mtu "$1" || return
    done
    MTU=$1
    links_up
}
# Goings and comings of the carrier since the device was there, as DEVICE=NUMBER of each port of the wire and the monitor: a link
# that comes up again has two. All drivers count so, and few of them tell the kernel's log.
carriers() { local dev; for dev in w0a w0b mon0; do echo "$dev=$(cat /sys/class/net/$dev/carrier_changes)"; done; }
# bounced BEFORE: how often each port's link has gone since, as DEVICE:NUMBER, of those where it has.
bounced() {
    local at now
    for at in $1; do
        now=$(cat "/sys/class/net/${at%=*}/carrier_changes")
        ((now == ${at#*=})) || echo "${at%=*}:$(((now - ${at#*=} + 1) / 2))"
    done
}
# What a port in use has on its device.
touched() { ip -d link show "$1" | grep -oE 'xdp|promiscuity [1-9]' | sort -u | tr '\n' ' '; }
bounces() { dmesg | grep -c 'Link is Up' || true; }   # since the kernel's log was last emptied

# --- spanwire ----------------------------------------------------------------------------------------------------

start() { # OPTIONS: spanwired in the background
    spanwired "$@" >>/tmp/spanwired.log 2>&1 &
    DAEMON=$!
}
publish() { # RATE-A RATE-B
    GENERATION=$((GENERATION + 1))
    cat >/tmp/snapshot.json <<END
{"version":3,"generation":$GENERATION,"fib_generation":1,"generated_at":"2026-01-01T00:00:00Z","interfaces":[
 {"name":"w0a","linux_name":"w0a","ifindex":$A,"mtu":$MTU},{"name":"w0b","linux_name":"w0b","ifindex":$B,"mtu":$MTU},
 {"name":"mon0","linux_name":"mon0","ifindex":$M,"mtu":$MTU}],
 "mirror_configs":[{"ingress_ifindex":$A,"output_ifindex":$M,"rate":$1},{"ingress_ifindex":$B,"output_ifindex":$M,"rate":$2}],
 "wires":[{"name":"w0","a_ifindex":$A,"b_ifindex":$B}]}
END
    local said generation
    said=$(spanctl import /tmp/snapshot.json 2>&1)
    IMPORTED=$said
    generation=$(sed -n 's/^published generation \([0-9]*\):.*/\1/p' <<<"$said")
    if [[ ! $generation ]]; then result publish failed "$said"
    elif ! said=$(timeout 70 spanctl wait --generation "$generation" --timeout 60 2>&1); then result publish failed "not in use after 60 s: $said"; fi
}
# Until all ports and entries are active, for so many seconds; then what is not, and why.
active() {
    local end=$((SECONDS + ${1:-30})) shown
    while ((SECONDS < end)); do
        shown=$(spanctl --json show 2>/dev/null)
        if grep -q '"state": "active"' <<<"$shown" && ! grep -qE '"state": "(inactive|unknown)"' <<<"$shown"; then
            links_up && return 0
        fi
        kill -0 $DAEMON 2>/dev/null || { echo "spanwired has ended: $(tail -n 2 /tmp/spanwired.log | tr '\n' ' ')"; return 1; }
        sleep 0.1
    done
    spanctl --json show 2>&1 | sed -nE 's/^.*"reason": "(.+)".*$/\1;/p' | sort -u | tr '\n' ' '
    return 1
}
ports() { spanctl show 2>&1 | sed -n '/^ports/,/^$/p' | sed '1d; /^$/d; s/^/  /'; }
told() { # what spanwired has said, once
    grep -vE 'adopted generation' /tmp/spanwired.log | sed 's/^/log| /' | tail -n "${1:-12}"
    cat /tmp/spanwired.log >>/tmp/spanwired.all
    : >/tmp/spanwired.log
}
stop() {
    local i
    kill -TERM "$DAEMON" 2>/dev/null
    for i in {1..200}; do kill -0 "$DAEMON" 2>/dev/null || break; sleep 0.1; done
    ! kill -0 "$DAEMON" 2>/dev/null || { result "${1:-stop}" failed "spanwired does not end within 20 s"; kill -9 "$DAEMON"; }
    wait "$DAEMON" 2>/dev/null
    DAEMON=''
}
afresh() { # without what the last dataplane left, on ports and in files
    spanctl detach 2>&1 | sed 's/^/detach| /' | tail -n 4
    rm -rf "$DIR"
    mkdir -p "$DIR"
    links_up
}

# --- traffic -----------------------------------------------------------------------------------------------------

# traffic CHECK WORDS…: an exchange with these options; holds or fails.
traffic() {
    local check=$1 code=0
    shift
    exchange "$@" || code=$?
    if ((code == 0)); then
        result "$check" ok "$(lines)"
    else
        result "$check" failed "exit $code: $(lines)"
    fi
    return $code
}
exchange() {
    timeout "${LIMIT:-120}" spanlab exchange --lab $LAB --idle-ms 3000 --samplers "${SAMPLERS:-$(nproc)}" --burst "${BURST:-8}" --frames "$FRAMES" \
        --pps "$PPS" "$@" >/tmp/exchange 2>&1
}
lines() { grep -vE '^[0-9]+ frames each way|^$' /tmp/exchange | sed -E 's/ +/ /g; s/$/;/' | tr -d '\n'; }
# ledger CHECK WORDS…: the counters add up.
ledger() {
    local check=$1 said code tries
    shift
    # A dataplane that gets no processor for a moment does not answer.
    for tries in {1..10}; do
        code=0
        said=$(spanctl --json stats 2>/dev/null | spanlab ledger "$@") || code=$?
        [[ $said == *'not the counters of now'* ]] || break
        sleep 1
    done
    if ((code == 0)); then result "$check" ok "every ledger closes"
    else result "$check" failed "$(grep -E 'wrong|hold|spanlab' <<<"$said" | tr '\n' ' ')"; fi
}
# during SECONDS COMMAND…: frames both ways for so long, the command while they cross. Sets LOST, frames of both ways, EXIT (of the
# exchange; 2 where there was none, or none any more when the command had ended) and SAID; what is asked of them is the scenario's
# to say.
during() {
    local seconds=$1 missing before
    shift
    before=$(arrived)
    FRAMES=$((seconds * PPS)) BURST=1 exchange --no-monitor --on-the-way 0 --shortest 64 &
    local sender=$!
    # A slow machine takes its time to make them.
    while (($(arrived) < before + PPS / 2)) && kill -0 $sender 2>/dev/null; do sleep 0.1; done
    # Not in a pipe: it may start what is to be waited for.
    "$@" >/tmp/event 2>&1
    sed 's/^/event| /' /tmp/event
    EXIT=0 LOST=0
    kill -0 $sender 2>/dev/null || EXIT=2
    wait $sender || EXIT=$((EXIT | $?))
    for missing in $(sed -nE 's/^forwarded .*, ([0-9]+) missing([,;].*)?$/\1/p' /tmp/exchange); do LOST=$((LOST + missing)); done
    SAID=$(lines)
    ((EXIT < 2)) || SAID="not every frame was still to come when the event had ended; $SAID"
}
arrived() { ns sink cat /sys/class/net/s0/statistics/rx_packets; }

# --- the end -----------------------------------------------------------------------------------------------------

finish() {
    local trouble
    [[ -z $DAEMON ]] || stop
    trouble=$(cat /tmp/dmesg.* 2>/dev/null; dmesg)
    trouble=$(grep -E 'BUG:|WARNING:|Oops|Call Trace|general protection|stall|lockup|Tx Unit Hang|NETDEV WATCHDOG|refused to change' <<<"$trouble")
    if [[ $trouble ]]; then result 'kernel log' failed "$(head -n 3 <<<"$trouble" | tr '\n' ' ')"; dmesg | tail -n 60
    else result 'kernel log' ok 'no trouble'; fi
    trouble=$(cat /tmp/spanwired.all /tmp/spanwired.log 2>/dev/null | grep -E 'panicked|ERROR')
    if [[ $trouble ]]; then result 'spanwired log' failed "$(head -n 3 <<<"$trouble" | tr '\n' ' ')"
    else result 'spanwired log' ok 'no error'; fi
    printf 'done\n' >/dev/ttyS2
    sleep 0.2
    sync
    poweroff -f
}
