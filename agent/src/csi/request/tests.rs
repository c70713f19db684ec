use super::*;
use crate::csi::proto::csi::CapacityRange;
use crate::csi::proto::csi::volume_capability::{AccessMode, BlockVolume};

const ID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

fn mounted(fs_type: &str, flags: &[&str]) -> VolumeCapability {
    let mount_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mount = MountVolume { fs_type: fs_type.to_owned(), mount_flags, volume_mount_group: String::new() };
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Named::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(mount)),
    }
}

fn staging() -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_id: ID.to_owned(),
        staging_target_path: "/s/globalmount".to_owned(),
        volume_capability: Some(mounted("ext4", &[])),
        ..NodeStageVolumeRequest::default()
    }
}

fn publishing() -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: ID.to_owned(),
        staging_target_path: "/s/globalmount".to_owned(),
        target_path: "/p/mount".to_owned(),
        volume_capability: Some(mounted("", &[])),
        ..NodePublishVolumeRequest::default()
    }
}

#[test]
fn what_is_missing_is_named_in_the_specifications_order() {
    let mut asked = publishing();
    asked.staging_target_path.clear();
    assert_eq!(publish(&asked).unwrap_err().class, Class::VolumeNotStaged);
    asked.volume_capability = None;
    assert_refused(publish(&asked), "volume_capability");
    asked.target_path.clear();
    assert_refused(publish(&asked), "target_path");
    asked.volume_id.clear();
    assert_refused(publish(&asked), "volume_id");
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(refused: Result<T, Refusal>, named: &str) {
    let refusal = refused.unwrap_err();
    assert!(refusal.class == Class::RequestInvalid && refusal.what.contains(named), "{refusal}");
}

#[test]
fn a_path_says_where_it_leads() {
    for (path, why) in [
        ("s", "absolute"),
        ("/", "root directory"),
        ("/s/../etc", "`..`"),
        ("/s\n", "control character"),
        ("/s\0", "control character"),
        (&format!("/{}", "s".repeat(4096)), "longer"),
    ] {
        assert_refused(stage(&NodeStageVolumeRequest { staging_target_path: path.to_owned(), ..staging() }), why);
        assert_refused(publish(&NodePublishVolumeRequest { target_path: path.to_owned(), ..publishing() }), why);
        assert_refused(
            unstage(&NodeUnstageVolumeRequest { volume_id: ID.to_owned(), staging_target_path: path.to_owned() }),
            why,
        );
        assert_refused(
            unpublish(&NodeUnpublishVolumeRequest { volume_id: ID.to_owned(), target_path: path.to_owned() }),
            why,
        );
    }
    // As kubelet writes them, and with what it might write.
    for path in ["/s//globalmount/", "/s/./globalmount"] {
        let asked = stage(&NodeStageVolumeRequest { staging_target_path: path.to_owned(), ..staging() }).unwrap();
        assert_eq!(asked.staging, Path::new("/s/globalmount"));
    }
}

#[test]
fn a_target_path_lies_apart_from_the_staging_target_path() {
    for target in ["/s/globalmount", "/s/globalmount/x", "/s"] {
        assert_refused(
            publish(&NodePublishVolumeRequest { target_path: target.to_owned(), ..publishing() }),
            "target_path",
        );
    }
}

#[test]
fn where_a_volume_is_said_to_be_may_be_wrong_without_being_nonsense() {
    let asked = |path: &str| NodeGetVolumeStatsRequest {
        volume_id: "fake-vol-id".to_owned(),
        volume_path: path.to_owned(),
        ..NodeGetVolumeStatsRequest::default()
    };
    assert_eq!(stats(&asked("some/path")).unwrap_err().class, Class::VolumeNotFound);
    assert_refused(stats(&asked("")), "volume_path");
    assert_eq!(stats(&asked("/some/path")).unwrap().path, Path::new("/some/path"));
}

#[test]
fn a_capability_is_whole() {
    let with = |change: &dyn Fn(&mut VolumeCapability)| {
        let mut asked = mounted("ext4", &[]);
        change(&mut asked);
        capability(Some(&asked))
    };
    assert_refused(with(&|asked| asked.access_mode = None), "access_mode");
    assert_refused(with(&|asked| asked.access_mode = Some(AccessMode { mode: 99 })), "access_mode");
    assert_refused(with(&|asked| asked.access_mode = Some(AccessMode { mode: 0 })), "access_mode");
    assert_refused(with(&|asked| asked.access_type = None), "block nor mount");
    for many in [Named::MultiNodeMultiWriter, Named::MultiNodeSingleWriter] {
        let refusal = with(&|asked| asked.access_mode = Some(AccessMode { mode: many.into() })).unwrap_err();
        assert_eq!(refusal.class, Class::CapabilityUnsupported);
    }
    let block = with(&|asked| asked.access_type = Some(AccessType::Block(BlockVolume {}))).unwrap();
    assert_eq!(block, (Access::Block, Mode::SingleNodeWriter));
}

#[test]
fn a_filesystem_is_one_that_is_known() {
    for kind in ["EXT4", "ext2", "ntfs", "../ext4", "ext4 "] {
        let refusal =
            stage(&NodeStageVolumeRequest { volume_capability: Some(mounted(kind, &[])), ..staging() }).unwrap_err();
        assert_eq!(refusal.class, Class::FilesystemUnsupported, "{kind}");
    }
    let asked = stage(&NodeStageVolumeRequest { volume_capability: Some(mounted("", &[])), ..staging() }).unwrap();
    assert!(matches!(asked.access, Access::Filesystem { kind: None, .. }));
}

#[test]
fn what_a_storage_class_asks_of_mkfs_is_checked() {
    let with = |fs_type: &str, key: &str, value: &str| {
        let volume_context = [(key.to_owned(), value.to_owned())].into();
        stage(&NodeStageVolumeRequest { volume_capability: Some(mounted(fs_type, &[])), volume_context, ..staging() })
    };
    assert_eq!(with("ext4", MKFS_OPTIONS, "-b 4096").unwrap().mkfs, ["-b", "4096"]);
    assert_eq!(with("ext4", "csi.cloudstack.apache.org/disk-offering-id", "x").unwrap().mkfs, [""; 0]);
    assert_refused(with("ext4", MKFS_OPTIONS, "-F"), "-F");
    assert_refused(with("", MKFS_OPTIONS, "-b 4096"), "fstype");
}

#[test]
fn an_encrypted_volume_has_a_passphrase_that_nobody_sees() {
    let with = |encryption: &str, secrets: &[(&str, &str)]| {
        let volume_context = [(PARAMETER.to_owned(), encryption.to_owned())].into();
        let secrets = secrets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        stage(&NodeStageVolumeRequest { volume_context, secrets, ..staging() })
    };
    let asked = with("luks2", &[("passphrase", "hunter2\n")]).unwrap();
    assert!(!format!("{asked:?}").contains("hunter2"));
    assert_eq!(asked.passphrase.unwrap().reveal(), "hunter2\n");
    for none in ["", "none"] {
        assert_eq!(with(none, &[("passphrase", "hunter2")]).unwrap().passphrase, None);
    }
    assert_refused(with("luks2", &[]), "secrets.passphrase is missing");
    assert_refused(with("luks2", &[("Passphrase", "hunter2")]), "secrets.passphrase is missing");
    assert_refused(with("luks2", &[("passphrase", "")]), "secrets.passphrase is empty");
    assert!(with("luks2", &[("passphrase", &"x".repeat(4096))]).is_ok());
    let refusal = with("luks2", &[("passphrase", &"hunter2".repeat(600))]).unwrap_err();
    assert!(refusal.what.contains("longer") && !refusal.to_string().contains("hunter2"), "{refusal}");
    for other in ["luks", "LUKS2", "luks1", "true"] {
        assert_eq!(with(other, &[("passphrase", "x")]).unwrap_err().class, Class::CapabilityUnsupported, "{other}");
        let volume_context = [(PARAMETER.to_owned(), other.to_owned())].into();
        let refusal = publish(&NodePublishVolumeRequest { volume_context, ..publishing() }).unwrap_err();
        assert_eq!(refusal.class, Class::CapabilityUnsupported, "{other}");
    }
    let volume_context = [(PARAMETER.to_owned(), "luks2".to_owned())].into();
    assert!(publish(&NodePublishVolumeRequest { volume_context, ..publishing() }).unwrap().encrypted);
    assert!(!publish(&publishing()).unwrap().encrypted);
}

#[test]
fn a_capacity_range_does_not_contradict_itself() {
    let with = |required_bytes: i64, limit_bytes: i64| {
        expand(&NodeExpandVolumeRequest {
            volume_id: ID.to_owned(),
            volume_path: "/p/mount".to_owned(),
            capacity_range: Some(CapacityRange { required_bytes, limit_bytes }),
            ..NodeExpandVolumeRequest::default()
        })
    };
    assert_refused(with(-1, 0), "required_bytes");
    assert_refused(with(0, -1), "limit_bytes");
    assert_refused(with(2, 1), "limit");
    assert_eq!(with(1, 0).unwrap().required, 1);
}
