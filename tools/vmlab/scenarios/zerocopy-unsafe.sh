# about: shard path in zero-copy where it is not safe: frames that do not hold what the driver receives are refused, before and in use
# models: igb virtio-iommu
# kernels: 6.12 new
# limit: 500
# One queue keeps the order, one shard has one sampler.
CHANNELS=1 SAMPLERS=1
lay
exact() { # CHECK: crosses exactly, or refused for a reason that names what would do, and nothing is changed then
    local said
    if said=$(active 15); then traffic "$1: frames and clones" --mirror-a 0 --mirror-b 0
    elif [[ $said != *' --bind copy'* ]]; then result "$1: frames and clones" failed "no advice: $said"
    elif [[ $(touched w0a; touched w0b) || (! $RESET && $(bounces) != 0) ]]; then
        result "$1: frames and clones" failed "$(touched w0a), $(touched w0b), link up $(bounces) times, though refused: $said"
    else result "$1: frames and clones" refused "$said"; fi
}
RESET=
mtu() {
    local port
    # Drivers reset for it, in their own time: bounces tell nothing any more.
    RESET=1
    for port in w0a w0b; do ip link set $port mtu "$1"; done
    links_up
}
say 'frames of 2048 bytes'
start --path shard --bind zerocopy --frame-size 2048
publish 0 0
exact 2048
stop
told
afresh
mtu 2000
say 'frames of 4096 bytes, at another MTU first, and with one that grows in use'
start --path shard --bind zerocopy --frame-size 4096
publish 0 0
exact '4096, MTU 2000'
mtu 1500
exact 4096
mtu 4000
sleep 2
# Some drivers do not take it while they have a program.
now=$(cat /sys/class/net/w0a/mtu)
if said=$(active 10) && ((now == 4000)); then result 'MTU 4000 in use' failed 'it is taken'
else result 'MTU 4000 in use' refused "MTU $now: $said"; fi
mtu 1500
exact '4096, MTU 1500 again'
stop
told
afresh
say 'generic XDP'
start --path shard --bind zerocopy --xdp-mode generic --frame-size 4096
publish 0 0
if said=$(active); then traffic 'generic: frames and clones' --mirror-a 0 --mirror-b 0
else result 'generic: frames and clones' refused "$said"; fi
stop
told
