//! The units, by systemd's own word: nothing in them is unknown, they are as closed as said, their order fits cloud-init's on
//! each Debian, and what they call is in the package.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cks_tests::process::{Command, Output};
use cks_tests::programs;
use tempfile::TempDir;

use crate::places::made;

const SERVICES: [&str; 4] =
    ["cks-bootstrap.service", "cks-agent.service", "cks-agent-reconcile.service", "cks-agent-etcd-snapshot.service"];
const TIMERS: [&str; 2] = ["cks-agent-reconcile.timer", "cks-agent-etcd-snapshot.timer"];

/// Ten times the exposure that `systemd-analyze security` gives each at most. A bootstrap runs kubeadm and a user's own
/// commands: nearly all that could be closed, they may need.
const EXPOSURES: [(&str, u32); 4] = [(SERVICES[0], 93), (SERVICES[1], 50), (SERVICES[2], 75), (SERVICES[3], 55)];

/// The units of a suite with cloud-init and ours, all switched on.
fn suite(name: &str) -> Result<TempDir> {
    let tool = Command::new(programs::workspace().join("tests/tools/root")).arg(format!("{name}-units"));
    let tar = tool.limit(Duration::from_secs(900)).ok()?;
    let root = cks_tests::scratch("units")?;
    Command::new("tar").arg("-C").arg(root.path()).args(["-xpf", tar.trim()]).ok()?;
    Command::new("dpkg-deb").arg("-x").arg(made().deb("cks-agent")).arg(root.path()).ok()?;
    enable(root.path(), "multi-user.target", &["cks-bootstrap.service", "cks-agent.service", "containerd.service"])?;
    enable(root.path(), "multi-user.target", &["cloud-init.target"])?;
    let cloud_init: Vec<String> = ["lib", "usr/lib"]
        .into_iter()
        .filter_map(|lib| fs::read_dir(root.path().join(lib).join("systemd/system")).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .filter(|unit| unit.starts_with("cloud-") && unit.ends_with(".service") && !unit.contains("hotplug"))
        .collect();
    anyhow::ensure!(cloud_init.len() >= 4, "{name} has no cloud-init: {cloud_init:?}");
    enable(root.path(), "cloud-init.target", &cloud_init.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(root)
}

fn enable(root: &Path, target: &str, units: &[&str]) -> Result<()> {
    let wants = root.join("etc/systemd/system").join(format!("{target}.wants"));
    fs::create_dir_all(&wants).with_context(|| format!("Making {}", wants.display()))?;
    for unit in units {
        let _ = fs::remove_file(wants.join(unit));
        symlink(format!("/usr/lib/systemd/system/{unit}"), wants.join(unit))
            .with_context(|| format!("Enabling {unit}"))?;
    }
    Ok(())
}

/// What systemd says of our units, and of the order of a boot. What a newer systemd's own units say is not known to this one.
fn complaints(root: &Path, units: &[&str]) -> Vec<String> {
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=yes"]);
    let said = verify.arg(format!("--root={}", root.display())).args(units).output().unwrap().stderr;
    let said = said.replace(&format!("{}/", root.display()), "/");
    let ours = |line: &&str| line.contains("cks-") || line.contains("ordering cycle") || line.contains("not found");
    said.lines().filter(ours).map(str::to_owned).collect()
}

fn exposure(unit: &str, threshold: u32) -> Output {
    let security = Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]);
    let unit = programs::workspace().join("systemd").join(unit);
    security.arg(format!("--threshold={threshold}")).arg(unit).output().unwrap()
}

#[test]
fn systemd_understands_every_unit_and_finds_no_cycle_with_cloud_init() {
    for name in ["bullseye", "bookworm", "trixie"] {
        let root = suite(name).unwrap();
        let units = [&SERVICES[..], &TIMERS, &["multi-user.target", "cloud-final.service"]].concat();
        assert_eq!(complaints(root.path(), &units), [""; 0], "{name}");

        // A cycle, and a key that nobody knows, would be told.
        let drop_in = root.path().join("etc/systemd/system/cks-bootstrap.service.d");
        fs::create_dir_all(&drop_in).unwrap();
        fs::write(drop_in.join("wrong.conf"), "[Unit]\nBefore=cloud-config.service\nAftre=x\n").unwrap();
        let complaints = complaints(root.path(), &units).join("\n");
        assert!(complaints.contains("ordering cycle") && complaints.contains("Aftre"), "{name}: {complaints}");
    }
}

#[test]
fn no_unit_is_more_exposed_than_said() {
    for (unit, threshold) in EXPOSURES {
        let output = exposure(unit, threshold);
        assert_eq!(output.code, 0, "{unit}: {}", output.stdout);
        assert_ne!(exposure(unit, threshold - 1).code, 0, "{unit} is less exposed than said: lower its threshold");
    }
}

#[test]
fn what_units_name_is_in_every_package() {
    let root = cks_tests::scratch("deb").unwrap();
    Command::new("dpkg-deb").arg("-x").arg(made().deb("cks-agent")).arg(root.path()).ok().unwrap();
    let (_place, tarball) = made().unpacked().unwrap();
    let rpm = Command::new("rpm").arg("-qpl").arg(made().rpm("cks-agent")).ok().unwrap();
    for unit in SERVICES.iter().chain(&TIMERS) {
        let text = fs::read_to_string(programs::workspace().join("systemd").join(unit)).unwrap();
        let mut named: Vec<String> = Vec::new();
        for page in text.split("man:").skip(1).filter_map(|rest| rest.split_once('(')).map(|(page, _)| page) {
            named.push(format!("usr/share/man/man1/{page}.1.gz"));
        }
        assert!(!named.is_empty(), "{unit} has no Documentation=");
        named.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("ExecStart=/"))
                .map(|line| line.split(' ').next().unwrap_or_default().to_owned()),
        );
        for path in named {
            assert!(root.path().join(&path).exists(), "{unit}: {path} is not in the .deb");
            assert!(tarball.join("root").join(&path).exists(), "{unit}: {path} is not in the tarball");
            assert!(rpm.lines().any(|line| line[1..] == path), "{unit}: {path} is not in the .rpm");
        }
        assert!(rpm.contains(&format!("/usr/lib/systemd/system/{unit}\n")), "{unit}");
    }
}

#[test]
fn presets_switch_the_two_services_on_and_nothing_of_others_off() {
    let text = fs::read_to_string(programs::workspace().join("packaging/90-cks-agent.preset")).unwrap();
    let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let wanted = ["enable cks-bootstrap.service", "enable cks-agent.service"];
    assert_eq!(rules[..2], wanted);
    for rule in &rules[2..] {
        let unit = rule.strip_prefix("disable ").unwrap();
        assert!(TIMERS.contains(&unit), "{rule}");
    }
    // As systemd itself reads them, at a first boot.
    let root = suite("bookworm").unwrap();
    let systemctl = |verb: &str, unit: &str| {
        let systemctl = Command::new("systemctl").arg(format!("--root={}", root.path().display()));
        systemctl.args([verb, unit]).output().unwrap()
    };
    for (unit, enabled) in [(SERVICES[0], true), (SERVICES[1], true), (TIMERS[0], false), (TIMERS[1], false)] {
        systemctl("disable", unit);
        systemctl("preset", unit);
        assert_eq!(systemctl("is-enabled", unit).stdout.trim() == "enabled", enabled, "{unit}");
    }
}
