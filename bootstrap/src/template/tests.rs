use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::failure::Code;
use crate::preflight::{Check, Finding, Weight};

const DEBIAN: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n";

fn file(text: &str, mode: u32, owner: (u32, u32)) -> Entry {
    Entry { kind: Kind::File, mode, owner, text: Some(text.to_owned()) }
}

fn empty() -> Facts {
    Facts { distribution: Distribution::parse(DEBIAN), ..Facts::default() }
}

/// Does what the edits say, as far as facts show it; what needs a program is taken for done.
fn done(mut facts: Facts) -> Facts {
    for item in examine(&facts) {
        for edit in item.edits {
            match edit {
                Edit::Install { package, .. } => _ = facts.packages.insert(package, "1.7".to_owned()),
                Edit::Write { path, text, mode, owner } => {
                    let owner = if owner == Owner::Root { (0, 0) } else { (1000, 1000) };
                    facts.entries.insert(path, file(&text, mode, owner));
                }
                Edit::Directory { path, mode, owner } => {
                    let owner = if owner == Owner::Root { (0, 0) } else { (1000, 1000) };
                    facts.entries.insert(path, Entry { kind: Kind::Directory, mode, owner, text: None });
                }
                Edit::AddUser { name, home, shell } => {
                    let line = format!("{name}:x:1000:1000::{home}:{shell}\n");
                    facts.entries.insert("/etc/passwd".to_owned(), file(&line, 0o644, (0, 0)));
                    facts.entries.insert("/etc/group".to_owned(), file("cloud:x:1000:\n", 0o644, (0, 0)));
                }
                Edit::Enable { unit, .. } => _ = facts.units.wanted.insert(unit),
                Edit::SetShell { .. } | Edit::Remove { .. } => {}
            }
        }
    }
    facts
}

/// What packages bring and facts of a text don't show.
fn with_packages(mut facts: Facts) -> Facts {
    facts.programs = programs().map(|name| (name.to_owned(), format!("/usr/bin/{name}"))).collect();
    for (path, text) in [
        ("/usr/bin/curl", ""),
        ("/etc/sudoers", "@includedir /etc/sudoers.d\n"),
        ("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n"),
        ("/etc/nsswitch.conf", "hosts: files myhostname dns\n"),
        ("/lib/systemd/system/containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n"),
    ] {
        facts.entries.insert(path.to_owned(), file(text, 0o644, (0, 0)));
    }
    facts.units.present.insert("qemu-guest-agent.service".to_owned());
    facts
}

fn good() -> Facts {
    done(done(with_packages(done(empty()))))
}

fn findings(facts: &Facts) -> Vec<(String, Outcome)> {
    examine(facts).into_iter().filter(Item::is_finding).map(|item| (item.name, item.result)).collect()
}

#[test]
fn an_empty_machine_becomes_a_good_one_by_the_edits_alone() {
    let failed = findings(&empty());
    assert!(failed.len() > 60, "{failed:?}");
    // The agent's own package is not for the distribution's manager to install.
    assert_eq!(findings(&good()), [("agent-units".to_owned(), Outcome::Warning)]);
    assert!(examine(&good()).iter().all(|item| item.edits.is_empty()));
}

#[test]
fn what_is_only_recommended_is_a_warning_that_is_mended() {
    let mut facts = good();
    facts.programs.remove("cryptsetup");
    assert!(findings(&facts).contains(&("program-cryptsetup".to_owned(), Outcome::Warning)));
    let item = examine(&facts).into_iter().find(|item| item.name == "program-cryptsetup").unwrap();
    let package = |edit: &Edit| matches!(edit, Edit::Install { package, .. } if package == "cryptsetup-bin");
    assert!(item.edits.iter().any(package), "{item:?}");
}

#[test]
fn names_are_stable_and_stand_once() {
    let (all, of_empty) = (examine(&good()), examine(&empty()));
    let names: Vec<&str> = all.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, of_empty.iter().map(|item| item.name.as_str()).collect::<Vec<_>>());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    let plain = |name: &&str| name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    assert!(names.iter().all(plain), "{names:?}");
    for item in of_empty.iter().filter(|item| item.is_finding()) {
        assert!(item.remedy.is_some() && !item.evidence.is_empty(), "{}", item.name);
    }
}

