//! Mounts as `/proc/self/mountinfo` tells them (proc(5)): what has to be unmounted, and in which order.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serialize;

use super::paths::KUBELET;
use crate::mountinfo::{self, MountTable};

/// Where something is mounted, byte by byte: a name need not be text, and a mount that is left out loses what is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct MountPoint(OsString);

impl MountPoint {
    /// As a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    fn is_below(&self, directory: &str) -> bool {
        is_below(self.0.as_bytes(), directory.as_bytes())
    }
}

impl From<&str> for MountPoint {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

impl PartialEq<str> for MountPoint {
    fn eq(&self, path: &str) -> bool {
        self.0 == OsStr::new(path)
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string_lossy())
    }
}

impl fmt::Debug for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// For people: what is no text is told by replacement characters.
impl Serialize for MountPoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub path: MountPoint,
    /// `major:minor` of its filesystem.
    pub device: String,
    /// The filesystem's type.
    pub kind: String,
    /// What is mounted: a device, or a name.
    pub source: String,
}

/// Directories below which only a cluster mounts: kubelet's volumes, and the control groups that Cilium and Calico
/// mount for themselves.
const BELOW: [&str; 3] = [KUBELET, "/run/cilium", "/run/calico"];

/// What the CRI plugin keeps mounted for pods; left over where no pod is.
const RUNTIME: [&str; 2] =
    ["/run/containerd/io.containerd.grpc.v1.cri/sandboxes", "/run/containerd/io.containerd.runtime.v2.task/k8s.io"];

/// The mounts of a mount namespace, in the order in which they were made.
///
/// # Errors
/// In words, where a line can't be read or there is none: whoever removes files has to know all mounts.
pub fn parse(text: &[u8]) -> Result<Vec<Mount>, String> {
    let table = MountTable::parse(text)?;
    let mount = |mount: &mountinfo::Mount| Mount {
        path: MountPoint(mount.path.clone().into_os_string()),
        device: mount.device.to_string(),
        kind: mount.kind.clone(),
        source: mount.source.clone(),
    };
    Ok(table.iter().map(mount).collect())
}

/// Whether `path` is really below `directory`, not only begins like it.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/") && rest.len() > 1)
}

/// Mount points strictly below `directory`, each as often as something is mounted there, in the order in which they
/// can be unmounted: what lies on another comes before it.
#[must_use]
pub fn below(mounts: &[Mount], directory: &str) -> Vec<MountPoint> {
    order(mounts, |mount| mount.path.is_below(directory))
}

/// What a cluster left mounted, in the order in which it can be unmounted. `kubelet` is where kubelet's directory
/// really is, when a link leads there. What the CRI plugin mounts only counts when `no_pods` are there any more.
#[must_use]
pub fn of_cluster(mounts: &[Mount], kubelet: Option<&str>, no_pods: bool) -> Vec<MountPoint> {
    let runtime = RUNTIME.iter().copied().filter(|_| no_pods);
    let directories: Vec<&str> = BELOW.into_iter().chain(kubelet).chain(runtime).collect();
    order(mounts, |mount| directories.iter().any(|directory| mount.path.is_below(directory)))
}

fn order(mounts: &[Mount], wanted: impl Fn(&Mount) -> bool) -> Vec<MountPoint> {
    // The last one made lies on top: at the same place, and wherever another begins below.
    mounts.iter().rev().filter(|mount| wanted(mount)).map(|mount| mount.path.clone()).fold(Vec::new(), put_deeper_first)
}

