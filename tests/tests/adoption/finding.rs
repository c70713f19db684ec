//! User data from each source, from several at once, late, and from nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::board::Board;
use agent::config::Config;
use agent::host::Host;
use agent::metadata::{self, Found};
use bootstrap::bundle::Role;
use bootstrap::failure::{Code, Failure};
use cks_tests::data_server::DataServer;
use cks_tests::drive::Drive;
use cks_tests::netns::ADDRESS;
use cks_tests::process::Command;
use cks_tests::vr::Vr;
use tempfile::TempDir;

use crate::{INSTANCE, apart, put, within};

const TEXT: &[u8] = b"#cloud-config\nruncmd: [a]\n\xff\x00binary";
const KEYS: [(&str, &str); 7] = [
    ("service-offering", "small"),
    ("availability-zone", "Zone 1"),
    ("local-ipv4", ADDRESS),
    ("local-hostname", "c1-control-1"),
    ("instance-id", INSTANCE),
    ("public-keys", "ssh-rsa AAAA one\nssh-rsa BBBB two\n"),
    ("AS_NUMBER", "65001"),
];

/// A machine whose lease names the router.
fn machine() -> TempDir {
    let root = cks_tests::scratch("machine").unwrap();
    put(root.path(), "/run/systemd/netif/leases/2", format!("SERVER_ADDRESS={ADDRESS}\n"));
    root
}

fn router() -> (Vr, DataServer, TempDir) {
    let content = cks_tests::scratch("content").unwrap();
    fs::write(content.path().join("10-kubeadm.conf"), "").unwrap();
    let vr = Vr::start(content.path()).unwrap();
    let server = DataServer::of(&vr).unwrap();
    (vr, server, content)
}

fn find(root: &Path, network: Option<String>, wait: u64, board: &Board) -> Result<Found, Failure> {
    let (root, board) = (root.to_owned(), board.clone());
    let begin = move || async move {
        let settings = Config { wait: Duration::from_secs(wait), ..Config::default() };
        metadata::find(&Host::new(&root).unwrap(), &settings, &board).await
    };
    apart(network, begin).join().unwrap()
}

/// A ConfigDrive as CloudStack makes it: genisoimage -J -r, label config-2.
fn config_drive(work: &Path, files: &[(&str, &[u8])], options: &[&str]) -> PathBuf {
    let (tree, image) = (work.join("tree"), work.join("drive.iso"));
    for (path, bytes) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let made = Command::new("genisoimage").args(["-quiet", "-o"]).arg(&image).args(options).arg(&tree);
    made.ok().unwrap();
    image
}

#[test]
fn the_router_tells_user_data_and_every_key() {
    let (vr, server, _content) = router();
    server.tell(ADDRESS, &KEYS, Some(TEXT)).unwrap();
    server.tell("10.1.1.77", &[("instance-id", "another")], Some(b"of another")).unwrap();
    let root = machine();
    let found = find(root.path(), Some(vr.netns.path()), 30, &Board::new(Role::Worker)).unwrap();
    assert_eq!((found.user_data.as_slice(), found.source.as_str()), (TEXT, "http://10.1.1.1/latest/"));
    let metadata = found.metadata;
    assert_eq!(metadata.instance_id.as_deref(), Some(INSTANCE));
    assert_eq!(metadata.local_hostname.as_deref(), Some("c1-control-1"));
    assert_eq!(metadata.local_ipv4, ADDRESS.parse().ok());
    assert_eq!(metadata.availability_zone.as_deref(), Some("Zone 1"));
    assert_eq!(metadata.more["AS_NUMBER"], "65001");
    assert_eq!(metadata.more["public-keys"], "ssh-rsa AAAA one\nssh-rsa BBBB two");
}

#[test]
fn a_router_that_is_not_ready_yet_is_waited_for_and_the_wait_shows() {
    let (vr, server, _content) = router();
    let root = machine();
    let board = Board::new(Role::Worker);
    let (path, seen) = (root.path().to_owned(), board.clone());
    let network = Some(vr.netns.path());
    let finding = std::thread::spawn(move || find(&path, network, 60, &seen));
    within("the wait shows", || board.snapshot().wait.is_some_and(|wait| wait.last_error.contains("HTTP 404")));
    let wait = board.snapshot().wait.unwrap();
    assert_eq!(wait.waits_for, "a source of user data");
    assert!(wait.last_error.starts_with("http://10.1.1.1/latest/: "), "{wait:?}");
    // Known, but without user data.
    server.tell(ADDRESS, &KEYS, None).unwrap();
    within("that shows", || board.snapshot().wait.is_some_and(|wait| wait.last_error.contains("no user data for it")));
    server.tell(ADDRESS, &KEYS, Some(TEXT)).unwrap();
    assert_eq!(finding.join().unwrap().unwrap().user_data, TEXT);
    assert_eq!(board.snapshot().waits, []);
}

