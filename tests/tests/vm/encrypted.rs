//! Encrypted volumes, in a machine whose kernel opens them: what a pod writes is on the disk in no readable form, and nobody
//! has it without the passphrase.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bootstrap::digest::Digest;
use bootstrap::volume::VolumeId;
use bootstrap::volume::luks::{self, DONE, NEW};
use cks_tests::csi::proto::volume_capability::access_mode::Mode;
use cks_tests::csi::proto::{
    CapacityRange, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};
use cks_tests::csi::{Kind, capability, serial_of};
use cks_tests::vm::Disk;
use tonic::Code;

use crate::volumes::{DEADLINE, MIB, Node, uuid};

const PARAMETER: &str = "csi.cloudstack.apache.org/encryption";
const KEY: &str = "c0rrect-h0rse\n";
/// What a pod writes; longer than a block of a cipher.
const TEXT: &str = "a line that must not be read on the disk by anybody who has no passphrase";

/// A volume, and where it is staged and published.
struct Volume<'a> {
    node: &'a Node,
    id: String,
    disk: Disk,
    kind: Kind,
    staging: String,
    target: String,
}

impl<'a> Volume<'a> {
    /// With its disk plugged in, a blank one.
    fn new(node: &'a Node, name: &str, bus: &'static str, kind: Kind) -> Self {
        Self::of(node, name, bus, kind, None)
    }

    /// The same; `content` is what is on the disk.
    fn of(node: &'a Node, name: &str, bus: &'static str, kind: Kind, content: Option<&Path>) -> Self {
        let id = uuid();
        // mkfs.xfs makes nothing smaller.
        let size = if kind == Kind::filesystem("xfs") { 512 * MIB } else { 256 * MIB };
        let disk = node.disk(name, bus, Some(serial_of(&id)), size);
        if let Some(content) = content {
            fs::copy(content, &disk.file).unwrap();
        }
        let csi = "/var/lib/kubelet/plugins/kubernetes.io/csi";
        let (volume, pod) = match kind {
            Kind::Block => {
                (format!("{csi}/volumeDevices/staging/pvc-{id}"), format!("{csi}/volumeDevices/publish/pvc-{id}"))
            }
            Kind::Filesystem(_) => {
                let of = Digest::of(id.as_bytes()).hex();
                let pod = format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~csi/pvc-{id}", uuid());
                (format!("{csi}/csi.cloudstack.apache.org/{of}"), pod)
            }
        };
        let staging = if kind == Kind::Block { volume.clone() } else { format!("{volume}/globalmount") };
        let note = format!(r#"{{"driverName":"csi.cloudstack.apache.org","volumeHandle":"{id}"}}"#);
        node.sh(&format!("mkdir -p {staging} {pod}; echo '{note}' | tee {pod}/vol_data.json >{volume}/vol_data.json"));
        node.instance.plug(&disk).unwrap();
        Self { node, id, disk, kind, staging, target: format!("{pod}/mount") }
    }

    fn request(&self, key: &str) -> NodeStageVolumeRequest {
        NodeStageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.clone(),
            volume_capability: Some(capability(&self.kind)),
            volume_context: [(PARAMETER.to_owned(), "luks2".to_owned())].into(),
            secrets: [("passphrase".to_owned(), key.to_owned())].into(),
            ..NodeStageVolumeRequest::default()
        }
    }

    fn stage(&self) {
        self.node.told(self.node.client.stage(self.request(KEY)));
    }

