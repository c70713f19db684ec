//! The RPM packages in a root with an rpm database and a shell. What it lacks of a Rocky Linux: systemd's own scripts and
//! triggers, and packages that could satisfy what is required.

use cks_tests::process::Command;

use crate::places::{Root, made, older};

const CONFIG: &str = "etc/cks-agent/config.toml";

#[test]
fn a_package_comes_is_upgraded_and_goes() {
    let root = Root::rpm().unwrap();
    root.seems_to_run().unwrap();
    let before = root.tree().unwrap();

    root.rpm_command(&["-i", "--nodeps"], Some(&older().rpm("cks-agent"))).unwrap();
    assert_eq!(root.rpm_command(&["-V", "--nodeps", "cks-agent"], None).unwrap(), "");
    let asked = root.asked().unwrap();
    let preset = "systemctl --no-reload preset cks-bootstrap.service cks-agent.service cks-agent-reconcile.timer \
                  cks-agent-etcd-snapshot.timer";
    assert_eq!(asked, [preset, "systemd-tmpfiles --create cks-agent.conf", "systemctl daemon-reload"]);

    root.write(CONFIG, "wait = \"20m\"\n").unwrap();
    root.rpm_command(&["-U", "--nodeps"], Some(&made().rpm("cks-agent"))).unwrap();
    let version = root.rpm_command(&["-q", "--qf", "%{VERSION}", "cks-agent"], None).unwrap();
    assert_eq!(version, made().version);
    assert_eq!(root.read(CONFIG).unwrap(), "wait = \"20m\"\n");
    let asked = root.asked().unwrap();
    let restart = "systemctl try-restart cks-agent.service";
    assert_eq!(asked, ["systemd-tmpfiles --create cks-agent.conf", "systemctl daemon-reload", restart]);

    root.rpm_command(&["-e", "cks-agent"], None).unwrap();
    let disable = "systemctl --no-reload disable --now cks-agent-reconcile.timer cks-agent-etcd-snapshot.timer \
                   cks-bootstrap.service cks-agent.service";
    assert_eq!(root.asked().unwrap(), [disable, "systemctl daemon-reload"]);
    // Settings that were changed are kept beside their place.
    assert_eq!(root.read("etc/cks-agent/config.toml.rpmsave").unwrap(), "wait = \"20m\"\n");
    std::fs::remove_file(root.path("etc/cks-agent/config.toml.rpmsave")).unwrap();
    std::fs::remove_dir(root.path("etc/cks-agent")).unwrap();
    let left: Vec<String> = before.difference(&root.tree().unwrap()).lines().map(str::to_owned).collect();
    let ours: Vec<&String> = left.iter().filter(|line| line.contains("cks")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn an_image_without_systemd_running_gets_its_presets_and_nothing_more() {
    let root = Root::rpm().unwrap();
    root.seems_to_run().unwrap();
    std::fs::remove_dir(root.path("run/systemd/system")).unwrap();
    root.rpm_command(&["-i", "--nodeps"], Some(&made().rpm("cks-agent"))).unwrap();
    let asked = root.asked().unwrap();
    assert!(asked.len() == 1 && asked[0].contains(" preset "), "{asked:?}");
    root.rpm_command(&["-e", "cks-agent"], None).unwrap();
    let asked = root.asked().unwrap();
    assert!(asked.len() == 1 && asked[0].contains(" disable cks-agent-reconcile.timer "), "{asked:?}");
    assert!(!root.has("etc/cks-agent") && !root.has("usr/share/doc/cks-agent"));
}

#[test]
fn it_requires_what_the_programs_need() {
    for program in ["cks-agent", "cks-iso"] {
        let requires = Command::new("rpm").args(["-qp", "--requires"]).arg(made().rpm(program)).ok().unwrap();
        assert!(requires.lines().any(|line| line == "glibc >= 2.28"), "{program}: {requires}");
        let files = Command::new("rpm").args(["-qpl"]).arg(made().rpm(program)).ok().unwrap();
        for path in ["/usr/bin/PROGRAM", "/usr/share/man/man1/PROGRAM.1.gz", "/usr/share/licenses/PROGRAM/LICENSE"] {
            let path = path.replace("PROGRAM", program);
            assert!(files.lines().any(|line| line == path), "{program}: {path}");
        }
    }
}