#[test]
fn user_data_that_is_guarded_is_there() {
    let (vr, server, _content) = router();
    server.tell(ADDRESS, &KEYS, Some(TEXT)).unwrap();
    server.guard(ADDRESS).unwrap();
    let root = machine();
    let board = Board::new(Role::Worker);
    let (path, seen, network) = (root.path().to_owned(), board.clone(), Some(vr.netns.path()));
    let finding = std::thread::spawn(move || find(&path, network, 60, &seen));
    let refused = "does not tell the user data (HTTP 403 Forbidden)";
    within("that shows", || board.snapshot().wait.is_some_and(|wait| wait.last_error.contains(refused)));
    server.tell(ADDRESS, &KEYS, Some(TEXT)).unwrap();
    assert_eq!(finding.join().unwrap().unwrap().user_data, TEXT);
}

#[test]
fn a_machine_that_nobody_asks_anything_has_empty_user_data() {
    let (vr, server, _content) = router();
    server.tell(ADDRESS, &KEYS, None).unwrap();
    let root = machine();
    let found = find(root.path(), Some(vr.netns.path()), 3, &Board::new(Role::Worker)).unwrap();
    assert_eq!((found.user_data.len(), found.metadata.instance_id.as_deref()), (0, Some(INSTANCE)));
}

#[test]
fn a_login_page_is_no_data_server() {
    let (vr, server, _content) = router();
    let page = "<html><body>Please log in</body></html>";
    server.tell(ADDRESS, &[("instance-id", page)], Some(page.as_bytes())).unwrap();
    let root = machine();
    let failure = find(root.path(), Some(vr.netns.path()), 2, &Board::new(Role::Worker)).unwrap_err();
    assert_eq!(failure.code, Code::MetadataUnreachable);
    assert!(failure.what.contains("http://10.1.1.1/latest/: what it tells is no instance id"), "{}", failure.what);
}

#[test]
fn nobody_is_told_by_all_who_were_asked() {
    let (vr, _server, _content) = router();
    let root = machine();
    let failure = find(root.path(), Some(vr.netns.path()), 3, &Board::new(Role::Worker)).unwrap_err();
    assert_eq!(failure.code, Code::MetadataUnreachable);
    for part in [
        "in 3 s",
        "http://10.1.1.1/latest/: tells no instance id (HTTP 404 Not Found)",
        "http://data-server/latest/: ",
        "ConfigDrive: no disc",
        "cloud-init's cache: is empty",
    ] {
        assert!(failure.what.contains(part), "{part}: {}", failure.what);
    }
}

#[test]
fn a_config_drive_is_known_by_what_it_holds() {
    let meta = format!(
        r#"{{"uuid": "{INSTANCE}", "hostname": "c1-control-1", "name": "public", "availability_zone": "Zone 1",
        "public_keys": {{"0": "ssh-rsa AAAA"}}, "AS_NUMBER": "65001"}}"#
    );
    let large = vec![b'x'; 200_000];
    let cloudstack: [(&str, &[u8]); 6] = [
        ("cloudstack/userdata/user_data.txt", &large),
        ("cloudstack/metadata/instance-id.txt", INSTANCE.as_bytes()),
        ("cloudstack/metadata/local-ipv4.txt", b"10.1.1.12"),
        ("cloudstack/metadata/availability_zone.txt", b"Zone 1"),
        ("openstack/latest/user_data", b"the other"),
        ("openstack/latest/meta_data.json", meta.as_bytes()),
    ];
    let openstack: [(&str, &[u8]); 2] =
        [("openstack/latest/user_data", TEXT), ("openstack/latest/meta_data.json", meta.as_bytes())];
    let of = |files: &[(&str, &[u8])], options: &[&str]| {
        let root = cks_tests::scratch("machine").unwrap();
        let image = config_drive(root.path(), files, options);
        let (iso, drive) = (Drive::new(root.path(), "sr0").unwrap(), Drive::new(root.path(), "sr1").unwrap());
        // The CKS ISO is attached beside it.
        let other = cks_tests::scratch("other").unwrap();
        iso.insert(&config_drive(other.path(), &[("k8s/kubelet", b"x")], &["-J", "-R", "-V", "CDROM"])).unwrap();
        drive.insert(&image).unwrap();
        find(root.path(), None, 10, &Board::new(Role::Worker)).inspect(|found| {
            assert_eq!(found.source, drive.name());
            assert_eq!(found.metadata.instance_id.as_deref(), Some(INSTANCE));
        })
    };
    for options in [&["-J", "-r", "-V", "config-2"][..], &["-J", "-r", "-V", "other"], &["-r"], &["-J"]] {
        let found = of(&cloudstack, options).unwrap();
        assert!(found.user_data == large, "{options:?}: {} bytes", found.user_data.len());
        assert_eq!(found.metadata.local_ipv4, "10.1.1.12".parse().ok());
        assert_eq!(found.metadata.local_hostname.as_deref(), Some("c1-control-1"));
        assert_eq!(found.metadata.availability_zone.as_deref(), Some("Zone 1"));
        assert_eq!(found.metadata.more["AS_NUMBER"], "65001");
        assert_eq!(of(&openstack, options).unwrap().user_data, TEXT);
    }
    let failure = of(&cloudstack[..1], &["-J", "-r"]).unwrap_err();
    assert!(failure.what.contains("/dev/sr1: is a ConfigDrive that tells no instance id"), "{}", failure.what);
}

