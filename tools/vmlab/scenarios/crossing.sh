# about: each path at each MTU: exact both ways, clones exact, or refused for a reason that is true; killed and started again
# models: igb virtio virtio-iommu e1000e vmxnet3 veth
# kernels: 6.1 6.12 new
# limit: 1800
# Frames of a path and an MTU, each way; and of the longest ones, on the path that a wire takes by itself.
FRAMES=200 JUMBO=${JUMBO:-3000}
# Of clones too, which are many at once where the machine is slow.
ROOM='--mirror-frames 4096'
declare -A WAYS=([auto]='--path auto' [xdp]='--path xdp' [tc]='--path tc' [shard]='--path shard'
    [zerocopy]='--path shard --bind zerocopy')
lay
# cell STATE TEXT…: what came of a path at an MTU: a cell of the table that `run` writes.
cell() { local state=$1; shift; result "cell $way $MTU" "$state" "$*"; }
# Whether this is what a path may refuse, and what is so: by itself a wire always finds a way, and tc takes every frame.
is_true() {
    case $way:$1 in
        xdp:*'the path xdp cannot be had'* | xdp:*'cannot attach a native XDP program'* | xdp:*'has no native XDP'*) ;;
        xdp:*'takes no redirected frames'*) ;;
        shard:*'does not fit frames of 4096 bytes'* | zerocopy:*'does not fit frames of 4096 bytes'*) ((MTU > 1500)) ;;
        zerocopy:*'has no zero-copy in this kernel: use --bind copy'*) ;;
        zerocopy:*'may not have zero-copy: use --bind copy'*) ;;
        *) false ;;
    esac
}
# Which way it took, by its own word; on sockets, how those are bound.
taken() {
    local path copies
    path=$(spanctl --json show | sed -nE 's/^ *"path": "(.*)",?$/\1/p' | head -n 1)
    copies=$(ports | grep -E ' w0[ab] ' | grep -c ' yes ')
    case $way:$path:$copies in
        auto:*) echo " by $path" ;;
        zerocopy:*:2) ;;
        zerocopy:*) echo ' in copy mode' ;;
    esac
}
multi_buffer() { spanctl --json show | tr -d '\n' | grep -oE '"multi-buffer", *"available": (true|false)' | grep -q true; }
# frames WORDS: exact, with clones where the monitor can have them. Sets SAID.
frames() {
    local clones=(--mirror-a 10 --mirror-b 0)
    [[ ! $* ]] || clones=("$@")
    # Without it a clone has one mirror frame.
    if ((MTU > 4000)) && ! multi_buffer; then
        exchange "${clones[@]}" --shortest 64 --longest 3000 || { SAID="frames up to 3000: $(lines)"; return 1; }
        exchange --no-monitor --shortest 64 --longest $((MTU + 14)) || { SAID="frames alone: $(lines)"; return 1; }
        grep -q mirror_drops_oversize <<<"$IMPORTED" || { SAID="nobody is warned of clones that do not fit: $IMPORTED"; return 1; }
        SAID='clones up to 4096 bytes, by the warning'
    else
        exchange "${clones[@]}" --shortest 64 --longest $((MTU + 14)) || { SAID=$(lines); return 1; }
        SAID=
    fi
}
# Whether devices take frames of this length by themselves: emulated ones lose some that their drivers take. Tags are another matter:
# a bridge lets devices take them off.
bridged() {
    spanlab bridge $LAB || return 0
    links_up
    exchange --no-monitor --shortest 64 --longest $((MTU + 14))
    ip link del br0
    ! grep -q missing /tmp/exchange || { SAID="a kernel bridge on these devices loses such frames too: $(lines)"; return 1; }
}
killed() {
    # A wire in the kernel outlives the process: nothing may be lost. Through a shard all is, until the next one runs.
    kill_and_start() {
        kill -9 $DAEMON
        wait $DAEMON 2>/dev/null
        sleep 1
        start ${WAYS[$way]} --frame-size 4096 $ROOM
    }
    dmesg -c >>/tmp/dmesg.before
    during 6 kill_and_start
    SAID="lost $LOST; link up $(bounces) times; $SAID"
    if [[ $EXIT == 0 || $way:$EXIT == shard:1 ]]; then result "$way: killed" ok "$SAID"
    else result "$way: killed" failed "$SAID"; fi
    if said=$(active); then
        # The samplers went on or began anew: every frame, of both ports, is the only number that is known.
        publish 0 0
        traffic "$way: after the kill" --mirror-a 0 --mirror-b 0 --shortest 64
        ledger "$way: ledger after the kill"
    else result "$way: after the kill" failed "$said"; fi
}
for mtu in 1500 3000 9000; do
    afresh
    unfit=''
    set_mtu $mtu >/tmp/mtu 2>&1 || unfit="a device takes no such MTU: $(cat /tmp/mtu)"
    MTU=$mtu
    [[ $unfit ]] || ((mtu == 1500)) || bridged || unfit=$SAID
    for way in auto xdp tc shard zerocopy; do
        say "${WAYS[$way]}, MTU $mtu"
        [[ ! $unfit ]] || { cell refused "$unfit"; continue; }
        afresh
        before=$(carriers)
        start ${WAYS[$way]} --frame-size 4096 $ROOM
        publish 10 0
        if ! said=$(active 15); then
            held=$(touched w0a; touched w0b)
            if ! is_true "$said"; then cell failed "refused: $said"; ports
            elif [[ $held || $(bounced "$before") ]]; then cell failed "$held$(bounced "$before"), though refused: $said"
            else cell refused "$said"; fi
            stop "$way: stop"
            told
            continue
        fi
        if frames; then cell ok "exact$(taken)${SAID:+, $SAID}"; else cell failed "$SAID"; fi
        ledger "$way, MTU $MTU: ledger"
        told
        # What is killed on other kernels, `lasting` shows.
        if ((MTU == 1500)) && [[ $way != zerocopy && $kernel == new ]]; then
            # Tagged ones are shorter than a frame can be once a NIC or driver has taken their tag off.
            traffic "$way: shortest frames" --no-monitor --longest 63
            killed
        elif ((MTU == 9000)) && [[ $way == auto ]]; then
            publish 0 0
            if FRAMES=$JUMBO frames --mirror-a 0 --mirror-b 0; then result 'long frames' ok "$JUMBO each way, and clones, exact$(taken)"
            else result 'long frames' failed "$SAID"; fi
            ledger 'long frames: ledger'
        fi
        stop "$way: stop"
        told
    done
done
