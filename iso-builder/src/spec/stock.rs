//! What an ISO lacks that stock nodes need.

use crate::recipe::Recipe;

impl Recipe {
    /// What the nodes of CloudStack 4.19 … 4.23 need of an ISO with Kubernetes and this one lacks, a line
    /// each. It may be wanted so: nothing here is an error.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        let has = |key: &str| self.parts.iter().any(|part| part.key == key);
        let manifest = |name: &str| has(&format!("manifests.{name:?}"));
        let archives = self.parts.iter().any(|part| part.key.starts_with("images["));
        let images = archives || self.kubernetes_images.is_some() || !self.references.is_empty();
        let needed = [
            (
                has("kubelet.unit") && has("kubelet.drop-in"),
                "[kubelet]: without its unit and drop-in the kubelet does not start",
            ),
            (has("cni-plugins"), "[cni-plugins]: without them no pod gets a network"),
            (has("cri-tools"), "[cri-tools]: their scripts unpack crictl"),
            (images, "[[images]]: without them nodes download what they run"),
            (manifest("network.yaml"), "manifests.\"network.yaml\": without it the cluster has no pod network"),
            (
                manifest("dashboard.yaml") || manifest("headlamp.yaml"),
                "manifests.\"dashboard.yaml\" or \"headlamp.yaml\": without one CloudStack waits for a dashboard in vain",
            ),
        ];
        let lacking = needed.into_iter().filter(|(there, _)| self.kubernetes().is_some() && !there);
        lacking.map(|(_, what)| format!("stock nodes need {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    const KUBERNETES: &str = r#"
        name = "a"
        arch = "amd64"
        kubernetes = { version = "1", kubeadm = { file = "a" }, kubelet = { file = "b" }, kubectl = { file = "c" } }
    "#;
    const REST: &str = r#"
        cni-plugins = { version = "1", file = "d" }
        cri-tools = { version = "1", file = "e" }
        images = [{ file = "h" }]
        manifests = { "network.yaml" = { file = "i" }, "headlamp.yaml" = { file = "j" } }
    "#;

    #[test]
    fn what_stock_nodes_miss_is_told() {
        let lacks = |text: String| Recipe::of(&Spec::parse(&text).unwrap(), &[]).unwrap().lacks();
        assert_eq!(lacks(format!("{KUBERNETES}{REST}")), [""; 0]);
        assert_eq!(lacks(KUBERNETES.to_owned()).len(), 5);
        assert_eq!(lacks("name = 'a'\narch = 'amd64'\netcd = { version = '3', file = 'a' }".to_owned()), [""; 0]);
        for (without, want) in [
            ("cni-plugins", "[cni-plugins]"),
            ("cri-tools", "[cri-tools]"),
            ("images", "[[images]]"),
            ("network", "network.yaml"),
            ("headlamp", "dashboard.yaml"),
        ] {
            let rest = REST.lines().filter(|line| line.contains("manifests") || !line.contains(without));
            let rest = rest.collect::<Vec<_>>().join("\n").replace(&format!("{without}.yaml"), "other.yaml");
            let said = lacks(format!("{KUBERNETES}{rest}"));
            assert!(said.len() == 1 && said[0].contains(want), "{without}: {said:?}");
        }
        let said = lacks(format!("{KUBERNETES}{REST}kubelet = {{ default = false }}"));
        assert!(said.len() == 1 && said[0].contains("[kubelet]"), "{said:?}");
        // Upstream's binaries bring upstream's list of images.
        let alone = "name = 'a'\narch = 'amd64'\nkubernetes = { version = '1.33.1' }".to_owned();
        assert!(lacks(alone).iter().all(|line| !line.contains("[[images]]")));
    }
}
