//! Pods with volumes on a real kubelet: they write, while the agent is upgraded and killed, kubelet too, and a volume
//! grows; and when they go nothing is left.
//!
//! There is no controller: persistent volumes and disks are there from the beginning, CSIDriver says that nothing has to be
//! attached, and what external-resizer writes down when it has grown a volume, this test does. The volume that grows has
//! xfs: for ext4 the kernel wants CAP_SYS_RESOURCE, which containers that beds run in don't have.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Duration;

use anyhow::ensure;
use bootstrap::digest::Digest;
use cks_tests::csi::proto::ProbeRequest;
use cks_tests::csi::{Client, DRIVER, Disk, KUBELET, Kind};
use cks_tests::kubernetes::{Cluster, Machine, SETTINGS, Slots, TOOLS, bootstrap, wait};
use serde_json::Value;

use crate::{LIMIT, alone, machines};

const MIB: u64 = 1 << 20;
/// How long a step may take on a busy machine.
const SOON: Duration = Duration::from_secs(90);
/// Where pods tell what they have written: on no volume.
const SAID: &str = "/var/log/bed/said";
const ZONE: &str = "0f6c3a3e-4f0e-4c6b-9d2a-6a3b1c2d3e4f";
const ZONE_KEY: &str = "topology.csi.cloudstack.apache.org/zone";
const NODE_ID: &str = "5b1ff5a4-0b66-4f27-95a1-2d0c2cbd6f4e";
const PODS: [&str; 2] = ["files", "device"];
const BLOCK: usize = 4096;

const UNIT: &str = include_str!("../../../systemd/cks-agent.service");
const DRIVER_OBJECT: &str = include_str!("../../../deploy/csi/csidriver.yaml");
const OBJECTS: &str = include_str!("volumes.yaml");

/// kubelet looks at volumes in seconds instead of minutes.
const OFTEN: &str = "syncFrequency: 3s\nvolumeStatsAggPeriod: 2s\n";

/// A node that is its whole cluster.
struct Node {
    cluster: Cluster,
}

impl Node {
    fn new() -> Self {
        let cluster = machines(0);
        let machine = &cluster.control;
        let user_data = "#cloud-config\ncks:\n  role: first-control-plane\n  token: 0123ab.456789abcdef0123\n";
        cluster.bed.ask(machine, user_data).unwrap();
        let csi = format!("[csi]\nenabled = true\nzone = \"{ZONE}\"\nnode-id = \"{NODE_ID}\"\nmax-volumes = 7\n");
        machine.write("/etc/cks-agent/config.toml", &format!("{SETTINGS}{csi}")).unwrap();
        let patch = "/etc/cks-agent/patches/kubeletconfiguration+merge.yaml";
        machine.write(patch, &(machine.read(patch).unwrap() + OFTEN)).unwrap();
        let said = bootstrap(machine, LIMIT).unwrap();
        assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
        Self { cluster }
    }

    fn machine(&self) -> &Machine {
        &self.cluster.control
    }

    fn kubectl<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        self.cluster.kubectl(words).unwrap().ok().unwrap()
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(["get", kind, name, "-o", "json"])).unwrap()
    }

    fn apply(&self, objects: &str) {
        self.machine().write("/root/objects.yaml", objects).unwrap();
        self.kubectl(["apply", "-f", "/root/objects.yaml"]);
    }

    fn patch(&self, what: &[&str], patch: &Value) {
        let patch = patch.to_string();
        self.kubectl(["patch", "--type=merge"].into_iter().chain(what.iter().copied()).chain(["-p", &patch]));
    }

    /// Waits until the agent answers on its socket.
    fn serves(&self) {
        let socket = self.machine().path(&format!("{KUBELET}/plugins/{DRIVER}/csi.sock")).unwrap();
        self.machine()
            .wait("the agent to serve volumes", SOON, || {
                let client = Client::new(&socket)?.within(Duration::from_secs(5));
                Ok(client.probe(ProbeRequest {})?.ready != Some(false))
            })
            .unwrap();
    }

    /// The inode of the program that serves.
    fn program(&self) -> String {
        self.machine().sh("stat -L -c %i /proc/$(systemctl show -P MainPID cks-agent)/exe").unwrap()
    }

    /// How many writes the pod has told of, and what it said then.
    fn said(&self, pod: &str) -> (usize, String) {
        let said = self.machine().read(&format!("{SAID}/{pod}")).unwrap_or_default();
        let (whole, _) = said.rsplit_once('\n').unwrap_or_default();
        let lines: Vec<&str> = whole.lines().collect();
        let count =
            lines.iter().zip(1..).take_while(|(line, number)| line.parse::<usize>().ok() == Some(*number)).count();
        (count, lines[count..].join("\n"))
    }

    /// That all pods write after what was done, and had to tell of nothing else.
    fn goes_on(&self, after: &str) {
        let before = PODS.map(|pod| self.said(pod).0);
        for (pod, before) in PODS.iter().zip(before) {
            let goes_on = || {
                let (count, rest) = self.said(pod);
                assert_eq!(rest, "", "{pod}, after {after}");
                Ok(count >= before + 10)
            };
            wait(&format!("{pod} to write after {after}"), SOON, goes_on).unwrap();
        }
        eprintln!("after {after}: {before:?} writes, and they go on");
    }
}

