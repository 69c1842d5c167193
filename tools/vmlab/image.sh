# The initial ramdisk of a machine: busybox, this machine's ip, tc and ethtool, spanwire, and modules. For run to source.

# image KERNEL OUTPUT
image() {
    local series=$1 output=$2 root
    root=$(mktemp -d "$RUN/root.XXXXXX")
    mkdir -p "$root"/{bin,sbin,proc,sys,dev,run,tmp,etc,modules,scenarios}
    cp "$VMLAB/busybox/busybox" "$root/bin/"
    local program
    for program in bash ip tc ethtool; do
        program=$(PATH=$PATH:/usr/sbin:/sbin command -v "$program") || die "needed: $program"
        add_program "$root" "$program"
    done
    for program in spanwired spanctl spanlab; do add_program "$root" "$BIN/$program"; done
    add_modules "$root" "$series"
    # What the tests take for a program of somebody else.
    local foreign
    foreign=$(find "$BIN"/build/spanwire-*/out -name foreign.bpf.o -print -quit 2>/dev/null)
    [[ ! $foreign ]] || cp "$foreign" "$root/"
    cp "$HERE/guest/init" "$HERE/guest/lib.sh" "$root/"
    cp "$HERE"/scenarios/*.sh "$root/scenarios/"
    chmod 755 "$root/init"
    (cd "$root" && find . | "$VMLAB/busybox/busybox" cpio -o -H newc 2>/dev/null) >"$output"
    rm -rf "$root"
}

# A program and the libraries that it is linked with, where its loader looks for them.
add_program() {
    local root=$1 program=$2 library
    cp -L "$program" "$root/bin/"
    strip "$root/bin/${program##*/}" 2>/dev/null || true
    while read -r library; do
        [[ ! -e $root$library ]] || continue
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done < <(ldd "$program" | grep -oE '/[^ ]+' | sort -u)
}

# Modules of the drivers, unpacked, and in `modules/order` as they have to be loaded: what a module needs is written in it.
add_modules() {
    local root=$1 tree=$VMLAB/linux-$2 name
    : >"$root/modules/order"
    for name in virtio_pci virtio_net veth bridge igb e1000e vmxnet3 af_packet sch_ingress cls_bpf act_mirred; do
        add_module "$root" "$tree" "$name"
    done
}

add_module() {
    local root=$1 tree=$2 name=${3//-/_} file needed
    ! grep -qxF "$name.ko" "$root/modules/order" || return 0
    # In file names either sign is used; what is not there is built in.
    file=$(find "$tree" -name "${name//_/[-_]}.ko" -o -name "${name//_/[-_]}.ko.*" | head -n 1)
    [[ $file ]] || return 0
    case $file in
        *.xz) xz -dc "$file" ;;
        *.zst) zstd -qdc "$file" ;;
        *) cat "$file" ;;
    esac >"$root/modules/$name.ko" || die "cannot unpack $file"
    needed=$(tr '\0' '\n' <"$root/modules/$name.ko" | sed -n 's/^depends=//p' | head -n 1)
    for needed in ${needed//,/ }; do add_module "$root" "$tree" "$needed"; done
    echo "$name.ko" >>"$root/modules/order"
}
