//! What becomes of a template: workers of a cluster that a management server of 4.22 makes, each on another way.

use std::time::{Duration, Instant};

use cks_tests::process::Output;
use cks_tests::server::{Cloud as _, Cluster, GivenUp, ManagementServer, Order, Pace, Release, Role};
use cks_tests::vm::Instance;
use cks_tests::vm::instance::BOOT;

use crate::datacenter::Datacenter;

/// The bed's pace, for machines that are ten times slower.
const PACE: Pace = Pace { pauses: 15, limits: 3, shortest: Duration::from_secs(180) };

pub(crate) const SERVER: ManagementServer = ManagementServer { release: Release::ALL[3], pace: PACE };

/// What a machine has that is a worker: its files with their times, and its node's identity.
const INSTALLED: &str = "find /opt/cks /opt/bin /etc/kubernetes /etc/containerd /etc/systemd/system /home/cloud -xdev \
    ! -type d -printf '%p %s %T@ %l\n' | sort; sha256sum /var/lib/kubelet/pki/kubelet-client-current.pem";

/// The cloud of a test, and since when it is there.
pub(crate) struct Bed {
    pub(crate) cloud: Datacenter,
    begun: Instant,
}

impl Bed {
    fn begin() -> Self {
        let begun = Instant::now();
        Self { cloud: Datacenter::new().unwrap(), begun }
    }

