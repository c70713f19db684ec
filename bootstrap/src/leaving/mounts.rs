//! Mounts as `/proc/self/mountinfo` tells them (proc(5)): what has to be unmounted, and in which order.

use super::paths::KUBELET;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub path: String,
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

/// The mounts of a mount namespace, in the order in which they were made. Lines that can't be read are passed over.
#[must_use]
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ');
        let (device, path) = (before.nth(2)?, before.nth(1)?);
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?, after.next().unwrap_or_default());
        let owned = |text: &str| text.to_owned();
        Some(Mount { path: unescaped(path), device: owned(device), kind: owned(kind), source: unescaped(source) })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// The kernel writes space, tab, newline and backslash as octal numbers.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether `path` is really below `directory`, not only begins like it.
#[must_use]
pub fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
}

/// Mount points strictly below `directory`, each as often as something is mounted there, in the order in which they
/// can be unmounted: what lies on another comes before it.
#[must_use]
pub fn below(mounts: &[Mount], directory: &str) -> Vec<String> {
    order(mounts, |mount| is_below(&mount.path, directory))
}

/// What a cluster left mounted, in the order in which it can be unmounted. `kubelet` is where kubelet's directory
/// really is, when a link leads there. What the CRI plugin mounts only counts when `no_pods` are there any more.
#[must_use]
pub fn of_cluster(mounts: &[Mount], kubelet: Option<&str>, no_pods: bool) -> Vec<String> {
    let runtime = RUNTIME.iter().copied().filter(|_| no_pods);
    let directories: Vec<&str> = BELOW.into_iter().chain(kubelet).chain(runtime).collect();
    order(mounts, |mount| directories.iter().any(|directory| is_below(&mount.path, directory)))
}

fn order(mounts: &[Mount], wanted: impl Fn(&Mount) -> bool) -> Vec<String> {
    // The last one made lies on top: at the same place, and wherever another begins below.
    mounts.iter().rev().filter(|mount| wanted(mount)).map(|mount| mount.path.clone()).fold(Vec::new(), put_deeper_first)
}

/// A mount can be made below another that was made later (`mount --move`), so depth counts before age.
fn put_deeper_first(mut sorted: Vec<String>, path: String) -> Vec<String> {
    let depth = |path: &str| path.matches('/').count();
    let place = sorted.iter().position(|known| depth(known) < depth(&path)).unwrap_or(sorted.len());
    sorted.insert(place, path);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

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
torn line
";

    #[test]
    fn what_lies_on_another_goes_first_and_neighbours_stay() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts.len(), 12);
        let paths = below(&mounts, "/var/lib/kubelet");
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
        assert!(of_cluster.contains(&"/run/cilium/cgroupv2".to_owned()) && of_cluster.len() == 6, "{of_cluster:?}");
        let all = super::of_cluster(&mounts, None, true);
        assert!(all.iter().any(|path| path.ends_with("ab/shm")) && !all.iter().any(|path| path.contains("moby")));
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
            assert_eq!(is_below(path, "/var/lib/kubelet"), below, "{path}");
        }
        assert!(is_below("/var", "/"));
    }

    #[test]
    fn names_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescaped(r"/a\040b\134c\011"), "/a b\\c\t");
        assert_eq!(unescaped(r"/a\0"), r"/a\0");
        assert_eq!(unescaped(r"/a\999"), r"/a\999");
        assert_eq!(parse("1 2 3").len(), 0);
    }
}
