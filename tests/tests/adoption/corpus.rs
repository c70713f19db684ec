//! The user data of every release: what is read in it is what is taken over.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::adoption::{self, Asked, Caller, File};
use bootstrap::user_data::{Metadata, read};
use cks_tests::process::Command;
use cks_tests::programs;

use crate::{put, within};

/// A template whose scripts say what the agent does not do, and one of a release that divides the work otherwise: both run.
const REFUSED: [(&str, &str); 2] = [
    ("46-control-first-4.16-coreos", "/opt/bin/deploy-kube-system: begins no cluster"),
    ("62-control-first-edited-arguments", "/opt/bin/deploy-kube-system: line 13"),
];

/// The files that the user data writes, as cloud-init would: block scalars behind `- path:`.
fn written(user_data: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = user_data.lines().map(|line| line.trim_end_matches('\r')).collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut files = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(path) = line.trim_start().strip_prefix("- path: ") else { continue };
        let rest = &lines[at + 1..];
        let keys = rest.iter().take_while(|line| !line.trim_start().starts_with("- "));
        let Some(content) = keys.clone().position(|line| line.trim() == "content: |") else { continue };
        let inside = depth(rest[content]);
        let block = rest[content + 1..].iter().take_while(|line| line.trim().is_empty() || depth(line) > inside);
        let text: String = block.map(|line| format!("{}\n", line.get(inside + 2..).unwrap_or_default())).collect();
        files.insert(path.to_owned(), text);
    }
    files
}

struct Scenario {
    name: String,
    user_data: Vec<u8>,
    metadata: Metadata,
}

fn scenarios() -> Vec<Scenario> {
    let root = programs::workspace().join("bootstrap/tests/user_data");
    let directories = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let scenario = |path: &Path| Scenario {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        user_data: fs::read(path.join("user-data")).unwrap(),
        metadata: bootstrap::datasource::from_keys(
            serde_json::from_slice::<BTreeMap<String, String>>(&fs::read(path.join("metadata.json")).unwrap()).unwrap(),
        ),
    };
    let mut scenarios: Vec<_> = directories.map(|path| scenario(&path)).collect();
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    scenarios
}

#[test]
fn every_release_s_scripts_are_known() {
    let caller = Caller { program: "/usr/bin/cks-agent".to_owned(), root: None };
    let mut known = 0;
    for Scenario { name, user_data, metadata } in scenarios() {
        let (Ok(reading), Ok(text)) = (read(&user_data, &metadata), String::from_utf8(user_data)) else { continue };
        let files = written(&text);
        let texts: Vec<(File, &str)> =
            File::ALL.into_iter().filter_map(|file| Some((file, files.get(file.path())?.as_str()))).collect();
        // What a template says under a condition is rendered by cloud-init before it is written.
        let rendered = texts.iter().all(|(_, text)| !text.contains("{%"));
        let (Some(spec), false, true) = (reading.spec, texts.is_empty(), rendered) else { continue };
        let decision = adoption::decide(&texts, &Asked::of(&spec), &caller);
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            assert!(decision.take.is_empty() && decision.refused[0].starts_with(why), "{name}: {decision:?}");
            assert_eq!((&reading.adoption.refused, reading.adoption.take_over.len()), (&decision.refused, 0), "{name}");
            continue;
        }
        assert_eq!((decision.refused.len(), reading.adoption.refused.len()), (0, 0), "{name}: {decision:?}");
        // What is told beforehand is what is done.
        let taken: Vec<&str> = decision.take.iter().map(|(file, _)| file.path()).collect();
        // etcd's unit is rendered anew, whatever is there; and CoreOS has units in a section of its own, which is not
        // looked into here.
        let elsewhere = |path: &str| {
            path.ends_with("/etcd.service") || path == File::DeployUnit.path() && !files.contains_key(path)
        };
        for path in reading.adoption.take_over.iter().filter(|path| !elsewhere(path)) {
            assert!(taken.contains(&path.as_str()), "{name}: {path} of {taken:?}");
        }
        known += 1;
    }
    assert!(known >= 40, "only {known} scenarios");
}

