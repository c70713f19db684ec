//! containerd's settings: they hold whatever somebody else writes, and at any moment.

use std::fs;

use agent::runtime::Applied;
use bootstrap::failure::Code;
use bootstrap::node_spec::{Registry, Runtime};
use bootstrap::render::containerd::{Effective, Expected, Format, SERVICE_DROP_IN, loses_sections, lost_settings};
use bootstrap::render::kubeadm::CgroupDriver;
use bootstrap::secret::Secret;
use cks_tests::netns::Netns;

use crate::VERSIONS;
use crate::bed::{Machine, SANDBOX};

const EXPECTED: Expected<'_> = Expected { sandbox_image: Some(SANDBOX), systemd_cgroup: true };

/// What CloudStack's user data does between `write_files` and `setup-kube-system`.
const SERVER: [&str; 2] = [
    "containerd config default > /etc/containerd/config.toml",
    "sed -i 's/SystemdCgroup = false/SystemdCgroup = true/' /etc/containerd/config.toml",
];

fn holds(machine: &Machine, when: &str) {
    let dump = machine.shell("containerd --config /etc/containerd/cks.toml config dump");
    let differs = Effective::of_dump(&dump.stdout).unwrap().differences(&EXPECTED);
    assert_eq!(differs, [""; 0], "{when}: {}", dump.stderr);
    let info = machine.crictl(&["info"]);
    let differs = Effective::of_info(&info.stdout).unwrap().differences(&EXPECTED);
    assert_eq!(differs, [""; 0], "{when}: {}", info.stderr);
}

#[test]
fn they_survive_what_the_server_writes_at_any_moment() {
    let netns = Netns::new().unwrap();
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        machine.planned();
        let nothing = Runtime::default();
        assert_eq!(machine.apply(&nothing).unwrap(), Applied { changed: 0, restarted: true }, "{}", machine.log());
        holds(&machine, "at first");
        assert_eq!(machine.apply(&nothing).unwrap(), Applied::default(), "again there is nothing to do");
        for line in SERVER {
            assert_eq!(machine.shell(line).code, 0);
            assert_eq!(machine.systemctl(&["restart", "containerd"]).code, 0, "{}", machine.log());
            holds(&machine, line);
            // What the server wrote has only defaults, but the agent can't know that before it looked.
            machine.apply(&nothing).unwrap();
            assert_eq!(machine.apply(&nothing).unwrap(), Applied::default(), "after {line}");
        }
        let main = machine.at("etc/containerd/config.toml");
        for (text, what) in [(None, "nothing"), (Some(""), "an empty file")] {
            match text {
                None => fs::remove_file(&main).unwrap(),
                Some(text) => fs::write(&main, text).unwrap(),
            }
            assert_eq!(machine.systemctl(&["restart", "containerd"]).code, 0, "{}", machine.log());
            holds(&machine, what);
        }
    }
}

#[test]
fn they_name_the_cgroup_driver_that_the_machine_has() {
    let netns = Netns::new().unwrap();
    for version in VERSIONS {
        let mut machine = Machine::new(version, &netns, None);
        machine.cgroup_driver = CgroupDriver::Cgroupfs;
        machine.planned();
        let registry = Registry {
            host: "r.example".to_owned(),
            username: Some("u".to_owned()),
            password: Some(Secret::new("p")),
            ..Registry::default()
        };
        let runtime = Runtime { registries: vec![registry], proxy: None };
        assert!(machine.apply(&runtime).unwrap().restarted, "{}", machine.log());
        let info = machine.crictl(&["info"]);
        let expected = Expected { systemd_cgroup: false, ..EXPECTED };
        assert_eq!(Effective::of_info(&info.stdout).unwrap().differences(&expected), [""; 0], "{}", info.stderr);
    }
}