/// A mount can be made below another that was made later (`mount --move`), so depth counts before age.
fn put_deeper_first(mut sorted: Vec<MountPoint>, path: MountPoint) -> Vec<MountPoint> {
    let depth = |path: &MountPoint| path.0.as_bytes().iter().filter(|byte| **byte == b'/').count();
    let place = sorted.iter().position(|known| depth(known) < depth(&path)).unwrap_or(sorted.len());
    sorted.insert(place, path);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::unescaped;

    /// Of a node with a CSI volume (findmnt -o of a real one, shortened), and what stands beside it.
    const MOUNTINFO: &str = "\
21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 21 254:16 / /var/lib/kubelet rw,relatime shared:5 - ext4 /dev/vdb rw
31 30 0:40 / /var/lib/kubelet/pods/1a/volumes/kubernetes.io~projected/kube-api-access-x rw,relatime shared:6 - tmpfs tmpfs rw,size=10k
32 30 254:32 / /var/lib/kubelet/plugins/kubernetes.io/csi/csi.cloudstack.apache.org/9f/globalmount rw - ext4 /dev/vdc rw
33 30 254:32 / /var/lib/kubelet/pods/1a/volumes/kubernetes.io~csi/pvc-1/mount rw - ext4 /dev/vdc rw
34 33 254:32 /sub /var/lib/kubelet/pods/1a/volume-subpaths/pvc-1/c\\040d/0 rw - ext4 /dev/vdc rw
35 33 0:41 / /var/lib/kubelet/pods/1a/volumes/kubernetes.io~csi/pvc-1/mount rw - tmpfs over rw
36 21 0:42 / /var/lib/kubelet-backup/x rw - tmpfs tmpfs rw
37 21 0:4 net:[4026532300] /run/netns/cni-7a1e2f03-1111-2222-3333-444455556666 rw - nsfs nsfs rw
38 21 0:43 / /run/cilium/cgroupv2 rw - cgroup2 none rw
39 21 0:44 / /run/containerd/io.containerd.grpc.v1.cri/sandboxes/ab/shm rw - tmpfs shm rw
40 21 0:45 / /run/containerd/io.containerd.runtime.v2.task/moby/ab/rootfs rw - overlay overlay rw
";

    #[test]
    fn what_lies_on_another_goes_first_and_neighbours_stay() {
        let mounts = parse(MOUNTINFO.as_bytes()).unwrap();
        assert_eq!(mounts.len(), 12);
        let paths: Vec<String> = below(&mounts, "/var/lib/kubelet").iter().map(ToString::to_string).collect();
        let csi = "/var/lib/kubelet/pods/1a/volumes/kubernetes.io~csi/pvc-1/mount";
        assert_eq!(
            paths,
            [
                csi,
                "/var/lib/kubelet/pods/1a/volume-subpaths/pvc-1/c d/0",
                csi,
                "/var/lib/kubelet/plugins/kubernetes.io/csi/csi.cloudstack.apache.org/9f/globalmount",
                "/var/lib/kubelet/pods/1a/volumes/kubernetes.io~projected/kube-api-access-x",
            ]
        );
        let of_cluster = super::of_cluster(&mounts, None, false);
        assert!(of_cluster.contains(&"/run/cilium/cgroupv2".into()) && of_cluster.len() == 6, "{of_cluster:?}");
        let all = super::of_cluster(&mounts, None, true);
        let has = |part: &str| all.iter().any(|path| path.to_string().contains(part));
        assert!(has("ab/shm") && !has("moby"));
    }

    #[test]
    fn below_is_below() {
        for (path, below) in [
            ("/var/lib/kubelet", false),
            ("/var/lib/kubelet/", false),
            ("/var/lib/kubelet/x", true),
            ("/var/lib/kubelet2/x", false),
            ("/x/var/lib/kubelet/x", false),
        ] {
            assert_eq!(MountPoint::from(path).is_below("/var/lib/kubelet"), below, "{path}");
        }
        assert!(MountPoint::from("/var").is_below("/"));
    }

    #[test]
    fn names_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescaped(br"/a\040b\134c\011"), b"/a b\\c\t");
        assert_eq!(unescaped(br"/a\0"), br"/a\0");
        assert_eq!(unescaped(br"/a\999"), br"/a\999");
    }

    #[test]
    fn a_name_that_is_no_text_is_kept_byte_by_byte() {
        let line = b"33 30 0:41 / /var/lib/kubelet/pods/1a/c\xff\\040d rw shared:6 master:1 - tmpfs  rw\n";
        let mounts = parse(line).unwrap();
        let path = Path::new(OsStr::from_bytes(b"/var/lib/kubelet/pods/1a/c\xff d"));
        assert_eq!(below(&mounts, "/var/lib/kubelet").iter().map(MountPoint::as_path).collect::<Vec<_>>(), [path]);
        assert_eq!((&mounts[0].kind[..], &mounts[0].source[..]), ("tmpfs", ""));
    }

    #[test]
    fn a_table_that_can_t_be_read_is_not_one_without_mounts() {
        for text in ["", "\n", "1 2 3", "21 1 254:1 / / rw - ext4 /dev/vda1 rw\ntorn line\n", "1 2 3 4 - 5"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
