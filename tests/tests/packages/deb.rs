//! The Debian packages, from their installation to their purge.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cks_tests::process::Command;
use tempfile::TempDir;

use crate::places::{Root, made, older, run_everywhere};

const CONFIG: &str = "etc/cks-agent/config.toml";
const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

/// The suites, and whether what was built on this machine runs there.
const SUITES: [(&str, bool); 3] = [("bullseye", false), ("bookworm", true), ("trixie", true)];

fn state(root: &Root) -> String {
    root.run(&["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "cks-agent"]).unwrap().stdout
}

/// The package of the version before, with other settings in it.
fn with_other_settings() -> Result<(TempDir, PathBuf)> {
    let place = cks_tests::scratch("deb")?;
    let (content, package) = (place.path().join("content"), place.path().join("cks-agent.deb"));
    Command::new("dpkg-deb").arg("-R").arg(older().deb("cks-agent")).arg(&content).ok()?;
    let config = content.join(CONFIG);
    fs::write(&config, "# Settings of another time.\n").with_context(|| format!("Writing {}", config.display()))?;
    Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]).arg(&content).arg(&package).ok()?;
    Ok((place, package))
}

#[test]
fn a_package_comes_is_upgraded_goes_and_leaves_nothing() {
    for (suite, runs) in SUITES {
        let root = Root::debian(suite).unwrap();
        let before = root.tree().unwrap();

        root.dpkg(&older().deb("cks-agent"), &[]).unwrap();
        assert_eq!(state(&root), "installed 0.0.9-1", "{suite}");
        for unit in ["cks-bootstrap.service", "cks-agent.service"] {
            assert!(root.has(&format!("{WANTS}/{unit}")), "{suite}: {unit}");
        }
        assert!(!root.has("etc/systemd/system/timers.target.wants/cks-agent-reconcile.timer"), "{suite}");
        root.ok(&["test", "-d", "/etc/cks-agent/keys"]).unwrap();

        // Settings, a key and a timer are the operator's.
        root.write(CONFIG, "wait = \"20m\"\n").unwrap();
        root.write("etc/cks-agent/keys/ours.pub", "a key\n").unwrap();
        let timer = "etc/systemd/system/timers.target.wants/cks-agent-reconcile.timer";
        fs::create_dir_all(root.path(timer).parent().unwrap()).unwrap();
        symlink("/lib/systemd/system/cks-agent-reconcile.timer", root.path(timer)).unwrap();
        fs::remove_file(root.path(format!("{WANTS}/cks-agent.service"))).unwrap();
        root.dpkg(&made().deb("cks-agent"), &[]).unwrap();
        assert_eq!(state(&root), format!("installed {}-1", made().version), "{suite}");
        assert_eq!(root.read(CONFIG).unwrap(), "wait = \"20m\"\n", "{suite}");
        assert!(root.has(timer), "{suite}");
        assert!(!root.has(&format!("{WANTS}/cks-agent.service")), "{suite}: switched off, and on again by an upgrade");
        root.ok(&["dpkg", "--verify", "cks-agent"]).unwrap();
        if runs || run_everywhere() {
            assert!(root.ok(&["cks-agent", "--version"]).unwrap().starts_with("cks-agent "), "{suite}");
            let status = root.ok(&["cks-agent", "status"]).unwrap();
            assert!(status.contains("not bootstrapped"), "{suite}: {status}");
        }

        root.ok(&["dpkg", "--remove", "cks-agent"]).unwrap();
        assert!(state(&root).starts_with("config-files "), "{suite}");
        assert_eq!(root.read(CONFIG).unwrap(), "wait = \"20m\"\n", "{suite}");
        assert!(!root.has("usr/bin/cks-agent") && !root.has("lib/systemd/system/cks-agent.service"), "{suite}");

        root.write("var/lib/cks-agent/node.json", "{}").unwrap();
        root.ok(&["dpkg", "--purge", "cks-agent"]).unwrap();
        assert_eq!(before.difference(&root.tree().unwrap()), "", "{suite}");
    }
}

