use super::*;

const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn blob(size: u64) -> LockedBlob {
    LockedBlob { digest: Digest::of(&size.to_le_bytes()), size, media_type: "application/vnd.oci.x+json".to_owned() }
}

pub(crate) fn sample() -> Lock {
    let image = LockedImage {
        reference: "registry.k8s.io/pause:3.10".to_owned(),
        named_by: vec!["kubernetes".to_owned(), "network.yaml:4410".to_owned()],
        index: Some(Digest::of(b"index")),
        manifest: blob(1),
        config: blob(2),
        layers: vec![blob(3), blob(4)],
        diff_ids: vec![Digest::of(b"a"), Digest::of(b"b")],
    };
    let kubelet = LockedFile {
        key: "kubernetes.kubelet".to_owned(),
        path: Some("k8s/kubelet".to_owned()),
        url: Some("https://dl.k8s.io/release/v1.33.1/bin/linux/amd64/kubelet".to_owned()),
        size: 5,
        sha256: Some(Digest::of(b"kubelet")),
        checked: Some("https://dl.k8s.io/release/v1.33.1/bin/linux/amd64/kubelet.sha256".to_owned()),
        ..LockedFile::default()
    };
    let etcd = LockedFile {
        key: "etcd".to_owned(),
        replaced: vec![("a---".to_owned(), "a\n---".to_owned()), ("\"".to_owned(), String::new())],
        packed: Some(vec!["a \"b\"".to_owned(), "c\\d".to_owned()]),
        sha256: Some(Digest::of(b"etcd")),
        ..LockedFile::default()
    };
    let sysctl = [("net.ipv4.conf.all.rp_filter".to_owned(), "0".to_owned())].into();
    Lock {
        version: VERSION,
        name: "v1.33.1-\"calico\"".to_owned(),
        arch: Arch::Arm64,
        epoch: 315_532_800,
        spec: Digest::of(b"spec"),
        components: vec![Component { name: "kubernetes".to_owned(), version: "v1.33.1".to_owned() }],
        node: LockedNode { sysctl, kubeadm_arguments: vec!["--a=b".to_owned()] },
        files: vec![kubelet, etcd],
        images: vec![image],
    }
}

#[test]
fn what_is_written_is_read_again() {
    let lock = sample();
    let text = lock.to_text();
    assert_eq!(Lock::parse(&text).unwrap(), lock, "{text}");
    assert!(text.starts_with("# Made by cks-iso lock") && text.contains(r#"["a---", "a\n---"]"#), "{text}");
    let bare = Lock { node: LockedNode::default(), files: vec![], images: vec![], components: vec![], ..lock };
    assert_eq!(Lock::parse(&bare.to_text()).unwrap(), bare);
}

#[test]
fn a_lock_that_does_not_hold_is_refused_with_the_reason() {
    let text = sample().to_text();
    let digest = Digest::of(b"kubelet").to_string();
    for (from, to, want) in [
        ("version = 1\n", "version = 2\n", "has version 2"),
        ("epoch = ", "epcoh = ", "epcoh"),
        ("epoch = 3", "epoch = 99999999993", "epoch"),
        ("path = \"k8s/kubelet\"", "path = \"../kubelet\"", "leads out"),
        ("https://dl", "https://me:secret@dl", "has a user"),
        ("https://dl", "ftp://dl", "no http"),
        ("url = ", "surprise = ", "surprise"),
        (&format!("sha256 = \"{digest}\"\n"), "", "has no sha256"),
        ("packed = [", "built-in = \"a\"\npacked = [", "one of url"),
        ("[\"a---\",", "[\"\",", "replace"),
        ("key = \"etcd\"", "key = \"kubernetes.kubelet\"", "stands twice"),
        ("reference = \"registry.k8s.io/pause:3.10\"", "reference = \"pause\"", "not written out"),
        ("pause:3.10\"", &format!("pause@sha256:{HEX}\""), "neither its index nor"),
        ("diff-ids = [", &format!("diff-ids = [\"{HEX}\", "), "2 layers and 3 diff-ids"),
        ("\"--a=b\"", "\"a b\"", "kubeadm argument"),
    ] {
        assert!(text.contains(from), "{from:?} is not in {text}");
        let failure = Lock::parse(&text.replacen(from, to, 1)).unwrap_err();
        assert_eq!(failure.code, Code::LockStale);
        assert!(failure.what.contains(want), "{to:?} gives {failure}");
        assert!(!failure.what.contains("secret"), "{failure}");
    }
    let twice = text.clone()
        + text.split_once("\n[[images]]").map(|(_, image)| format!("\n[[images]]{image}")).unwrap().as_str();
    assert!(Lock::parse(&twice).unwrap_err().what.contains("stands twice"));
}
