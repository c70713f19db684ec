//! Disks that a hypervisor plugs in while the machine runs: real serials, real udev, a kernel that grows ext4 online. The
//! daemon runs as its unit starts it; what it mounts is seen by everybody.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::digest::Digest;
use cks_tests::csi::proto::{
    NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest,
    NodeUnstageVolumeRequest,
};
use cks_tests::csi::{Client, Kind, capability, serial_of};
use cks_tests::kubernetes::Bed;
use cks_tests::leash::Daemon;
use cks_tests::process::Command;
use cks_tests::vm::{Disk, Instance, Router, Template};

pub(crate) const MIB: u64 = 1 << 20;

/// Longer than anything here takes, and shorter than kubelet's two minutes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(110);

const SOCKET: &str = "/var/lib/kubelet/plugins/csi.cloudstack.apache.org/csi.sock";

/// A machine with the daemon, and the way to its socket.
pub(crate) struct Node {
    pub(crate) instance: Instance,
    pub(crate) client: Client,
    _relay: Daemon,
    _router: Router,
    pub(crate) bed: Bed,
    scratch: tempfile::TempDir,
    /// The instance's files lie with it.
    _template: Template,
}

impl Node {
    pub(crate) fn boot() -> Self {
        let template = Template::make(|root| {
            fs::write(root.join("etc/cks-agent/config.toml"), "[csi]\nenabled = true\nregister = false\n")?;
            Ok(())
        })
        .unwrap();
        let scratch = cks_tests::scratch("volumes").unwrap();
        let nothing = scratch.path().join("nothing");
        fs::create_dir(&nothing).unwrap();
        fs::write(nothing.join("file"), "no ISO").unwrap();
        let mut bed = Bed::new(&nothing, None).unwrap();
        let router = Router::start(&bed).unwrap();
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        let mut instance = Instance::new(&mut bed, &router, &template, "volumes-1", id.trim()).unwrap();
        instance.told(&bed, "", "#cloud-config\n").unwrap();
        instance.boot(&bed.vr.netns).unwrap();
        // Its socket is reached over the network, byte for byte.
        let serve = format!("systemd-run -q socat TCP-LISTEN:7777,fork,reuseaddr UNIX-CONNECT:{SOCKET}");
        instance.guest.wait("the daemon serves", DEADLINE, &format!("test -S {SOCKET}")).unwrap();
        instance.guest.sh(&serve).unwrap();
        let socket = scratch.path().join("csi.sock");
        let relay = Command::new("socat").arg(format!("UNIX-LISTEN:{},fork", socket.display()));
        let relay = relay.arg(format!("TCP:{}:7777", instance.address));
        let mut relay = bed.vr.netns.enter(relay).daemon(&scratch.path().join("relay.log")).unwrap();
        relay.ready(Duration::from_secs(10), || socket.exists()).unwrap();
        let client = Client::new(&socket).unwrap().within(DEADLINE);
        Self { instance, client, _relay: relay, _router: router, bed, scratch, _template: template }
    }

    /// A disk of a volume, which is not plugged in.
    pub(crate) fn disk(&self, name: &str, bus: &'static str, serial: Option<String>, bytes: u64) -> Disk {
        let file = self.scratch.path().join(name);
        File::create(&file).unwrap().set_len(bytes).unwrap();
        Disk { bus, serial, file, name: name.to_owned() }
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        self.instance.guest.sh(script).unwrap_or_else(|error| panic!("{error:#}\n{}", self.journal()))
    }

    pub(crate) fn journal(&self) -> String {
        let told =
            self.instance.guest.sh("journalctl -b -u cks-agent --no-pager -o short-monotonic | tail -n 40; lsblk");
        told.unwrap_or_else(|error| format!("{error:#}"))
    }

    pub(crate) fn told<T>(&self, answer: Result<T, tonic::Status>) -> T {
        answer.unwrap_or_else(|status| panic!("{status}\n{}", self.journal()))
    }
}

pub(crate) fn uuid() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

