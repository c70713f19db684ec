//! containerd's configuration: the sandbox image of the bundle, and systemd as cgroup driver, as
//! kubeadm's default is.

/// Where the drop-in goes.
pub const DROP_IN: &str = "/etc/containerd/conf.d/50-cks.toml";

/// The main file, which has to import the drop-in.
pub const MAIN: &str = "/etc/containerd/config.toml";

/// The version of containerd's configuration format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// containerd 1.x.
    V2,
    /// containerd 2.0 and later.
    V3,
}

impl Format {
    /// The newest format that a containerd of this version reads: `1.6.20~ds1`, `v2.1.4`.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
        if major.parse().is_ok_and(|major: u32| major >= 2) { Self::V3 } else { Self::V2 }
    }
}

/// The drop-in. In format 2 an imported file replaces a plugin's whole section (containerd 1.6
/// `services/server/config`), so the section is complete: what it leaves out has its default.
#[must_use]
pub fn drop_in(format: Format, sandbox_image: &str) -> String {
    match format {
        Format::V2 => format!(
            r#"# Written by cks-agent.
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
"#
        ),
        Format::V3 => format!(
            r#"# Written by cks-agent.
version = 3

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{sandbox_image}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = true
"#
        ),
    }
}

/// The main file for a machine that has none.
#[must_use]
pub fn main(format: Format) -> String {
    let version = match format {
        Format::V2 => 2,
        Format::V3 => 3,
    };
    format!(
        "# Written by cks-agent: settings live in conf.d.\nversion = {version}\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n"
    )
}

/// Whether a main file that is there already reads the drop-in. One that can't be read imports nothing.
#[must_use]
pub fn imports_drop_in(main: &str) -> bool {
    let Ok(main) = main.parse::<toml::Table>() else { return false };
    let imports = main.get("imports").and_then(toml::Value::as_array).into_iter().flatten();
    imports.filter_map(toml::Value::as_str).any(|import| import == "/etc/containerd/conf.d/*.toml" || import == DROP_IN)
}

/// Whether a main file of format 2 configures the CRI plugin itself.
#[must_use]
pub fn has_cri_section(main: &str) -> bool {
    let Ok(main) = main.parse::<toml::Table>() else { return false };
    main.get("plugins").and_then(|plugins| plugins.get("io.containerd.grpc.v1.cri")).is_some()
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
    fn our_own_main_file_imports_our_drop_in() {
        assert!(imports_drop_in(&main(Format::V2)));
        assert!(!imports_drop_in("version = 2\nimports = []\n"));
        assert!(imports_drop_in("imports = [\n  '/etc/containerd/conf.d/*.toml',\n]\n"));
        assert!(!imports_drop_in("# imports = [\"/etc/containerd/conf.d/*.toml\"]\n"));
        assert!(!imports_drop_in("no toml"));
        assert!(has_cri_section(&drop_in(Format::V2, "r/pause:3.10")));
        assert!(!has_cri_section(&main(Format::V2)));
        assert!(drop_in(Format::V3, "r/pause:3.10").contains("sandbox = \"r/pause:3.10\""));
    }
}
