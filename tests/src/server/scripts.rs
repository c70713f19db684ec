//! The scripts that the server pushes to nodes.

use super::Release;

/// Why a node is given scripts: `deploy-*` failed for want of them.
pub(super) const SECRET: &str = "deploy-cloudstack-secret";
pub(super) const PROVIDER: &str = "deploy-provider";
pub(super) const CSI: &str = "deploy-csi-driver";
pub(super) const VOLUMES: &str = "delete-pv-reclaimpolicy-delete";
pub(super) const AUTOSCALE: &str = "autoscale-kube-cluster";
pub(super) const VALIDATE: &str = "validate-cks-node";
pub(super) const REMOVE: &str = "remove-node-from-cluster";
pub(super) const UPGRADE: &str = "upgrade-kubernetes.sh";

/// Those that come together, in order.
pub(super) fn together(release: Release) -> Vec<&'static str> {
    let all = [SECRET, PROVIDER, CSI, VOLUMES, AUTOSCALE];
    all.into_iter().filter(|script| release.has_csi() || ![CSI, VOLUMES].contains(script)).collect()
}

/// A script's text.
pub(super) fn text(release: Release, name: &str) -> String {
    let file = match name {
        SECRET => include_str!("scripts/deploy-cloudstack-secret"),
        PROVIDER => include_str!("scripts/deploy-provider"),
        CSI => include_str!("scripts/deploy-csi-driver"),
        VOLUMES => include_str!("scripts/delete-pv-reclaimpolicy-delete"),
        AUTOSCALE => include_str!("scripts/autoscale-kube-cluster"),
        VALIDATE => include_str!("scripts/validate-cks-node"),
        REMOVE => include_str!("scripts/remove-node-from-cluster"),
        UPGRADE => include_str!("scripts/upgrade-kubernetes.sh"),
        other => panic!("the server has no script {other}"),
    };
    release.lines(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Command;

    #[test]
    fn bash_understands_every_script_of_every_release() {
        let directory = crate::scratch("scripts").unwrap();
        for release in Release::ALL {
            for name in together(release).into_iter().chain([VALIDATE, REMOVE, UPGRADE]) {
                let path = directory.path().join(name);
                std::fs::write(&path, text(release, name)).unwrap();
                Command::new("bash").arg("-n").arg(&path).ok().unwrap_or_else(|error| panic!("{release}: {error}"));
            }
        }
    }

    #[test]
    fn the_upgrade_differs_between_releases() {
        let has = |release: Release, part: &str| text(release, UPGRADE).contains(part);
        assert_eq!(Release::ALL.map(|release| has(release, "TYPE=iso9660")), [true, false, false, false, false]);
        assert_eq!(Release::ALL.map(|release| has(release, "network=$5")), [false, false, true, true, true]);
        assert_eq!(Release::ALL.map(|release| has(release, "headlamp")), [false, false, false, false, true]);
        assert_eq!(together(Release::ALL[2]).len(), 3);
    }
}
