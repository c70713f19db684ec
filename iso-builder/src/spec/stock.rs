//! What an ISO lacks that stock nodes need.

use super::Spec;

impl Spec {
    /// What the nodes of CloudStack 4.19 … 4.23 need of an ISO with Kubernetes and this one lacks, a line
    /// each. It may be wanted so: nothing here is an error.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        let has = |name: &str| self.manifests.contains_key(name);
        let needed = [
            (self.kubelet.is_some(), "[kubelet]: without its unit and drop-in the kubelet does not start"),
            (self.cni_plugins.is_some(), "[cni-plugins]: without them no pod gets a network"),
            (self.cri_tools.is_some(), "[cri-tools]: their scripts unpack crictl"),
            (!self.images.is_empty(), "[[images]]: without them nodes download what they run"),
            (has("network.yaml"), "manifests.\"network.yaml\": without it the cluster has no pod network"),
            (
                has("dashboard.yaml") || has("headlamp.yaml"),
                "manifests.\"dashboard.yaml\" or \"headlamp.yaml\": without one CloudStack waits for a dashboard in vain",
            ),
        ];
        let lacking = needed.into_iter().filter(|(there, _)| self.kubernetes.is_some() && !there);
        lacking.map(|(_, what)| format!("stock nodes need {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBERNETES: &str = r#"
        name = "a"
        arch = "amd64"
        kubernetes = { version = "1", kubeadm = { file = "a" }, kubelet = { file = "b" }, kubectl = { file = "c" } }
    "#;
    const REST: &str = r#"
        cni-plugins = { version = "1", file = "d" }
        cri-tools = { version = "1", file = "e" }
        kubelet = { unit = { file = "f" }, drop-in = { file = "g" } }
        images = [{ file = "h" }]
        manifests = { "network.yaml" = { file = "i" }, "headlamp.yaml" = { file = "j" } }
    "#;

    #[test]
    fn what_stock_nodes_miss_is_told() {
        let lacks = |text: String| Spec::parse(&text).unwrap().lacks();
        assert_eq!(lacks(format!("{KUBERNETES}{REST}")), [""; 0]);
        assert_eq!(lacks(KUBERNETES.to_owned()).len(), 6);
        assert_eq!(lacks("name = 'a'\narch = 'amd64'\netcd = { version = '3', file = 'a' }".to_owned()), [""; 0]);
        for (without, want) in [
            ("cni-plugins", "[cni-plugins]"),
            ("cri-tools", "[cri-tools]"),
            ("kubelet =", "[kubelet]"),
            ("images", "[[images]]"),
            ("network", "network.yaml"),
            ("headlamp", "dashboard.yaml"),
        ] {
            let rest = REST.lines().filter(|line| line.contains("manifests") || !line.contains(without));
            let rest = rest.collect::<Vec<_>>().join("\n").replace(&format!("{without}.yaml"), "other.yaml");
            let said = lacks(format!("{KUBERNETES}{rest}"));
            assert!(said.len() == 1 && said[0].contains(want), "{without}: {said:?}");
        }
    }
}
