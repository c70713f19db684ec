//! The tarball and its install.sh, into roots of images and as what it is refused for.

use std::fs;
use std::path::Path;

use cks_tests::process::{Command, Output};

use crate::places::{Root, made, older};

const CONFIG: &str = "etc/cks-agent/config.toml";
const LINK: &str = "etc/systemd/system/multi-user.target.wants/cks-bootstrap.service";

fn install(unpacked: &Path, root: &Root, more: &[&str]) -> Output {
    let script = Command::new(unpacked.join("install.sh")).args(more).arg("--root").arg(root.directory.path());
    script.output().unwrap()
}

/// A root that looks like one of a machine with systemd: the small one has none.
fn image() -> Root {
    let root = Root::debian("bookworm").unwrap();
    root.write("usr/lib/systemd/systemd", "").unwrap();
    root.ok(&["chmod", "755", "/usr/lib/systemd/systemd"]).unwrap();
    root
}

#[test]
fn an_image_gets_it_once_is_upgraded_and_loses_all_of_it() {
    let (_place, new) = made().unpacked().unwrap();
    let (_other, old) = older().unpacked().unwrap();
    let root = image();
    let before = root.tree().unwrap();

    let output = install(&old, &root, &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("cks-agent 0.0.9 is installed"), "{output:?}");
    assert!(root.has(LINK) && root.has("usr/lib/systemd/system/cks-bootstrap.service"));
    let installed = root.tree().unwrap();
    let again = install(&old, &root, &[]);
    assert!(again.code == 0 && again.stdout.contains("nothing to do"), "{again:?}");
    assert_eq!(installed.difference(&root.tree().unwrap()), "");

    // What an operator changed, switched off or took away stays so; what is damaged is mended; what is gone goes.
    root.write(CONFIG, "wait = \"20m\"\n").unwrap();
    root.write("usr/bin/cks-agent", "damaged").unwrap();
    fs::remove_file(root.path(LINK)).unwrap();
    fs::remove_file(root.path("etc/cks-agent/keys/README")).unwrap();
    root.write("usr/share/man/man1/cks-agent-gone.1.gz", "").unwrap();
    let list = root.read("usr/share/cks-agent/installed").unwrap();
    root.write("usr/share/cks-agent/installed", &format!("{list}0  /usr/share/man/man1/cks-agent-gone.1.gz\n"))
        .unwrap();
    let output = install(&new, &root, &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(root.read(CONFIG).unwrap(), "wait = \"20m\"\n");
    assert!(!root.has(LINK) && !root.has("etc/cks-agent/keys/README"));
    assert!(!root.has("usr/share/man/man1/cks-agent-gone.1.gz"));
    assert!(root.ok(&["cks-agent", "--version"]).unwrap().starts_with("cks-agent "));
    let again = install(&new, &root, &[]);
    assert!(again.code == 0 && again.stdout.contains("nothing to do"), "{again:?}");

    let output = install(&new, &root, &["--uninstall"]);
    assert!(output.code == 0 && output.stdout.contains("config.toml stays: it was changed"), "{output:?}");
    assert_eq!(root.read(CONFIG).unwrap(), "wait = \"20m\"\n");
    fs::remove_file(root.path(CONFIG)).unwrap();
    fs::remove_dir(root.path("etc/cks-agent")).unwrap();
    let left = before.difference(&root.tree().unwrap());
    let files: Vec<&str> = left.lines().filter(|line| line.contains("cks")).collect();
    assert_eq!(files, [""; 0], "{left}");
    let again = install(&new, &root, &["--uninstall"]);
    assert!(again.code == 0 && again.stdout.contains("nothing is installed"), "{again:?}");
}

#[test]
fn what_is_not_fit_is_refused_with_its_reason_and_not_touched() {
    let (_place, unpacked) = made().unpacked().unwrap();
    let libc = "usr/lib/x86_64-linux-gnu/libc.so.6";
    let old = "GNU C Library (GNU libc) stable release version 2.27.\n";
    let file = |path: &'static str, text: &'static str| move |root: &Root| root.write(path, text).unwrap();
    type Fault = Box<dyn Fn(&Root)>;
    let cases: [(&str, Fault); 5] = [
        (
            "glibc is 2.27",
            Box::new(move |root| {
                fs::remove_file(root.path(libc)).unwrap();
                root.write(libc, old).unwrap();
            }),
        ),
        ("there is no glibc for x86_64", Box::new(move |root| fs::remove_file(root.path(libc)).unwrap())),
        ("there is no systemd", Box::new(|root| fs::remove_file(root.path("usr/lib/systemd/systemd")).unwrap())),
        ("use apt or dpkg", Box::new(file("var/lib/dpkg/info/cks-agent.list", "/.\n/usr/bin/cks-agent\n"))),
        (
            "use dnf or rpm",
            Box::new(|root| {
                root.rpm_command(&["--initdb"], None).unwrap();
                root.rpm_command(&["-i", "--nodeps", "--noscripts", "--justdb"], Some(&made().rpm("cks-agent")))
                    .unwrap();
            }),
        ),
    ];
    let root = image();
    for (reason, spoil) in cases {
        let root = if reason.contains("dnf") { image() } else { copy(&root) };
        spoil(&root);
        let before = root.tree().unwrap();
        let output = install(&unpacked, &root, &[]);
        assert_eq!(output.code, 3, "{reason}: {output:?}");
        assert!(output.stderr.contains(reason), "{reason}: {output:?}");
        assert_eq!(before.difference(&root.tree().unwrap()), "", "{reason}");
    }
}

/// Without `--root` it is the running machine that has to fit, as `uname` tells it and systemd runs it.
#[test]
fn a_machine_that_is_not_fit_is_refused_as_well() {
    let (_place, unpacked) = made().unpacked().unwrap();
    let root = image();
    Command::new("cp").arg("-a").arg(&unpacked).arg(root.path("srv/tarball")).ok().unwrap();
    let machines = [
        ("aarch64", "6.1.0-9-arm64", "this machine is aarch64, the tarball is for x86_64"),
        ("x86_64", "4.17.19-generic", "the kernel is 4.17.19-generic; 4.18 or newer is needed"),
        ("x86_64", "4.18.0-553.el8.x86_64", "systemd does not run this machine"),
        ("x86_64", "10.0.1", "systemd does not run this machine"),
    ];
    for (machine, kernel, reason) in machines {
        root.write("usr/sbin/uname", &format!("#!/bin/sh\n[ $1 = -m ] && echo {machine} || echo {kernel}\n")).unwrap();
        root.ok(&["chmod", "755", "/usr/sbin/uname"]).unwrap();
        let before = root.tree().unwrap();
        let output = root.run(&["/srv/tarball/install.sh"]).unwrap();
        assert_eq!(output.code, 3, "{reason}: {output:?}");
        assert!(output.stderr.contains(reason), "{reason}: {output:?}");
        assert_eq!(before.difference(&root.tree().unwrap()), "", "{reason}");
    }
}

/// The parts of a root that install.sh looks at.
fn copy(root: &Root) -> Root {
    let part = Root { directory: cks_tests::scratch("root").unwrap() };
    for path in ["usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/systemd/systemd"] {
        fs::create_dir_all(part.path(path).parent().unwrap()).unwrap();
        fs::copy(root.path(path), part.path(path)).unwrap();
    }
    part
}

#[test]
fn a_tarball_that_is_not_whole_is_refused() {
    let root = copy(&image());
    let before = root.tree().unwrap();
    for (name, spoil) in [
        ("another byte", "echo >>root/usr/bin/cks-agent"),
        ("a missing file", "rm root/usr/bin/cks-agent"),
        ("one more file", "echo >root/etc/cks-agent/more"),
        ("one more link", "ln -s /etc/passwd root/etc/more"),
        ("no sums", "rm SHA256SUMS"),
        ("another script", "echo >>install.sh"),
    ] {
        let (_place, unpacked) = made().unpacked().unwrap();
        Command::new("sh").args(["-c", spoil]).directory(&unpacked).ok().unwrap();
        let output = install(&unpacked, &root, &[]);
        assert_eq!(output.code, 1, "{name}: {output:?}");
        assert!(output.stderr.contains("tarball"), "{name}: {output:?}");
        assert_eq!(before.difference(&root.tree().unwrap()), "", "{name}");
    }
}
