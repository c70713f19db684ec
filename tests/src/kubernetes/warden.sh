# Outlives a machine to take its cgroups away. Arguments: the machine's cgroup, then what runs it.
cgroup=$1
shift
trap 'kill -KILL $machine 2>/dev/null' TERM
"$@" & machine=$!
# A signal ends the first wait and not the machine.
while kill -0 $machine 2>/dev/null; do wait $machine; done
tries=0
while [ $tries -lt 100 ]; do
    left=0
    for hierarchy in /sys/fs/cgroup/*/; do
        [ -d "$hierarchy$cgroup" ] || continue
        find "$hierarchy$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
        rmdir -p "$hierarchy${cgroup%/*}" 2>/dev/null
        [ ! -d "$hierarchy$cgroup" ] || left=1
    done
    [ $left = 1 ] || exit 0
    tries=$((tries + 1))
    sleep 0.02
done
