//! What only the node may know is told nowhere.

use std::fmt::Write as _;

use cks_tests::kubernetes::Machine;

use crate::{alone, machines};

/// Of the cluster's token, behind the dot.
const TOKEN: &str = "456789abcdef0123";
const KEY: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";
const PASSWORD: &str = "pl4nted-p4ssword";

/// Looks at the arguments and environment of every process until the machine says that it is over.
const WATCH: &str = "while [ ! -e /tmp/over ]; do
    for process in /proc/[0-9]*; do tr '\\0' ' ' <$process/cmdline; tr '\\0' ' ' <$process/environ; echo; done 2>/dev/null |
        grep -E -f /tmp/pattern
    sleep 0.1
done";

/// Files that hold a secret and may be read by others, or should not hold it at all. A kubeconfig and containerd's
/// settings are where a secret belongs; the router's user data is the router's.
fn found(machine: &Machine, secret: &str) -> String {
    let places = "/var/log /run/cks-agent /var/lib/cks-agent /etc/cks-agent /tmp /root /opt";
    let mut told = machine.sh(&format!("grep -rls -- '{secret}' {places} || true")).unwrap();
    let open = format!(
        "grep -rls -- '{secret}' /etc /run /var/lib/kubelet 2>/dev/null | xargs -r -n1 sh -c 'find \"$0\" -perm /077'"
    );
    let _ = write!(told, "{}", machine.sh(&format!("{open} || true")).unwrap());
    told
}

#[test]
fn planted_secrets_are_told_nowhere() {
    let _alone = alone();
    let cluster = machines(1);
    for machine in cluster.machines() {
        let mut asked = cluster.user_data_of(machine);
        if machine.name != cluster.etcd.name {
            let _ = write!(
                asked,
                "  certificate-key: {KEY}\n  registries:\n    registry.example.net: {{username: u, password: {PASSWORD}}}\n"
            );
        }
        cluster.bed.ask(machine, &asked).unwrap();
        let pattern = format!("{TOKEN}|{KEY}|{PASSWORD}");
        // In a file: the watcher looks at its own arguments, too.
        machine.write("/tmp/pattern", &pattern).unwrap();
        machine.write("/tmp/watch", WATCH).unwrap();
        machine.sh("setsid sh /tmp/watch >/tmp/seen 2>&1 </dev/null &").unwrap();
    }
    cluster.as_told().unwrap();
    for machine in cluster.machines() {
        machine.sh("touch /tmp/over; sleep 0.5; rm -f /tmp/watch /tmp/pattern").unwrap();
        let seen = machine.read("/tmp/seen").unwrap();
        assert!(seen.trim().is_empty(), "{}: arguments or environment: {seen}", machine.name);
        for secret in [TOKEN, KEY, PASSWORD] {
            let told = found(machine, secret);
            assert!(told.trim().is_empty(), "{}: {secret} stands in {told}", machine.name);
        }
    }
}
