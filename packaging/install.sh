#!/bin/sh
# Puts cks-agent onto a machine without a package manager, or into an image's root; see usage below.
set -eu

usage() {
    cat <<'TEXT'
Usage: ./install.sh [--root DIR] [--no-start]
       ./install.sh --uninstall [--root DIR]

Installs cks-agent from the unpacked tarball that this file lies in. What is there already is replaced by what is newer or
differs; /etc/cks-agent/config.toml and what else was changed below /etc stay. A second run changes nothing.

  --root DIR   the root of an image, instead of this machine's
  --no-start   enable the services and start none
  --uninstall  remove what was installed, all but what was changed below /etc, and what the agent knows of the node

cks-bootstrap.service, which makes the machine a node, is enabled and never started: that is for the next boot, or for
`systemctl start cks-bootstrap`.

Exit codes: 0 done, or nothing to do; 1 failed; 2 wrong usage; 3 this machine is not fit, with the reason.
TEXT
}

say() { echo "install.sh: $1"; }

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

root='' start=1 uninstall=''
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --root)
        [ $# -gt 1 ] || fail "--root wants a directory" 2
        root=${2%/}
        [ -d "$2" ] || fail "$2 is no directory" 2
        shift
        ;;
    --no-start) start='' ;;
    --uninstall) uninstall=1 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
here=$(cd "$(dirname "$0")" && pwd)
list=/usr/share/cks-agent/installed
units="cks-bootstrap.service cks-agent.service"
timers="cks-agent-reconcile.timer cks-agent-etcd-snapshot.timer"
wants=$root/etc/systemd/system/multi-user.target.wants
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "has to be run as root"

# Whether systemd runs this very machine.
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# What a package manager installed is for the package manager.
no_package() {
    if [ -e "$root/var/lib/dpkg/info/cks-agent.list" ] && grep -q '^/usr/bin/cks-agent$' "$root/var/lib/dpkg/info/cks-agent.list"; then
        fail "cks-agent is installed as a Debian package here: use apt or dpkg" 3
    fi
    # Without a database there, a question would make one.
    for database in /usr/lib/sysimage/rpm /var/lib/rpm; do
        [ -n "$(ls "$root$database" 2>/dev/null)" ] && command -v rpm >/dev/null || continue
        if rpm --root "${root:-/}" --dbpath $database -q cks-agent >/dev/null 2>&1; then
            fail "cks-agent is installed as an RPM package here: use dnf or rpm" 3
        fi
    done
}

verify() {
    cd "$here"
    for name in SHA256SUMS VERSION root; do
        [ -e "$name" ] || fail "$name is not beside install.sh: unpack the whole tarball and run it there"
    done
    # Also what nobody listed: it would be installed unseen.
    listed=$(sed 's/^[0-9a-f]* [ *]//' SHA256SUMS | LC_ALL=C sort)
    found=$(find . ! -type d ! -name SHA256SUMS | LC_ALL=C sort)
    [ "$listed" = "$found" ] || fail "the files here are not those of SHA256SUMS: unpack the tarball anew"
    sha256sum --check --strict --quiet SHA256SUMS || fail "files differ from SHA256SUMS: fetch the tarball anew"
}

# Whether version $2 is $1 or newer.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

fit() {
    read -r version arch <VERSION
    glibc=''
    for directory in "lib/$arch-linux-gnu" "usr/lib/$arch-linux-gnu" lib64 usr/lib64 lib usr/lib; do
        [ -e "$root/$directory/libc.so.6" ] || continue
        glibc=$(grep -a -o 'stable release version [0-9.]*[0-9]' "$root/$directory/libc.so.6" | head -n 1 | sed 's/.* //')
        break
    done
    [ -n "$glibc" ] || fail "there is no glibc for $arch here; these programs need glibc 2.28 or newer" 3
    at_least 2.28 "$glibc" || fail "glibc is $glibc here; 2.28 or newer is needed (Debian 10, RHEL 8 and later)" 3
    [ -x "$root/lib/systemd/systemd" ] || [ -x "$root/usr/lib/systemd/systemd" ] || fail "there is no systemd here" 3
    [ -n "$root" ] && return
    [ "$(uname -m)" = "$arch" ] || fail "this machine is $(uname -m), the tarball is for $arch" 3
    kernel=$(uname -r)
    at_least 4.18 "${kernel%%-*}" || fail "the kernel is $kernel; 4.18 or newer is needed" 3
    [ -d /run/systemd/system ] || fail "systemd does not run this machine; for an image name its --root" 3
}