fn digest(path: &Path) -> String {
    Command::new("sha256sum").arg(path).ok().unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn volumes_are_plugged_in_and_out() {
    let node = Node::boot();
    // There before any volume: a disk of another volume, one without a serial, one whose serial begins as ours do.
    let decoys = [
        node.disk("decoy-1", "virtio", Some(serial_of(&uuid())), 64 * MIB),
        node.disk("decoy-2", "scsi", None, 64 * MIB),
        node.disk("decoy-3", "scsi", Some(serial_of(&uuid())), 64 * MIB),
    ];
    Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=1", "conv=notrunc"])
        .arg(format!("of={}", decoys[0].file.display()))
        .ok()
        .unwrap();
    let before: Vec<String> = decoys.iter().map(|decoy| digest(&decoy.file)).collect();
    for decoy in &decoys {
        node.instance.plug(decoy).unwrap();
    }
    node.instance
        .guest
        .wait("the decoys are there", DEADLINE, "test \"$(lsblk -dn -b -o SIZE | grep -c '^ *67108864$')\" = 3")
        .unwrap();
    for bus in ["virtio", "scsi"] {
        life(&node, bus);
    }
    for decoy in &decoys {
        node.instance.unplug(decoy).unwrap();
    }
    let after: Vec<String> = decoys.iter().map(|decoy| digest(&decoy.file)).collect();
    assert_eq!(after, before, "bytes of decoys");
    node.bed.nothing_outside().unwrap();
}

/// Asked for before it is plugged in; written, grown while it is in use, unplugged; and there again with what was written.
fn life(node: &Node, bus: &'static str) {
    let volume = uuid();
    let disk = node.disk(&format!("volume-{bus}"), bus, Some(serial_of(&volume)), 256 * MIB);
    let staging = format!(
        "/var/lib/kubelet/plugins/kubernetes.io/csi/csi.cloudstack.apache.org/{}/globalmount",
        Digest::of(volume.as_bytes()).hex()
    );
    let pod = format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~csi/pvc-{volume}", uuid());
    node.sh(&format!("mkdir -p {staging} {pod}"));
    let target = format!("{pod}/mount");
    let kind = capability(&Kind::filesystem("ext4"));
    let stage = NodeStageVolumeRequest {
        volume_id: volume.clone(),
        staging_target_path: staging.clone(),
        volume_capability: Some(kind.clone()),
        ..NodeStageVolumeRequest::default()
    };
    node.sh("rm -f /run/udev.log; systemd-run -q --unit=watch sh -c 'exec udevadm monitor --udev --subsystem-match=block >/run/udev.log'");
    let staged = thread::scope(|scope| {
        let waiting = scope.spawn(|| node.client.stage(stage.clone()));
        thread::sleep(Duration::from_secs(3));
        let plugged = Instant::now();
        node.instance.plug(&disk).unwrap();
        node.told(waiting.join().unwrap());
        plugged.elapsed()
    });
    println!("{bus}: staged {:.1} s after it was plugged in, with mkfs", staged.as_secs_f64());
    println!("{bus}: {}", beyond_the_event(node, &volume));
    let publish = NodePublishVolumeRequest {
        volume_id: volume.clone(),
        staging_target_path: staging.clone(),
        target_path: target.clone(),
        volume_capability: Some(kind),
        ..NodePublishVolumeRequest::default()
    };
    node.told(node.client.publish(publish.clone()));
    let size = format!("df -B1 --output=size {target} | tail -n 1");
    node.sh(&format!("echo kept >{target}/file; sync {target}/file; findmnt -n {staging}"));
    let small: u64 = node.sh(&size).trim().parse().unwrap();
    let begun = Instant::now();
    node.instance.resize(&disk, 512 * MIB).unwrap();
    let expand = NodeExpandVolumeRequest {
        volume_id: volume.clone(),
        volume_path: target.clone(),
        staging_target_path: staging.clone(),
        ..NodeExpandVolumeRequest::default()
    };
    let grown = node.told(node.client.expand(expand));
    println!("{bus}: grown online in {:.1} s", begun.elapsed().as_secs_f64());
    let large: u64 = node.sh(&size).trim().parse().unwrap();
    assert!(large > small + 200 * MIB, "{small} {large} {grown:?}");
    gone(node, &volume, &target, &staging);
    node.instance.unplug(&disk).unwrap();
    // The next node of the volume, or the same one later.
    node.instance.plug(&disk).unwrap();
    node.told(node.client.stage(stage));
    node.told(node.client.publish(publish));
    assert_eq!(node.sh(&format!("cat {target}/file")), "kept\n");
    gone(node, &volume, &target, &staging);
    node.instance.unplug(&disk).unwrap();
}

fn gone(node: &Node, volume: &str, target: &str, staging: &str) {
    let unpublish = NodeUnpublishVolumeRequest { volume_id: volume.to_owned(), target_path: target.to_owned() };
    node.told(node.client.unpublish(unpublish));
    let unstage = NodeUnstageVolumeRequest { volume_id: volume.to_owned(), staging_target_path: staging.to_owned() };
    node.told(node.client.unstage(unstage));
    assert_eq!(node.sh(&format!("grep -c -e '{volume}' -e '{staging}' /proc/self/mountinfo || true")), "0\n");
}

/// How long after udev's event the daemon had the disk in its hands, by the machine's own clock. It listens to the kernel, so
/// it may be before.
fn beyond_the_event(node: &Node, volume: &str) -> String {
    let events = node.sh("systemctl stop watch; grep ' add ' /run/udev.log");
    let event = seconds(events.lines().last().unwrap_or_default());
    let there = format!("the disk {} is there", serial_of(volume));
    let words = node.sh("journalctl -b -u cks-agent --no-pager -o short-monotonic");
    let found = words.lines().find(|line| line.contains(&there)).map(seconds);
    let beyond = found.map(|found| format!("found {:.0} ms after udev's event", (found - event) * 1000.0));
    beyond.unwrap_or_else(|| format!("the daemon waited for no disk: {words}"))
}

/// The time in the brackets of a line: `UDEV  [12.345678] add …`, `[   12.345678] host cks-agent…`.
fn seconds(line: &str) -> f64 {
    let bracketed = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    bracketed.and_then(|(time, _)| time.trim().parse().ok()).unwrap_or_else(|| panic!("no time in {line:?}"))
}