#[test]
fn what_needs_a_person_has_no_edit() {
    let with = |path: &str, text: &str| {
        let mut facts = good();
        facts.entries.insert(path.to_owned(), file(text, 0o644, (0, 0)));
        facts
    };
    for (path, text, name) in [
        ("/etc/sudoers.d/site", "Defaults requiretty\n", "sudoers"),
        ("/etc/ssh/sshd_config.d/00-a.conf", "Ciphers chacha20-poly1305@openssh.com\n", "ssh-algorithms"),
        ("/etc/ssh/sshd_config.d/00-a.conf", "MACs -hmac*\n", "ssh-algorithms"),
        ("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"systemd.unified_cgroup_hierarchy=0\"\n", "cgroup-settings"),
        ("/etc/ufw/ufw.conf", "ENABLED=yes\n", "firewall"),
        ("/etc/passwd", "cloud:x:1000:1000::/srv/cloud:/bin/bash\n", "cloud-user"),
        ("/opt/bin", "", "opt-bin"),
    ] {
        let items = examine(&with(path, text));
        let item = items.iter().find(|item| item.name == name).unwrap();
        assert!(item.is_finding() && item.edits.is_empty(), "{path}: {item:?}");
    }
    for (path, text) in [
        ("/etc/sudoers.d/site", "Defaults !requiretty\n# Defaults requiretty\n"),
        (
            "/etc/ssh/sshd_config.d/00-a.conf",
            "Ciphers aes256-ctr,x\nMACs +y\nKexAlgorithms -diffie-hellman-group1-sha1\n",
        ),
        ("/etc/ssh/sshd_config.d/99-z.conf", "Ciphers chacha20-poly1305@openssh.com\n"),
        ("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nMatch User x\nCiphers none\n"),
        ("/etc/default/grub", "# systemd.unified_cgroup_hierarchy=0\n"),
    ] {
        assert_eq!(findings(&with(path, text)).len(), 1, "{path}: {text}");
    }
}

fn finding(check: Check, weight: Weight) -> Finding {
    let (what, remedy) = (format!("{weight:?}"), format!("{weight:?} remedy"));
    Finding { check, weight, code: Code::PortInUse, what, remedy }
}