/// A worker as cloud-init leaves it, and a bootstrap that finds no ISO.
struct Worker {
    work: tempfile::TempDir,
    root: PathBuf,
    stock: BTreeMap<String, String>,
    bootstrap: Command,
    socket: UnixDatagram,
}

impl Worker {
    fn new() -> Self {
        let work = cks_tests::scratch("corpus").unwrap();
        let root = work.path().join("root");
        fs::create_dir(&root).unwrap();
        let user_data = programs::workspace().join("bootstrap/tests/user_data/01-worker-4.22/user-data");
        let stock = written(&fs::read_to_string(&user_data).unwrap());
        for (path, text) in &stock {
            put(&root, path, text);
        }
        let socket = UnixDatagram::bind(work.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let agent = Command::new(programs::built("cks-agent").unwrap());
        let bootstrap = agent
            .args(["bootstrap", "--source", "/nonexistent.iso", "--wait", "1s", "--root"])
            .arg(&root)
            .arg("--user-data")
            .arg(&user_data)
            .env("NOTIFY_SOCKET", work.path().join("notify"));
        Self { work, root, stock, bootstrap, socket }
    }

    fn is_ready(&self) {
        let mut word = [0; 64];
        let count = self.socket.recv(&mut word).unwrap();
        assert_eq!(std::str::from_utf8(&word[..count]).unwrap(), "READY=1");
    }

    fn read(&self, file: File) -> String {
        fs::read_to_string(self.root.join(file.path().trim_start_matches('/'))).unwrap()
    }
}

#[test]
fn what_is_edited_later_ends_the_run_and_all_are_the_server_s_again() {
    let worker = Worker::new();
    let mut running = worker.bootstrap.start(&worker.work.path().join("log")).unwrap();
    worker.is_ready();
    assert!(adoption::is_ours(&worker.read(File::Deploy)));
    let edited = format!("{}apt-get install -y nfs-common\n", worker.stock[File::Setup.path()]);
    put(&worker.root, File::Setup.path(), &edited);
    assert_eq!(running.wait().unwrap(), 78);
    assert_eq!(worker.read(File::Setup), edited);
    for file in [File::Deploy, File::DeployUnit, File::SetupContainerd] {
        assert_eq!(worker.read(file), worker.stock[file.path()], "{file}");
    }
    let told = fs::read_to_string(worker.work.path().join("log")).unwrap();
    assert!(told.contains("error[USER_DATA_UNKNOWN]") && told.contains("apt-get"), "{told}");
}

#[test]
fn a_bootstrap_takes_over_says_that_it_is_ready_and_then_looks_for_the_iso() {
    let worker = Worker::new();
    let Worker { work, root, stock, bootstrap, .. } = &worker;
    let ready = || worker.is_ready();
    let mut running = bootstrap.start(&work.path().join("log")).unwrap();
    ready();
    for file in [File::Setup, File::Deploy, File::DeployUnit, File::SetupContainerd] {
        let text = worker.read(file);
        assert!(adoption::is_ours(&text), "{file}: {text}");
        let kept = root.join("var/lib/cks-agent/adopted").join(file.name());
        assert_eq!(fs::read_to_string(kept).unwrap(), stock[file.path()], "{file}");
    }
    let record = fs::read_to_string(root.join("var/lib/cks-agent/user-data.json")).unwrap();
    assert!(record.contains("\"ended\": false"), "{record}");
    within("it looks for the ISO", || {
        fs::read_to_string(root.join("run/cks-agent/status.json"))
            .is_ok_and(|status| status.contains("nonexistent.iso"))
    });
    // cloud-init is made to run again beside it.
    put(root, File::Setup.path(), &stock[File::Setup.path()]);
    let setup = root.join("opt/bin/setup-kube-system");
    within("it is taken over again", || fs::read_to_string(&setup).is_ok_and(|text| adoption::is_ours(&text)));
    running.kill().unwrap();

    // Off again: the server's own come back and run.
    put(root, "/etc/cks-agent/config.toml", "adopt = false\n");
    let output = bootstrap.output().unwrap();
    ready();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(fs::read_to_string(setup).unwrap(), stock["/opt/bin/setup-kube-system"]);
    let status = fs::read_to_string(root.join("run/cks-agent/status.json")).unwrap();
    assert!(status.contains("\"phase\": \"idle\""), "{status}");
}
