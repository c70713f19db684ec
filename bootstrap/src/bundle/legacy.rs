//! A manifest for an ISO that has none: derived from its listing, as the stock script of CloudStack
//! 4.14 … 4.23 lays it out. Nothing in it is vouched for; digests are missing until bytes were read.

use crate::archive::Archive;
use crate::failure::{Code, Failure};

use super::{Arch, Entry, Kind, Manifest, Node, Role, SCHEMA, layout};

/// A file of a listing: path relative to the ISO's root, size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Path on the ISO.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// Whether a listing is that of a CKS ISO: it holds something that a node installs.
#[must_use]
pub fn is_bundle<'a>(paths: impl IntoIterator<Item = &'a str>) -> bool {
    paths
        .into_iter()
        .any(|path| matches!(layout::kind_of(path), Kind::Kubernetes | Kind::CniPlugins | Kind::CriTools | Kind::Etcd))
}

/// The sorted listing as text, `SIZE PATH` a line. Its digest is the bundle's identity where no
/// manifest gives one.
#[must_use]
pub fn text(listing: &[Listed]) -> String {
    let mut sorted: Vec<&Listed> = listing.iter().collect();
    sorted.sort();
    sorted.into_iter().map(|file| format!("{} {}\n", file.size, file.path)).collect()
}

/// The image archives of a listing that `role` may need, by the file names that the stock script gives
/// them (`kube-apiserver:v1.33.1.tar`): only these have to be looked into.
pub fn archives_for(listing: &[Listed], role: Role) -> impl Iterator<Item = &Listed> {
    listing.iter().filter(move |file| {
        let taken =
            layout::kind_of(&file.path) == Kind::ImageArchive && layout::roles_of(Kind::ImageArchive).contains(&role);
        taken && layout::roles_of_image(&file.path).contains(&role)
    })
}

/// Derives the manifest. `archives` are those of [`archives_for`], read; `machine` is the architecture
/// that is assumed where no name tells one.
///
/// # Errors
/// `MANIFEST_INVALID` when two archives contradict each other; `ARCH_MISMATCH` names an image for another
/// architecture than the ISO's (the stock script pulls without `--platform`).
pub fn derive(listing: &[Listed], archives: Vec<Archive>, machine: Arch) -> Result<Manifest, Failure> {
    let mut entries: Vec<Entry> = listing.iter().map(entry).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let arch = listing.iter().find_map(|file| layout::arch_of_path(&file.path)).unwrap_or(machine);
    let (mut images, mut blobs) = (Vec::new(), Vec::new());
    for archive in archives {
        check_arch(&archive, arch)?;
        images.extend(archive.images);
        blobs.extend(archive.blobs);
    }
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    images.dedup_by(|a, b| a == b);
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    if let Some(pair) = images.windows(2).find(|pair| pair[0].reference == pair[1].reference) {
        let what = format!("two archives hold different images named {}", pair[0].reference);
        return Err(Failure::new(Code::ManifestInvalid, what));
    }
    let manifest = Manifest {
        schema: SCHEMA,
        name: "stock ISO".to_owned(),
        kubernetes: kubernetes_version(listing),
        arch,
        components: Vec::new(),
        sandbox_image: layout::sandbox_image(images.iter().map(|image| image.reference.as_str())).map(str::to_owned),
        node: Node::default(),
        entries,
        images,
        blobs,
    };
    manifest.check()?;
    Ok(manifest)
}

fn check_arch(archive: &Archive, arch: Arch) -> Result<(), Failure> {
    let other = archive.images.iter().find_map(|image| {
        let found = archive.architectures.get(&image.config).filter(|found| !found.is_empty())?;
        (Arch::parse(found) != Some(arch)).then_some((&image.reference, found))
    });
    match other {
        None => Ok(()),
        Some((reference, found)) => {
            Err(Failure::new(Code::ArchMismatch, format!("image {reference} is for {found}, the ISO is for {arch}")))
        }
    }
}

fn entry(file: &Listed) -> Entry {
    let kind = layout::kind_of(&file.path);
    Entry {
        path: file.path.clone(),
        size: file.size,
        sha256: None,
        kind,
        roles: layout::roles_of(kind),
        members: Vec::new(),
    }
}

/// The version that the names of Kubernetes' own image archives tell: `docker/kube-proxy:v1.33.1.tar`.
fn kubernetes_version(listing: &[Listed]) -> Option<String> {
    listing.iter().filter(|file| layout::kind_of(&file.path) == Kind::ImageArchive).find_map(|file| {
        let own = matches!(layout::repository_name(&file.path), "kube-apiserver" | "kube-proxy" | "kube-scheduler");
        let version = layout::tag(&file.path)?.trim_end_matches(".tar");
        (own && version.starts_with('v')).then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Vec<Listed> {
        paths.iter().map(|path| Listed { path: (*path).to_owned(), size: 7 }).collect()
    }

    #[test]
    fn a_stock_listing_becomes_a_manifest() {
        let listing = listing(&[
            "k8s/kubelet",
            "docker/kube-apiserver:v1.33.1.tar",
            "docker/kube-proxy:v1.33.1.tar",
            "cni/cni-plugins-arm64.tgz",
            "10-kubeadm.conf",
        ]);
        let manifest = derive(&listing, Vec::new(), Arch::Amd64).unwrap();
        assert_eq!(manifest.kubernetes.as_deref(), Some("v1.33.1"));
        assert_eq!(manifest.arch, Arch::Arm64);
        assert_eq!(manifest.entries[0].path, "10-kubeadm.conf");
        let taken: Vec<_> = archives_for(&listing, Role::Worker).map(|file| file.path.as_str()).collect();
        assert_eq!(taken, ["docker/kube-proxy:v1.33.1.tar"]);
        assert_eq!(archives_for(&listing, Role::Etcd).count(), 0);
    }

    #[test]
    fn a_config_drive_is_no_bundle() {
        assert!(!is_bundle(["cloudstack/userdata/user_data.txt", "openstack/latest/meta_data.json"]));
        assert!(is_bundle(["etcd/etcd-linux-amd64.tar.gz"]));
    }

    #[test]
    fn the_text_does_not_depend_on_the_order() {
        assert_eq!(text(&listing(&["a", "b"])), "7 a\n7 b\n");
        assert_eq!(text(&listing(&["b", "a"])), "7 a\n7 b\n");
    }
}
