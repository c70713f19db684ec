//! SELinux labels, where the host has SELinux: the policy's, set by its own program before anything is live.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bootstrap::failure::Code;
use bootstrap::plan::{Plan, Step};

use super::Site;
use crate::host::Host;
use crate::tool::Tool;

/// A few hundred files are labelled in a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Labels what `plan` installed. What goes wrong is a warning: permissive hosts work all the same, and on
/// others the first start says so.
pub async fn restore(site: &Site, plan: &Plan) {
    let paths = installed(site, plan);
    if paths.is_empty() || !has_selinux(&site.host) {
        return;
    }
    // -R: a version directory with all that is in it; -i: what is not there is no error.
    let call = Tool::Restorecon.call(&site.host).args(["-R", "-i"]).args(&paths).patience(PATIENCE);
    let Err(failure) = call.ok(Code::Io).await else { return };
    let why = failure.what;
    site.board.warn(format!("SELINUX_LABELS: {why}: run restorecon -R /opt/cks /opt/bin /opt/cni /etc/systemd/system"));
}

fn installed(site: &Site, plan: &Plan) -> BTreeSet<PathBuf> {
    let path = |step: &Step| match step {
        Step::InstallFile { .. } | Step::Unpack { .. } | Step::RecordBundle { .. } => {
            Some(site.host.path(&site.bundle.directory()))
        }
        Step::WriteFile { path, .. } | Step::RenderUnit { path, .. } => Some(site.host.path(path)),
        Step::ImportImage { .. } | Step::Link { .. } | Step::Unlink { .. } => None,
    };
    plan.steps.iter().filter_map(path).collect()
}

/// Whether the host runs under SELinux, or will when it is booted.
fn has_selinux(host: &Host) -> bool {
    let config = fs::read_to_string(host.path("/etc/selinux/config")).unwrap_or_default();
    host.path("/sys/fs/selinux/enforce").exists() || is_on(&config)
}

/// Whether `/etc/selinux/config` switches it on: the last `SELINUX=` counts.
fn is_on(config: &str) -> bool {
    let mut modes = config.lines().filter_map(|line| line.trim().strip_prefix("SELINUX="));
    modes.next_back().is_some_and(|mode| ["enforcing", "permissive"].contains(&mode.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_tells_whether_labels_matter() {
        for (config, on) in [
            ("", false),
            ("# SELINUX=enforcing\nSELINUX=disabled\n", false),
            ("SELINUX=permissive\nSELINUXTYPE=targeted\n", true),
            ("SELINUX=disabled\n SELINUX=enforcing \n", true),
        ] {
            assert_eq!(is_on(config), on, "{config}");
        }
    }
}
