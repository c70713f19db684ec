use super::*;

#[test]
fn no_file_and_an_empty_file_are_the_defaults() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
    let root = tempfile::tempdir().unwrap();
    assert_eq!(Config::read(&Host::new(root.path()).unwrap(), None).unwrap(), Config::default());
}

#[test]
fn every_key_is_read() {
    let text = r#"
        sources = ["https://mirror.example.org/cks/"]
        wait = "20m"
        keep = 2
        adopt = false
        [metadata]
        user-data = "/etc/cks-agent/user-data"
        directory = "/etc/cks-agent/metadata"
        [trust]
        policy = "require-signature"
        keys = "/srv/keys"
        signatures = 2
        minimum-version = "v1.33.0"
        [http]
        proxy = "http://proxy.example.org:3128"
        no-proxy = [".example.org"]
        ca = ["/etc/ssl/our.pem"]
        connections = 2
        inactivity = "10s"
        [disc]
        eject = true
        [containerd]
        socket = "/run/k3s/containerd.sock"
        snapshotter = "native"
        [cluster]
        wait = "10m"
        cgroup-driver = "cgroupfs"
        allow-cgroup-v1 = true
        kubeadm-ignores = ["SystemVerification"]
        [preflight]
        skip = ["swap", "size"]
        [etcd]
        snapshots = 3
        directory = "/backup"
        [csi]
        enabled = true
        socket = "/csi.sock"
        kubelet = "/var/lib/k0s/kubelet"
        register = false
        node-id = "0a1b"
        zone = "1b2c"
        max-volumes = 16
        attach-wait = "30s"
        default-filesystem = "xfs"
    "#;
    let config = Config::parse(text).unwrap();
    assert_eq!((config.wait, config.keep), (Duration::from_secs(1200), 2));
    let metadata = ["user-data", "metadata"].map(|name| Some(Path::new("/etc/cks-agent").join(name)));
    assert!(!config.adopt && [config.metadata.user_data, config.metadata.directory] == metadata);
    assert_eq!((config.trust.policy, config.trust.signatures), (Some(Policy::RequireSignature), 2));
    assert_eq!((config.http.connections, config.disc.eject), (2, true));
    assert_eq!(config.containerd.snapshotter, "native");
    let cluster = config.cluster;
    assert_eq!((cluster.cgroup_driver, cluster.allow_cgroup_v1), (CgroupDriver::Cgroupfs, true));
    assert_eq!((cluster.wait, cluster.kubeadm_ignores.len()), (Duration::from_secs(600), 1));
    assert_eq!(config.preflight.skip, ["swap", "size"]);
    assert_eq!(config.etcd, Etcd { snapshots: 3, directory: PathBuf::from("/backup") });
    let csi = config.csi;
    assert_eq!((csi.enabled, csi.register, csi.max_volumes), (true, false, Some(16)));
    assert_eq!([csi.socket, csi.kubelet], ["/csi.sock", "/var/lib/k0s/kubelet"].map(PathBuf::from));
    assert_eq!([csi.node_id.as_deref(), csi.zone.as_deref()], [Some("0a1b"), Some("1b2c")]);
    assert_eq!((csi.attach_wait, csi.default_filesystem), (Duration::from_secs(30), Kind::Xfs));
}

#[test]
fn no_password_is_repeated() {
    for text in [
        "[http]\nproxi = \"http://user:secret@p:3128\"",
        "[http]\nproxy = http://user:secret@p:3128",
        "[http]\nproxy = \"http://user:secret@p:3128",
        "[http]\nproxy = [\"http://user:secret@p:3128\"]",
    ] {
        let failure = Config::parse(text).unwrap_err();
        assert!(!failure.what.contains("secret"), "{}", failure.what);
        assert!(failure.what.starts_with("line 2, prox"), "{}", failure.what);
    }
}

#[test]
fn nonsense_is_named() {
    for (text, named) in [
        ("sorces = []", "sorces"),
        ("sources = []", "sources"),
        ("wait = \"soon\"", "soon"),
        ("[trust]\nsignatures = 0", "trust.signatures"),
        ("[trust]\npolicy = \"none\"", "policy"),
        ("[http]\nconnections = 0", "http.connections"),
        ("[preflight]\nskip = [\"swop\"]", "swop"),
        ("[etcd]\nsnapshots = 0", "etcd.snapshots"),
        ("[csi]\nmax-volumes = 0", "csi.max-volumes"),
        ("[csi]\nsocket = \"csi.sock\"", "csi.socket"),
        ("[csi]\ndefault-filesystem = \"zfs\"", "zfs"),
        ("[etcd]\ndirectory = \"backup\"", "etcd.directory"),
    ] {
        let failure = Config::parse(text).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        assert!(failure.what.contains(named), "{text}: {}", failure.what);
    }
}