#[test]
fn one_that_cannot_be_right_is_not_restarted_again_and_again() {
    let netns = Netns::new().unwrap();
    let machine = Machine::new(Some("2.3"), &netns, None);
    machine.planned();
    // Started with something else than what the agent asks about.
    fs::write(machine.at("etc/containerd/other.toml"), "version = 3\n").unwrap();
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /etc/containerd/other.toml\n";
    fs::write(machine.host.prepare(SERVICE_DROP_IN).unwrap(), drop_in).unwrap();
    for run in 0..3 {
        let failure = machine.apply(&Runtime::default()).unwrap_err();
        assert_eq!(failure.code, Code::ContainerdMisconfigured, "{}", failure.what);
        assert!(failure.what.contains("the running one"), "{}", failure.what);
        assert_eq!(machine.restarts(), 1, "run {run}");
    }
}

#[test]
fn they_are_taken_up_after_a_server_that_came_first() {
    let netns = Netns::new().unwrap();
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        SERVER.iter().for_each(|line| assert_eq!(machine.shell(line).code, 0));
        assert_eq!(machine.systemctl(&["restart", "containerd"]).code, 0, "{}", machine.log());
        machine.planned();
        assert!(machine.apply(&Runtime::default()).unwrap().restarted);
        holds(&machine, "after the server");
        assert_eq!(machine.restarts(), 2);
    }
}

#[test]
fn settings_of_the_operator_stay_where_the_format_allows_it() {
    let netns = Netns::new().unwrap();
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        machine.planned();
        let own = "version = 2\noom_score = -7\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.own]\n  runtime_type = \"io.containerd.runc.v2\"\n";
        fs::write(machine.at("etc/containerd/config.toml"), own).unwrap();
        machine.apply(&Runtime::default()).unwrap();
        holds(&machine, "with a main file of an operator");
        let dump = machine.shell("containerd --config /etc/containerd/cks.toml config dump").stdout;
        assert!(dump.contains("oom_score = -7"), "{dump}");
        // As `bootstrap` warns.
        let said = machine.shell("containerd --version").stdout;
        let lost = loses_sections(said.split_whitespace().nth(2).unwrap());
        assert_eq!(dump.contains("runtimes.own]"), !lost, "{dump}");
        assert_eq!(lost_settings(own), ["containerd.runtimes.own"]);
    }
}

#[test]
fn a_file_that_breaks_them_is_named_and_containerd_keeps_running() {
    let netns = Netns::new().unwrap();
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        machine.planned();
        machine.apply(&Runtime::default()).unwrap();
        let restarts = machine.restarts();
        let foreign = machine.at("etc/containerd/conf.d/90-foreign.toml");
        let off = match machine.format {
            Format::V2 => "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
            Format::V3 => "disabled_plugins = [\"io.containerd.cri.v1.images\"]\n",
        };
        for (text, named) in [
            (off.to_owned(), "CRI plugin off"),
            (
                bootstrap::render::containerd::drop_in(
                    machine.format,
                    Some("example.org/other:1"),
                    CgroupDriver::Systemd,
                ),
                "example.org/other:1",
            ),
            (
                bootstrap::render::containerd::drop_in(machine.format, Some(SANDBOX), CgroupDriver::Systemd)
                    .replace("= true", "= false"),
                "SystemdCgroup of runtime runc is false",
            ),
            ("no toml".to_owned(), "ended with"),
        ] {
            let version = match machine.format {
                Format::V2 => "version = 2\n",
                Format::V3 => "version = 3\n",
            };
            let text = if text.contains("version") { text } else { format!("{version}{text}") };
            fs::write(&foreign, text).unwrap();
            let failure = machine.apply(&Runtime::default()).unwrap_err();
            assert_eq!(failure.code, Code::ContainerdMisconfigured, "{}", failure.what);
            assert!(failure.what.contains(named), "{}", failure.what);
        }
        assert_eq!(machine.restarts(), restarts, "it was not restarted into a wrong configuration");
        assert_eq!(machine.crictl(&["version"]).code, 0);
        fs::remove_file(&foreign).unwrap();
        machine.apply(&Runtime::default()).unwrap();
        holds(&machine, "when it is gone");
    }
}
