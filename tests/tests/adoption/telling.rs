//! Where a node stands, seen from outside: the journal with its fields, the console, the status socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::thread;

use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::programs;
use serde_json::Value;

use crate::{put, within};

/// Shows a directory as journald's, to the command behind it alone.
const WITH_JOURNAL: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
    mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";
/// The same for a program whose standard error leads to the journal: a file stands for it.
const AS_SERVICE: &str = "export JOURNAL_STREAM=$(stat -L -c %d:%i \"$1\"); exec 2>\"$1\"; shift; exec \"$@\"";

/// An entry of the journal, its fields by name.
type Entry = BTreeMap<String, String>;

/// The fields of a datagram of journald's native protocol.
fn entry(mut bytes: &[u8]) -> Entry {
    let mut fields = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let line = String::from_utf8(bytes[..end].to_vec()).unwrap();
        bytes = &bytes[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
                let value = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
                bytes = &bytes[8 + length + 1..];
                (line, value)
            }
        };
        fields.insert(name, value);
    }
    fields
}

/// Runs `command` with a journal, and gives its entries and what it said on standard error.
fn journalled(work: &Path, command: &[&str], service: bool) -> (Vec<Entry>, String) {
    let (journal, errors) = (work.join("journal"), work.join("errors"));
    fs::create_dir(&journal).unwrap();
    fs::write(&errors, "").unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let reading = thread::spawn(move || {
        let (mut entries, mut bytes) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            match socket.recv(&mut bytes).unwrap() {
                // The test's own last word.
                1 => return entries,
                // By an empty one the program asks whether there is a journal.
                0 => {}
                count => entries.push(entry(&bytes[..count])),
            }
        }
    });
    let journal = journal.to_string_lossy();
    let mut words = vec!["-m", "sh", "-c", WITH_JOURNAL, "sh", &journal];
    let errors_name = errors.to_string_lossy();
    if service {
        words.extend(["sh", "-c", AS_SERVICE, "sh", &errors_name]);
    }
    let output = Command::new("unshare").args(words).args(command).output().unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"x", Path::new(&*journal).join("socket")).unwrap();
    let said = if service { fs::read_to_string(&errors).unwrap() } else { output.stderr };
    (reading.join().unwrap(), said)
}

fn ask(root: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(root.join("run/cks-agent/status.sock")).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn status(root: &Path) -> Value {
    ask(root, "/v1/status").and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()
}

#[test]
fn a_failure_is_one_entry_with_its_fields() {
    for service in [true, false] {
        let work = cks_tests::scratch("telling").unwrap();
        let node = Node::new("etcd").unwrap();
        let console = node.root.join("dev/console");
        put(&node.root, "/dev/console", "");
        let agent = programs::built("cks-agent").unwrap();
        let (agent, root) = (agent.to_string_lossy(), node.root.to_string_lossy());
        let missing = work.path().join("missing.iso");
        let missing = missing.to_string_lossy();
        let command = [&agent, "bootstrap", "--root", &root, "--role", "etcd", "--source", &missing, "--wait", "1s"];
        let (entries, said) = journalled(work.path(), &command, service);
        let of = |name: &str, value: &str| -> Vec<&Entry> {
            entries.iter().filter(|entry| entry.get(name).is_some_and(|held| held == value)).collect()
        };
        let [failure] = of("CODE", "MEDIA_NOT_FOUND")[..] else { panic!("{entries:?}") };
        assert_eq!(failure["MESSAGE_ID"], "1b1d2c5e8f6a4c0fa3c5d8a97e6b4f20");
        assert_eq!((failure["ROLE"].as_str(), failure["PHASE"].as_str()), ("etcd", "failed"));
        assert_eq!((failure["PRIORITY"].as_str(), failure["SYSLOG_IDENTIFIER"].as_str()), ("3", "cks-agent"));
        assert!(failure["MESSAGE"].starts_with("failed MEDIA_NOT_FOUND: ") && failure["MESSAGE"].contains(&*missing));
        assert!(!failure["REMEDY"].is_empty());
        assert_eq!(of("PHASE", "locate").len(), 1, "{entries:?}");
        // What leads to the journal anyhow is not said twice.
        assert_eq!(said.contains("error[MEDIA_NOT_FOUND]"), !service, "{said}");
        assert!(!service || said.is_empty(), "{said}");
        let lines = fs::read_to_string(console).unwrap();
        assert!(lines.starts_with("cks-agent: etcd locate\n"), "{lines}");
        assert!(lines.contains("\ncks-agent: failed MEDIA_NOT_FOUND: ") && lines.contains("; remedy: "), "{lines}");
    }
}

#[test]
fn a_failure_that_no_node_had_is_an_entry_too() {
    let work = cks_tests::scratch("telling").unwrap();
    let agent = programs::built("cks-agent").unwrap();
    let command = [&*agent.to_string_lossy(), "serve", "--root", "/nonexistent"];
    let (entries, said) = journalled(work.path(), &command, true);
    let [failure] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((failure["CODE"].as_str(), said.as_str()), ("ROOT_NOT_FOUND", ""));
}

#[test]
fn a_run_serves_its_status_and_a_daemon_the_last_one() {
    let work = cks_tests::scratch("telling").unwrap();
    let node = Node::new("etcd").unwrap();
    let disc = work.path().join("late.iso");
    let disc = disc.to_string_lossy();
    let mut running =
        node.bootstrap(&[&disc]).unwrap().args(["--wait", "60s"]).start(&work.path().join("run")).unwrap();
    within("the wait shows", || status(&node.root)["wait"]["waits_for"] == "a source that holds a CKS ISO");
    assert!(ask(&node.root, "/metrics").unwrap().ends_with("# EOF\n"));

    // A daemon that is started meanwhile waits for its turn, which a kill gives it.
    let daemon = node.agent("serve").unwrap();
    let mut daemon = daemon.start(&work.path().join("daemon")).unwrap();
    running.kill().unwrap();
    within("what the killed run left shows", || status(&node.root)["failure"]["code"] == "INTERRUPTED");
    let output = node.bootstrap(&[&disc]).unwrap().args(["--wait", "1s"]).output().unwrap();
    assert_eq!(output.code, 75, "{output:?}");
    within("the failure shows", || status(&node.root)["failure"]["code"] == "MEDIA_NOT_FOUND");
    assert_eq!(ask(&node.root, "/healthz").unwrap(), "ok\n");
    daemon.kill().unwrap();
}
