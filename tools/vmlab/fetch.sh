# Kernels, a QEMU that has an igb, and busybox: as Debian packages, unpacked below $VMLAB. Nothing is installed.
# For run to source.

# What apt itself checks: the archive's signature over the lists, and the lists' hashes over the packages.
APT=(-o "Dir::State::Lists=$VMLAB/apt/lists" -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$VMLAB/apt/sources"
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::Cache=$VMLAB/apt/cache"
    -o "Dir::State::Status=$VMLAB/apt/status" -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::AllowInsecureRepositories=false
    -o APT::Get::AllowUnauthenticated=false -o APT::Architecture=amd64 -o Acquire::Retries=2 -o Acquire::http::Timeout=20)
# Debian's suites that have Linux 6.1, 6.12 and the newest. Which version of each, their lists say.
SUITES='bookworm trixie trixie-backports sid' SECURITY_SUITES='bookworm-security trixie-security'
QEMU_SUITE=trixie

# Says why packages cannot be had, and that this is no fault of what is tested.
unavailable() {
    echo "vmlab: left out, packages cannot be had: $*" >&2
    exit 3
}

# The Debian mirrors of this machine's own apt, in the suites that are wanted here.
sources() {
    local targets main security keys=
    targets=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null) || true
    # Before the first update no label is known, and the address has to do.
    main=$(sed -nE 's#^Debian (.*)#\1#p; s#^[^ ]* (.*/debian/?)$#\1#p' <<<"$targets" | head -n 1)
    security=$(sed -nE 's#^Debian-Security (.*)#\1#p; s#^[^ ]* (.*/debian-security/?)$#\1#p' <<<"$targets" | head -n 1)
    [[ $main ]] || unavailable "this machine's apt names no Debian archive"
    for keys in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg} ''; do [[ ! -e $keys ]] || break; done
    keys=${keys:+Signed-By: $keys}
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n%s\n' "$main" "$SUITES" "$keys"
    [[ -z $security ]] ||
        printf '\nTypes: deb\nURIs: %s\nSuites: %s\nComponents: main\n%s\n' "$security" "$SECURITY_SUITES" "$keys"
}

# The lists, once for each run that has something to fetch.
update() {
    [[ -z ${UPDATED-} ]] || return 0
    local tool
    for tool in apt-get apt-cache dpkg-deb; do
        command -v $tool >/dev/null || unavailable "no $tool: packages are fetched with Debian's own tools"
    done
    rm -rf "$VMLAB/apt"
    mkdir -p "$VMLAB"/apt/{lists/partial,cache/archives/partial,sources}
    : >"$VMLAB/apt/status"
    sources >"$VMLAB/apt/sources/debian.sources"
    # A suite that is not there any more is no reason to stop: what is wanted from it will not be found.
    apt-get "${APT[@]}" -qq update >"$VMLAB/apt/log" 2>&1 || true
    compgen -G "$VMLAB/apt/lists/*_Packages*" >/dev/null ||
        unavailable "no package lists: $(grep -E '^[EW]:' "$VMLAB/apt/log" | head -n 1)"
    UPDATED=1
}

# download FOLDER apt-get-words…: into FOLDER, each checked by apt.
download() {
    local to=$1
    shift
    mkdir -p "$to"
    (cd "$to" && nice apt-get "${APT[@]}" -qq "$@") >"$VMLAB/apt/log" 2>&1 ||
        unavailable "apt-get $*: $(grep -E '^[EW]:' "$VMLAB/apt/log" | tail -n 1)"
}

# unpack FOLDER PACKAGE… -- TAR-WORDS…: the packages' files that tar is told of.
unpack() {
    local to=$1 packages=()
    shift
    while [[ $1 != -- ]]; do packages+=("$1"); shift; done
    shift
    local package
    for package in "${packages[@]}"; do
        # tar complains of patterns that one package of several has nothing for; what has to be there is asked after.
        dpkg-deb --fsys-tarfile "$package" | nice tar -x --no-same-owner -C "$to" --wildcards "$@" 2>/dev/null || true
    done
}

