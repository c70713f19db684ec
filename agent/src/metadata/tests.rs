use std::fs;
use std::path::PathBuf;

use bootstrap::bundle::Role;
use tempfile::TempDir;

use super::*;
use crate::config;

const ID: &str = "2f0e5c1e-5b0f-4a76-9a1f-6f8a3a1b2c3d";

struct Machine {
    root: TempDir,
    host: Host,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        Self { root, host }
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.host.prepare(path).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    async fn find(&self, metadata: config::Metadata) -> Result<Found, Failure> {
        let settings = Config { metadata, wait: Duration::from_millis(300), ..Config::default() };
        find(&self.host, &settings, &Board::new(Role::Worker)).await
    }
}

fn settings(user_data: Option<PathBuf>, directory: Option<PathBuf>) -> config::Metadata {
    config::Metadata { user_data, directory }
}

#[tokio::test]
async fn what_the_settings_name_always_counts() {
    let machine = Machine::new();
    machine.put("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: seed\n");
    machine.put("/etc/hostname", "node-1\n");
    let file = machine.put("/etc/cks-agent/user-data", b"#cloud-config\n\xff");
    let found = machine.find(settings(Some(file.clone()), None)).await.unwrap();
    assert_eq!((found.user_data.as_slice(), &found.source), (&b"#cloud-config\n\xff"[..], &file.display().to_string()));
    assert_eq!((found.metadata.instance_id, found.metadata.local_hostname.as_deref()), (None, Some("node-1")));

    machine.put("/metadata/instance-id.txt", ID);
    machine.put("/metadata/local-hostname", "c1-node-1\n");
    machine.put("/metadata/AS_NUMBER.txt", "65001\n");
    machine.put("/metadata/.hidden", "x");
    let user_data = machine.put("/metadata/user_data.txt", "in the directory");
    let directory = machine.root.path().join("metadata");
    let found = machine.find(settings(None, Some(directory.clone()))).await.unwrap();
    assert_eq!((found.user_data.as_slice(), found.source), (&b"in the directory"[..], user_data.display().to_string()));
    assert_eq!(found.metadata.instance_id.as_deref(), Some(ID));
    assert_eq!(found.metadata.local_hostname.as_deref(), Some("c1-node-1"));
    assert_eq!(found.metadata.more, BTreeMap::from([("AS_NUMBER".to_owned(), "65001".to_owned())]));
    let found = machine.find(settings(Some(file), Some(directory))).await.unwrap();
    assert_eq!((found.user_data.len(), found.metadata.instance_id.as_deref()), (15, Some(ID)));
}

#[tokio::test]
async fn what_they_name_and_is_not_there_is_refused() {
    let machine = Machine::new();
    let nothing = machine.root.path().join("nothing");
    let empty = machine.put("/empty/x", "").parent().unwrap().to_owned();
    let large = machine.put("/large", vec![b'x'; (1 << 20) + 1]);
    for (settings, code, named) in [
        (settings(Some(nothing.clone()), None), Code::ConfigInvalid, "nothing"),
        (settings(None, Some(nothing)), Code::ConfigInvalid, "nothing"),
        (settings(None, Some(empty)), Code::ConfigInvalid, "empty/user-data"),
        (settings(Some(large), None), Code::UserDataInvalid, "large"),
    ] {
        let failure = machine.find(settings).await.unwrap_err();
        assert_eq!(failure.code, code);
        assert!(failure.what.contains(named), "{}", failure.what);
    }
}

