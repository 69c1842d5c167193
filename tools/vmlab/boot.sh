# One machine: six NICs, three cables, no disk. For run to source.
#
#     g0 ── w0a   w0b ── s0   mon0 ── m0
#
# Cables are hubs inside the QEMU process: of its stream netdevs some delivered nothing to one of their ends. g0, s0 and m0 are
# the hosts', whatever the model under test. The machine's console is its first serial port; the second is QEMU's monitor, so
# that a scenario can pull a cable; what it writes to the third are its results.

# boot SERIES MODEL SCENARIO LIMIT FOLDER: FOLDER/initrd is there; console and results are put beside it. Returns QEMU's status.
boot() {
    local series=$1 model=$2 scenario=$3 limit=$4 folder=$5 qemu=$VMLAB/qemu loader
    loader=$(find "$qemu" -name 'ld-linux-x86-64.so.2' | head -n 1)
    local program=("$loader" --library-path "$qemu/usr/lib/x86_64-linux-gnu" "$qemu/usr/bin/qemu-system-x86_64"
        -L "$qemu/usr/share/qemu" -L "$qemu/usr/share/seabios")
    local nics=()
    # Pairs of veth the machine makes itself.
    if [[ $model != veth ]]; then
        nic 0 virtio 1 g0
        nic 0 "$model" 2 w0a
        nic 1 "$model" 3 w0b
        nic 1 virtio 4 s0
        nic 2 "$model" 5 mon0
        nic 2 virtio 6 m0
    fi
    : >"$folder/results"
    # KVM is left alone: the machine that this runs on is often one itself, and then it may hang.
    timeout --kill-after=5 "$limit" "${program[@]}" -M q35 -accel tcg,thread=multi -cpu max,la57=off -smp 2 -m 1024 \
        -nodefaults -display none -no-reboot -kernel "$(vmlinuz "$VMLAB/linux-$series")" -initrd "$folder/initrd" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off nowatchdog scenario=$scenario model=$model kernel=$series minutes=$MINUTES" \
        -chardev "file,id=console,path=$folder/console" -serial chardev:console \
        -chardev "socket,id=monitor,path=$folder/monitor,server=on,wait=off" -mon chardev=monitor,mode=readline \
        -chardev "socket,id=cables,path=$folder/monitor" -serial chardev:cables \
        -chardev "file,id=results,path=$folder/results" -serial chardev:results \
        "${nics[@]}" </dev/null >"$folder/qemu.log" 2>&1 &
    MACHINE=$!
    local status=0
    wait "$MACHINE" || status=$?
    MACHINE=
    return "$status"
}

# nic HUB MODEL NUMBER NAME: one NIC, the end of a cable.
nic() {
    local device
    case $2 in
        virtio) device=virtio-net-pci ;;
        virtio-iommu) device=virtio-net-pci,iommu_platform=on,disable-legacy=on ;;
        *) device=$2 ;;
    esac
    # A hub knows no checksums that are left to a device, and no super-frames.
    [[ $2 != virtio* ]] || device+=,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,guest_uso4=off,guest_uso6=off,host_uso=off,rx_queue_size=1024
    # A root port of its own: the virtual functions of an igb take up slots.
    nics+=(-netdev "hubport,id=$4,hubid=$1" -device "pcie-root-port,id=port-$4,chassis=$3,slot=$3"
        -device "$device,bus=port-$4,netdev=$4,id=dev-$4,mac=52:54:00:00:00:0$3,romfile=")
}