#[test]
fn changed_settings_are_kept_where_the_package_changes_them_too() {
    let (_place, package) = with_other_settings().unwrap();
    let root = Root::debian("bookworm").unwrap();
    root.dpkg(&package, &[]).unwrap();
    root.dpkg(&made().deb("cks-agent"), &[]).unwrap();
    assert!(root.read(CONFIG).unwrap().contains("#sources = "), "those that nobody changed are replaced");
    root.ok(&["dpkg", "--purge", "cks-agent"]).unwrap();

    root.dpkg(&package, &[]).unwrap();
    root.write(CONFIG, "keep = 3\n").unwrap();
    root.dpkg(&made().deb("cks-agent"), &["--force-confold"]).unwrap();
    assert_eq!(root.read(CONFIG).unwrap(), "keep = 3\n");
    assert!(root.has("etc/cks-agent/config.toml.dpkg-dist"));
    root.ok(&["dpkg", "--purge", "cks-agent"]).unwrap();
    assert!(!root.has("etc/cks-agent"));
}

#[test]
fn snapshots_of_a_cluster_outlive_a_purge() {
    let root = Root::debian("bookworm").unwrap();
    root.dpkg(&made().deb("cks-agent"), &[]).unwrap();
    root.write("var/lib/cks-agent/etcd-snapshots/2026.db", "a cluster").unwrap();
    root.write("var/lib/cks-agent/adopted/setup-kube-system", "").unwrap();
    root.ok(&["dpkg", "--purge", "cks-agent"]).unwrap();
    assert_eq!(root.read("var/lib/cks-agent/etcd-snapshots/2026.db").unwrap(), "a cluster");
    assert!(!root.has("var/lib/cks-agent/adopted"));
}

#[test]
fn an_upgrade_restarts_the_agent_and_never_a_bootstrap() {
    for (suite, _) in SUITES {
        let root = Root::debian(suite).unwrap();
        root.seems_to_run().unwrap();
        let of = |asked: &[String], verb: &str, unit: &str| {
            asked.iter().any(|line| line.split(' ').any(|word| word == verb) && line.contains(unit))
        };
        let touched = |asked: &[String], unit: &str| {
            ["start", "stop", "restart", "try-restart", "kill"].iter().any(|verb| of(asked, verb, unit))
        };
        root.dpkg(&older().deb("cks-agent"), &[]).unwrap();
        let asked = root.asked().unwrap();
        assert!(of(&asked, "start", "cks-agent.service") && !touched(&asked, "cks-bootstrap"), "{suite}: {asked:#?}");

        root.dpkg(&made().deb("cks-agent"), &[]).unwrap();
        let asked = root.asked().unwrap();
        assert!(of(&asked, "restart", "cks-agent.service"), "{suite}: {asked:#?}");
        assert!(!of(&asked, "stop", "cks-agent.service"), "{suite}: nothing is stopped for long: {asked:#?}");
        assert!(!touched(&asked, "cks-bootstrap"), "{suite}: {asked:#?}");
        let reload = asked.iter().position(|line| line.contains("daemon-reload"));
        let restart = asked.iter().position(|line| line.contains(" restart "));
        assert!(reload < restart, "{suite}: the old unit is started again: {asked:#?}");

        root.ok(&["dpkg", "--remove", "cks-agent"]).unwrap();
        let asked = root.asked().unwrap();
        for unit in ["cks-agent.service", "cks-bootstrap.service", "cks-agent-reconcile.timer"] {
            assert!(of(&asked, "stop", unit), "{suite}: {unit}: {asked:#?}");
        }
    }
}

#[test]
fn the_builders_package_comes_and_goes() {
    let root = Root::debian("bookworm").unwrap();
    let before = root.tree().unwrap();
    root.dpkg(&made().deb("cks-iso"), &[]).unwrap();
    assert!(root.ok(&["cks-iso", "--version"]).unwrap().starts_with("cks-iso "));
    root.ok(&["dpkg", "--purge", "cks-iso"]).unwrap();
    assert_eq!(before.difference(&root.tree().unwrap()), "");
}
