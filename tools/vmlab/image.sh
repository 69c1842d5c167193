# The initial ramdisk of a machine: busybox, this machine's ip, tc and ethtool, spanwire, and modules. For run to source.

# image KERNEL OUTPUT [TESTS]: with the end-to-end tests, where TESTS is `e2e`.
image() {
    local series=$1 output=$2 tests=${3-} root
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
    [[ $tests != e2e ]] || add_tests "$root" "$series"
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

# The end-to-end tests: their program, and at the places that it was built to look for them, spanwire's programs and files; what
# else they call, of this machine; and the modules of the devices that they make.
add_tests() {
    local root=$1 series=$2 program name
    program=$(ls -t "$BIN"/deps/e2e-* | grep -v '\.' | head -n 1) || true
    [[ $program ]] || die "there is no $BIN/deps/e2e-… (cargo test --workspace --no-run)"
    add_program "$root" "$program"
    mv "$root/bin/${program##*/}" "$root/bin/e2e"
    add_program "$root" "$BIN/spanwire-helper"
    mkdir -p "$root$BIN" "$root$ROOT/tests" "$root$ROOT/tools" "$root/usr/bin" "$root/var/run"
    for name in spanwired spanctl spanlab spanwire-helper; do ln -s "/bin/$name" "$root$BIN/$name"; done
    cp -r "$ROOT/tests/fixtures" "$root$ROOT/tests/"
    cp -r "$ROOT/tools/keepalived" "$root$ROOT/tools/"
    for name in nsenter unshare setpriv prlimit taskset chrt timeout nohup env sysctl date cp kill cat true sh test keepalived; do
        name=$(PATH=$PATH:/usr/sbin:/sbin type -P "$name") || continue
        add_program "$root" "$name"
    done
    for name in test env bash; do [[ -e $root/usr/bin/$name ]] || ln -s "/bin/$name" "$root/usr/bin/$name"; done
    printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    for name in tun dummy macvlan 8021q cls_u32; do add_module "$root" "$VMLAB/linux-$series" "$name"; done
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
