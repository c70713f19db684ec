//! What a node of a role consists of, before anybody looks at the machine.

use std::collections::BTreeMap;

use crate::bundle::{Entry, Image, Kind, MANIFEST_PATH, Manifest, Member, Role};
use crate::digest::Digest;
use crate::failure::{Code, Failure};
use crate::node_spec::NodeSpec;
use crate::render;
use crate::render::kubeadm::CgroupDriver;
use crate::signature::SIGNATURE_PATH;

use super::Warning;

/// Where bundles are unpacked, a directory each.
pub const VERSIONS_DIR: &str = "/opt/cks";

/// The link that tells which version is in use. Everything else leads through it, so that one rename
/// changes the version.
pub const CURRENT: &str = "/opt/cks/current";

/// Name of the file that stands for the manifest of a stock ISO in its version directory.
pub const LISTING_NAME: &str = "listing.txt";

/// A bundle that was found, with the identity that everything made from it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Digest of `cks-bundle.json`; of the sorted listing where there is none.
    pub id: Digest,
    /// Its content.
    pub manifest: Manifest,
    /// The text whose digest `id` is; kept on the node, so that anybody can see what was installed.
    pub text: String,
    /// Whether the manifest was derived from a listing.
    pub derived: bool,
    /// The signatures that came with the manifest.
    pub signature: Option<Signature>,
}

/// The signatures of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The text of `cks-bundle.json.minisig`; kept on the node, so that it can be checked again.
    pub text: String,
    /// The ids of the trusted keys that signed; none where too few did, or no key is trusted.
    pub signers: Vec<String>,
}

impl Bundle {
    /// Name of the version directory and of the owner label: `v1.33.1-3f2a9c1b04d5`.
    #[must_use]
    pub fn directory_name(&self) -> String {
        let version = self.manifest.kubernetes.as_deref().unwrap_or("bundle");
        let safe: String =
            version.chars().map(|c| if c.is_ascii_alphanumeric() || ".+_".contains(c) { c } else { '_' }).collect();
        format!("{}-{}", safe.trim_start_matches('.'), self.id.short())
    }

    /// The version directory: `/opt/cks/v1.33.1-3f2a9c1b04d5`.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("{VERSIONS_DIR}/{}", self.directory_name())
    }

    /// Where the node keeps [`Self::text`].
    #[must_use]
    pub fn record_path(&self) -> String {
        format!("{}/{}", self.directory(), if self.derived { LISTING_NAME } else { MANIFEST_PATH })
    }

    /// Where the node keeps the text of [`Self::signature`].
    #[must_use]
    pub fn signature_path(&self) -> String {
        format!("{}/{SIGNATURE_PATH}", self.directory())
    }

    /// The ids of the trusted keys that signed it.
    #[must_use]
    pub fn signers(&self) -> &[String] {
        self.signature.as_ref().map_or(&[], |signature| &signature.signers)
    }
}

/// Everything that has to be on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Files whose bytes come from the bundle.
    pub files: Vec<WantedFile>,
    /// Paths of the tarballs whose members nobody has listed yet (stock ISOs).
    pub unlisted: Vec<String>,
    /// Files whose text is rendered: path → text.
    pub texts: BTreeMap<String, String>,
    /// Units made from a unit of the bundle: destination → file of the version directory.
    pub units: BTreeMap<String, String>,
    /// Symbolic links besides [`CURRENT`]: path → target.
    pub links: BTreeMap<String, String>,
    /// Images, the sandbox image first.
    pub images: Vec<Image>,
    /// The image for pod sandboxes.
    pub sandbox_image: Option<String>,
    /// Whether the node runs pods, and so a container runtime.
    pub has_runtime: bool,
    /// Who makes control groups for its containers.
    pub cgroup_driver: CgroupDriver,
    /// What the operator should know.
    pub warnings: Vec<Warning>,
}

/// A file whose bytes come from the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Absolute path on the node.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Digest; unknown for a stock ISO until the bytes were read once.
    pub sha256: Option<Digest>,
    /// Path of the entry that it comes from.
    pub entry: String,
    /// Path inside the tarball, where the entry is one.
    pub member: Option<String>,
}