    fn publish(&self) {
        let request = NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.clone(),
            target_path: self.target.clone(),
            volume_capability: Some(capability(&self.kind)),
            volume_context: [(PARAMETER.to_owned(), "luks2".to_owned())].into(),
            ..NodePublishVolumeRequest::default()
        };
        self.node.told(self.node.client.publish(request));
    }

    /// To this size, which the hypervisor has told the kernel, or tells it a moment later.
    fn expand(&self, size: u64) -> i64 {
        let required_bytes = i64::try_from(size).unwrap();
        let request = NodeExpandVolumeRequest {
            volume_id: self.id.clone(),
            volume_path: self.target.clone(),
            staging_target_path: self.staging.clone(),
            capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
            ..NodeExpandVolumeRequest::default()
        };
        self.node.told(self.node.client.expand(request)).capacity_bytes
    }

    fn unpublish(&self) {
        let (volume_id, target_path) = (self.id.clone(), self.target.clone());
        self.node.told(self.node.client.unpublish(NodeUnpublishVolumeRequest { volume_id, target_path }));
    }

    fn unstaged(&self) -> Result<(), tonic::Status> {
        let (volume_id, staging_target_path) = (self.id.clone(), self.staging.clone());
        self.node.client.unstage(NodeUnstageVolumeRequest { volume_id, staging_target_path }).map(drop)
    }

    fn unstage(&self) {
        self.node.told(self.unstaged());
        assert_eq!(self.mapping(), "", "{}", self.node.journal());
    }

    fn gone(&self) {
        self.unpublish();
        self.unstage();
    }

    /// The kernel's name of what is open.
    fn mapping(&self) -> String {
        self.node
            .sh(&format!("grep -lx cks-{} /sys/block/dm-*/dm/name | cut -d / -f 4 || true", self.id))
            .trim()
            .to_owned()
    }

    fn label(&self) -> String {
        let head = fs::read(&self.disk.file).unwrap();
        let header = luks::header(&head[..128 << 10]).unwrap();
        assert_eq!(header.uuid, VolumeId::parse(&self.id).unwrap().luks_uuid());
        header.label
    }

    #[track_caller]
    fn refused(&self, request: NodeStageVolumeRequest, class: &str) {
        let status = self.node.client.stage(request).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().starts_with(class) && !status.message().contains("h0rse"), "{status:?}");
    }

    /// That nothing of what was written is to be read on the disk.
    fn hides(&self) {
        let bytes = fs::read(&self.disk.file).unwrap();
        assert!(!bytes.windows(32).any(|there| there == &TEXT.as_bytes()[..32]), "{} shows it", self.disk.name);
    }
}

#[test]
#[ignore = "minutes that CI has not: just bed-vm runs it"]
fn encrypted_volumes_are_opened_and_closed() {
    let node = Node::boot();
    filesystem(&node);
    block(&node);
    broken_off(&node);
    unplugged(&node);
    restored(&node);
    let journal =
        node.sh("journalctl -b --no-pager -o export; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'");
    assert!(!journal.contains("c0rrect-h0rse"), "a passphrase was told");
    node.bed.nothing_outside().unwrap();
}

/// Made, written, grown while it is in use, closed; opened again by the passphrase alone.
fn filesystem(node: &Node) {
    for (bus, kind) in [("virtio", "ext4"), ("scsi", "xfs")] {
        let volume = Volume::new(node, &format!("{bus}-{kind}"), bus, Kind::filesystem(kind));
        volume.stage();
        volume.stage();
        volume.publish();
        let (target, mapping) = (&volume.target, volume.mapping());
        assert!(mapping.starts_with("dm-") && volume.label() == DONE, "{mapping}");
        assert_eq!(node.sh(&format!("findmnt -n -o FSTYPE {target}")), format!("{kind}\n"));
        node.sh(&format!("for n in $(seq 1000); do echo {TEXT}; done >{target}/file; sync {target}/file"));
        let shown = node.sh("cks-agent volumes");
        assert!(shown.contains(&format!("encrypted luks2, cks-{}", volume.id)) && !shown.contains("WRONG"), "{shown}");
        let stats = NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: target.clone(),
            ..NodeGetVolumeStatsRequest::default()
        };
        assert!(!node.told(node.client.stats(stats)).volume_condition.unwrap().abnormal);
        let size = || node.sh(&format!("df -B1 --output=size {target} | tail -n 1")).trim().parse::<u64>().unwrap();
        let small = size();
        node.instance.resize(&volume.disk, 1024 * MIB).unwrap();
        assert_eq!(volume.expand(1024 * MIB), i64::try_from(1024 * MIB).unwrap());
        assert!(size() > small + 300 * MIB, "{small} {}", size());
        let published = volume.unstaged().unwrap_err();
        assert!(published.message().contains(target), "{published:?}");
        volume.gone();
        volume.hides();
        for wrong in ["c0rrect-h0rse", "x"] {
            volume.refused(volume.request(wrong), "ENCRYPTION_KEY_REFUSED");
            assert_eq!(volume.mapping(), "");
        }
        volume.refused(
            NodeStageVolumeRequest { volume_context: HashMap::new(), ..volume.request(KEY) },
            "DISK_NOT_BLANK",
        );
        node.instance.unplug(&volume.disk).unwrap();
        node.instance.plug(&volume.disk).unwrap();
        volume.stage();
        volume.publish();
        assert_eq!(node.sh(&format!("tail -n 1 {target}/file")).trim(), TEXT);
        // An open one is no less locked.
        volume.refused(volume.request("x"), "ENCRYPTION_KEY_REFUSED");
        volume.gone();
        node.instance.unplug(&volume.disk).unwrap();
    }
}

