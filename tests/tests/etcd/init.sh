#!/bin/sh
# The first process of a node: does with etcd.service what systemd would, as far as the tests need it. Its user, its
# environment file, its condition and its restarts are those of the unit. Ends with the test, and etcd with it.
root=$1
run=$root/run/bed
unit=$root/etc/systemd/system/etcd.service
log=$run/etcd.log
echo inactive >"$run/state"

setting() {
    sed -n "s/^$1=//p" "$unit"
}

etcd() {
    user=$(awk -F: -v name="$(setting User)" '$1 == name { print $3 }' "$root/etc/passwd")
    group=$(awk -F: -v name="$(setting Group)" '$1 == name { print $3 }' "$root/etc/group")
    # Its paths are below the node's root.
    told=$(sed -e '/^#/d' -e "s#=/#=$root/#" "$root$(setting EnvironmentFile)")
    # shellcheck disable=SC2086 # no value has a space
    exec env -i $told setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs \
        "$root$(setting ExecStart)" >>"$log" 2>&1
}

supervise() {
    while [ -e "$run/wanted" ]; do
        etcd &
        pid=$!
        echo "$pid" >"$run/pid"
        echo active >"$run/state"
        wait "$pid"
        [ $? != 0 ] || rm -f "$run/wanted"
        [ ! -e "$run/wanted" ] || { echo activating >"$run/state" && sleep 0.3; }
    done
    echo inactive >"$run/state"
}

exec 3<>"$run/ctl"
while read -r verb <&3; do
    case $verb in
    start)
        if ! grep -q inactive "$run/state"; then continue; fi
        if [ ! -e "$root$(setting ConditionPathExists)" ]; then continue; fi
        : >"$run/wanted"
        echo activating >"$run/state"
        supervise &
        ;;
    stop)
        rm -f "$run/wanted"
        kill "$(cat "$run/pid")" 2>/dev/null
        ;;
    kill) kill -9 "$(cat "$run/pid")" 2>/dev/null ;;
    esac
done
