#!/bin/sh
# Tells the node's first process (init.sh) what to do with etcd.service.
root=${0%/usr/bin/systemctl}
run=$root/run/bed
echo "$*" >>"$run/systemctl.log"
case $1 in
start) echo start >"$run/ctl" ;;
stop)
    echo stop >"$run/ctl"
    until grep -q inactive "$run/state"; do sleep 0.05; done
    ;;
show)
    case $3 in
    ActiveState) cat "$run/state" ;;
    SubState) echo bed ;;
    NeedDaemonReload) echo no ;;
    esac
    ;;
daemon-reload | enable) ;;
*) echo "systemctl: not made for $1" >&2 && exit 1 ;;
esac
