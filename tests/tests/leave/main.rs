//! `cks-agent leave` on a machine whose links, rules, mounts and namespaces are real.

mod cluster;
mod control_plane;
mod machine;
mod members;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use cks_tests::process::{Command, Output};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::machine::{DATA, Machine, code, data_is_whole, difference};

#[test]
fn a_machine_that_never_joined_is_not_touched() {
    let machine = Machine::new().unwrap();
    let before = machine.picture().unwrap();
    let output = machine.leave(&[]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("nothing to do"), "{output:?}");
    assert_eq!(difference(&before, &machine.picture().unwrap()), [""; 0]);
    assert!(!machine.has("/var/lib/cks-agent") && !machine.has("/run/cks-agent"));
}

#[test]
fn a_try_that_became_nothing_is_forgotten() {
    let machine = Machine::new().unwrap();
    let kept = ["/var/lib/cks-agent/cluster.json", "/var/lib/cks-agent/node.json"];
    let begun = r#"{"membership":"a worker","authority":["sha256:a"],"stage":"begun"}"#;
    machine
        .sh(&format!("mkdir -p /var/lib/cks-agent && echo '{begun}' >{} && echo '{{}}' >{}", kept[0], kept[1]))
        .unwrap();
    let before = machine.picture().unwrap();
    for (arguments, verb) in [(&["--dry-run"][..], "would go "), (&[], "gone     ")] {
        assert!(kept.iter().all(|path| machine.has(path)));
        let output = machine.leave(arguments).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        for path in kept {
            assert!(output.stdout.contains(&format!("{verb} file {path}\n")), "{output:?}");
        }
    }
    assert!(!kept.iter().any(|path| machine.has(path)));
    // It has left nothing: the same user data may ask for the node again.
    assert!(!machine.has("/var/lib/cks-agent/left.json"));
    assert_eq!(difference(&before, &machine.picture().unwrap()), [""; 0]);
    assert!(machine.leave(&[]).unwrap().stdout.contains("nothing to do"));
}

