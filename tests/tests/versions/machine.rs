//! Room, modes, labels, units.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use cks_tests::disk::Disk;
use cks_tests::node::{self, Node};
use cks_tests::process::Command;
use cks_tests::programs;
use cks_tests::tree::Tree;

use crate::{Isos, installed};

/// What a refusal says is needed is what is needed: one MiB less is refused before anything is written, one part
/// in twenty more is enough.
#[test]
fn the_room_that_is_asked_for_is_the_room_that_is_needed() {
    let isos = Isos::new();
    let iso = isos.with("a", &[]);
    let iso = iso.to_string_lossy();
    let number = |text: &str, before: &str| -> u64 {
        let rest = text.split(before).nth(1).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let refused = |node: &Node| {
        let output = node.run(&[&iso]).unwrap();
        assert_eq!((node::code(&output), output.code), ("NO_SPACE", 78), "{output:?}");
        assert!(output.stderr.contains("remedy: free ") && output.stderr.contains("nothing was written"), "{output:?}");
        let left = Tree::read(&node.root, &["run", "var", "lost+found", "fill"]).unwrap().lines;
        assert_eq!(left, [""; 0]);
        (number(&output.stderr, "plan needs "), number(&output.stderr, " has "))
    };
    let disk = Disk::new(64).unwrap();
    let node = Node::on("etcd", &disk);
    let fill = node.root.join("fill");
    let filled = |bytes: u64| {
        let mut file = fs::File::create(&fill).unwrap();
        file.write_all(&vec![1; usize::try_from(bytes).unwrap()]).unwrap();
        file.sync_all().unwrap();
    };
    filled(20 << 20);
    let (need, free) = refused(&node);
    // As much free as makes it one MiB too little.
    filled((20 << 20) + ((free + 1 - need) << 20));
    let (again, free) = refused(&node);
    assert_eq!((again, free), (need, need - 1));
    filled((20 << 20) + ((free + 1 - need) << 20) - (need << 20) / 20);
    let output = node.run(&[&iso]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn modes_are_the_same_whatever_the_umask_is() {
    let isos = Isos::new();
    let iso = isos.with("a", &[]);
    let (plain, strict) = (Node::new("etcd").unwrap(), Node::new("etcd").unwrap());
    installed(&plain, &iso);
    let run = strict.bootstrap(&[&iso.to_string_lossy()]).unwrap();
    run.under("sh", ["-c", "umask 077 && exec \"$@\"", "sh"]).ok().unwrap();
    let (plain, strict) = (plain.tree().unwrap(), strict.tree().unwrap());
    assert_eq!(plain.digest(), strict.digest(), "{}", plain.difference(&strict));
}

/// The labels are set when the new version lies there and before it is in use.
#[test]
fn labels_are_restored_before_the_switch_where_the_host_has_selinux() {
    let isos = Isos::new();
    let iso = isos.with("a", &[]);
    let put = |node: &Node, path: &str, text: &str| {
        let path = node.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let script = "#!/bin/sh\nprintf '%s\\n' \"$@\" >>\"$0.log\"\ntest ! -L \"${0%/usr/*}/opt/cks/current\"\n";
    for (config, restores) in [("SELINUX=enforcing\n", true), ("SELINUX=disabled\n", false)] {
        let node = Node::new("etcd").unwrap();
        put(&node, "etc/selinux/config", config);
        put(&node, "usr/sbin/restorecon", script);
        let said = installed(&node, &iso);
        assert!(!said.contains("SELINUX_LABELS"), "{said}");
        let log = node.root.join("usr/sbin/restorecon.log");
        assert_eq!(log.exists(), restores, "{config}");
        if restores {
            let log = fs::read_to_string(log).unwrap();
            let version = node.root.join("opt/cks").join(crate::current(&node.root));
            let unit = node.root.join("etc/systemd/system/etcd.service");
            assert_eq!(log, format!("-R\n-i\n{}\n{}\n", unit.display(), version.display()));
        }
    }
    // Nobody to ask, or one that fails: said, and no failure.
    let node = Node::new("etcd").unwrap();
    put(&node, "etc/selinux/config", "SELINUX=permissive\n");
    let said = installed(&node, &iso);
    assert!(said.contains("SELINUX_LABELS") && said.contains("restorecon is not installed"), "{said}");
    let node = Node::new("etcd").unwrap();
    put(&node, "etc/selinux/config", "SELINUX=permissive\n");
    put(&node, "usr/sbin/restorecon", "#!/bin/sh\necho no policy >&2\nexit 3\n");
    let said = installed(&node, &iso);
    assert!(said.contains("SELINUX_LABELS") && said.contains("no policy"), "{said}");
}

#[test]
fn the_units_are_what_systemd_takes() {
    let analyze = Command::new("systemd-analyze").arg("--version");
    if !analyze.output().is_ok_and(|output| output.code == 0) {
        // Not by println, which is shown for failed tests only.
        writeln!(std::io::stderr(), "NOT CHECKED: systemd-analyze is not there: systemd/*.service, *.timer").unwrap();
        return;
    }
    let work = cks_tests::scratch("units").unwrap();
    let agent = programs::built("cks-agent").unwrap();
    let mut units = Vec::new();
    for entry in fs::read_dir(programs::workspace().join("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap().replace("/usr/bin/cks-agent", &agent.to_string_lossy());
        let copy = work.path().join(path.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        units.push(copy);
    }
    let etcd = work.path().join("etcd.service");
    fs::write(&etcd, bootstrap::render::etcd::UNIT.replace("/opt/bin/etcd", &agent.to_string_lossy())).unwrap();
    units.push(etcd);
    assert!(units.len() >= 2, "{units:?}");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    let ours = output.stderr.lines().find(|line| line.contains("cks-agent"));
    assert!(output.code == 0 && ours.is_none(), "{output:?}");
}
