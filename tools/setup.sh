#!/usr/bin/env bash
# Makes sure that this machine has what spanwire is built and tested with.
#
#   tools/setup.sh       as root on Debian or Ubuntu: installs what is missing, and nothing else
#                        otherwise: says what is missing and exits 1
#   . tools/setup.sh     the same, and gives the calling script:
#                          as_owner CMD…    runs CMD as the user who called sudo, where the tree is theirs
#                          $TARGET          cargo's target directory
#
# Rust is the one thing that has to be there before (https://rustup.rs, or the distribution's own).

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# ethtool is in /usr/sbin, which is not on every user's path.
export PATH=$PATH:/usr/sbin:/sbin

# --- system packages -------------------------------------------------------------------------------------------

has_command() { command -v "$1" >/dev/null 2>&1; }

# Asks the compiler where there is one: not every distribution has its headers in the same place.
has_header() {
    [[ -e /usr/include/$1 ]] || { has_command cc && cc -E -include "$1" -x c /dev/null >/dev/null 2>&1; }
}

# What is missing, as Debian's package names.
missing_packages() {
    has_command gcc && has_command cc || echo gcc
    [[ -e /usr/include/stdio.h ]] || has_header stdio.h || echo libc6-dev
    has_command make || echo make
    has_command pkg-config || echo pkg-config
    has_command "${CLANG:-clang}" || echo clang
    has_header libelf.h || echo libelf-dev
    has_header zlib.h || echo zlib1g-dev
    has_header linux/bpf.h && has_header asm/types.h || echo linux-libc-dev
    has_command ip && has_command tc || echo iproute2
    has_command ethtool || echo ethtool
    has_command keepalived || echo keepalived
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    if ! has_command apt-get; then
        die "missing: ${missing[*]} (names of Debian's packages); install them with this system's package manager"
    elif ((EUID != 0)); then
        die "missing: ${missing[*]}; run as root (sudo tools/setup.sh), or: apt-get install ${missing[*]}"
    fi
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null || echo "apt-get update failed; trying with the package lists there are" >&2
    apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" </dev/null || die "apt-get could not install them"
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]} == 0)) || die "installed, and still missing: ${missing[*]}"
}

# --- Rust ------------------------------------------------------------------------------------------------------

# The user who called sudo, where this tree is theirs: what is built in it must stay theirs too.
OWNER=
if ((EUID == 0)) && [[ ${SUDO_UID:-0} != 0 && $(stat -c %u "$ROOT") == "$SUDO_UID" ]]; then
    OWNER=$SUDO_USER
fi

find_rust() {
    # sudo gives root's PATH and HOME, and Rust is usually in the home of the one who called it.
    local home=${HOME:-/root} theirs=
    [[ -z ${SUDO_USER:-} ]] || theirs=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    if [[ $theirs && -x $theirs/.cargo/bin/cargo ]]; then
        home=$theirs
        # Root leaves nothing in another user's home.
        [[ -z $OWNER ]] || export CARGO_HOME=${CARGO_HOME:-$home/.cargo}
    elif has_command cargo; then
        home=
    fi
    if [[ $home ]]; then
        export PATH=$home/.cargo/bin:$PATH
        [[ ! -d $home/.rustup ]] || export RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
    fi
    has_command cargo || die "cargo is not there; install Rust first (https://rustup.rs)"

    local want have
    want=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    have=$(cd "$ROOT" && cargo --version | cut -d' ' -f2) || die "cargo is there but does not run"
    if [[ $(printf '%s\n' "$want" "${have%%-*}" | sort -V | head -n1) != "$want" ]]; then
        die "cargo is $have, and spanwire needs at least $want (rustup update)"
    fi
}

# Runs a command as the owner of the tree, or as oneself where there is no other.
as_owner() {
    if [[ -z $OWNER ]]; then
        "$@"
        return
    fi
    local home
    home=$(getent passwd "$OWNER" | cut -d: -f6)
    setpriv --reuid="$SUDO_UID" --regid="$SUDO_GID" --init-groups env HOME="$home" USER="$OWNER" LOGNAME="$OWNER" "$@"
}

install_packages
find_rust
TARGET=$(cd "$ROOT" && as_owner cargo metadata --format-version 1 --no-deps --offline |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
[[ $TARGET ]] || die "cargo does not say where it builds"
[[ ${BASH_SOURCE[0]} != "$0" ]] || echo "everything is there"
