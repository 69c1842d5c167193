# about: a link that is gone for a second costs a wire in the kernel no more than it costs a kernel bridge on the same NICs
# models: igb virtio vmxnet3 e1000e
# kernels: new
# limit: 900
lay
flap() { ip link set w0b down; sleep 1; ip link set w0b up; }
cable() { monitor_of_qemu 'set_link dev-w0b off'; sleep 1; monitor_of_qemu 'set_link dev-w0b on'; }
# cost COMMAND: frames lost by it, the second most of three times: now and then a slow machine adds some, or a cable is not pulled.
# Sets LOST, nothing where more than that went wrong, and SAID, all three.
cost() {
    local try
    SAID=''
    for try in 1 2 3; do
        links_up
        sleep 1
        during 9 "$1"
        if ((EXIT > 1)) || grep -qE 'corrupted|extra|duplicated' /tmp/exchange; then LOST='' SAID=$(lines); return; fi
        SAID="$SAID $LOST"
    done
    LOST=$(tr ' ' '\n' <<<"$SAID" | sort -n | tail -n 2 | head -n 1)
}
declare -A BRIDGE=()
say 'a kernel bridge'
spanlab bridge $LAB || result bridge failed "no bridge"
for event in flap cable; do
    cost $event
    BRIDGE[$event]=${LOST:-0}
    if [[ $LOST ]]; then result "bridge: $event" ok "lost$SAID of $((18 * PPS))"; else result "bridge: $event" failed "$SAID"; fi
done
ip link del br0
for path in auto tc; do
    say "--path $path"
    afresh
    start --path $path
    publish 0 0
    said=$(active) || { result "$path" failed "$said"; stop; told; continue; }
    for event in flap cable; do
        cost $event
        # A tenth of a second each way: the emulation's links come up at different times.
        if [[ ! $LOST || $LOST -gt $((BRIDGE[$event] + PPS / 5)) ]]; then result "$path: $event" failed "lost$SAID, a bridge ${BRIDGE[$event]}"
        else result "$path: $event" ok "lost$SAID of $((18 * PPS)), a bridge ${BRIDGE[$event]}"; fi
    done
    if said=$(active); then traffic "$path: afterwards" --mirror-a 0 --mirror-b 0 --shortest 64
    else result "$path: afterwards" failed "$said"; fi
    ledger "$path: ledger"
    stop
    told
done
