//! Who a node is in its cluster, as its certificates and kubeconfig files tell.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How a node's user begins (Kubernetes, node authorization).
const USER: &[u8] = b"system:node:";

/// The node's name in its client certificate (`kubelet-client-current.pem`): what follows `system:node:` in the
/// subject of the first certificate that has one.
#[must_use]
pub fn node_name(pem: &str) -> Option<String> {
    certificates(pem).find_map(|der| {
        let at = der.windows(USER.len()).position(|window| window == USER)?;
        // DER: the text's length stands in the byte before it, as names of nodes are short.
        let length = usize::from(*der.get(at.checked_sub(1)?)?);
        let name = der.get(at + USER.len()..at.checked_add(length)?)?;
        let plain = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(c);
        let name = String::from_utf8(name.to_vec()).ok()?;
        (!name.is_empty() && name.bytes().all(|c| plain(&c))).then_some(name)
    })
}

fn certificates(pem: &str) -> impl Iterator<Item = Vec<u8>> {
    pem.split("-----BEGIN CERTIFICATE-----").skip(1).filter_map(|rest| {
        let body = rest.split("-----END").next()?;
        STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
    })
}

/// The certificate authority that a kubeconfig file trusts, as PEM; none where it holds none.
#[must_use]
pub fn authority(kubeconfig: &str) -> Option<String> {
    let data = kubeconfig
        .lines()
        .find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("certificate-authority-data:"))?;
    let pem = STANDARD.decode(data.trim().trim_matches(['"', '\''])).ok()?;
    String::from_utf8(pem).ok()
}

/// Whether a kubeconfig file is of the cluster with this authority. What can't be told is not.
#[must_use]
pub fn is_of_cluster(kubeconfig: &str, cluster_authority: Option<&str>) -> bool {
    let bare = |pem: &str| pem.split_whitespace().collect::<String>();
    match (authority(kubeconfig), cluster_authority) {
        (Some(of_file), Some(of_cluster)) => !of_file.trim().is_empty() && bare(&of_file) == bare(of_cluster),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn kubeconfig(ca: &str) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://x\n",
            STANDARD.encode(ca)
        )
    }

    #[test]
    fn a_kubeconfig_is_the_clusters_by_its_authority_alone() {
        assert!(is_of_cluster(&kubeconfig(CA), Some(CA)));
        assert!(is_of_cluster(&kubeconfig(CA), Some(&CA.replace('\n', "\r\n"))));
        for (text, authority) in [
            (kubeconfig("other"), Some(CA)),
            (kubeconfig(CA), None),
            (kubeconfig(""), Some("")),
            (String::new(), Some(CA)),
            ("certificate-authority-data: ~~~".to_owned(), Some(CA)),
        ] {
            assert!(!is_of_cluster(&text, authority), "{text}");
        }
    }

    #[test]
    fn a_nodes_name_is_read_from_its_certificate() {
        let pem = include_str!("../../tests/data/leaving/kubelet-client.pem");
        assert_eq!(node_name(pem).as_deref(), Some("pool-node-18f3a2b4c5d.example"));
        assert_eq!(node_name(CA), None);
        assert_eq!(node_name(""), None);
    }
}
