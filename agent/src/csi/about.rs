//! What `NodeGetInfo` tells, from this machine alone: no cloud is asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bootstrap::datasource::instance_id;
use bootstrap::mountinfo::Device;
use bootstrap::volume::refusal::{Class, Refusal};

use crate::files::small;
use crate::host::Host;
use crate::volume::mounts;

/// What says which instance this is, best first: cloud-init's note of its data source, and the hypervisor; both are the
/// instance's UUID (cks-contract: `instance-id` is the VM's UUID; KVM's SMBIOS has the same).
const IDS: [&str; 2] = ["/var/lib/cloud/data/instance-id", "/sys/class/dmi/id/product_uuid"];
const ID_BYTES: u64 = 4096;
const VENDOR: &str = "/sys/class/dmi/id/sys_vendor";
/// Data disks that CloudStack attaches to one instance (`hypervisor_capabilities`): KVM, VMware, XenServer; and where
/// nothing is known.
const LIMITS: [(&str, i64); 3] = [("VMware", 13), ("Xen", 13), ("", 32)];

/// How this node is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The instance's id, where the operator settled it.
    pub node_id: Option<String>,
    /// The UUID of the zone.
    pub zone: Option<String>,
    /// Data disks that may be attached.
    pub max_volumes: Option<u32>,
    /// Where kubelet mounts volumes.
    pub kubelet: PathBuf,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The instance's UUID.
    pub node_id: String,
    /// The zone's UUID.
    pub zone: String,
    /// Volumes that may be attached, without the disks that are something else's.
    pub max_volumes: i64,
}

impl About {
    /// What holds now.
    ///
    /// # Errors
    /// `NODE_NOT_READY` names what is not known, and where to say it; `IO`.
    pub fn tell(&self, host: &Host) -> Result<Told, Refusal> {
        let unknown = |what: &str, key: &str| {
            let what = format!("{what} is not known: set csi.{key} in /etc/cks-agent/config.toml");
            Refusal::new(Class::NodeNotReady, what)
        };
        let found = || IDS.iter().find_map(|path| read(host, path).as_deref().and_then(instance_id));
        let node_id = self.node_id.clone().or_else(found).ok_or_else(|| unknown("this instance's id", "node-id"))?;
        let zone = self.zone.clone().ok_or_else(|| unknown("the UUID of this instance's zone", "zone"))?;
        let vendor = read(host, VENDOR).unwrap_or_default();
        let known = LIMITS.iter().find(|(name, _)| vendor.contains(name)).map_or(32, |(_, limit)| *limit);
        let limit = self.max_volumes.map_or(known, i64::from);
        let others = i64::try_from(self.others(host)?.len()).unwrap_or(i64::MAX);
        // 0 would mean that there is no limit.
        Ok(Told { node_id: node_id.to_ascii_lowercase(), zone, max_volumes: (limit - others).max(1) })
    }

    /// The disks that something else than a pod's volume is mounted from; the root disk counts nowhere.
    fn others(&self, host: &Host) -> Result<BTreeSet<String>, Refusal> {
        let table = mounts::table(host)?;
        let disk = |mount: &bootstrap::mountinfo::Mount| mounts::device_of(host, mount).and_then(|of| whole(host, of));
        let root = table.top_at(Path::new("/")).and_then(disk);
        let outside = table.iter().filter(|mount| !mount.path.starts_with(&self.kubelet));
        Ok(outside.filter_map(disk).filter(|disk| Some(disk) != root.as_ref()).collect())
    }
}

/// The name of the disk that a device is, or is a part of.
fn whole(host: &Host, device: Device) -> Option<String> {
    let at = host.path(&format!("/sys/dev/block/{device}")).canonicalize().ok()?;
    let disk = if at.join("partition").exists() { at.parent()? } else { &at };
    let name = disk.file_name()?.to_str()?.to_owned();
    // What no hypervisor attaches takes none of its places.
    let virtual_one = disk.parent()?.ends_with("devices/virtual/block") || name.starts_with("sr");
    (!virtual_one).then_some(name)
}

fn read(host: &Host, path: &str) -> Option<String> {
    let bytes = small(&host.path(path), ID_BYTES).ok().flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn machine(files: &[(&str, &str)]) -> (TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::new(root.path()).unwrap();
        (root, host)
    }

    const MOUNTS: (&str, &str) = (
        "proc/self/mountinfo",
        "20 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
         21 20 254:17 / /data rw,relatime shared:2 - ext4 /dev/vdb1 rw\n\
         22 20 254:32 / /var/lib/kubelet/plugins/x/globalmount rw,relatime shared:3 - ext4 /dev/vdc rw\n",
    );

    fn about() -> About {
        About { zone: Some("z".to_owned()), kubelet: "/var/lib/kubelet".into(), ..About::default() }
    }

    #[test]
    fn the_instance_is_who_cloud_init_or_the_hypervisor_says() {
        let (cloud, smbios) =
            (("var/lib/cloud/data/instance-id", "ID-1\n"), ("sys/class/dmi/id/product_uuid", "ID-2\n"));
        for (files, node_id) in [(&[MOUNTS, cloud, smbios][..], "id-1"), (&[MOUNTS, smbios], "id-2")] {
            let (_root, host) = machine(files);
            assert_eq!(about().tell(&host).unwrap().node_id, node_id);
        }
        let settled = About { node_id: Some("settled".to_owned()), ..about() };
        let (_root, host) = machine(&[MOUNTS, cloud]);
        assert_eq!(settled.tell(&host).unwrap().node_id, "settled");
    }

    #[test]
    fn what_is_not_known_is_named_with_its_key() {
        let (_root, host) = machine(&[MOUNTS]);
        let refusal = about().tell(&host).unwrap_err();
        assert!(refusal.class == Class::NodeNotReady && refusal.what.contains("csi.node-id"), "{refusal}");
        let refusal = About { node_id: Some("x".to_owned()), ..About::default() }.tell(&host).unwrap_err();
        assert!(refusal.class == Class::NodeNotReady && refusal.what.contains("csi.zone"), "{refusal}");
    }

    #[test]
    fn disks_of_something_else_take_places() {
        let (root, host) =
            machine(&[MOUNTS, ("sys/class/dmi/id/sys_vendor", "QEMU\n"), ("sys/class/dmi/id/product_uuid", "x")]);
        for (number, path) in [("254:1", "vda/vda1"), ("254:17", "vdb/vdb1"), ("254:32", "vdc")] {
            let at = root.path().join("sys/devices/pci/block").join(path);
            fs::create_dir_all(&at).unwrap();
            if path.contains('/') {
                fs::write(at.join("partition"), "1").unwrap();
            }
            fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
            std::os::unix::fs::symlink(&at, root.path().join("sys/dev/block").join(number)).unwrap();
        }
        assert_eq!(about().tell(&host).unwrap().max_volumes, 31);
        assert_eq!(About { max_volumes: Some(1), ..about() }.tell(&host).unwrap().max_volumes, 1);
    }
}
