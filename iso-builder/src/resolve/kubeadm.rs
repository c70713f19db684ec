//! The images that kubeadm of a version wants, read from its source: no program of the target's
//! architecture has to run for it.

use bootstrap::failure::{Code, Failure};

use crate::recipe::KubernetesImages;
use crate::spec::upstream;

/// The images of the control plane and of every node, as `kubeadm config images list` prints them;
/// `constants` is kubeadm's `cmd/kubeadm/app/constants/constants.go` of that version.
///
/// # Errors
/// `CONTENT_INVALID` names the constant that is missing.
pub fn images(constants: &str, wanted: &KubernetesImages) -> Result<Vec<String>, Failure> {
    let KubernetesImages { version, registry } = wanted;
    let core_dns = constant(constants, "CoreDNSVersion")?;
    let pause = constant(constants, "PauseVersion")?;
    let etcd = constant(constants, "DefaultEtcdVersion")?;
    // kubeadm writes the build metadata of a version as a tag can hold it.
    let tag = version.replace('+', "_");
    let mut images: Vec<String> = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"]
        .iter()
        .map(|name| format!("{registry}/{name}:v{tag}"))
        .collect();
    // Only upstream's own registry has CoreDNS one level deeper (kubeadm's GetDNSImage).
    let dns = if registry == upstream::IMAGE_REGISTRY { "coredns/coredns" } else { "coredns" };
    images.push(format!("{registry}/{dns}:{core_dns}"));
    images.push(format!("{registry}/pause:{pause}"));
    images.push(format!("{registry}/etcd:{etcd}"));
    Ok(images)
}

/// The value of a Go string constant: `Name = "value"`.
fn constant<'a>(text: &'a str, name: &str) -> Result<&'a str, Failure> {
    let value = |line: &'a str| {
        let line = line.trim_start();
        let rest = line.strip_prefix("const ").unwrap_or(line).strip_prefix(name)?;
        let rest = rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        let (value, _) = rest.split_once('"')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        (!value.is_empty() && value.len() <= 64 && value.chars().all(plain)).then_some(value)
    };
    text.lines().find_map(value).ok_or_else(|| {
        Failure::new(Code::ContentInvalid, format!("kubeadm's constants.go has no {name}"))
            .with_remedy("name the images in [[images]], and set images-from.kubernetes = false")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines of constants.go of v1.29.0 and v1.36.3.
    const V1_29: &str = "const (\n\t// MinExternalEtcdVersion indicates minimum external etcd version which kubeadm supports\n\
        \tMinExternalEtcdVersion = \"3.4.13-4\"\n\n\t// DefaultEtcdVersion indicates the default etcd version that kubeadm uses\n\
        \tDefaultEtcdVersion = \"3.5.10-0\"\n\n\tCoreDNSVersion = \"v1.11.1\"\n\n\
        \t// PauseVersion indicates the default pause image version for kubeadm\n\tPauseVersion = \"3.9\"\n)\n";
    const V1_36: &str = "\tDefaultEtcdVersion = \"3.6.8-0\"\n\tCoreDNSVersion = \"v1.14.2\"\n\tPauseVersion = \"3.10.2\"\n\
        \t// - DefaultEtcdVersion: with etcd version used for the current k8s release.\n";

    fn wanted(version: &str, registry: &str) -> KubernetesImages {
        KubernetesImages { version: version.to_owned(), registry: registry.to_owned() }
    }

    #[test]
    fn the_list_is_kubeadms() {
        assert_eq!(
            images(V1_36, &wanted("1.36.3", "registry.k8s.io")).unwrap(),
            [
                "registry.k8s.io/kube-apiserver:v1.36.3",
                "registry.k8s.io/kube-controller-manager:v1.36.3",
                "registry.k8s.io/kube-scheduler:v1.36.3",
                "registry.k8s.io/kube-proxy:v1.36.3",
                "registry.k8s.io/coredns/coredns:v1.14.2",
                "registry.k8s.io/pause:3.10.2",
                "registry.k8s.io/etcd:3.6.8-0",
            ]
        );
        let mirrored = images(V1_29, &wanted("1.29.0", "example.org/k8s")).unwrap();
        assert_eq!(
            mirrored[4..],
            ["example.org/k8s/coredns:v1.11.1", "example.org/k8s/pause:3.9", "example.org/k8s/etcd:3.5.10-0"]
        );
    }

    #[test]
    fn a_missing_constant_is_named() {
        for (from, to, want) in [
            ("CoreDNSVersion", "DNSVersion", "CoreDNSVersion"),
            ("PauseVersion = ", "// PauseVersion ", "PauseVersion"),
            ("3.5.10-0", "3.5/../x", "DefaultEtcdVersion"),
        ] {
            let failure = images(&V1_29.replace(from, to), &wanted("1.29.0", "r")).unwrap_err();
            assert!(failure.what.contains(want), "{failure}");
        }
    }
}
