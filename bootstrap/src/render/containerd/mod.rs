//! containerd's configuration: the sandbox image of the bundle, systemd as cgroup driver (as kubeadm's default is), and
//! registries by directories.
//!
//! containerd is started with [`CONFIG`], a file that nobody else writes: it imports the [`MAIN`] file, which CloudStack's
//! user data overwrites, and then the directory of [`DROP_IN`], so that ours counts (docs/decisions/0005).

mod effective;
mod foreign;
mod registries;
mod service;

pub use self::effective::{Effective, Expected};
pub use self::foreign::{loses_sections, lost_settings, refusal};
pub use self::registries::{CERTIFICATES, CREDENTIALS, File, PROXY, files, is_ours};
pub use self::service::{SERVICE_DROP_IN, UNIT_PLACES, service_drop_in};

use super::kubeadm::CgroupDriver;

/// What containerd is started with.
pub const CONFIG: &str = "/etc/containerd/cks.toml";

/// Where the drop-in goes.
pub const DROP_IN: &str = "/etc/containerd/conf.d/50-cks.toml";

/// The main file of everybody else: the distribution, the template, CloudStack's user data.
pub const MAIN: &str = "/etc/containerd/config.toml";

/// Where a main file goes that containerd could not be started with; it sorts before [`MAIN`], and so is written first.
pub const SET_ASIDE: &str = "/etc/containerd/before-cks.config.toml";

/// How each text of ours begins.
const HEAD: &str = "# Written by cks-agent";

/// The version of containerd's configuration format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// containerd 1.x.
    V2,
    /// containerd 2.0 and later.
    V3,
}

impl Format {
    /// The newest format that a containerd of this version reads: `1.6.20~ds1`, `v2.1.4`. Format 4 (2.3) brings
    /// nothing that is needed here, and 2.3 reads format 3.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
        if major.parse().is_ok_and(|major: u32| major >= 2) { Self::V3 } else { Self::V2 }
    }

    /// As the files name it.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// The section of image pulls.
    fn images(self) -> &'static str {
        match self {
            Self::V2 => "plugins.\"io.containerd.grpc.v1.cri\"",
            Self::V3 => "plugins.\"io.containerd.cri.v1.images\"",
        }
    }
}

/// The drop-in. In format 2 an imported file replaces a plugin's whole section, so the section is complete: what it
/// leaves out has its default.
#[must_use]
pub fn drop_in(format: Format, sandbox_image: Option<&str>, cgroup_driver: CgroupDriver) -> String {
    let head = format!(
        "{HEAD}. A file that sorts after it changes what it says; containerd 1.x takes a section as a whole from the
# last file that has it.\nversion = {}\n\n",
        format.number()
    );
    head + &section(format, sandbox_image, cgroup_driver)
}

fn section(format: Format, sandbox_image: Option<&str>, cgroup_driver: CgroupDriver) -> String {
    let images = format.images();
    let systemd = cgroup_driver == CgroupDriver::Systemd;
    let sandbox = sandbox_image.map(quoted);
    match format {
        Format::V2 => {
            let sandbox = sandbox.map(|image| format!("  sandbox_image = {image}\n")).unwrap_or_default();
            format!(
                "[{images}]
{sandbox}
  [{images}.containerd.runtimes.runc]
    runtime_type = \"io.containerd.runc.v2\"

    [{images}.containerd.runtimes.runc.options]
      SystemdCgroup = {systemd}

  [{images}.registry]
    config_path = \"{CERTIFICATES}\"
"
            )
        }
        Format::V3 => {
            let pinned = sandbox.map(|image| format!("[{images}.pinned_images]\n  sandbox = {image}\n\n"));
            let pinned = pinned.unwrap_or_default();
            let runtime = "plugins.\"io.containerd.cri.v1.runtime\"";
            format!(
                "{pinned}[{images}.registry]
  config_path = \"{CERTIFICATES}\"

[{runtime}.containerd.runtimes.runc]
  runtime_type = \"io.containerd.runc.v2\"

  [{runtime}.containerd.runtimes.runc.options]
    SystemdCgroup = {systemd}
"
            )
        }
    }
}

/// The file that containerd is started with. A path without a star has to be there: without [`MAIN`] containerd 1.x
/// would not start, and 2.x would start with none of the settings.
#[must_use]
pub fn config(format: Format) -> String {
    format!(
        "{HEAD}: containerd is started with it. Settings of your own go into conf.d, into a file that sorts
# after 50-cks.toml. The star lets containerd start where there is no config.toml.
version = {}
imports = [\"/e*tc/containerd/config.toml\", \"/etc/containerd/conf.d/*.toml\"]
",
        format.number()
    )
}

/// The main file for a machine that has none, or one that containerd could not be started with.
#[must_use]
pub fn main(format: Format) -> String {
    format!(
        "{HEAD}: settings live in conf.d.\nversion = {}\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
        format.number()
    )
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_version() {
        for (version, format) in
            [("1.6.20~ds1", Format::V2), ("v1.7.28", Format::V2), ("v2.1.4", Format::V3), ("", Format::V2)]
        {
            assert_eq!(Format::of_version(version), format, "{version}");
        }
    }

    #[test]
    fn every_text_is_what_a_node_needs_and_our_own() {
        for (format, number) in [(Format::V2, 2), (Format::V3, 3)] {
            for image in [None, Some("r/pause:3.10"), Some("r/\"x\"\nversion = 9")] {
                for (driver, systemd_cgroup) in [(CgroupDriver::Systemd, true), (CgroupDriver::Cgroupfs, false)] {
                    let text = drop_in(format, image, driver);
                    let expected = Expected { sandbox_image: image, systemd_cgroup };
                    assert_eq!(Effective::of_dump(&text).unwrap().differences(&expected), [""; 0], "{text}");
                    assert!(is_ours(&text) && text.contains(&format!("\nversion = {number}\n")), "{text}");
                }
            }
            for text in [config(format), main(format)] {
                let table: toml::Table = text.parse().unwrap();
                assert_eq!(table["version"].as_integer(), Some(number));
                assert!(is_ours(&text) && refusal(&text).is_none() && lost_settings(&text).is_empty());
            }
        }
        assert!(SET_ASIDE < MAIN, "what is set aside is written before what replaces it");
    }
}