#[test]
fn a_directory_may_hold_one_document() {
    for (name, text) in [
        ("meta-data", format!("instance-id: {ID}\nlocal-hostname: c1-node-1\n")),
        ("meta_data.json", format!(r#"{{"uuid": "{ID}", "hostname": "c1-node-1", "x": 1}}"#)),
    ] {
        let machine = Machine::new();
        let path = machine.put(&format!("/metadata/{name}"), text);
        let metadata = directory(path.parent().unwrap()).unwrap();
        assert_eq!(metadata.instance_id.as_deref(), Some(ID));
        assert_eq!(metadata.local_hostname.as_deref(), Some("c1-node-1"));
    }
}

#[tokio::test]
async fn a_seed_that_a_template_kept_lets_the_cloud_speak_first() {
    let machine = Machine::new();
    let seed = |name: &str, text: &str| machine.put(&format!("/var/lib/cloud/seed/nocloud/{name}"), text);
    seed("meta-data", &format!("instance-id: {ID}\n"));
    seed("user-data", "#cloud-config\n");
    let took = async |looks| {
        let since = Instant::now();
        let look = local::seed(&machine.host, looks).await;
        (look, since.elapsed() >= AHEAD)
    };
    assert!(matches!(took(0).await, (Look::Found(_), true)), "after the others");
    assert!(matches!(took(1).await, (Look::Found(_), false)));
    machine.put("/sys/class/dmi/id/product_uuid", ID.to_uppercase());
    assert!(matches!(took(0).await, (Look::Found(_), false)), "it names this machine");
    seed("user-data", "");
    assert!(matches!(took(0).await, (Look::WithoutUserData(_), _)), "somebody else may ask something");
}

#[tokio::test]
async fn the_cache_counts_for_this_boot_or_this_machine() {
    let machine = Machine::new();
    let looked = async || match cache::look(&machine.host, 1).await {
        Look::Found(found) => Ok((found, true)),
        Look::Earlier(found) => Ok((found, false)),
        Look::WithoutUserData(found) => panic!("{found:?}"),
        Look::Nothing(reasons) => Err(reasons[0].1.clone()),
    };
    assert_eq!(looked().await.unwrap_err(), "is empty");
    machine.put("/var/lib/cloud/data/instance-id", ID);
    machine.put("/var/lib/cloud/instance/user-data.txt", "#cloud-config\n");
    let why = looked().await.unwrap_err();
    assert!(why.contains("which this machine may not be"), "{why}");
    machine.put("/sys/class/dmi/id/product_uuid", format!("{}\n", ID.to_uppercase()));
    let (found, of_this_boot) = looked().await.unwrap();
    assert_eq!((found.user_data.as_slice(), of_this_boot), (&b"#cloud-config\n"[..], false));

    // Of another instance: the template's.
    machine.put("/run/cloud-init/instance-data.json", r#"{"v1": {"instance_id": "other"}}"#);
    assert!(!looked().await.unwrap().1);
    let data = format!(r#"{{"ds": {{"meta_data": {{"instance-id": "{ID}", "local-ipv4": "10.1.1.4"}}}}}}"#);
    machine.put("/run/cloud-init/instance-data-sensitive.json", data);
    let (found, of_this_boot) = looked().await.unwrap();
    assert_eq!((found.metadata.local_ipv4, of_this_boot), ("10.1.1.4".parse().ok(), true));

    // cloud-init ran, and did not look at the disc again.
    let data = format!(r#"{{"v1": {{"instance_id": "{ID}", "platform": "configdrive"}}}}"#);
    machine.put("/run/cloud-init/instance-data-sensitive.json", data);
    assert!(!looked().await.unwrap().1);
}

#[tokio::test]
async fn what_an_earlier_boot_left_counts_when_nobody_answers_in_time() {
    let machine = Machine::new();
    machine.put("/var/lib/cloud/data/instance-id", ID);
    machine.put("/var/lib/cloud/instance/user-data.txt", "of the last boot");
    machine.put("/sys/class/dmi/id/product_uuid", ID);
    let waited = Duration::from_secs(4);
    let settings = Config { wait: waited, ..Config::default() };
    let board = Board::new(Role::Worker);
    let since = Instant::now();
    let found = find(&machine.host, &settings, &board).await.unwrap();
    assert!(since.elapsed() >= waited, "a router that comes late has new user data");
    assert_eq!(found.user_data, b"of the last boot");
    // One that comes meanwhile is asked first.
    let seed = "/var/lib/cloud/seed/nocloud";
    machine.put(&format!("{seed}/meta-data"), format!("instance-id: {ID}\n"));
    machine.put(&format!("{seed}/user-data"), "of this boot");
    let found = find(&machine.host, &settings, &board).await.unwrap();
    assert_eq!(found.user_data, b"of this boot");
}

#[tokio::test]
async fn cloud_init_that_found_nobody_is_nobody() {
    let machine = Machine::new();
    machine.put("/var/lib/cloud/data/instance-id", "iid-datasource-none");
    machine.put("/run/cloud-init/instance-data.json", r#"{"v1": {"instance_id": "iid-datasource-none"}}"#);
    assert!(matches!(cache::look(&machine.host, 1).await, Look::Nothing(_)));
}

#[tokio::test]
async fn what_was_recorded_vouches_for_an_old_cache() {
    let machine = Machine::new();
    let found = Found {
        metadata: Metadata { instance_id: Some(ID.to_owned()), ..Metadata::default() },
        user_data: b"x".to_vec(),
        source: "x".to_owned(),
    };
    crate::adopt::UserDataRecord::begin(&machine.host, &found).unwrap();
    machine.put("/var/lib/cloud/data/instance-id", ID);
    machine.put("/var/lib/cloud/instance/user-data.txt", "#cloud-config\n");
    assert!(matches!(cache::look(&machine.host, 1).await, Look::Earlier(_)));
}
