//! Long for being one table of machines, which each test changes in a line or two.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use bootstrap::adoption::standing::Standing;
use bootstrap::bundle::Role;
use bootstrap::cluster::Stage;
use bootstrap::node_spec::{CaTrust, Endpoint, Join, Membership, Token};
use bootstrap::user_data::Metadata;
use tempfile::TempDir;

use super::*;
use crate::cluster;
use crate::metadata::Found;

const SETUP: &str = "#!/bin/bash -e\nset +e\numount \"${ISO_MOUNT_DIR}\"\nsystemctl start kubelet\n";
const JOIN: &str = "#!/bin/bash -e\nkubeadm join 10.1.1.5:6443 --token abcdef.0123456789abcdef \
    --discovery-token-unsafe-skip-ca-verification\n";
const UNIT: &str = "[Service]\nType=simple\nExecStart=/opt/bin/deploy-kube-system\n";
const RUNCMD: &str = "#!/bin/sh\ncontainerd config default > /etc/containerd/config.toml\n/opt/bin/setup-kube-system\n\
    systemctl start deploy-kube-system\n";

struct Machine {
    _root: TempDir,
    host: Host,
    board: Board,
    spec: NodeSpec,
}

impl Machine {
    fn new(membership: Membership) -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let role = match membership {
            Membership::FirstControlPlane(_) | Membership::ControlPlane(_) => Role::ControlPlane,
            Membership::Worker(_) => Role::Worker,
            Membership::Etcd => Role::Etcd,
        };
        let mut spec = NodeSpec::new(role, "c1-node-1", None, None).unwrap();
        spec.membership = Some(membership);
        Self { _root: root, host, board: Board::new(role), spec }
    }

    /// A worker as cloud-init leaves it before it runs what the user data says.
    fn worker() -> Self {
        let machine = Self::new(Membership::Worker(join()));
        machine.put("/var/lib/cloud/instances/i/scripts/runcmd", RUNCMD);
        symlink("instances/i", machine.host.path("/var/lib/cloud/instance")).unwrap();
        machine.cloud_init_writes();
        machine
    }

    fn cloud_init_writes(&self) {
        for (file, text) in [(File::Setup, SETUP), (File::Deploy, JOIN), (File::DeployUnit, UNIT)] {
            self.put(file.path(), text);
        }
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.host.prepare(path).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.host.path(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.host.path(path)).unwrap().mode() & 0o7777
    }

    async fn adopt(&self) -> Outcome {
        adopt(&self.host, &self.spec, &Config::default(), &self.board).await.unwrap()
    }

    async fn until_ours(&self) {
        let ours = || [File::Setup, File::Deploy].iter().all(|file| adoption::is_ours(&self.read(file.path())));
        for _ in 0..1000 {
            if ours() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("still not taken over");
    }
}

fn join() -> Join {
    Join {
        endpoint: Endpoint::parse("10.1.1.5").unwrap(),
        token: Token::parse("abcdef.0123456789abcdef").unwrap(),
        certificate_key: None,
        trust: CaTrust::TokenOnly,
    }
}

fn init() -> Membership {
    Membership::FirstControlPlane(Box::default())
}