/// A device: never the disk itself.
fn block(node: &Node) {
    let volume = Volume::new(node, "block", "virtio", Kind::Block);
    volume.stage();
    assert_eq!(volume.label(), DONE);
    volume.publish();
    let target = &volume.target;
    let number = |path: &str| node.sh(&format!("stat -L -c %t:%T {path}"));
    assert_eq!(number(target), number(&format!("/dev/{}", volume.mapping())));
    node.sh(&format!("for n in $(seq 1000); do echo {TEXT}; done | dd of={target} conv=fsync status=none"));
    let size = || node.sh(&format!("blockdev --getsize64 {target}")).trim().parse::<u64>().unwrap();
    assert_eq!(size(), 240 * MIB);
    node.instance.resize(&volume.disk, 512 * MIB).unwrap();
    volume.expand(512 * MIB);
    assert_eq!(size(), 496 * MIB);
    let published = volume.unstaged().unwrap_err();
    assert!(published.message().contains(target), "{published:?}");
    volume.gone();
    volume.hides();
    // Without the parameter it is no disk for a pod.
    let plain = NodeStageVolumeRequest { volume_context: HashMap::new(), ..volume.request(KEY) };
    volume.refused(plain, "DISK_NOT_BLANK");
    volume.stage();
    // In use by a program that nobody sees in the mount table.
    node.sh(&format!("systemd-run -q --unit=holder -p StandardInput=file:/dev/{} sleep infinity", volume.mapping()));
    let held = volume.unstaged().unwrap_err();
    assert!(held.message().starts_with("VOLUME_IN_USE") && held.message().contains("(sleep)"), "{held:?}");
    node.sh("systemctl stop holder");
    volume.publish();
    assert_eq!(node.sh(&format!("head -n 1 {target}")).trim(), TEXT);
    volume.gone();
    node.instance.unplug(&volume.disk).unwrap();
}

/// `kill -9` of the agent and of all that it started, at each step of staging: in the midst of it, or at its end.
fn broken_off(node: &Node) {
    let steps =
        [("luksFormat", 0.3), ("luksFormat", 60.0), ("open", 0.3), ("open", 60.0), ("mkfs", 0.0), ("config", 60.0)];
    for (number, (step, after)) in steps.into_iter().enumerate() {
        let volume = Volume::new(node, &format!("broken-{number}"), "virtio", Kind::filesystem("ext4"));
        let program = if step == "mkfs" { "mke2fs" } else { "cryptsetup" };
        let at = format!("/run/gate-{number}");
        node.sh(&format!(
            "mkdir -p {at}; cp /usr/sbin/{program} {at}/real; cat >{at}/gate <<'END'
#!/bin/sh
[ {step} = mkfs ] || [ \"$1\" = {step} ] || exec {at}/real \"$@\"
[ {step} = mkfs ] || timeout -s KILL {after} {at}/real \"$@\"
exec sleep 600
END
            chmod 755 {at}/gate; mount --bind {at}/gate /usr/sbin/{program}"
        ));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| node.client.stage(volume.request(KEY)));
            node.instance.guest.wait(step, DEADLINE, "pgrep -f -x 'sleep 600'").unwrap();
            node.sh("systemctl kill -s KILL cks-agent; while pgrep -f -x 'sleep 600'; do sleep 0.1; done");
            first.join().unwrap().unwrap_err();
        });
        node.sh(&format!("umount /usr/sbin/{program}"));
        node.instance.guest.wait("the daemon serves", DEADLINE, "systemctl is-active -q cks-agent").unwrap();
        if ["open", "mkfs"].contains(&step) {
            assert_eq!(volume.label(), NEW, "{step}");
        }
        volume.stage();
        volume.publish();
        assert_eq!(volume.label(), DONE);
        node.sh(&format!("echo {TEXT} >{0}/file; sync {0}/file", volume.target));
        volume.gone();
        volume.hides();
        volume.stage();
        assert_eq!(node.sh(&format!("cat {}/file", volume.staging)).trim(), TEXT);
        volume.unstage();
        node.instance.unplug(&volume.disk).unwrap();
    }
}

