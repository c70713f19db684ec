//! A machine of the Kubernetes bed: what stands in for systemd, the sockets that a node speaks to, its user data, its
//! power, its cable, and that nothing is left of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use cks_tests::kubernetes::{Bed, Machine, wait};
use cks_tests::leash::mentioning;
use cks_tests::process::Command;
use cks_tests::programs;

const LIMIT: Duration = Duration::from_secs(30);

fn bed() -> Bed {
    let content = cks_tests::scratch("content").unwrap();
    fs::write(content.path().join("file"), "content").unwrap();
    Bed::new(content.path(), None).unwrap()
}

fn code(machine: &Machine, words: &[&str]) -> i32 {
    machine.command(words.iter().copied()).unwrap().output().unwrap().code
}

/// Cgroups of machines, in any hierarchy.
fn cgroups(mark: &str) -> Vec<String> {
    let found = Command::new("find").args(["/sys/fs/cgroup", "-path", &format!("*{mark}*")]).output().unwrap();
    found.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_machine_has_a_router_a_runtime_and_a_login_and_nothing_is_left_of_it() {
    let mut bed = bed();
    let machine = bed.machine("node-1").unwrap();
    assert_eq!(machine.sh("hostname; curl -sf http://10.1.1.1/cks-iso/file").unwrap(), "node-1\ncontent");
    machine
        .wait("containerd", LIMIT, || Ok(code(&machine, &["systemctl", "is-active", "-q", "containerd"]) == 0))
        .unwrap();
    machine.sh("ctr version").unwrap();
    assert_eq!(machine.read("/etc/hostname").unwrap(), "node-1\n");
    machine.wait("sshd", LIMIT, || Ok(code(&machine, &["systemctl", "is-active", "-q", "ssh"]) == 0)).unwrap();
    let told = bed
        .ssh(&machine, "sudo id -u; cat /proc/sys/kernel/hostname; sudo systemctl is-active containerd")
        .ok()
        .unwrap();
    assert_eq!(told, "0\nnode-1\nactive\n");
    machine.sh("modprobe overlay && modprobe br_netfilter && echo 1 >/proc/sys/net/ipv4/ip_forward").unwrap();

    bed.nothing_outside().unwrap();
    assert_ne!(code(&machine, &["curl", "-sf", "--max-time", "1", "http://192.0.2.7:81/"]), 0);
    let outside = bed.outside().unwrap();
    assert!(outside.packets > 0, "{outside:?}");
    assert_eq!(outside.wanted, ["10.1.1.10 . 192.0.2.7 . tcp . 81"]);
    bed.nothing_outside().unwrap_err();

    let mark = format!("/bed/{}", bed.name);
    assert!(!cgroups(&mark).is_empty() && !mentioning(&mark).unwrap().is_empty());
    drop((machine, bed));
    assert_eq!((cgroups(&mark), mentioning(&mark).unwrap()), (vec![], vec![]));
}

#[test]
fn nothing_is_left_of_a_bed_that_was_killed() {
    let content = cks_tests::scratch("content").unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let bed = programs::built("bed").unwrap();
    let script = "cat /proc/self/mountinfo; systemctl start containerd; echo up; exec sleep 600";
    let mut bed = Command::new(bed)
        .arg("machine")
        .arg(content.path())
        .args(["--", "sh", "-c", script])
        .start(log.path())
        .unwrap();
    let said = || fs::read_to_string(log.path()).unwrap();
    wait("a machine", LIMIT, || Ok(said().contains("\nup"))).unwrap();
    let mark = format!("/bed/{}-0", bed.pid());
    let said = said();
    let directory = said.split("upperdir=").nth(1).and_then(|rest| rest.split("/cks-machine").next()).unwrap();
    assert!(!cgroups(&mark).is_empty() && !mentioning(&mark).unwrap().is_empty() && Path::new(directory).exists());
    bed.kill().unwrap();
    let left =
        || (cgroups(&mark), mentioning(&mark).unwrap(), mentioning(directory).unwrap(), Path::new(directory).exists());
    let nothing = (vec![], vec![], vec![], false);
    wait("the end of all of it", LIMIT, || if left() == nothing { Ok(true) } else { bail!("{:?}", left()) }).unwrap();
}

#[test]
fn a_machine_reads_its_own_user_data_and_no_others() {
    let mut bed = bed();
    let machines = ["node-1", "node-2"].map(|name| bed.machine(name).unwrap());
    for machine in &machines {
        bed.user_data(machine, &format!("#cloud-config\n# of {}\n", machine.name)).unwrap();
    }
    let get = |machine: &Machine, path: &str| machine.sh(&format!("curl -s http://data-server/{path}")).unwrap();
    for machine in &machines {
        assert_eq!(get(machine, "latest/user-data"), format!("#cloud-config\n# of {}\n", machine.name));
        assert_eq!(get(machine, "latest/meta-data/local-hostname"), machine.name);
        assert_eq!(get(machine, "latest/local-ipv4"), machine.address);
        assert!(get(machine, "latest/meta-data/").lines().any(|line| line == "instance-id"));
        assert!(get(machine, "latest/meta-data/nothing").contains("404"));
    }
    let [one, two] = &machines;
    assert_ne!(get(one, "latest/meta-data/vm-id"), get(two, "latest/meta-data/vm-id"));
    assert!(get(one, &format!("userdata/{}/user-data", two.address)).contains("403"));
}

#[test]
fn power_and_cable_can_be_pulled() {
    let mut bed = bed();
    let mut machine = bed.machine("node-1").unwrap();
    machine
        .sh("echo kept >/var/lib/kept; echo gone >/run/gone; cat /proc/sys/kernel/random/boot_id >/root/boot")
        .unwrap();
    bed.reboot(&mut machine).unwrap();
    let told = machine.sh("cat /var/lib/kept; ls /run/gone 2>&1 | grep -o 'No such'").unwrap();
    assert_eq!(told, "kept\nNo such\n");
    assert_ne!(machine.sh("cat /root/boot").unwrap(), machine.sh("cat /proc/sys/kernel/random/boot_id").unwrap());
    let fetch = ["curl", "-sf", "--max-time", "2", "-o", "/dev/null", "http://10.1.1.1/cks-iso/file"];
    assert_eq!(code(&machine, &fetch), 0);
    bed.unplug(&machine).unwrap();
    assert_ne!(code(&machine, &fetch), 0);
    bed.plug(&machine).unwrap();
    wait("the router", LIMIT, || Ok(code(&machine, &fetch) == 0)).unwrap();
}

#[test]
fn units_run_as_systemd_runs_them() {
    let mut bed = bed();
    let machine = bed.machine("node-1").unwrap();
    let unit = |name: &str, text: &str| machine.write(&format!("/etc/systemd/system/{name}"), text).unwrap();
    let told = |words: &str| machine.sh(&format!("systemctl {words} 2>&1 || echo code $?")).unwrap();
    // A program that is ready when it says so, and whose environment comes from the unit, a file and a drop-in.
    unit(
        "speaks.service",
        "[Service]\nType=notify\nNotifyAccess=all\nEnvironment=A=1 B=2\nEnvironmentFile=-/etc/speaks\nExecStart=/bin/sh -c 'echo $A ${B} $C; systemd-notify --ready --status=well; exec sleep 600'\nRestart=on-failure\n[Install]\nWantedBy=multi-user.target\n",
    );
    unit("speaks.service.d/10-more.conf", "[Service]\nEnvironment=C=3\nRestartSec=50ms\n");
    machine.write("/etc/speaks", "B=file\n").unwrap();
    assert_eq!(told("is-active speaks"), "inactive\ncode 3\n");
    assert_eq!(told("start speaks"), "");
    assert_eq!(told("show -p ActiveState,StatusText --value speaks"), "active\nwell\n");
    assert_eq!(machine.log_of("speaks").unwrap(), "1 file 3\n");
    assert_eq!(told("is-enabled speaks"), "disabled\ncode 1\n");
    assert!(
        told("enable speaks").starts_with("Created symlink /etc/systemd/system/multi-user.target.wants/speaks.service")
    );
    assert_eq!(told("is-enabled speaks"), "enabled\n");

    // It is started again after a kill, with another process.
    let main = told("show -p MainPID --value speaks");
    machine.sh(&format!("kill -KILL {main}")).unwrap();
    machine
        .wait("a restart", LIMIT, || {
            Ok(told("show -p NRestarts --value speaks") == "1\n" && told("is-active speaks") == "active\n")
        })
        .unwrap();
    assert_ne!(told("show -p MainPID --value speaks"), main);

    // What is running stays as it was read until daemon-reload.
    unit("speaks.service.d/20-more.conf", "[Service]\nEnvironment=A=9\n");
    assert!(told("restart speaks").contains("Run 'systemctl daemon-reload'"));
    assert_eq!(machine.log_of("speaks").unwrap().lines().last(), Some("1 file 3"));
    told("daemon-reload");
    assert_eq!(told("restart speaks"), "");
    assert_eq!(machine.log_of("speaks").unwrap().lines().last(), Some("9 file 3"));

    // Who requires another is started after it, stopped with it, and fails without it.
    unit(
        "needs.service",
        "[Unit]\nRequires=speaks.service\nAfter=speaks.service\n[Service]\nExecStart=/bin/sleep 600\n",
    );
    told("stop speaks");
    assert_eq!(told("start needs"), "");
    assert_eq!(told("is-active speaks needs"), "active\nactive\n");
    told("stop speaks");
    assert_eq!(told("is-active needs"), "inactive\ncode 3\n");
    unit("speaks.service.d/30-broken.conf", "[Service]\nExecStart=\nExecStart=/bin/false\nRestart=no\n");
    told("daemon-reload");
    assert!(told("start needs").starts_with("A dependency job for needs.service failed."));

    // Failures are told, and too many starts refused.
    unit("fails.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo why; exit 7'\n");
    assert!(
        told("start fails")
            .starts_with("Job for fails.service failed because the control process exited with error code.")
    );
    assert_eq!(told("is-failed fails"), "failed\n");
    assert_eq!(told("show -p Result,ExecMainStatus fails"), "Result=exit-code\nExecMainStatus=7\n");
    (0..4).for_each(|_| drop(told("start fails")));
    assert!(told("start fails").contains("attempted too often"));
    told("reset-failed fails");
    assert!(told("start fails").contains("exited with error code"));
    assert!(told("status fails").contains("why"));
    assert_eq!(told("start nowhere"), "Failed to start nowhere.service: Unit nowhere.service not found.\ncode 5\n");
}

#[test]
fn the_journal_and_the_console_are_kept() {
    let mut bed = bed();
    let machine = bed.machine("node-1").unwrap();
    let journal = UnixDatagram::unbound().unwrap();
    let socket = machine.path("/run/systemd/journal/socket").unwrap();
    assert!(Path::new(&socket).exists());
    journal.send_to(b"MESSAGE=one\nPRIORITY=6\n", &socket).unwrap();
    journal.send_to(b"MESSAGE=two\n", &socket).unwrap();
    machine.wait("the journal", LIMIT, || Ok(machine.log_of("journal")?.contains("two"))).unwrap();
    assert_eq!(machine.log_of("journal").unwrap(), "MESSAGE=one\nPRIORITY=6\n\nMESSAGE=two\n\n");
    machine.sh("echo first >/dev/console; echo second >/dev/console").unwrap();
    machine.wait("the console", LIMIT, || Ok(machine.log_of("console")?.contains("second"))).unwrap();
    assert_eq!(machine.log_of("console").unwrap(), "first\r\nsecond\r\n");
}
