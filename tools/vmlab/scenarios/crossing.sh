# about: each path: exact both ways, clones exact, ledgers closed; killed and started again with frames crossing
# models: igb virtio virtio-iommu e1000e vmxnet3
# kernels: 6.1 6.12 new
# limit: 900
lay
for path in auto tc xdp shard; do
    say "--path $path"
    afresh
    dmesg -c >>/tmp/dmesg.before
    start --path $path
    publish 10 0
    if ! said=$(active); then
        # There is no native XDP in this driver.
        if [[ $path == xdp && $model == e1000e ]]; then result "$path" refused "$said"
        else result "$path" failed "$said"; fi
        ports
        stop "$path: stop"
        told
        continue
    fi
    result "$path" ok "link up $(bounces) times; $(ports | grep -E ' (w0a|mon0) ' | tr -s ' \n' ' ')"
    traffic "$path: frames and clones" --mirror-a 10 --mirror-b 0 --shortest 64
    # Tagged ones are shorter than a frame can be once a NIC or driver has taken their tag off.
    traffic "$path: shortest frames" --no-monitor --longest 63
    ledger "$path: ledger" --delivered
    told
    # A wire in the kernel outlives the process: nothing may be lost. Through a shard all is, until the next one runs.
    dmesg -c >>/tmp/dmesg.before
    kill_and_start() {
        kill -9 $DAEMON
        wait $DAEMON 2>/dev/null
        sleep 1
        start --path $path
    }
    during 6 kill_and_start
    SAID="lost $LOST; link up $(bounces) times; $SAID"
    if [[ $EXIT == 0 || $path:$EXIT == shard:1 ]]; then result "$path: killed" ok "$SAID"
    else result "$path: killed" failed "$SAID"; fi
    if said=$(active); then
        # The samplers went on or began anew: every frame, of both ports, is the only number that is known.
        publish 0 0
        traffic "$path: after the kill" --mirror-a 0 --mirror-b 0 --shortest 64
        ledger "$path: ledger after the kill"
    else
        result "$path: after the kill" failed "$said"
    fi
    stop "$path: stop"
    told
done