# Puts one file in its place, whole or not at all; counts it in `changed`.
put() {
    if [ -f "$2" ] && [ ! -L "$2" ] && cmp -s "$1" "$2" && [ "$(stat -c %a%u%g "$2")" = "${3}00" ]; then
        return 0
    fi
    mkdir -p "${2%/*}"
    rm -f "$2.cks-new"
    cp "$1" "$2.cks-new"
    chown 0:0 "$2.cks-new"
    chmod "$3" "$2.cks-new"
    sync "$2.cks-new"
    mv -fT "$2.cks-new" "$2"
    changed=$((changed + 1))
}

# The digest that a file below /etc had when it was installed.
known() { [ -e "$root$list" ] && sed -n "s|^\([0-9a-f]*\)  $1\$|\1|p" "$root$list"; }

digest() { sha256sum <"$1" | cut -c 1-64; }

# An operator's file is one that is not as it was installed; a removed one stays removed.
operators() {
    before=$(known "$1")
    if [ -e "$root$1" ]; then
        [ "$(digest "$root$1")" != "$before" ]
    else
        [ -n "$before" ]
    fi
}

install_all() {
    changed=0 first=''
    [ -e "$root$list" ] || first=1
    cd "$here/root"
    new=$(find . -type f | sed 's|^\.||' | LC_ALL=C sort)
    was=$(sed 's/^[0-9a-f]*  //' "$root$list" 2>/dev/null) || was=''
    umask 022
    lines=''
    for path in $new; do
        sum=$(digest ".$path")
        case $path in
        /etc/*)
            if operators "$path"; then
                cmp -s ".$path" "$root$path" || say "$path stays as it is"
                # The digest of what was installed, so that it is known as changed the next time, too.
                sum=$(known "$path") || sum=''
                [ -n "$sum" ] || sum=$(printf '' | sha256sum | cut -c 1-64)
            else
                put ".$path" "$root$path" 644
            fi
            ;;
        /usr/bin/*) put ".$path" "$root$path" 755 ;;
        *) put ".$path" "$root$path" 644 ;;
        esac
        lines="$lines$sum  $path
"
    done
    # What the version before had and this one has not.
    for path in $was; do
        echo "$new" | grep -Fxq "$path" && continue
        case $path in /etc/*) operators "$path" && continue ;; esac
        rm -f "$root$path"
        changed=$((changed + 1))
    done
    mkdir -p "$root${list%/*}"
    printf %s "$lines" >"$root$list.cks-new"
    mv -f "$root$list.cks-new" "$root$list"
    # Who disabled one of them meant it: only at the first installation.
    if [ -n "$first" ]; then
        mkdir -p "$wants"
        for unit in $units; do ln -sfn "/usr/lib/systemd/system/$unit" "$wants/$unit"; done
        changed=$((changed + 1))
    fi
    # Files that came from somewhere else have that place's labels.
    if [ -z "$root" ] && [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null; then
        for path in $new; do restorecon "$path" || :; done
    fi
}

services() {
    live || return 0
    systemd-tmpfiles --create cks-agent.conf || :
    systemctl daemon-reload
    if [ -n "$first" ]; then
        [ -z "$start" ] || systemctl start cks-agent.service
    else
        # Its mounts stay. cks-bootstrap.service is left alone.
        systemctl try-restart cks-agent.service
    fi
}

remove_all() {
    [ -e "$root$list" ] || { say "nothing is installed by install.sh here" && exit 0; }
    if live; then
        for unit in $timers $units; do systemctl stop "$unit" 2>/dev/null || :; done
    fi
    for unit in $units $timers; do
        rm -f "$root"/etc/systemd/system/*.target.wants/"$unit"
    done
    was=$(sed 's/^[0-9a-f]*  //' "$root$list")
    for path in $was; do
        case $path in
        /etc/*) if [ -e "$root$path" ] && operators "$path"; then say "$path stays: it was changed" && continue; fi ;;
        esac
        rm -f "$root$path"
    done
    rm -f "$root$list"
    for directory in /usr/share/cks-agent /usr/share/doc/cks-agent /etc/cks-agent/keys /etc/cks-agent; do
        rmdir "$root$directory" 2>/dev/null || :
    done
    if live; then
        systemctl daemon-reload
        systemctl reset-failed cks-agent.service cks-bootstrap.service 2>/dev/null || :
    fi
    say "removed; what the agent knows of this node stays in /var/lib/cks-agent"
}

no_package
if [ -n "$uninstall" ]; then
    remove_all
    exit 0
fi
verify
fit
install_all
if [ $changed -eq 0 ]; then
    say "cks-agent $version is installed: nothing to do"
    exit 0
fi
services
say "cks-agent $version is installed${root:+ below $root}"
[ -n "$root" ] || say "settings: /etc/cks-agent/config.toml; then: systemctl start cks-bootstrap, or reboot"
