# about: what happens to ports in use, beside a kernel bridge: frames lost meanwhile are counted, and afterwards all is exact
# models: igb virtio vmxnet3
# kernels: new
# limit: 1500
lay
flap() { ip link set "$1" down; sleep 1; ip link set "$1" up; }
cable() { monitor_of_qemu "set_link dev-$1 off"; sleep 1; monitor_of_qemu "set_link dev-$1 on"; }
both() { local port; for port in w0a w0b; do "$@"; done; }
mtu() { both eval 'ip link set $port mtu 1400'; sleep 1; both eval 'ip link set $port mtu 1500'; }
channels() { both eval 'ethtool -L $port combined 1'; sleep 1; both eval 'ethtool -L $port combined 2'; }
rings() { both eval 'ethtool -G $port rx 128'; sleep 1; both eval 'ethtool -G $port rx 256'; }
# event CHECK ALLOWED COMMAND…: ALLOWED frames may be lost, `any` number where a link has to come up again.
event() {
    local check="$path: $1" allowed=$2
    shift 2
    dmesg -c >>/tmp/dmesg.before
    during 6 "$@"
    SAID="lost $LOST of $((12 * PPS)); link up $(bounces) times; $(tr '\n' ' ' </tmp/event) $SAID"
    if ((EXIT > 1)) || grep -qE 'corrupted|extra|duplicated' /tmp/exchange || [[ $allowed != any && $LOST -gt $allowed ]]; then
        result "$check" failed "$SAID"
    else
        result "$check" ok "$SAID"
    fi
    if [[ $path == bridge ]]; then links_up && traffic "$check: afterwards" --no-monitor --shortest 64
    elif said=$(active); then traffic "$check: afterwards" --mirror-a 0 --mirror-b 0 --shortest 64
    else result "$check: afterwards" failed "$said"; fi
    told 8
}
all_events() {
    event nothing 0 true
    event 'link down and up' any flap w0b
    event 'cable out and in' any cable w0b
    [[ $path == bridge ]] || event 'monitor down and up' 0 flap mon0
    event 'MTU 1400 and back' any mtu
    event '1 queue and back' any channels
    event 'rings of 128 and back' any rings
}
path=bridge
say 'a kernel bridge'
spanlab bridge $LAB || result bridge failed "no bridge"
all_events
ip link del br0
for path in auto tc shard; do
    say "--path $path"
    afresh
    start --path $path
    publish 0 0
    if ! said=$(active); then
        result "$path" failed "$said"
        stop
        continue
    fi
    ports
    all_events
    ledger "$path: ledger"
    stop "$path: stop"
    told
done
