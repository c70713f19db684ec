//! What a join would ask of a machine that runs, asked by `check`: in namespaces of its own, with what tells a systemd.

use cks_tests::process::Command;

use super::prepared;

/// Holds the kubelet's port, in the place of a program that somebody left.
const SQUATTER: &str =
    "import socket, time; s = socket.socket(); s.bind(('0.0.0.0', 10250)); s.listen(); time.sleep(600)";

#[test]
fn a_machine_that_runs_is_asked_what_a_join_would_ask() {
    let root = prepared();
    let script = format!(
        "mount -t proc proc /proc; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system
        echo \"127.0.1.1 $(hostname)\" >>/etc/hosts
        check() {{ cks-agent check --only node-ports \"$@\" 2>&1 && echo 'exit 0' || echo \"exit $?\"; }}
        check --verbose
        python3 -c \"{SQUATTER}\" &
        until grep -q ':280A ' /proc/net/tcp; do sleep 0.1; done
        check; check --skip node-ports; check --role etcd
        cks-agent check --only node-prots 2>&1 || true"
    );
    let namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child"];
    let output = Command::new("unshare").args(namespaces).arg("chroot").arg(root.path());
    let output = output.args(["/bin/sh", "-euc", &script]).bare();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let told = output.env("PATH", path).ok().unwrap();
    let told: Vec<&str> = told.lines().map(str::trim_end).collect();
    let [free, _, exit, taken, remedy, _, failed, skipped, _, left_out, _, etcd, unknown, ..] = told[..] else {
        panic!("{told:#?}");
    };
    assert!(free.starts_with("ok ") && free.contains("nothing against it"), "{told:#?}");
    assert!(taken.starts_with("failed ") && taken.contains("PORT_IN_USE: python3 (process "), "{told:#?}");
    assert!(remedy.contains("stop python3: process ") && skipped.starts_with("skipped "), "{told:#?}");
    assert_eq!([exit, failed, left_out, etcd], ["exit 0", "exit 78", "exit 0", "exit 0"], "{told:#?}");
    assert!(unknown.contains("node-prots") && unknown.contains("CONFIG_INVALID"), "{told:#?}");
}