#[tokio::test]
async fn scripts_are_taken_over_once_and_given_back() {
    let machine = Machine::worker();
    let paths = [File::Setup, File::Deploy, File::DeployUnit, File::Runcmd].map(File::path);
    assert_eq!(machine.adopt().await, Outcome::Ours(paths.to_vec()));
    for path in [File::Setup, File::Deploy].map(File::path) {
        let text = machine.read(path);
        assert!(text.contains(" attend --root ") && text.starts_with("#!/bin/sh\n"), "{text}");
        assert_eq!(machine.mode(path), 0o700);
    }
    assert!(!machine.read(File::Runcmd.path()).contains("containerd config"));
    let kept = format!("{STATE_DIR}/adopted/deploy-kube-system");
    assert_eq!((machine.read(&kept).as_str(), machine.mode(&kept)), (JOIN, 0o600));
    assert_eq!(machine.adopt().await, Outcome::Ours(Vec::new()), "a second time there is nothing to do");

    // The same instance is given its user data again.
    machine.cloud_init_writes();
    assert_eq!(machine.adopt().await, Outcome::Ours(paths[..3].to_vec()));

    let mut back = revert(&machine.host).await.unwrap();
    back.reverse();
    assert_eq!(back, paths);
    for (file, text) in [(File::Setup, SETUP), (File::Deploy, JOIN), (File::DeployUnit, UNIT), (File::Runcmd, RUNCMD)] {
        assert_eq!((machine.read(file.path()).as_str(), machine.mode(file.path())), (text, file.stock_mode()));
    }
    assert_eq!(machine.host.names(&format!("{STATE_DIR}/adopted")), [""; 0]);
    assert_eq!(revert(&machine.host).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_run_that_breaks_off_is_gone_on_with() {
    for broken in [File::Setup, File::Deploy, File::DeployUnit] {
        let machine = Machine::worker();
        // A file that can't be written stops it as a kill would, in front of that file.
        let path = machine.host.path(broken.path());
        let beside = path.with_file_name(format!(".{}.cks-new", broken.name()));
        fs::create_dir(&beside).unwrap();
        adopt(&machine.host, &machine.spec, &Config::default(), &machine.board).await.unwrap_err();
        fs::remove_dir(&beside).unwrap();
        assert!(machine.adopt().await.is_ours());
        assert_eq!(machine.adopt().await, Outcome::Ours(Vec::new()));
        revert(&machine.host).await.unwrap();
        for (file, text) in
            [(File::Setup, SETUP), (File::Deploy, JOIN), (File::DeployUnit, UNIT), (File::Runcmd, RUNCMD)]
        {
            assert_eq!(machine.read(file.path()), text, "no original is lost");
        }
    }
}

#[tokio::test]
async fn what_is_not_recognised_stays_and_is_told() {
    let machine = Machine::worker();
    machine.put(File::Setup.path(), format!("{SETUP}apt-get install nfs-common\n"));
    let outcome = machine.adopt().await;
    assert!(matches!(&outcome, Outcome::Refused(why) if why[0].contains("apt-get")), "{outcome:?}");
    assert!(!outcome.is_ours());
    assert_eq!(machine.read(File::Deploy.path()), JOIN);
    assert!(!machine.host.path(&format!("{STATE_DIR}/adopted")).exists());
    let warnings = machine.board.snapshot().warnings;
    assert!(warnings[0].starts_with("USER_DATA_UNKNOWN: /opt/bin/setup-kube-system: line 5"), "{warnings:?}");
}

#[tokio::test]
async fn a_script_that_runs_is_left_alone() {
    let machine = Machine::worker();
    machine.put("/proc/42/cmdline", b"/bin/bash\0-e\0/opt/bin/setup-kube-system\0");
    let outcome = machine.adopt().await;
    assert_eq!(outcome, Outcome::AtWork("/opt/bin/setup-kube-system (process 42)".to_owned()));
    assert_eq!(machine.read(File::Setup.path()), SETUP);
    machine.put("/proc/42/cmdline", b"grep\0/opt/bin/setup-kube-system\0");
    assert!(machine.adopt().await.is_ours());
    machine.put("/proc/42/cmdline", b"/bin/sh\0/opt/bin/setup-kube-system\0");
    assert!(machine.adopt().await.is_ours(), "one of ours");
}

#[tokio::test]
async fn settings_switch_it_off() {
    let machine = Machine::worker();
    assert!(machine.adopt().await.is_ours());
    let off = Config { adopt: false, ..Config::default() };
    let outcome = adopt(&machine.host, &machine.spec, &off, &machine.board).await.unwrap();
    assert_eq!((outcome.is_ours(), outcome), (false, Outcome::Off));
    assert_eq!(machine.read(File::Setup.path()), SETUP);
}

#[tokio::test]
async fn scripts_that_come_later_are_taken_over_too() {
    let machine = Machine::new(Membership::Worker(join()));
    let keeping = keep(&machine.host, &machine.spec, &Config::default(), &machine.board);
    machine.put(File::Deploy.path(), JOIN);
    machine.put(File::Setup.path(), SETUP);
    machine.until_ours().await;
    drop(keeping);
}

#[tokio::test]
async fn a_script_that_is_half_written_is_no_refusal() {
    let machine = Machine::new(Membership::Worker(join()));
    machine.put(File::Deploy.path(), &JOIN[..JOIN.len() / 2]);
    machine.put(File::Setup.path(), "");
    let mut keeping = keep(&machine.host, &machine.spec, &Config::default(), &machine.board);
    tokio::task::yield_now().await;
    assert!(futures::FutureExt::now_or_never(lost(Some(&mut keeping))).is_none());
    machine.cloud_init_writes();
    machine.until_ours().await;
    assert_eq!(machine.board.snapshot().warnings, [""; 0]);
}

#[tokio::test]
async fn what_is_refused_later_is_given_back_whole_and_ends_the_run() {
    let machine = Machine::worker();
    assert!(machine.adopt().await.is_ours());
    let edited = format!("{JOIN}reboot\n");
    machine.put(File::Deploy.path(), &edited);
    assert!(matches!(machine.adopt().await, Outcome::Refused(_)));
    for (file, text) in
        [(File::Setup, SETUP), (File::Deploy, &edited), (File::DeployUnit, UNIT), (File::Runcmd, RUNCMD)]
    {
        assert_eq!(machine.read(file.path()), text, "no half of it stays ours");
    }
    assert_eq!(machine.host.names(&format!("{STATE_DIR}/adopted")), [""; 0]);

    machine.cloud_init_writes();
    let mut keeping = keep(&machine.host, &machine.spec, &Config::default(), &machine.board);
    machine.until_ours().await;
    machine.put(File::Deploy.path(), &edited);
    let failure = tokio::time::timeout(std::time::Duration::from_secs(10), lost(Some(&mut keeping))).await.unwrap();
    assert_eq!(failure.code, Code::UserDataUnknown);
    assert!(failure.what.contains("\"reboot\""), "{}", failure.what);
    assert_eq!(machine.read(File::Setup.path()), SETUP);
}

#[tokio::test]
async fn a_machine_without_scripts_is_ours() {
    let machine = Machine::new(init());
    let outcome = machine.adopt().await;
    assert_eq!((outcome.is_ours(), outcome), (true, Outcome::Nothing));
}

#[test]
fn what_the_server_looks_for_is_left() {
    let machine = Machine::new(init());
    let directory = "/opt/cks/v1.34.0-8be7ddf8a7da";
    for name in ["autoscaler", "provider", "snapshot-crds", "manifest", "network"] {
        machine.put(&format!("{directory}/manifests/{name}.yaml"), name);
    }
    machine.put("/etc/hostname", "c1-control-1\n");
    machine.put("/etc/hosts", "127.0.0.1 localhost");
    machine.put("/home/cloud/.ssh/authorized_keys", "");
    machine.put("/root/.bashrc", "alias a=b");
    machine.put("/etc/kubernetes/admin.conf", "certificate-authority-data: AA\nclient-key-data: 1\n");
    machine.put("/etc/kubernetes/user.conf", "the operator's");
    machine.put("/tmp/k8sconfigscripts/left.yaml", "");
    let written = hand_over(&machine.host, &machine.spec, directory).unwrap();
    assert_eq!(written.last().map(String::as_str), Some(MARKER));
    for (path, text, mode) in [
        ("/opt/autoscaler/autoscaler_tmpl.yaml", "autoscaler", 0o644),
        ("/opt/provider/provider.yaml", "provider", 0o644),
        ("/opt/csi/snapshot-crds.yaml", "snapshot-crds", 0o644),
        ("/opt/csi/manifest.yaml", "manifest", 0o644),
        ("/root/.kube/config", "certificate-authority-data: AA\nclient-key-data: 1\n", 0o600),
        ("/root/.bashrc", "alias a=b\nexport PATH=$PATH:/opt/bin\n", 0o644),
        ("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 c1-control-1\n", 0o644),
        (MARKER, "true\n", 0o644),
    ] {
        assert_eq!((machine.read(path).as_str(), machine.mode(path)), (text, mode), "{path}");
    }
    assert_eq!(machine.read("/etc/kubernetes/user.conf"), "the operator's");
    for path in ["/tmp/k8sconfigscripts", "/opt/bin/deploy-provider", "/etc/systemd/system/setup-kube-system.service"] {
        assert!(!machine.host.path(path).exists(), "{path}");
    }
    assert_eq!(hand_over(&machine.host, &machine.spec, directory).unwrap(), [""; 0]);

    // Renewed, by an operator, and of another cluster.
    let own = |admin: &str, own: &str| {
        machine.put("/etc/kubernetes/admin.conf", admin);
        machine.put("/root/.kube/config", own);
        hand_over(&machine.host, &machine.spec, directory).unwrap();
        machine.read("/root/.kube/config")
    };
    let admin = "certificate-authority-data: AA\nclient-key-data: 2\n";
    assert_eq!(own(admin, "certificate-authority-data: AA\nclient-key-data: 1\n"), admin);
    let more = "certificate-authority-data: AA\nclient-key-data: 1\ncontext: x\n";
    assert_eq!(own(admin, more), more);
    assert_eq!(own(admin, "certificate-authority-data: BB\n"), admin);
    assert_eq!(machine.read("/root/.kube/config.before-cks"), "certificate-authority-data: BB\n");
    let third = "certificate-authority-data: CC\n";
    assert_eq!(own(third, admin), third);
    assert_eq!(
        machine.read("/root/.kube/config.before-cks"),
        "certificate-authority-data: BB\n",
        "the operator's stays"
    );
}

#[test]
fn a_worker_gets_less_and_an_etcd_member_nothing() {
    let machine = Machine::worker();
    machine.put("/home/cloud/x", "");
    machine.put("/etc/nsswitch.conf", "hosts: files myhostname dns\n");
    assert_eq!(hand_over(&machine.host, &machine.spec, "/opt/cks/v").unwrap(), [MARKER]);
    let machine = Machine::new(Membership::Etcd);
    machine.put("/home/cloud/x", "");
    assert_eq!(hand_over(&machine.host, &machine.spec, "/opt/cks/v").unwrap(), [""; 0]);
}

#[test]
fn a_user_s_commands_find_what_the_server_s_scripts_leave() {
    let machine = Machine::new(init());
    machine.put("/opt/cks/v/manifests/network.yaml", "network");
    machine.put("/home/cloud/x", "");
    machine.put("/etc/kubernetes/admin.conf", "certificate-authority-data: AA\n");
    hand_over_to_commands(&machine.host, &machine.spec, "/opt/cks/v").unwrap();
    assert_eq!(machine.read("/tmp/k8sconfigscripts/network.yaml"), "network");
    assert_eq!(machine.read("/root/.kube/config"), "certificate-authority-data: AA\n");
    assert_eq!(machine.read(MARKER), "true\n");
    hand_over(&machine.host, &machine.spec, "/opt/cks/v").unwrap();
    assert!(!machine.host.path("/tmp/k8sconfigscripts").exists());
}

#[test]
fn nothing_is_laid_out_in_somebody_else_s_directory() {
    let machine = Machine::new(init());
    machine.put("/opt/cks/v/manifests/network.yaml", "x");
    machine.put("/tmp/x", "");
    symlink("/etc", machine.host.path("/tmp/k8sconfigscripts")).unwrap();
    assert_eq!(hand_over_to_commands(&machine.host, &machine.spec, "/opt/cks/v").unwrap_err().code, Code::Io);
    hand_over(&machine.host, &machine.spec, "/opt/cks/v").unwrap();
    assert!(machine.host.path("/tmp/k8sconfigscripts").is_symlink());
    fs::remove_file(machine.host.path("/tmp/k8sconfigscripts")).unwrap();
    let open = machine.host.path("/tmp/k8sconfigscripts");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        hand_over_to_commands(&machine.host, &machine.spec, "/opt/cks/v").unwrap_err().code,
        Code::Io,
        "anybody's"
    );
    assert_eq!(machine.host.names("/tmp/k8sconfigscripts"), [""; 0]);
    fs::remove_dir(&open).unwrap();
    hand_over_to_commands(&machine.host, &machine.spec, "/opt/cks/v").unwrap();
    assert_eq!(machine.mode("/tmp/k8sconfigscripts"), 0o700);
}

#[test]
fn new_user_data_is_noticed_whatever_cloud_init_s_semaphores_say() {
    let machine = Machine::worker();
    let found = |text: &str, id: &str| Found {
        metadata: Metadata { instance_id: Some(id.to_owned()), ..Metadata::default() },
        user_data: text.as_bytes().to_vec(),
        source: "http://10.1.1.1/latest/".to_owned(),
    };
    let stands = |text: &str, id: &str| standing(&machine.host, &found(text, id)).unwrap();
    assert_eq!(stands("a", "i"), Standing::Due);
    UserDataRecord::begin(&machine.host, &found("a", "i")).unwrap();
    assert_eq!(stands("a", "i"), Standing::Due, "a run that broke off goes on");
    machine.put("/etc/kubernetes/kubelet.conf", "");
    UserDataRecord::end(&machine.host, &found("a", "i")).unwrap();
    assert_eq!(stands("a", "i"), Standing::Done);
    assert_eq!(stands("b", "i"), Standing::OtherMember);
    let record = machine.read("/var/lib/cks-agent/user-data.json");
    assert!(
        record.contains("\"ended\": true") && machine.mode("/var/lib/cks-agent/user-data.json") == 0o600,
        "{record}"
    );

    fs::remove_file(machine.host.path("/etc/kubernetes/kubelet.conf")).unwrap();
    assert_eq!(stands("a", "i"), Standing::Left);
    assert_eq!(stands("b", "i"), Standing::Due);
    assert_eq!(stands("a", "another"), Standing::Due, "a clone");

    // A node of the server's own scripts that has left its cluster.
    let machine = Machine::worker();
    machine.put(MARKER, "true\n");
    machine.put("/proc/stat", "cpu 1\nbtime 1000\n");
    let stands = || standing(&machine.host, &found("a", "i")).unwrap();
    assert_eq!(stands(), Standing::Left);
    let semaphore = machine.put("/var/lib/cloud/instances/i/sem/config_runcmd", "");
    assert_eq!(stands(), Standing::Due, "cloud-init was made to run again");
    let long_ago = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    fs::File::options().write(true).open(semaphore).unwrap().set_times(long_ago).unwrap();
    assert_eq!(stands(), Standing::Left);
}

#[test]
fn a_try_of_other_user_data_that_became_nothing_binds_nobody() {
    let machine = Machine::worker();
    let host = &machine.host;
    let found = |text: &str| Found {
        metadata: Metadata::default(),
        user_data: text.as_bytes().to_vec(),
        source: "http://10.1.1.1/latest/".to_owned(),
    };
    let kept = || cluster::record::read(host).unwrap().map(|record| record.authority);
    let begun = Some(vec!["sha256:a".to_owned()]);
    UserDataRecord::begin(host, &found("a")).unwrap();
    cluster::record::begin_join(host, &machine.spec, vec!["sha256:a".to_owned()]).unwrap();
    UserDataRecord::begin(host, &found("a")).unwrap();
    assert_eq!(kept(), begun, "the same goes on with whom it met");
    UserDataRecord::begin(host, &found("b")).unwrap();
    assert_eq!(kept(), None);
    cluster::record::begin_join(host, &machine.spec, vec!["sha256:a".to_owned()]).unwrap();
    cluster::record::reach(host, &machine.spec, Stage::Member).unwrap();
    UserDataRecord::begin(host, &found("c")).unwrap();
    assert_eq!(kept(), begun, "a member has to leave first");
}

#[test]
fn a_node_that_left_waits_until_cloud_init_is_made_to_run_again() {
    let machine = Machine::worker();
    let found = |text: &str| Found {
        metadata: Metadata { instance_id: Some("i".to_owned()), ..Metadata::default() },
        user_data: text.as_bytes().to_vec(),
        source: "http://10.1.1.1/latest/".to_owned(),
    };
    let stands = |text: &str| standing(&machine.host, &found(text)).unwrap();
    let semaphore = machine.put("/var/lib/cloud/instance/sem/config_runcmd", "");
    let ran = |at: std::time::SystemTime| {
        let times = fs::FileTimes::new().set_modified(at);
        fs::File::options().write(true).open(&semaphore).unwrap().set_times(times).unwrap();
    };
    let (hour, now) = (std::time::Duration::from_secs(3600), std::time::SystemTime::now());
    UserDataRecord::end(&machine.host, &found("a")).unwrap();
    let left = humantime::format_rfc3339_seconds(now + hour);
    machine.put("/var/lib/cks-agent/left.json", format!("{{\"at\": \"{left}\"}}"));
    ran(now);
    assert_eq!((stands("a"), stands("b")), (Standing::Left, Standing::Due));
    ran(now + hour * 2);
    assert_eq!(stands("a"), Standing::Due, "the same text again, asked for anew");
    // It is carried out once more: an old leave is over.
    machine.put("/var/lib/cks-agent/left.json", "{\"at\": \"2001-01-01T00:00:00Z\"}");
    assert_eq!(stands("a"), Standing::Left, "carried out, and no member: nobody asks again");
}