    pub(crate) fn say(&self, text: &str) {
        eprintln!("{:7.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    /// A walk that went well.
    fn walked<T>(&mut self, what: &str, walk: impl FnOnce(&mut Datacenter) -> Result<T, GivenUp>) -> T {
        let walked = walk(&mut self.cloud);
        self.say(what);
        walked.unwrap_or_else(|error| panic!("{what}: {error}\n{}", self.cloud.how_they_are()))
    }

    /// What a machine says to a script that has to go well.
    fn of(&mut self, name: &str, script: &str) -> String {
        let said = self.cloud.instance(name).unwrap().guest.sh(script);
        said.unwrap_or_else(|error| panic!("{error:#}\n{}", self.cloud.how_they_are()))
    }

    /// Waits until a machine is a ready node, as the control plane sees it.
    pub(crate) fn ready(&mut self, cluster: &Cluster, name: &str) {
        let control = self.cloud.hardware.machine(cluster.control().unwrap()).unwrap();
        let look = || {
            let nodes = control.sh("/opt/bin/kubectl get nodes --no-headers")?;
            let ready = |line: &str| {
                let mut words = line.split_whitespace();
                words.next() == Some(name) && words.next() == Some("Ready")
            };
            Ok(nodes.lines().any(ready))
        };
        let waited = cks_tests::kubernetes::wait(&format!("{name} is ready"), BOOT * 2, look);
        waited.unwrap_or_else(|error| panic!("{error:#}\n{}", self.cloud.how_they_are()));
        self.say(&format!("{name} is ready"));
    }

    /// All that the agent promises of a worker, and what the server looks for.
    pub(crate) fn is_complete(&mut self, name: &str) {
        // The node is ready a moment before the agent has seen that.
        let ready = r#"grep -q '"phase": "ready"' /run/cks-agent/status.json"#;
        let waited = self.cloud.instance(name).unwrap().guest.wait("the agent is ready", BOOT, ready);
        waited.unwrap_or_else(|error| panic!("{error:#}\n{}", self.cloud.how_they_are()));
        assert_eq!(self.of(name, "cat /home/cloud/success").trim(), "true");
        assert_eq!(self.of(name, "systemctl is-active setup-kube-system || true").trim(), "inactive");
        self.of(name, "cks-agent verify; test ! -e /opt/bin/deploy-provider");
        assert_eq!(self.of(name, "findmnt -n -t iso9660 || true; ls /mnt"), "", "discs that {name} has mounted");
        assert_eq!(self.of(name, "systemctl --failed --plain --no-legend"), "", "failed units of {name}");
    }
}

#[test]
fn workers_of_a_template_live() {
    let mut bed = Bed::begin();
    let cluster = late_disc(&mut bed);
    reboot(&mut bed, &cluster);
    over_the_router(&mut bed, cluster);
}

#[test]
#[ignore = "minutes that CI has not: just bed-vm runs it"]
fn a_worker_that_has_left_comes_back_by_new_user_data_alone() {
    let mut bed = Bed::begin();
    let cluster = late_disc(&mut bed);
    over_the_router(&mut bed, cluster.clone());
    by_user_data_alone(&mut bed, &cluster);
}

#[test]
#[ignore = "a quarter of an hour more than CI has: just bed-vm runs it"]
fn a_worker_without_a_router_and_one_without_power() {
    let mut bed = Bed::begin();
    let cluster = late_disc(&mut bed);
    by_config_drive(&mut bed, &cluster);
    crate::power::cut_at_random_moments(&mut bed, &cluster);
}

/// The server makes a cluster. Its worker has been up for a while when the disc comes.
fn late_disc(bed: &mut Bed) -> Cluster {
    let order = Order::small("bed", bed.cloud.hardware.version());
    let (cluster, transcript) = bed.walked("a cluster of 4.22 is made", |cloud| SERVER.create(cloud, &order));
    assert!(transcript.ignored().is_empty(), "{transcript}");
    let worker = cluster.of(Role::Worker).next().unwrap().name.clone();
    in_its_place(bed, &worker);
    bed.is_complete(&worker);
    cluster
}

/// A reboot changes nothing.
fn reboot(bed: &mut Bed, cluster: &Cluster) {
    let worker = cluster.of(Role::Worker).next().unwrap().name.clone();
    let before = bed.of(&worker, INSTALLED);
    let rebooted = bed.cloud.boot_again(&worker);
    rebooted.unwrap_or_else(|error| panic!("{error:#}\n{}", bed.cloud.how_they_are()));
    bed.cloud.instance(&worker).unwrap().guest.wait("kubelet is active", BOOT, "systemctl is-active kubelet").unwrap();
    let settled = "! systemctl is-active --quiet cks-bootstrap && systemctl is-system-running";
    let waited = bed.cloud.instance(&worker).unwrap().guest.wait("the boot is over", BOOT, settled);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", bed.cloud.how_they_are()));
    assert_eq!(bed.of(&worker, INSTALLED), before, "after a reboot");
    bed.ready(cluster, &worker);
    bed.is_complete(&worker);
}

/// The unit runs when cloud-init has written its files, and before it runs what they say.
fn in_its_place(bed: &mut Bed, name: &str) {
    let script = "for ask in cloud-init:ActiveEnter cloud-config:ActiveEnter cks-bootstrap:InactiveExit \
        cks-bootstrap:ActiveEnter cloud-final:InactiveExit cloud-final:ActiveEnter; do
        systemctl show --value -p \"${ask#*:}TimestampMonotonic\" \"${ask%:*}\"; done";
    let said = bed.of(name, script);
    let moments: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    bed.say(&format!(
        "cloud-init, cloud-config, cks-bootstrap begins, has taken over, cloud-final begins, ends: {moments:?} us"
    ));
    assert!(moments.len() == 6 && moments[0] > 0 && moments.is_sorted(), "{moments:?}");
    assert!(bed.of(name, "cat /opt/bin/setup-kube-system").contains("cks-agent attend"));
}

/// A machine of the user's that never sees a disc: the router serves it.
fn over_the_router(bed: &mut Bed, mut cluster: Cluster) {
    let candidate = bed.cloud.candidate("extra-1").unwrap();
    bed.say("extra-1 is up");
    let nodes = std::slice::from_ref(&candidate);
    let add = |cloud: &mut Datacenter| SERVER.add_external_nodes(cloud, &mut cluster, nodes, true);
    let transcript = bed.walked("extra-1 is added", add);
    assert!(transcript.ignored().is_empty(), "{transcript}");
    bed.is_complete("extra-1");
    let taken = |cloud: &mut Datacenter| SERVER.remove_external_node(cloud, &mut cluster, "extra-1");
    bed.walked("extra-1 is removed", taken);
}

/// "Reboot with user data" of a machine that has left: cloud-init has run and its semaphores say so, and nobody removes them.
fn by_user_data_alone(bed: &mut Bed, cluster: &Cluster) {
    bed.cloud.serve(Some(&cluster.version)).unwrap();
    let told = format!("{}# again\n", bed.cloud.told);
    bed.cloud.tell("extra-1", &told).unwrap();
    let rebooted = bed.cloud.boot_again("extra-1");
    rebooted.unwrap_or_else(|error| panic!("{error:#}\n{}", bed.cloud.how_they_are()));
    bed.ready(cluster, "extra-1");
    bed.is_complete("extra-1");
    bed.cloud.serve(None).unwrap();
}

/// A network without a data server: one disc tells the machine about itself, another one comes later, and is ejected, as
/// user data for VMware asks.
fn by_config_drive(bed: &mut Bed, cluster: &Cluster) {
    let told = bed.cloud.told.replace("EJECT_ISO_FROM_OS=false", "EJECT_ISO_FROM_OS=true");
    assert_ne!(told, bed.cloud.told);
    let key = bed.cloud.public_key().trim().to_owned();
    let disc = bed.cloud.hardware.release(&cluster.version).unwrap().iso.clone();
    bed.cloud.new_instance("drive-1").unwrap().with_config_drive(&key, &told).unwrap();
    bed.cloud.boot("drive-1").unwrap();
    bed.say("drive-1 is up");
    bed.cloud.instance("drive-1").unwrap().insert(&disc).unwrap();
    bed.ready(cluster, "drive-1");
    bed.is_complete("drive-1");
    let instance = bed.cloud.instance("drive-1").unwrap();
    assert!(!instance.has_disc().unwrap(), "the disc was to be ejected");
    instance.insert(&disc).unwrap();
    let same = same_bytes(instance);
    assert!(same.code == 0, "{}{}", same.stdout, same.stderr);
    bed.say("the kernel and the agent read the same bytes");
    bed.cloud.remove("drive-1");
}

/// Reads a disc in user space and by the kernel: `cks-iso` holds every byte of both against the manifest.
fn same_bytes(instance: &Instance) -> Output {
    let script = "for try in $(seq 20); do blkid -t LABEL=CDROM /dev/sr0 && break; sleep 1; done
        cks-iso verify --progress none /dev/sr0
        mkdir -p /mnt/disc; mount -o ro /dev/sr0 /mnt/disc; cks-iso verify --progress none /mnt/disc; umount /mnt/disc";
    instance.guest.run(script, &[], Duration::from_secs(300)).unwrap()
}
