//! Roots that an operator, or somebody else, has been at; and arguments.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::programs;
use cks_tests::tree::Tree;

use crate::{Stock, assert_refused, stock_containerd};

const OWN_SECTION: &str = r#"version = 2
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
"#;

#[test]
fn the_operators_containerd_config_is_left_alone_and_warned_about() {
    let stock = Stock::new();
    let iso = stock.built().to_string_lossy().into_owned();
    let containerd = stock_containerd();
    for (text, link, code) in [
        ("version = 2\nroot = \"/data\"\n", true, None),
        ("version = 2\n", false, None),
        (OWN_SECTION, true, Some("CONTAINERD_SECTION_REPLACED")),
        (OWN_SECTION, false, Some("CONTAINERD_SECTION_REPLACED")),
    ] {
        let node = Node::new("worker").unwrap().using(&containerd);
        let etc = node.root.join("etc");
        let (config, real) = (etc.join("containerd/config.toml"), etc.join("real.toml"));
        fs::create_dir_all(etc.join("containerd")).unwrap();
        if link {
            symlink("../real.toml", &config).unwrap();
        }
        fs::write(if link { &real } else { &config }, text).unwrap();
        for run in ["first", "second"] {
            let output = node.run(&[&iso]).unwrap();
            assert_eq!(output.code, 0, "{output:?}");
            let told = |code| output.stderr.contains(&format!("warning[{code}]: "));
            assert!(code.is_none_or(told), "{run}: {output:?}");
            let warnings = node.status().unwrap()["warnings"].as_array().unwrap().clone();
            assert_eq!(warnings.len(), usize::from(code.is_some()), "{warnings:?}");
            assert_eq!(fs::read_to_string(&config).unwrap(), text);
            assert_eq!(fs::read_link(&config).is_ok(), link);
            assert!(etc.join("containerd/conf.d/50-cks.toml").is_file());
            assert!(etc.join("containerd/cks.toml").is_file());
        }
    }
}

/// As Docker's package ships it.
#[test]
fn a_containerd_config_that_keeps_the_cri_away_is_set_aside_once() {
    let stock = Stock::new();
    let iso = stock.built().to_string_lossy().into_owned();
    let containerd = stock_containerd();
    let node = Node::new("worker").unwrap().using(&containerd);
    let etc = node.root.join("etc/containerd");
    fs::create_dir_all(&etc).unwrap();
    let foreign = "disabled_plugins = [\"cri\"]\n";
    fs::write(etc.join("config.toml"), foreign).unwrap();
    for warnings in [1, 0] {
        let output = node.run(&[&iso]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(output.stderr.matches("warning[CONTAINERD_CONFIG_SET_ASIDE]: ").count(), warnings, "{output:?}");
        assert_eq!(fs::read_to_string(etc.join("before-cks.config.toml")).unwrap(), foreign);
        assert!(!fs::read_to_string(etc.join("config.toml")).unwrap().contains("disabled"));
    }
}

#[test]
fn a_directory_of_programs_that_is_a_link_is_named() {
    let stock = Stock::new();
    let iso = stock.built().to_string_lossy().into_owned();
    for there in [true, false] {
        let node = Node::new("etcd").unwrap();
        fs::create_dir(node.root.join("opt")).unwrap();
        if there {
            fs::create_dir_all(node.root.join("usr/local/bin")).unwrap();
        }
        let link = node.root.join("opt/bin");
        symlink("../usr/local/bin", &link).unwrap();
        let output = node.run(&[&iso]).unwrap();
        assert_eq!(output.code, 78, "{output:?}");
        assert!(output.stderr.contains("error[CONFIG_INVALID]: "), "{output:?}");
        assert!(output.stderr.contains("/opt/bin"), "{output:?}");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("../usr/local/bin"));
        let local = Tree::read(&node.root.join("usr"), &[]).map(|tree| tree.lines.len());
        assert_eq!(local.unwrap_or(0), if there { 2 } else { 0 }, "nothing lies where the link leads");

        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        let output = node.run(&[&iso]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        assert!(node.root.join("opt/bin/etcd").is_file());
    }
}

#[test]
fn a_link_in_the_journals_place_is_not_written_through() {
    let stock = Stock::new();
    let iso = stock.built().to_string_lossy().into_owned();
    for name in ["journal.jsonl", "lock"] {
        let node = Node::new("etcd").unwrap();
        let outside = stock.work.path().join(format!("outside-{name}"));
        fs::write(&outside, "not yours\n").unwrap();
        let state = node.root.join("var/lib/cks-agent");
        fs::create_dir_all(&state).unwrap();
        symlink(&outside, state.join(name)).unwrap();
        let output = node.run(&[&iso]).unwrap();
        assert_refused(&node, &output, ("IO", 78), name);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "not yours\n");
        // Nor made where there was nothing.
        fs::remove_file(&outside).unwrap();
        assert_eq!(node.run(&[&iso]).unwrap().code, 78);
        assert!(!outside.exists());

        fs::remove_file(state.join(name)).unwrap();
        assert_eq!(node.run(&[&iso]).unwrap().code, 0);
    }
}

#[test]
fn arguments_beyond_reason_are_refused() {
    let root = cks_tests::scratch("edges").unwrap();
    let told = root.path().to_string_lossy().into_owned();
    let wait = |time: &'static str| vec!["--wait", time];
    for (more, exit, says) in [
        (wait("8000years"), 2, "8000years"),
        (wait("18446744073709551615s"), 2, "longer than a year"),
        (wait("99999999999999999999999years"), 2, "--wait"),
        (vec!["--wait=-1s"], 2, "-1s"),
        (
            vec!["--node-ip", "10.1.1.2", "--etcd-initial-cluster", "a=http://10.1.1.3:2380"],
            78,
            "error[CONFIG_INVALID]: the etcd members say that a is at http://10.1.1.3:2380",
        ),
        (
            vec!["--node-ip", "10.1.1.2", "--etcd-initial-cluster", "a=http://10.1.1.2:2379,b=http://10.1.1.3:2380"],
            78,
            "it listens at http://10.1.1.2:2380",
        ),
    ] {
        let agent = Command::new(programs::built("cks-agent").unwrap()).args(["bootstrap", "--role", "etcd"]);
        let agent = agent.args(["--node-name", "a", "--source", "/nowhere.iso", "--root", &told]).args(&more);
        let output = agent.output().unwrap();
        assert_eq!(output.code, exit, "{more:?}: {output:?}");
        assert!(output.stderr.contains(says) && !output.stderr.contains("panicked"), "{more:?}: {output:?}");
        assert_eq!(Tree::read(root.path(), &[]).unwrap().lines, [""; 0], "{more:?}");
    }
}