#[test]
fn pods_write_while_agent_and_kubelet_come_and_go_and_the_volume_grows() {
    let _alone = alone();
    let node = Node::new();
    let machine = node.machine();
    let slots = Slots::of(machine).unwrap();
    let mut files = slots.disk(Kind::filesystem("xfs"), 320 * MIB).unwrap();
    let more = slots.disk(Kind::filesystem("ext4"), 64 * MIB).unwrap();
    let device = slots.disk(Kind::Block, 16 * MIB).unwrap();

    machine.write("/etc/systemd/system/cks-agent.service", UNIT).unwrap();
    machine.sh("systemctl daemon-reload; systemctl enable --now cks-agent").unwrap();
    registered(&node);
    run_pods(&node, &slots.name, [&files, &more, &device]);
    of_the_group(&node, [&files, &more]);

    upgraded(&node);
    machine.kill("cks-agent").unwrap();
    node.goes_on("the agent was killed");
    node.serves();
    machine.sh("systemctl restart kubelet").unwrap();
    node.goes_on("kubelet was restarted");
    machine.kill("kubelet").unwrap();
    node.goes_on("kubelet was killed");
    machine.sh("systemctl start kubelet").unwrap();
    node.cluster.all_ready().unwrap();
    grown(&node, &slots.name, &mut files);
    node.goes_on("the volume has grown");
    told_how_full(&node);

    nothing_was_refused(machine);
    let [lines, blocks] = end_pods(&node);
    nothing_left(&node, &slots.name, [&files, &more, &device]);
    lines_are_there(machine, &files, "xfs_repair -n", lines);
    lines_are_there(machine, &more, "e2fsck -f -n", lines);
    blocks_are_there(&device, blocks);
}

/// kubelet knows the driver, and the node says so.
fn registered(node: &Node) {
    let name = &node.machine().name;
    let known = || {
        let object = node.object("csinode", name);
        let drivers = object["spec"]["drivers"].as_array().cloned().unwrap_or_default();
        let [driver] = &drivers[..] else { return Ok(false) };
        assert_eq!(driver["name"], DRIVER);
        assert_eq!(driver["nodeID"], NODE_ID);
        assert_eq!(driver["topologyKeys"], serde_json::json!([ZONE_KEY]));
        assert_eq!(driver["allocatable"]["count"], 7);
        Ok(true)
    };
    wait("the driver to be known", SOON, known).unwrap();
    assert_eq!(node.object("node", name)["metadata"]["labels"][ZONE_KEY], ZONE);
}