# provide NAME FUNCTION…: $VMLAB/NAME, made whole in a folder beside it and then moved to its place.
provide() {
    local name=$1 new=$VMLAB/$1.new
    shift
    [[ ! -e $VMLAB/$name || $FETCH ]] || return 0
    update
    rm -rf "$new" "$VMLAB/debs"
    mkdir -p "$new" "$VMLAB/debs"
    "$@" "$new"
    rm -rf "${VMLAB:?}/$name" "$VMLAB/debs"
    mv "$new" "$VMLAB/$name"
    echo "vmlab: fetched $name: $(cat "$VMLAB/$name/version")"
}

# The highest version of the newest kernel, or of a series; `linux-image-amd64` leads to the packages of a version.
kernel() {
    local series=$1 to=$2 versions version image depends
    versions=$(apt-cache "${APT[@]}" madison linux-image-amd64 | cut -d'|' -f2 | tr -d ' ' | sort -V)
    [[ $series == new ]] || versions=$(grep "^${series//./\\.}\\." <<<"$versions") || true
    version=$(tail -n 1 <<<"$versions")
    [[ $version ]] || unavailable "no package of Linux $series"
    named() { # PACKAGE=VERSION KINDS: what it depends on, of these kinds, as names
        apt-cache "${APT[@]}" show "$1" | sed -n 's/^Depends: //p' | tr ',|' '\n\n' |
            sed -nE "s/^ *(linux-($2)-[0-9][^ ]*).*/\1/p" | sort -u
    }
    image=$(named "linux-image-amd64=$version" image | head -n 1)
    [[ $image ]] || unavailable "linux-image-amd64 $version names no kernel"
    # The kernel and its modules are in the image itself, or in packages of their own.
    depends=$(named "$image" 'binary|modules')
    # shellcheck disable=SC2086
    download "$VMLAB/debs" download "$image" $depends
    unpack "$to" "$VMLAB"/debs/*.deb -- --exclude='*/drivers/net/wireless/*' './boot/vmlinuz-*' '*/lib/modules/*/vmlinuz' \
        '*/kernel/drivers/net/*' '*/kernel/drivers/virtio/*' '*/kernel/drivers/i2c/algos/*' '*/kernel/drivers/dca/*' \
        '*/kernel/drivers/ptp/*' '*/kernel/drivers/pps/*' '*/kernel/net/*' '*/kernel/lib/*' '*/kernel/arch/*'
    vmlinuz "$to" >/dev/null && find "$to" -name 'igb.ko*' | grep -q . || unavailable "$image has no kernel, or no igb"
    echo "$version" >"$to/version"
}

# The kernel's image in its folder.
vmlinuz() {
    compgen -G "$1/boot/vmlinuz-*" || compgen -G "$1/usr/lib/modules/*/vmlinuz" || compgen -G "$1/lib/modules/*/vmlinuz"
}

# QEMU and every library it needs, the C library included: what this machine has does not matter.
qemu() {
    local to=$1
    download "$VMLAB/debs" -y --download-only --no-install-recommends -t "$QEMU_SUITE" install qemu-system-x86
    unpack "$to" "$VMLAB"/apt/cache/archives/*.deb -- --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' './usr/*' './lib/*' './lib64/*'
    rm -f "$VMLAB"/apt/cache/archives/*.deb
    find "$to" -name qemu-system-x86_64 | grep -q . || unavailable "qemu-system-x86 has no qemu-system-x86_64"
    apt-cache "${APT[@]}" madison qemu-system-x86 | grep -F " $QEMU_SUITE/" | cut -d'|' -f2 | tr -d ' ' | head -n 1 >"$to/version"
}

# One program that is a whole system, linked statically.
busybox() {
    local to=$1
    download "$VMLAB/debs" download "busybox-static/$QEMU_SUITE"
    unpack "$to" "$VMLAB"/debs/*.deb -- './usr/bin/busybox' './bin/busybox'
    mv "$(find "$to" -name busybox -type f)" "$to/busybox" || unavailable "busybox-static has no busybox"
    dpkg-deb -f "$VMLAB"/debs/*.deb Version >"$to/version"
}

# fetch KERNEL…: all that machines with these kernels need. One run at a time fetches.
fetch() {
    local series
    mkdir -p "$VMLAB"
    exec 9>"$VMLAB/lock"
    flock 9
    provide busybox busybox
    provide qemu qemu
    for series; do provide "linux-$series" kernel "$series"; done
    exec 9>&-
}