/// The disk goes first: what is open of it is closed all the same, and the next one is the volume again.
fn unplugged(node: &Node) {
    let volume = Volume::new(node, "unplugged", "virtio", Kind::filesystem("ext4"));
    volume.stage();
    node.sh(&format!("echo {TEXT} >{0}/file; sync {0}/file; sync -f {0}", volume.staging));
    node.instance.unplug(&volume.disk).unwrap();
    assert_ne!(volume.mapping(), "");
    let stats = NodeGetVolumeStatsRequest {
        volume_id: volume.id.clone(),
        volume_path: volume.staging.clone(),
        ..NodeGetVolumeStatsRequest::default()
    };
    match node.client.stats(stats) {
        Ok(told) => assert!(told.volume_condition.unwrap().abnormal),
        Err(status) => assert_eq!(status.code(), Code::Internal, "{status:?}"),
    }
    volume.unstage();
    // The second time it is unmounted by hand, and what is open stands in the way of nobody.
    for by_hand in [true, false] {
        node.instance.plug(&volume.disk).unwrap();
        volume.stage();
        assert_eq!(node.sh(&format!("cat {}/file", volume.staging)).trim(), TEXT);
        if !by_hand {
            volume.unstage();
        }
        node.instance.unplug(&volume.disk).unwrap();
        if by_hand {
            node.sh(&format!("umount {}", volume.staging));
            assert_ne!(volume.mapping(), "");
        }
    }
}

/// A volume that was made of a snapshot: another id and serial, its source's header and passphrase. Both are open at once; and
/// whoever may only read opens what was written, and writes nothing.
fn restored(node: &Node) {
    let kind = || Kind::filesystem("xfs");
    let source = Volume::new(node, "source", "virtio", kind());
    source.stage();
    node.sh(&format!("echo {TEXT} >{0}/file; sync {0}/file", source.staging));
    source.unstage();
    let copy = Volume::of(node, "copy", "virtio", kind(), Some(&source.disk.file));
    copy.refused(copy.request("x"), "ENCRYPTION_KEY_REFUSED");
    source.stage();
    let mut reading = copy.request(KEY);
    let mode = reading.volume_capability.as_mut().unwrap().access_mode.as_mut().unwrap();
    mode.set_mode(Mode::SingleNodeReaderOnly);
    node.told(node.client.stage(reading));
    assert_eq!(node.sh(&format!("cat {}/file", copy.staging)).trim(), TEXT);
    assert_eq!(node.sh(&format!("cat /sys/block/{}/ro", copy.mapping())).trim(), "1");
    node.sh(&format!("umount {}", copy.staging));
    // What was opened for reading alone is opened anew.
    copy.stage();
    node.sh(&format!("echo more >>{0}/file; sync {0}/file", copy.staging));
    assert_eq!(node.sh(&format!("wc -l <{}/file; wc -l <{}/file", source.staging, copy.staging)), "1\n2\n");
    for volume in [&source, &copy] {
        volume.unstage();
        node.instance.unplug(&volume.disk).unwrap();
    }
}