/// Under which name a member of a tarball is installed; none for what is left out (licences, manuals).
#[must_use]
pub fn install_name(kind: Kind, member: &str, mode: u32) -> Option<&str> {
    let name = member.rsplit('/').next()?;
    let depth = member.matches('/').count();
    let taken = match kind {
        Kind::CniPlugins => depth == 0 && mode & 0o111 != 0,
        Kind::CriTools => depth == 0 && name == "crictl",
        // The stock script flattens `etcd*/etcd*`; the licence files beside them are not binaries.
        Kind::Etcd => depth <= 1 && matches!(name, "etcd" | "etcdctl" | "etcdutl"),
        _ => false,
    };
    taken.then_some(name)
}

/// The directory below the version directory that a kind is installed in.
#[must_use]
pub fn directory_of(kind: Kind) -> &'static str {
    match kind {
        Kind::CniPlugins => "cni",
        Kind::KubeletUnit | Kind::KubeletDropIn => "systemd",
        Kind::ClusterManifest => "manifests",
        Kind::Kubernetes | Kind::CriTools | Kind::Etcd => "bin",
        Kind::ImageArchive | Kind::Other => "other",
    }
}

/// Every path that any role installs of `bundle` in its version directory: what may be removed with it.
#[must_use]
pub fn paths_of(bundle: &Bundle) -> Vec<String> {
    let mut all = Wanted::default();
    for entry in &bundle.manifest.entries {
        all.add_entry(entry, &bundle.directory());
    }
    all.files.into_iter().map(|file| file.path).collect()
}