#[test]
fn a_damaged_disc_keeps_nobody_from_the_others() {
    let root = cks_tests::scratch("machine").unwrap();
    let image = config_drive(root.path(), &[("openstack/latest/user_data", TEXT)], &["-J", "-r"]);
    let mut bytes = fs::read(&image).unwrap();
    bytes.truncate(40_000);
    fs::write(&image, bytes).unwrap();
    Drive::new(root.path(), "sr0").unwrap().insert(&image).unwrap();
    let failure = find(root.path(), None, 2, &Board::new(Role::Worker)).unwrap_err();
    assert!(failure.what.contains("/dev/sr0: "), "{}", failure.what);
    put(root.path(), "/var/lib/cloud/seed/nocloud/meta-data", format!("instance-id: {INSTANCE}\n"));
    put(root.path(), "/var/lib/cloud/seed/nocloud/user-data", TEXT);
    let found = find(root.path(), None, 10, &Board::new(Role::Worker)).unwrap();
    assert_eq!(found.user_data, TEXT);
    assert!(found.source.ends_with("/var/lib/cloud/seed/nocloud/user-data"), "{}", found.source);
}

#[test]
fn the_router_is_asked_before_a_seed_that_the_template_kept() {
    let (vr, server, _content) = router();
    server.tell(ADDRESS, &KEYS, Some(b"new")).unwrap();
    let root = machine();
    put(root.path(), "/var/lib/cloud/seed/nocloud/meta-data", "instance-id: builder\n");
    put(root.path(), "/var/lib/cloud/seed/nocloud/user-data", "of the builder");
    let network = || Some(vr.netns.path());
    assert_eq!(find(root.path(), network(), 20, &Board::new(Role::Worker)).unwrap().user_data, b"new");
    // An empty one is no answer while somebody else may have one.
    put(root.path(), "/var/lib/cloud/seed/nocloud/user-data", "");
    server.forget(ADDRESS).unwrap();
    let (path, board) = (root.path().to_owned(), Board::new(Role::Worker));
    let (network, seen) = (network(), board.clone());
    let finding = std::thread::spawn(move || find(&path, network, 20, &seen));
    within("the router is waited for", || {
        board.snapshot().wait.is_some_and(|wait| wait.last_error.contains("HTTP 404"))
    });
    server.tell(ADDRESS, &KEYS, Some(b"later")).unwrap();
    assert_eq!(finding.join().unwrap().unwrap().user_data, b"later");
}

#[test]
fn the_router_is_asked_before_cloud_init_s_cache_and_that_before_nobody() {
    let (vr, server, _content) = router();
    server.tell(ADDRESS, &KEYS, Some(b"new")).unwrap();
    let root = machine();
    let instance_data = format!(r#"{{"ds": {{"meta_data": {{"instance-id": "{INSTANCE}"}}}}, "v1": {{}}}}"#);
    put(root.path(), "/var/lib/cloud/data/instance-id", INSTANCE);
    put(root.path(), "/var/lib/cloud/instance/user-data.txt", "kept");
    put(root.path(), "/run/cloud-init/instance-data.json", &instance_data);
    let network = || Some(vr.netns.path());
    let found = find(root.path(), network(), 20, &Board::new(Role::Worker)).unwrap();
    assert_eq!(found.user_data, b"new");
    server.forget(ADDRESS).unwrap();
    let found = find(root.path(), network(), 20, &Board::new(Role::Worker)).unwrap();
    assert_eq!((found.user_data.as_slice(), found.metadata.instance_id.as_deref()), (&b"kept"[..], Some(INSTANCE)));
}
