# What firmware, kernel and initramfs do for a machine: the first process of its namespaces, which becomes the
# stand-in for systemd. Arguments: the machine's disk, its name, its address, its cgroup, the router's address.
set -eu
disk=$1 name=$2 address=$3 cgroup=$4 router=$5
root=$disk/root

mount --bind "$root" "$root"
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$disk/usr/upper,workdir=$disk/usr/work" "$root/usr"
mkdir -p "$root/usr/local/bin" "$root/usr/local/sbin"
mount --bind "$disk/bed-machine" "$root/usr/libexec/bed/bed-machine"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"

cd "$root/dev"
mkdir pts shm mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs shm
mount -t mqueue mqueue mqueue
while read -r node kind major minor mode; do
    mknod -m "$mode" "$node" "$kind" "$major" "$minor"
done <<'NODES'
null c 1 3 666
zero c 1 5 666
full c 1 7 666
random c 1 8 666
urandom c 1 9 666
kmsg c 1 11 600
tty c 5 0 666
loop-control c 10 237 660
fuse c 10 229 666
NODES
number=0
while [ $number -lt 16 ]; do
    mknod -m 660 loop$number b 7 $number
    number=$((number + 1))
done
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd
ln -s /proc/self/fd/0 stdin
ln -s /proc/self/fd/1 stdout
ln -s /proc/self/fd/2 stderr

# Settings of the whole kernel, which kubelet writes: the machine has its own, as far as it can see.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys \
    kernel/keys/root_maxbytes kernel/random/boot_id; do
    [ -e "/proc/sys/$setting" ] || continue
    mkdir -p "$disk/sysctl/${setting%/*}"
    cat "/proc/sys/$setting" >"$disk/sysctl/$setting"
    mount --bind "$disk/sysctl/$setting" "$root/proc/sys/$setting"
done
cat /proc/sys/kernel/random/uuid >"$disk/sysctl/kernel/random/boot_id"

# There is no cgroup namespace: the machine's cgroups are below one of its own in every hierarchy.
for hierarchy in /sys/fs/cgroup/*/; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    at=${hierarchy%/}
    for part in $(echo "$cgroup" | tr / ' '); do
        mkdir -p "$at/$part"
        for setting in cpuset.cpus cpuset.mems; do
            [ ! -e "$at/$part/$setting" ] || cat "$at/$setting" >"$at/$part/$setting"
        done
        at=$at/$part
    done
done

hostname "$name"
ip link set lo up
tries=0
until ip link show eth0 >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 500 ] || { echo "$name got no cable" >&2 && exit 1; }
    sleep 0.02
done
ip address add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "$router"

cd "$root"
mkdir -p old-root
pivot_root . old-root
cd /
umount -l /old-root
rmdir /old-root
mount --make-rshared /
echo "booting"
exec /usr/libexec/bed/bed-machine init "$cgroup" </dev/null