#[test]
fn what_a_join_asks_is_an_item_once() {
    let mut facts = good();
    let result = |facts: &Facts, name: &str| examine(facts).into_iter().find(|item| item.name == name).unwrap().result;
    for check in NODE_CHECKS {
        let name = if check == Check::NodeIp { "node-ip".to_owned() } else { format!("node-{check}") };
        facts.live = None;
        assert_eq!(result(&facts, &name), Outcome::NotApplicable, "{name}");
        for (weight, wanted) in [(Weight::Warns, Outcome::Warning), (Weight::Refuses, Outcome::Failed)] {
            facts.live = Some(Live { findings: vec![finding(check, weight)], ..Live::default() });
            assert_eq!(result(&facts, &name), wanted, "{name}");
        }
        facts.live = Some(Live::default());
        assert_eq!(result(&facts, &name), Outcome::Ok, "{name}");
    }
    let mut names: Vec<String> = examine(&facts).into_iter().map(|item| item.name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_kernel_and_a_machine_that_runs_are_looked_at() {
    let mut facts = good();
    facts.kernels = BTreeMap::from([("6.1-cloud".to_owned(), BTreeSet::from(["overlay".to_owned()]))]);
    assert!(findings(&facts).contains(&("kernel-modules".to_owned(), Outcome::Failed)));
    facts.kernels = BTreeMap::from([("6.1".to_owned(), modules_used().map(str::to_owned).collect())]);
    facts.live = Some(Live { disk: Some((8_000_000_000, 5 << 30)), forwards: Some("1".to_owned()), ..Live::default() });
    assert_eq!(findings(&facts).len(), 1);
    facts.live = Some(Live {
        findings: vec![finding(Check::Ports, Weight::Warns), finding(Check::Ports, Weight::Refuses)],
        disk: Some((4 << 30, 1 << 30)),
        swaps: vec!["/swap.img".to_owned()],
        containerd: Some("no\u{1b}[2J".to_owned()),
        sudo: Some("sudo: unable to resolve host x".to_owned()),
        missing_modules: vec!["isofs".to_owned()],
        forwards: Some("0".to_owned()),
    });
    let live: Vec<(String, Outcome)> =
        findings(&facts).into_iter().filter(|(name, _)| name.starts_with("live")).collect();
    assert_eq!(live.len(), 6);
    assert_eq!(live.iter().filter(|(_, result)| *result == Outcome::Failed).count(), 4);
    let ports = examine(&facts).into_iter().find(|item| item.name == "node-ports").unwrap();
    assert_eq!((ports.result, ports.remedy.as_deref()), (Outcome::Failed, Some("Refuses remedy")));
    assert!(ports.evidence.contains("PORT_IN_USE: Refuses") && ports.evidence.contains("Warns"), "{}", ports.evidence);
    assert!(examine(&facts).iter().all(|item| !item.evidence.contains('\u{1b}')));
}

#[test]
fn distributions_are_told_apart() {
    for (text, family, support) in [
        (DEBIAN, Some(Family::Debian), Support::Known),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", Some(Family::Debian), Support::Known),
        ("ID=ubuntu\nVERSION_ID=\"23.10\"\n", Some(Family::Debian), Support::Untried),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.6\"\n", Some(Family::RedHat), Support::Known),
        ("ID=mint\nID_LIKE='ubuntu debian'\n", Some(Family::Debian), Support::Untried),
        ("ID=flatcar\n", None, Support::Unknown),
        ("", None, Support::Unknown),
    ] {
        let distribution = Distribution::parse(text);
        assert_eq!((distribution.family(), distribution.support()), (family, support), "{text}");
    }
}

#[test]
fn package_lists_are_read() {
    let status = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\n\nPackage: b\nStatus: deinstall ok config-files\n\
        Version: 1\n\nPackage: c\nStatus: hold ok installed\nDescription: x\n Version: 9\nVersion: 4\n";
    let found = dpkg_packages(status);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a".into(), "1:2-3".into()), ("c".into(), "4".into())]);
    assert_eq!(rpm_packages("bash 5.1\nbroken\n").len(), 1);
    let policy = "a:\n  Installed: (none)\n  Candidate: 1.2\n  Version table:\n     1.2 500\nb:\n  Candidate: (none)\n";
    assert_eq!(candidates(policy).into_iter().collect::<Vec<_>>(), ["a"]);
    let made = metapackage("containerd.io").unwrap().control();
    assert!(made.contains("\nDepends: containerd\n") && !made.contains("\n\n") && made.ends_with('\n'), "{made}");
    assert_eq!(metapackage("cloud-init"), None);
}

#[test]
fn items_are_left_out_by_name() {
    let all = || examine(&empty());
    let by = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let skipped = select(all(), &by(&["opt-bin"]), &[]).unwrap();
    let of = |items: &[Item], name: &str| items.iter().find(|item| item.name == name).map(|item| item.result);
    assert_eq!((of(&skipped, "opt-bin"), of(&skipped, "cloud-user")), (Some(Outcome::Skipped), Some(Outcome::Failed)));
    let only = select(all(), &[], &by(&["opt-bin"])).unwrap();
    assert_eq!((of(&only, "opt-bin"), only.len()), (Some(Outcome::Failed), 1));
    let failure = select(all(), &by(&["opt\n"]), &[]).unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    assert!(failure.what.contains("opt-bin") && !failure.what.contains('\n'), "{}", failure.what);
}

#[test]
fn a_difference_is_shown_with_the_lines_around_it() {
    let old = "1\n2\n3\n4\n5\n6\n7\n8\n";
    let new = "1\n2\n3\n4\nfive\n6\n7\n8\n";
    assert_eq!(difference(old, new), ["@@ -2,7 +2,7 @@", " 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8"]);
    assert_eq!(difference("", "a\nb\n"), ["@@ -0,0 +1,2 @@", "+a", "+b"]);
    assert_eq!(difference("a\n", "a\na\n"), ["@@ -1,1 +1,2 @@", " a", "+a"]);
    assert_eq!(difference("a\n", ""), ["@@ -1,1 +0,0 @@", "-a"]);
}

#[test]
fn what_a_seal_leaves_is_told_apart() {
    use super::seal::{TRACES, fits, is_rotated, keys_that_stay};
    for (name, rotated) in [
        ("syslog", false),
        ("syslog.1", true),
        ("dpkg.log", false),
        ("dpkg.log.2.gz", true),
        ("x.old", true),
        ("gz", false),
    ] {
        assert_eq!(is_rotated(name), rotated, "{name}");
    }
    assert!(fits("ssh_host_*", "ssh_host_rsa_key") && fits("a", "a") && !fits("a*b", "a") && !fits("ab*b", "ab"));
    assert_eq!(keys_that_stay("a\nb\n# c\n", "b\n# c\n"), "b\n");
    assert!(TRACES.iter().all(|trace| trace.path.starts_with(['/', '~']) && !trace.path.contains("..")));
}
