//! What kubeadm's words mean. Its exit code tells little, and its messages have kept their wording over years
//! (read in kubeadm 1.29 … 1.36).

use crate::failure::Code;

/// A class and the words that tell it, all of which have to be there; the first row that fits counts.
const WORDS: &[(&[&str], Code)] = &[
    (&["no space left on device"], Code::NoSpace),
    (&["certificate has expired or is not yet valid"], Code::ClockSkew),
    (&["cluster ca found in cluster-info", "none of the public keys"], Code::CaMismatch),
    (&["could not find a jws signature"], Code::TokenRefused),
    (&["token id", "is invalid for this cluster"], Code::TokenRefused),
    (&["failed to verify jws signature"], Code::TokenRefused),
    (&["secret \"kubeadm-certs\" was not found"], Code::CertificateKeyRefused),
    (&["error decoding secret data with provided key"], Code::CertificateKeyRefused),
    (&["error decoding certificate key"], Code::CertificateKeyRefused),
    (&["a node with name", "already exists in the cluster"], Code::NodeNameTaken),
    (&["[error port-"], Code::PortInUse),
    (&["cgroups v1 support"], Code::CgroupUnsupported),
    (&["kubelet", "cgroup v1"], Code::CgroupUnsupported),
    (&["[error cri]"], Code::ContainerdMisconfigured),
    (&["container runtime is not running"], Code::ContainerdMisconfigured),
    (&["[error imagepull]"], Code::MediaLacksComponent),
    (&["couldn't validate the identity of the api server"], Code::ApiUnreachable),
    (&["unauthorized"], Code::TokenRefused),
    (&["[error externaletcdversion]"], Code::EtcdUnavailable),
    (&["context deadline exceeded", "etcd"], Code::EtcdUnavailable),
    (&["the http call equal to", "healthz", "returned"], Code::ServiceFailed),
    (&["the kubelet is not healthy"], Code::ServiceFailed),
    (&["connection refused"], Code::ApiUnreachable),
    (&["no route to host"], Code::ApiUnreachable),
    (&["i/o timeout"], Code::ApiUnreachable),
    (&["[error "], Code::HostUnfit),
];

/// The class of a failure of kubeadm that ended with the words `said`.
#[must_use]
pub fn classify(said: &str) -> Code {
    let said = said.to_lowercase();
    let fits = |words: &[&str]| words.iter().all(|word| said.contains(word));
    WORDS.iter().find(|(words, _)| fits(words)).map_or(Code::KubeadmFailed, |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubeadm_says_has_a_code() {
        for (said, code) in [
            (
                "error execution phase preflight: [preflight] Some fatal errors occurred:\n\t[ERROR Port-10250]: Port 10250 is in use",
                Code::PortInUse,
            ),
            ("\t[ERROR Swap]: running with swap on is not supported", Code::HostUnfit),
            (
                "couldn't validate the identity of the API Server: failed to request the cluster-info ConfigMap: Get \"https://10.1.1.5:6443/api\": dial tcp 10.1.1.5:6443: connect: connection refused",
                Code::ApiUnreachable,
            ),
            (
                "could not find a JWS signature in the cluster-info ConfigMap for token ID \"abcdef\"",
                Code::TokenRefused,
            ),
            (
                "cluster CA found in cluster-info ConfigMap is invalid: none of the public keys \"sha256:00\" are pinned",
                Code::CaMismatch,
            ),
            (
                "error execution phase control-plane-prepare/download-certs: error downloading certs: error downloading the secret: Secret \"kubeadm-certs\" was not found in the \"kube-system\" Namespace",
                Code::CertificateKeyRefused,
            ),
            ("a Node with name \"w1\" and status \"Ready\" already exists in the cluster", Code::NodeNameTaken),
            ("x509: certificate has expired or is not yet valid: current time 2020-01-01", Code::ClockSkew),
            ("write /var/lib/kubelet/config.yaml: no space left on device", Code::NoSpace),
            ("something else", Code::KubeadmFailed),
        ] {
            assert_eq!(classify(said), code, "{said}");
        }
    }
}