fn run_pods(node: &Node, name: &str, [files, more, device]: [&Disk; 3]) {
    let driver = DRIVER_OBJECT.replace("attachRequired: true", "attachRequired: false");
    assert_ne!(driver, DRIVER_OBJECT);
    node.machine().sh(&format!("mkdir -p {SAID}; chmod 777 {SAID}")).unwrap();
    let ids =
        [("FILES", files), ("MORE", more), ("DEVICE", device)].map(|(word, disk)| (word, disk.volume_id.as_str()));
    let filled = [("NAME", name), ("ZONE", ZONE), ("TOOLS", TOOLS)].into_iter().chain(ids);
    let objects = filled.fold(OBJECTS.to_owned(), |objects, (word, value)| objects.replace(word, value));
    node.apply(&format!("{driver}\n---\n{objects}"));
    let ready = node.cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=90s", "pod/files", "pod/device"]);
    if let Err(error) = ready.unwrap().ok() {
        panic!("{error}\n{}", node.kubectl(["describe", "pods", "-n", "default"]));
    }
    node.goes_on("they are ready");
}

/// kubelet gives the files to the pod's group, as `fsGroupPolicy: File` says.
fn of_the_group(node: &Node, disks: [&Disk; 2]) {
    let volumes = node.machine().sh("cks-agent volumes --json").unwrap();
    let volumes: Value = serde_json::from_str(&volumes).unwrap();
    let volumes = volumes["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 3, "{volumes:?}");
    for disk in disks {
        let found = volumes.iter().find(|volume| volume["volume"] == disk.volume_id.as_str()).unwrap();
        let target = found["published"][0].as_str().unwrap();
        for (path, mode) in [(target.to_owned(), 0o2070), (format!("{target}/lines"), 0)] {
            let meta = fs::metadata(node.machine().path(&path).unwrap()).unwrap();
            assert_eq!((meta.gid(), meta.mode() & mode), (2000, mode), "{path}");
        }
    }
}

/// Another program takes the place of the one that runs, as a package does it.
fn upgraded(node: &Node) {
    let before = node.program();
    let upgrade = "cp /usr/bin/cks-agent /usr/bin/.cks-agent.new
        mv /usr/bin/.cks-agent.new /usr/bin/cks-agent
        systemctl restart cks-agent";
    node.machine().sh(upgrade).unwrap();
    node.goes_on("the agent was upgraded");
    node.serves();
    assert_ne!(node.program(), before);
}

/// The disk grows; external-resizer would write down that the node is to do its part, and kubelet has it done.
fn grown(node: &Node, name: &str, files: &mut Disk) {
    let (size, text) = (512 * MIB, "512Mi");
    files.resize(size).unwrap();
    let storage = serde_json::json!({ "storage": text });
    node.patch(&["pvc", "files"], &serde_json::json!({ "spec": { "resources": { "requests": storage } } }));
    node.patch(&["pv", &format!("{name}-files")], &serde_json::json!({ "spec": { "capacity": storage } }));
    let condition = serde_json::json!({
        "type": "FileSystemResizePending", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = serde_json::json!({ "status": {
        "allocatedResources": storage,
        "allocatedResourceStatuses": { "storage": "NodeResizePending" },
        "conditions": [condition],
    } });
    node.patch(&["pvc", "files", "--subresource=status"], &status);
    let known = || Ok(node.object("pvc", "files")["status"]["capacity"]["storage"] == text);
    if let Err(error) = wait("kubelet to have the filesystem grown", SOON, known) {
        panic!("{error:#}\n{}", node.kubectl(["describe", "pvc,pods", "-n", "default"]));
    }
    let seen = node.kubectl(["exec", "files", "--", "df", "-P", "-k", "/files"]);
    let blocks = seen.lines().nth(1).and_then(|line| line.split_whitespace().nth(1)).unwrap();
    assert!(blocks.parse::<u64>().unwrap() << 10 > 400 * MIB, "{seen}");
}

/// kubelet tells how full the volumes are.
fn told_how_full(node: &Node) {
    let summary = format!("/api/v1/nodes/{}/proxy/stats/summary", node.machine().name);
    let told = || {
        let summary: Value = serde_json::from_str(&node.kubectl(["get", "--raw", &summary]))?;
        let pods = summary["pods"].as_array().cloned().unwrap_or_default();
        let volumes: Vec<Value> = pods.iter().flat_map(|pod| pod["volume"].as_array().cloned()).flatten().collect();
        let number = |claim: &str, key: &str| {
            let volume = volumes.iter().find(|volume| volume["pvcRef"]["name"] == claim);
            volume.and_then(|volume| volume[key].as_u64()).unwrap_or_default()
        };
        let full =
            ["files", "more"].iter().all(|claim| number(claim, "usedBytes") > 0 && number(claim, "inodesUsed") > 0);
        let sizes = number("files", "capacityBytes") > 400 * MIB && number("device", "capacityBytes") == 16 * MIB;
        ensure!(full && sizes, "{volumes:?}");
        Ok(true)
    };
    wait("kubelet to tell how full the volumes are", SOON, told).unwrap();
}

/// kubelet asks again for what is there already after each of its restarts; all of that is a success.
fn nothing_was_refused(machine: &Machine) {
    let counted =
        "curl -s --max-time 5 --unix-socket /run/cks-agent/status.sock http://node/metrics | grep csi_calls_total";
    let counted = machine.sh(counted).unwrap();
    let refused: Vec<_> = counted.lines().filter(|line| !line.contains("ended=\"OK\"")).collect();
    assert!(refused.is_empty() && counted.contains("NodePublishVolume"), "{counted}");
}

/// Ends the pods and gives how much each has written.
fn end_pods(node: &Node) -> [usize; 2] {
    node.kubectl(["delete", "pod", "files", "device", "--timeout=60s"]);
    PODS.map(|pod| {
        let (count, rest) = node.said(pod);
        assert_eq!(rest, "over", "{pod}");
        count
    })
}

/// No mount, no directory, no device that kubelet holds.
fn nothing_left(node: &Node, name: &str, disks: [&Disk; 3]) {
    let machine = node.machine();
    let left = || {
        let volumes = machine.sh("cks-agent volumes")?;
        let mounted = machine.sh("cut -d' ' -f3,5 /proc/self/mountinfo")?;
        let numbers: BTreeSet<&str> = disks.iter().map(|disk| disk.number()).collect();
        let mounted = mounted.lines().filter(|line| {
            line.split_once(' ').is_some_and(|(number, path)| numbers.contains(number) || path.contains(name))
        });
        let directories = machine.sh(&format!(
            "find {KUBELET}/pods {KUBELET}/plugins/kubernetes.io -path '*{name}*'
             find {KUBELET}/plugins/kubernetes.io/csi/{DRIVER} -mindepth 1
             losetup --list --noheadings --output NAME,BACK-FILE | grep {name} || true"
        ))?;
        let mounted: Vec<_> = mounted.collect();
        ensure!(volumes == "no volume is mounted\n", "{volumes}");
        ensure!(mounted.is_empty() && directories.is_empty(), "{mounted:?} {directories}");
        Ok(true)
    };
    wait("nothing to be left", SOON, left).unwrap();
}

/// Every line that the pod has told is there, whole, and nothing else; and the filesystem is well.
fn lines_are_there(machine: &Machine, disk: &Disk, check: &str, count: usize) {
    let device = disk.device();
    machine.sh(&format!("{check} {device}; mount -o ro {device} /mnt")).unwrap();
    let read = |file: &str| machine.read(&format!("/mnt/{file}")).unwrap();
    let lines = read("lines");
    assert_eq!(lines.lines().count(), count);
    for (line, number) in lines.lines().zip(1..) {
        let (text, digest) = line.rsplit_once(' ').unwrap();
        assert_eq!(Digest::of(text.as_bytes()).hex(), digest, "{line}");
        assert_eq!(text.split(' ').next(), Some(number.to_string().as_str()));
    }
    if machine.path("/mnt/open").unwrap().exists() {
        assert!(read("open").lines().map(|line| line.parse::<usize>().unwrap()).eq(1..=count));
    }
    machine.sh("umount /mnt").unwrap();
    eprintln!("{count} lines are on {device}");
}

fn blocks_are_there(device: &Disk, count: usize) {
    let disk = fs::File::open(&device.file).unwrap();
    for number in (1..=count).rev().take(BLOCK) {
        let mut block = [0; BLOCK];
        disk.read_exact_at(&mut block, ((number % 4096) * BLOCK) as u64).unwrap();
        assert_eq!(block, format!("{number:<4095}\n").as_bytes(), "block of {number}");
    }
    eprintln!("{count} blocks are on the disk");
}
