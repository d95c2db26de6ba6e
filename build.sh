#!/usr/bin/env bash
# Builds KvNode: system libraries if they are missing, packages, a Release build. Leaves the program at
# artifacts/kvnode/kvnode. Says nothing and takes no time when nothing has changed.
#
# run.sh and test.sh source this file for its functions.
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
program=$root/artifacts/kvnode/kvnode
stamp=$root/artifacts/kvnode.stamp

# Nothing of a build stays running after it.
no_servers=(-nodeReuse:false -p:UseSharedCompilation=false)

say() { printf 'build: %s\n' "$*" >&2; }

die() { # code message
    say "$2"
    exit "$1"
}

# Runs a command as root: directly, or through sudo where it asks for no password or may ask on a terminal.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] && return 0
    command -v sudo >/dev/null || return 1
    [ -t 0 ] || sudo -n true 2>/dev/null
}

# install_packages what packages...: from Debian, or a message that says what to install by hand (exit 69).
install_packages() {
    local what=$1
    shift
    command -v apt-get >/dev/null ||
        die 69 "$what is missing and there is no apt-get here: install what Debian calls $* by hand, then try again"
    can_be_root ||
        die 69 "$what is missing and this user cannot install it: as root, run 'apt-get install $*', then try again"
    say "$what is missing: installing $*"
    local log
    log=$(mktemp)
    if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
        { as_root apt-get update &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }; } \
        >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die 69 "apt-get install $* failed (see above)"
    fi
    rm -f "$log"
}

# need_library file package: a shared library, wherever the dynamic linker keeps them.
need_library() {
    local directory
    local IFS=:
    for directory in ${LD_LIBRARY_PATH:-} /usr/lib /usr/lib64 /lib /lib64 /usr/local/lib; do
        [ -e "$directory/$1" ] && return 0
    done
    unset IFS
    compgen -G "/usr/lib/*-linux-*/$1" >/dev/null || compgen -G "/lib/*-linux-*/$1" >/dev/null || install_packages "$1" "$2"
}

# need_command command packages...
need_command() {
    local name=$1
    shift
    command -v "$name" >/dev/null || install_packages "$name" "$@"
}

need_dotnet() {
    command -v dotnet >/dev/null ||
        die 69 "dotnet is missing: install the .NET SDK 10 (https://dotnet.microsoft.com/download), then try again"
}

# The program, and every test that starts it, finds an SDK outside the usual places (such as ~/.dotnet) by this.
export_dotnet_root() {
    local dotnet
    if [ -z "${DOTNET_ROOT:-}" ] && dotnet=$(command -v dotnet); then
        DOTNET_ROOT=$(dirname "$(readlink -f "$dotnet")")
        export DOTNET_ROOT
    fi
}

# Names, sizes and times of everything the program is made of: the same picture means the same program.
sources() (
    cd "$root"
    find src Directory.Build.props Directory.Packages.props global.json .editorconfig build.sh \
        -type f -printf '%p %s %T@\n' | LC_ALL=C sort
)

is_current() { [ -x "$program" ] && [ -f "$stamp" ] && sources | cmp -s - "$stamp"; }

publish() {
    local picture log
    picture=$(sources)
    log=$(mktemp)
    say "building (a minute the first time)"
    if ! dotnet restore "$root/src/KvNode.Server" --locked-mode "${no_servers[@]}" >"$log" 2>&1 ||
        ! dotnet publish "$root/src/KvNode.Server" --no-restore --configuration Release \
            --output "$root/artifacts/kvnode.new" "${no_servers[@]}" >>"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die 1 "failed (see above)"
    fi
    rm -f "$log"
    # A node that runs keeps its old files open; the new ones take their place under the name.
    rm -rf "$root/artifacts/kvnode.old"
    [ ! -e "$root/artifacts/kvnode" ] || mv "$root/artifacts/kvnode" "$root/artifacts/kvnode.old"
    mv "$root/artifacts/kvnode.new" "$root/artifacts/kvnode"
    rm -rf "$root/artifacts/kvnode.old"
    printf '%s\n' "$picture" >"$stamp"
    say "done: ${program#"$root"/}"
}

build() {
    need_library liblmdb.so.0 liblmdb0
    need_library liblz4.so.1 liblz4-1
    is_current && return 0
    need_dotnet
    mkdir -p "$root/artifacts"
    # Two builds at once take turns; the second finds nothing to do.
    exec 9>"$root/artifacts/build.lock"
    flock 9
    is_current || publish
    exec 9>&-
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    [ $# = 0 ] || die 64 "takes no arguments"
    build
fi
