//! The kubelet unit of the ISO, moved to where CKS keeps its binaries.

/// Every `/usr/bin/` becomes `/opt/bin/`, as `setup-kube-system` does with sed (CloudStack 4.14 … 4.23).
#[must_use]
pub fn to_opt_bin(unit: &str) -> String {
    unit.replace("/usr/bin/", "/opt/bin/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn binaries_move_and_the_rest_stays() {
        let unit = "ExecStart=/usr/bin/kubelet $A\nEnvironmentFile=-/etc/default/kubelet\n";
        let want = "ExecStart=/opt/bin/kubelet $A\nEnvironmentFile=-/etc/default/kubelet\n";
        assert_eq!(super::to_opt_bin(unit), want);
    }
}
