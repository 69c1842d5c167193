# about: wires of one driver and a monitor of another (veth), whichever was there first: exact, and wires stay in zero-copy
# models: igb virtio-iommu
# kernels: new
# limit: 600
CHANNELS=1 SAMPLERS=2
lay
# monitor IFINDEX: a pair of veths takes the place of the monitor's NIC.
monitor() {
    ip link del mon0 2>/dev/null || { ip link set mon0 down && ip link set mon0 name spare; }
    ip -n $LAB-mon link set m0 down 2>/dev/null && ip -n $LAB-mon link set m0 name spare
    ip link add name mon0 index "$1" type veth peer name m0 netns $LAB-mon
    ns mon ethtool -K m0 tx off rx off gso off tso off gro off >/dev/null 2>&1
    ip link set mon0 arp off up
    ip -n $LAB-mon link set m0 arp off promisc on up
    ip link del spare 2>/dev/null
    M=$1
}
# The hosts' NICs have left this namespace, and with them their ifindexes.
first=1
while ip -o link show | grep -q "^$first:"; do first=$((first + 1)); done
for order in first last; do
    if [[ $order == first ]]; then monitor $first; else monitor 50; fi
    for opts in '--path auto' '--path shard' '--path shard --bind zerocopy --frame-size 4096'; do
        check="monitor $order, ${opts//--/}"
        say "$check"
        afresh
        start $opts
        publish 10 0
        if said=$(active 20); then
            # Of the NICs alone, in zero-copy: a veth has none.
            [[ $opts != *zerocopy* || $(ports | grep -E ' w0[ab] ' | grep -c ' yes ') == 2 ]] ||
                result "$check: wires in zero-copy" failed "$(ports | grep -E ' (w0a|mon0) ' | tr -s ' \n' ' ')"
            traffic "$check" --mirror-a 10 --mirror-b 0
            ledger "$check: ledger" --delivered
        else result "$check" failed "$said"; fi
        stop "$check: stop"
        told
    done
done