#[test]
fn a_node_is_as_it_was_before_it_joined_and_can_join_again() {
    let machine = Machine::new().unwrap();
    let before = machine.picture().unwrap();
    for round in 0..3 {
        machine.join().unwrap();
        assert_ne!(machine.picture().unwrap(), before);
        let output = machine.leave(&["--json"]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(
            (&report["clean"], &report["before"], &report["node"]),
            (&true.into(), &"member".into(), &"w1".into())
        );
        let left: Vec<String> = difference(&before, &machine.picture().unwrap());
        // The machine's own data, another engine's network, and the kubeconfig of another cluster.
        let others = [
            "/srv/data",
            "/var/lib/cni/",
            "/root/.kube",
            "/home/cloud/.kube",
            "netns blue",
            "/run/netns",
            "/etc/kubernetes",
        ];
        let strange: Vec<_> = left.iter().filter(|line| !others.iter().any(|other| line.contains(other))).collect();
        assert!(strange.is_empty(), "round {round}: {strange:#?}");
        for kept in
            ["/root/.kube/config", "/var/lib/cni/networks/podman/10.88.0.2", "/var/lib/cni/results/podman-7-eth0"]
        {
            assert!(machine.has(kept), "{kept}");
        }
        for gone in
            ["/home/cloud/.kube/config", "/var/lib/cni/networks/cbr0", "/var/lib/kubelet", "/home/cloud/success"]
        {
            assert!(!machine.has(gone), "{gone}");
        }
        assert!(data_is_whole(&machine.path(DATA)));
        assert_eq!(fs::read_dir(machine.path("/etc/kubernetes/manifests")).unwrap().count(), 0);
        let again = machine.leave(&[]).unwrap();
        assert_eq!(again.code, 0, "{again:?}");
        assert!(again.stdout.contains("nothing to do"), "{again:?}");
        machine.sh("ip netns del blue; rm -rf /var/lib/cni/*").unwrap();
    }
}

#[test]
fn a_machine_that_has_left_is_let_in_again_afterwards_too() {
    let machine = Machine::joined().unwrap();
    let kept = ["/var/lib/cks-agent/left.json", "/var/lib/cks-agent/user-data.json"];
    assert_eq!(machine.leave(&[]).unwrap().code, 0);
    for (arguments, stays) in [(&["--rejoin", "--dry-run"][..], true), (&["--rejoin"], false), (&["--rejoin"], false)] {
        let output = machine.leave(arguments).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        assert!(kept.iter().all(|path| machine.has(path) == stays), "{arguments:?}: {output:?}");
    }
}

#[test]
fn what_could_not_be_looked_at_is_not_clean() {
    let machine = Machine::joined().unwrap();
    machine.sh("mv $(command -v ipset) /srv/ipset && ln -s /bin/false $(dirname $(command -v ip))/ipset").unwrap();
    let output = machine.leave(&[]).unwrap();
    assert_eq!((code(&output), output.code), ("LEAVE_INCOMPLETE", 78), "{output:?}");
    assert!(output.stderr.contains("what ipset list -n tells"), "{output:?}");
    machine.sh("ln -sf /srv/ipset $(command -v ipset)").unwrap();
    let output = machine.leave(&[]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("ipset KUBE-CLUSTER-IP"), "{output:?}");
}

#[test]
fn a_dry_run_tells_all_and_changes_nothing() {
    let machine = Machine::joined().unwrap();
    let before = machine.picture().unwrap();
    let output = machine.leave(&["--dry-run"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    for told in
        ["link cni0", "iptables (legacy)", "directory /var/lib/kubelet", "ipset KUBE-CLUSTER-IP", "kubelet.conf"]
    {
        assert!(output.stdout.contains(told), "{told}: {}", output.stdout);
    }
    for foreign in ["br-lan", "DOCKER", "blocklist", "podman", "blue", "/root/.kube", "inet mine"] {
        assert!(!output.stdout.contains(foreign), "{foreign}: {}", output.stdout);
    }
    assert_eq!(difference(&before, &machine.picture().unwrap()), [""; 0]);
}

#[test]
fn a_mount_whose_name_is_no_text_is_unmounted_like_all_others() {
    let machine = Machine::joined().unwrap();
    let volumes = "/var/lib/kubelet/pods/0f6e6c3e-1111-2222-3333-444455556666/volume-subpaths";
    machine.sh(&format!("d=$(printf '{volumes}/\\377 x'); mkdir \"$d\"; mount --bind /srv/data \"$d\"")).unwrap();
    let output = machine.leave(&[]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains(&format!("mount {volumes}/\u{fffd} x")), "{output:?}");
    assert!(!machine.has("/var/lib/kubelet") && data_is_whole(&machine.path(DATA)));
}

#[test]
fn a_busy_mount_is_named_with_its_holder_and_loses_nothing() {
    let machine = Machine::joined().unwrap();
    let mount = "/var/lib/kubelet/pods/0f6e6c3e-1111-2222-3333-444455556666/volumes/kubernetes.io~csi/pvc-1/mount";
    let log = machine.path("/tmp/holder");
    let holder = Command::new("sh").args(["-c", &format!("cd {mount}/deep && exec sleep 600")]);
    let mut holder = machine.run(holder).start(&log).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while machine.sh("pgrep -x sleep | wc -l").unwrap().trim() != "2" {
        assert!(Instant::now() < deadline, "the holder starts");
        thread::sleep(Duration::from_millis(20));
    }
    let output = machine.leave(&[]).unwrap();
    assert_eq!((code(&output), output.code), ("LEAVE_INCOMPLETE", 78), "{output:?}");
    assert!(output.stderr.contains(mount) && output.stderr.contains("(sleep)"), "{output:?}");
    assert!(data_is_whole(&machine.path(DATA)) && data_is_whole(&machine.path(mount)));
    let state = machine.sh("cat /run/cks-agent/status.json").unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!((&state["phase"], &state["failure"]["code"]), (&"failed".into(), &"LEAVE_INCOMPLETE".into()));
    // All else is gone.
    assert!(!machine.has("/etc/kubernetes/kubelet.conf") && !machine.has("/var/lib/kubelet/config.yaml"));
    let rules = machine.sh("iptables-nft-save; iptables-legacy-save; ip6tables-nft-save; ip link").unwrap();
    assert!(!rules.contains(":KUBE") && !rules.contains("flannel.1"), "{rules}");
    machine.sh("pkill -x sleep -n").unwrap();
    holder.wait().unwrap();
    let output = machine.leave(&[]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!machine.has("/var/lib/kubelet") && !machine.has("/var/lib/cks-agent/leaving.json"));
    assert!(data_is_whole(&machine.path(DATA)));
    let state: Value = serde_json::from_str(&machine.sh("cat /run/cks-agent/status.json").unwrap()).unwrap();
    assert_eq!((&state["phase"], &state["failure"]), (&"left".into(), &Value::Null));
}

#[test]
fn what_is_mounted_later_at_the_same_place_is_no_way_to_lose_data() {
    let machine = Machine::joined().unwrap();
    // Bind mounts of the very filesystem that kubelet's directory is on, of a directory and of a file; and one on the other.
    let script = "cd /var/lib/kubelet && mkdir -p a/b one two && : >one/file \
        && mount --bind /srv/data a/b && mount --bind /srv/data/deep a/b/deep && mount --bind /srv/data a/b \
        && mount --bind /srv/data/precious one/file && mount -t tmpfs none two && echo x >two/x \
        && chattr +i /srv/data/precious 2>/dev/null || true";
    machine.sh(script).unwrap();
    let log = machine.path("/tmp/holder");
    let holder = machine
        .run(Command::new("sleep").arg("600").under("sh", ["-c", "exec \"$@\" 9</var/lib/kubelet/one/file", "-"]));
    let holder = holder.start(&log);
    let mut holder = holder.unwrap();
    let open = || machine.sh("ls -l /proc/*/fd/9 2>/dev/null | grep -c one/file || true").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while open().trim() == "0" {
        assert!(Instant::now() < deadline, "the holder starts");
        thread::sleep(Duration::from_millis(20));
    }
    let output = machine.leave(&[]).unwrap();
    assert_eq!((code(&output), output.code), ("LEAVE_INCOMPLETE", 78), "{output:?}");
    assert!(output.stderr.contains("/var/lib/kubelet/one/file") && output.stderr.contains("(sleep)"), "{output:?}");
    assert!(data_is_whole(&machine.path(DATA)));
    assert!(!machine.has("/var/lib/kubelet/a") && machine.has("/var/lib/kubelet/one/file"));
    holder.kill().unwrap();
    machine.sh("pkill -x sleep -n || true").unwrap();
    let output = machine.leave(&[]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(data_is_whole(&machine.path(DATA)) && !machine.has("/var/lib/kubelet"));
}

/// What comes (`true`) or goes while a node leaves, in the order in which it does.
const MOMENTS: [(&str, bool); 10] = [
    ("/var/lib/cks-agent/leaving.json", true),
    ("/run/netns/cni-7a1e2f03-1111-2222-3333-444455556666", false),
    ("/sys/class/net/cni0", false),
    ("/etc/kubernetes/pki/ca.crt", false),
    ("/var/lib/kubelet/config.yaml", false),
    ("/run/flannel", false),
    ("/etc/kubernetes/kubelet.conf", false),
    ("/home/cloud/success", false),
    ("/var/lib/cks-agent/cluster.json", false),
    ("/var/lib/cks-agent/left.json", true),
];

#[test]
fn a_leave_that_is_killed_anywhere_ends_as_one_that_is_not() {
    let whole = Machine::joined().unwrap();
    assert_eq!(whole.leave(&[]).unwrap().code, 0);
    let wanted = whole.picture().unwrap();
    let mut killed = 0;
    for (at, (path, comes)) in MOMENTS.into_iter().enumerate() {
        let machine = Machine::joined().unwrap();
        let log = machine.log("killed");
        let mut kill = |moment: &dyn Fn() -> bool| {
            let mut running = machine.leaving(&[]).start(&log).unwrap();
            while !moment() && running.ended().unwrap().is_none() {
                thread::sleep(Duration::from_millis(1));
            }
            killed += i32::from(running.ended().unwrap().is_none());
            machine.sh("pkill -KILL -x cks-agent || true").unwrap();
            running.kill().unwrap();
        };
        kill(&|| machine.has(path) == comes);
        // And once more, somewhere in the run that goes on.
        let since = Instant::now();
        kill(&|| since.elapsed() > Duration::from_millis(30 + 60 * at as u64));
        let output = machine.leave(&[]).unwrap();
        assert_eq!(output.code, 0, "{path}: {output:?}");
        assert_eq!(difference(&wanted, &machine.picture().unwrap()), [""; 0], "{path}");
        assert!(data_is_whole(&machine.path(DATA)));
    }
    assert!(killed >= 12, "only {killed} were killed");
}

/// As `kubeadm reset -f` of the management server's script leaves a node.
const RESET: &str = "awk '$5 ~ /^.var.lib.kubelet/ { print $5 }' /proc/self/mountinfo | tac | sed 's/\\\\040/ /g' |
        while read -r mount; do umount \"$mount\"; done
        rm -rf /etc/kubernetes/manifests/* /etc/kubernetes/pki/* /etc/kubernetes/*.conf
        find /var/lib/kubelet -mindepth 1 -delete";

#[test]
fn a_node_that_somebody_else_reset_is_finished_at_its_next_boot() {
    let machine = Machine::joined().unwrap();
    machine.sh(RESET).unwrap();
    // What the boot unit runs, with user data that asks for nothing.
    machine.sh("printf '#cloud-config\n' >/srv/user-data && mkdir /srv/metadata").unwrap();
    let agent = Command::new("/usr/local/bin/cks-agent").args(["bootstrap", "--user-data", "/srv/user-data"]);
    let boot = || machine.run(agent.clone().args(["--metadata", "/srv/metadata"])).output().unwrap();
    let output = boot();
    assert_eq!(output.code, 0, "{output:?}");
    for gone in ["/home/cloud/success", "/var/lib/kubelet", "/run/flannel", "/var/lib/cks-agent/leaving.json"] {
        assert!(!machine.has(gone), "{gone}: {output:?}");
    }
    let rules = machine.sh("iptables-nft-save; iptables-legacy-save; ip link").unwrap();
    assert!(!rules.contains(":KUBE") && !rules.contains("cni0") && rules.contains("DOCKER"), "{rules}");
    // When the reset was, not when it was noticed: what asks for the node since then counts.
    let left = machine.sh("grep -o '20[^\"]*' /var/lib/cks-agent/left.json").unwrap();
    assert!(left.trim().ends_with('Z') && data_is_whole(&machine.path(DATA)), "{left}");
    let before = machine.picture().unwrap();
    assert_eq!(boot().code, 0);
    assert_eq!(difference(&before, &machine.picture().unwrap()), [""; 0], "a second boot finds nothing");
}

#[test]
fn a_node_that_somebody_else_reset_is_finished() {
    let machine = Machine::joined().unwrap();
    machine.sh(RESET).unwrap();
    assert!(data_is_whole(&machine.path(DATA)));
    let output = machine.leave(&["--json"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&report["clean"], &report["before"]), (&true.into(), &"reset".into()));
    assert!(!machine.has("/home/cloud/success") && !machine.has("/var/lib/kubelet"));
    // Nobody can tell any more whose this is.
    assert!(machine.has("/home/cloud/.kube/config"));
    let rules = machine.sh("iptables-nft-save; iptables-legacy-save; ip link").unwrap();
    assert!(!rules.contains(":KUBE") && !rules.contains("cni0"), "{rules}");
}

#[test]
fn a_node_drains_itself_by_the_rights_that_nodes_have() {
    let cluster = Cluster::new().unwrap();
    let machine = &cluster.machine;
    let warned = |output: &Output, text: &str| assert!(output.stdout.contains(text), "{text}: {output:?}");

    // A disruption budget keeps the node where it is.
    let output = machine.leave(&["--drain-timeout", "3s"]).unwrap();
    assert_eq!((code(&output), output.code), ("TIMED_OUT", 75), "{output:?}");
    assert!(output.stderr.contains("default/guarded (its disruption budget allows no eviction now)"), "{output:?}");
    assert_eq!(cluster.pods().unwrap(), ["elsewhere", "guarded", "proxy"]);
    assert_eq!(cluster.node("{.spec.unschedulable}").unwrap(), "", "it stays a member, and schedulable");
    assert!(!cluster.node("{.metadata.annotations}").unwrap().contains("cordoned"));
    // Unless somebody else had cordoned it.
    cluster.kubectl(&["cordon", "w1"]).unwrap();
    assert_eq!(code(&machine.leave(&["--drain-timeout", "1s"]).unwrap()), "TIMED_OUT");
    assert_eq!(cluster.node("{.spec.unschedulable}").unwrap(), "true");
    cluster.kubectl(&["uncordon", "w1"]).unwrap();
    assert!(machine.has("/etc/kubernetes/kubelet.conf") && machine.has("/home/cloud/success"));

    // What nobody starts elsewhere is no less worth.
    cluster
        .kubectl(&[
            "run",
            "alone",
            "--image=x",
            "--overrides",
            r#"{"spec":{"nodeName":"w1","terminationGracePeriodSeconds":0}}"#,
        ])
        .unwrap();
    let output = machine.leave(&["--drain-timeout", "3s"]).unwrap();
    assert_eq!((code(&output), output.code), ("LEAVE_INCOMPLETE", 78), "{output:?}");
    assert!(output.stderr.contains("default/alone (has no controller)"), "{output:?}");
    assert_eq!(cluster.pods().unwrap(), ["alone", "elsewhere", "guarded", "proxy"]);

    // With force they go; the node's own object does not, for a node may not delete it.
    let output = machine.leave(&["--force", "--drain-timeout", "2s"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(cluster.pods().unwrap(), ["elsewhere", "proxy"]);
    warned(&output, "kubectl delete node w1");
    let ready = cluster.node("{.status.conditions[?(@.type==\"Ready\")].reason}").unwrap();
    assert_eq!(ready, "NodeLeft", "{output:?}");
    assert!(!machine.has("/etc/kubernetes/kubelet.conf"));
}

#[test]
fn an_administrators_identity_deletes_the_node() {
    let cluster = Cluster::new().unwrap();
    let machine = &cluster.machine;
    cluster.kubectl(&["delete", "pdb", "guarded"]).unwrap();
    let output = machine.leave(&["--kubeconfig", "/srv/admin.conf", "--json"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let said = report["cluster"].to_string();
    assert!(said.contains("2 pods went") && said.contains("node w1 deleted"), "{said}");
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
    assert!(cluster.node("{.metadata.name}").is_err());
    assert_eq!(cluster.pods().unwrap(), ["elsewhere", "proxy"]);
    assert_eq!(machine.leave(&[]).unwrap().stdout.lines().last(), Some("nothing to do: this machine is in no cluster"));
}

#[test]
fn an_api_server_that_does_not_answer_keeps_nobody() {
    let machine = Machine::joined().unwrap();
    let kubernetes = cks_tests::programs::built_before("kubernetes", "v1").unwrap().unwrap();
    machine.sh(&format!("ln -sf {} /opt/bin/kubectl", kubernetes.join("kubectl").display())).unwrap();
    let output = machine.leave(&["--json"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("API_UNREACHABLE") && warnings.contains("kubectl delete node w1"), "{warnings}");
    assert_eq!(report["clean"], true);
}
