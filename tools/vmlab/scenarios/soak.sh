# about: each path for long, as fast as the machine gets: ledgers close, no frame is lost, nothing grows
# models: igb
# kernels: new
# limit: 600
# soaks: 4
# One queue keeps the order.
CHANNELS=1 SAMPLERS=1
FRAMES=10000
lay
declare -A WAYS=([xdp]='--path xdp' [tc]='--path tc' [shard]='--path shard' [zerocopy]='--path shard --bind zerocopy')
# Kilobytes of the process, its descriptors, and kilobytes that the kernel keeps for itself.
held() {
    local of=/proc/$DAEMON
    echo "$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' $of/status) $(ls $of/fd | wc -l) $(sed -n 's/^SUnreclaim:[^0-9]*\([0-9]*\).*/\1/p' /proc/meminfo)"
}
# What the kernel and the devices say that was lost.
where() {
    local dev
    echo "loss by its own word $(spanctl --json show | sed -nE 's/^ *"loss": ([^,]*),?$/\1/p' | head -n 1)"
    for dev in w0a w0b; do
        echo "$dev $(ethtool -S $dev | grep -iE 'drop|miss|error|fail|no_buf|over' | grep -v ': 0$' | tr -s ' \n' ' ')"
        tc -s qdisc show dev $dev | grep -oE 'dropped [1-9][0-9]*' | head -n 1
    done
    for dev in gen:g0 sink:s0; do echo "${dev#*:} $(ns ${dev%:*} ip -s link show ${dev#*:} | grep -A 1 -E 'RX:|TX:' | grep -vE 'X:|--' | awk '{print "dropped " $4}' | tr '\n' ' ')"; done
} 2>/dev/null
for way in xdp tc shard zerocopy; do
    say "${WAYS[$way]}"
    afresh
    start ${WAYS[$way]} --frame-size 4096 --mirror-frames 4096
    publish 0 10
    said=$(active) || { result "$way" failed "$said"; ports; stop; told; continue; }
    before=$(carriers) rounds=0 first='' bad=''
    end=$((SECONDS + minutes * 60))
    while ((SECONDS < end)); do
        # As many at a time as the rings of an emulated NIC hold. Clones may be dropped here, and are accounted for.
        LIMIT=600 PPS=0 BURST=16 exchange --no-monitor --shortest 64 --on-the-way 64 --seed $((rounds + 1)) || { bad=$(lines); break; }
        rounds=$((rounds + 1))
        # Pools have filled by then.
        ((rounds != 2)) || first=$(held)
    done
    now=$(held)
    SAID="$((rounds * FRAMES)) frames each way; process $first to $now (kB, descriptors, kernel's kB)"
    read -r rss files slab <<<"${first:-0 0 0}"
    read -r rss_now files_now slab_now <<<"$now"
    if [[ $bad ]]; then result "$way" failed "in round $rounds: $(where | tr '\n' ' ') $bad"
    elif ((rounds < 3)); then result "$way" failed "only $rounds rounds: $SAID"
    elif ((rss_now > rss + 1024 || files_now > files || slab_now > slab + 8192)); then result "$way: growth" failed "$SAID"
    elif [[ $(bounced "$before") ]]; then result "$way" failed "links gone: $(bounced "$before")"
    else result "$way" ok "$SAID"; fi
    ledger "$way: ledger"
    stop "$way: stop"
    told
done