impl Wanted {
    /// What `spec` asks of `bundle`, on a machine where `cgroup_driver` makes control groups.
    ///
    /// # Errors
    /// `MEDIA_LACKS_ETCD` and `MEDIA_LACKS_COMPONENT` when the bundle can't make such a node;
    /// `MANIFEST_INVALID` when two of its files want the same place.
    pub fn of(spec: &NodeSpec, bundle: &Bundle, cgroup_driver: CgroupDriver) -> Result<Self, Failure> {
        let mut wanted = Self { cgroup_driver, ..Self::default() };
        wanted.check_components(spec.role, bundle)?;
        let directory = bundle.directory();
        for entry in bundle.manifest.entries_for(spec.role) {
            wanted.add_entry(entry, &directory);
        }
        wanted.add_links(&directory);
        if spec.role == Role::Etcd {
            wanted.add_etcd(spec);
        } else {
            wanted.has_runtime = true;
            wanted.add_kubelet(&bundle.manifest);
            wanted.add_images(spec.role, &bundle.manifest);
        }
        wanted.files.sort_by(|a, b| a.path.cmp(&b.path));
        match wanted.files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            None => Ok(wanted),
            Some(pair) => Err(Failure::new(
                Code::ManifestInvalid,
                format!("{} and {} both want to be {}", pair[0].entry, pair[1].entry, pair[0].path),
            )),
        }
    }

    pub(super) fn check_components(&mut self, role: Role, bundle: &Bundle) -> Result<(), Failure> {
        let manifest = &bundle.manifest;
        let has = |kind| manifest.entries_for(role).any(|entry| entry.kind == kind);
        let lacks = |code, what: &str| Err(Failure::new(code, format!("bundle {:?} {what}", manifest.name)));
        match role {
            Role::Etcd if !has(Kind::Etcd) => {
                lacks(Code::MediaLacksEtcd, "has no etcd/etcd-linux-amd64.tar.gz, which role etcd installs")
            }
            Role::Etcd => Ok(()),
            Role::ControlPlane | Role::Worker => {
                let kubelet = manifest.entry("k8s/kubelet").is_some();
                if !kubelet && manifest.kubernetes.is_some() {
                    return lacks(Code::MediaLacksComponent, "is for Kubernetes but has no k8s/kubelet");
                }
                if !kubelet && !has(Kind::CniPlugins) && !has(Kind::CriTools) {
                    return lacks(Code::MediaLacksComponent, &format!("has nothing that role {role} installs"));
                }
                let missing = |path: &&&str| kubelet && manifest.entry(path).is_none();
                let parts = ["k8s/kubeadm", "k8s/kubectl", "kubelet.service", "10-kubeadm.conf"];
                let mut missing: Vec<&str> = parts.iter().filter(missing).copied().collect();
                let tarballs = [(Kind::CniPlugins, "the CNI plugins"), (Kind::CriTools, "crictl")];
                missing.extend(tarballs.iter().filter(|(kind, _)| !has(*kind)).map(|(_, name)| *name));
                if !missing.is_empty() {
                    self.warn("INCOMPLETE_BUNDLE", &format!("the bundle brings no {}", missing.join(", no ")));
                }
                // A manifest that names no Kubernetes version means it; a stock ISO lost it.
                if !kubelet && bundle.derived {
                    self.warn(
                        "NO_KUBERNETES",
                        "the bundle brings no Kubernetes binaries: kubelet, kubeadm and kubectl are not installed",
                    );
                }
                Ok(())
            }
        }
    }

    fn warn(&mut self, code: &str, text: &str) {
        self.warnings.push(Warning { code: code.to_owned(), text: text.to_owned() });
    }

    fn add_entry(&mut self, entry: &Entry, directory: &str) {
        let place = |name: &str| format!("{directory}/{}/{name}", directory_of(entry.kind));
        match entry.kind {
            Kind::CniPlugins | Kind::CriTools | Kind::Etcd if entry.members.is_empty() => {
                self.unlisted.push(entry.path.clone());
            }
            Kind::CniPlugins | Kind::CriTools | Kind::Etcd => {
                let file = |member: &Member| {
                    let name = install_name(entry.kind, &member.path, member.mode)?;
                    Some(WantedFile {
                        path: place(name),
                        mode: 0o755,
                        size: member.size,
                        sha256: Some(member.sha256),
                        entry: entry.path.clone(),
                        member: Some(member.path.clone()),
                    })
                };
                self.files.extend(entry.members.iter().filter_map(file));
            }
            Kind::Kubernetes | Kind::KubeletUnit | Kind::KubeletDropIn | Kind::ClusterManifest => {
                let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
                self.files.push(WantedFile {
                    path: place(name),
                    mode: if entry.kind == Kind::Kubernetes { 0o755 } else { 0o644 },
                    size: entry.size,
                    sha256: entry.sha256,
                    entry: entry.path.clone(),
                    member: None,
                });
            }
            Kind::ImageArchive | Kind::Other => {}
        }
    }

    /// `/opt/bin/kubelet → ../cks/current/bin/kubelet`: relative, so that they hold below any root.
    fn add_links(&mut self, directory: &str) {
        for file in &self.files {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            if file.path == format!("{directory}/bin/{name}") {
                self.links.insert(format!("/opt/bin/{name}"), format!("../cks/current/bin/{name}"));
            } else if file.path == format!("{directory}/cni/{name}") {
                self.links.insert(format!("/opt/cni/bin/{name}"), format!("../../cks/current/cni/{name}"));
            }
        }
    }

    fn add_etcd(&mut self, spec: &NodeSpec) {
        if spec.address.is_none() {
            self.warn("ETCD_LOOPBACK", "etcd listens on 127.0.0.1 only: give --node-ip to make it reachable");
        } else if spec.etcd_authority.is_none() {
            self.warn("ETCD_PLAINTEXT", render::etcd::PLAINTEXT);
        }
        self.texts.insert(render::etcd::UNIT_PATH.to_owned(), render::etcd::UNIT.to_owned());
        self.enable("etcd.service");
    }

    fn add_kubelet(&mut self, manifest: &Manifest) {
        let unit_directory = "/etc/systemd/system";
        for (name, destination) in [
            ("kubelet.service", format!("{unit_directory}/kubelet.service")),
            ("10-kubeadm.conf", format!("{unit_directory}/kubelet.service.d/10-kubeadm.conf")),
        ] {
            let source = self.files.iter().find(|file| file.path.ends_with(&format!("/systemd/{name}")));
            if let Some(source) = source.map(|file| file.path.clone()) {
                self.units.insert(destination, source);
            }
        }
        if self.units.contains_key(&format!("{unit_directory}/kubelet.service")) {
            self.enable("kubelet.service");
        }
        self.texts.insert("/etc/modules-load.d/cks.conf".to_owned(), render::host::MODULES.to_owned());
        self.texts.insert(render::host::SYSCTL_PATH.to_owned(), render::host::sysctl(&manifest.node.sysctl));
    }

    fn enable(&mut self, unit: &str) {
        let wants = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
        self.links.insert(wants, format!("../{unit}"));
    }

    fn add_images(&mut self, role: Role, manifest: &Manifest) {
        self.images = manifest.images_for(role).cloned().collect();
        self.sandbox_image.clone_from(&manifest.sandbox_image);
        // No pod starts without the sandbox image: it goes first.
        self.images.sort_by_key(|image| Some(&image.reference) != manifest.sandbox_image.as_ref());
        if self.sandbox_image.is_none() && !self.images.is_empty() {
            self.warn("NO_SANDBOX_IMAGE", "the bundle names no sandbox (pause) image: containerd's default stays");
        }
    }
}
