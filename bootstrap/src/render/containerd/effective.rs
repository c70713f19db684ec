//! What containerd makes of its configuration, and what of that a node can't do with.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::CERTIFICATES;

/// What `containerd config dump` or `crictl info` tells; none of what it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    sandbox_image: Option<String>,
    /// Of the runtimes that pods run by: the default one, and runc.
    systemd_cgroup: Vec<(String, bool)>,
    config_path: Option<String>,
    cri_is_off: bool,
    has_mirrors: bool,
}

/// What a node needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The sandbox image, where the bundle names one.
    pub sandbox_image: Option<&'a str>,
    /// Whether systemd makes the control groups.
    pub systemd_cgroup: bool,
}

impl Effective {
    /// Reads what `containerd config dump` prints, in any format.
    ///
    /// # Errors
    /// In words, when it is no TOML.
    pub fn of_dump(dump: &str) -> Result<Self, String> {
        let table = dump.parse::<Table>().map_err(|e| format!("what containerd prints is no TOML: {}", e.message()))?;
        let disabled = table.get("disabled_plugins").and_then(Value::as_array).into_iter().flatten();
        let is_cri = |name: &str| name.ends_with(".cri") || name.starts_with("io.containerd.cri.");
        let json = serde_json::to_value(&table).map_err(|e| e.to_string())?;
        let plugin = |name: &str| json.get("plugins").and_then(|plugins| plugins.get(name));
        let (old, images, runtime) = (
            plugin("io.containerd.grpc.v1.cri"),
            plugin("io.containerd.cri.v1.images"),
            plugin("io.containerd.cri.v1.runtime"),
        );
        let images = images.or(old).unwrap_or(&Json::Null);
        let containerd = &runtime.or(old).unwrap_or(&Json::Null)["containerd"];
        let sandbox = [&images["pinned_images"]["sandbox"], &images["sandbox_image"]];
        Ok(Self {
            sandbox_image: sandbox.into_iter().find_map(Json::as_str).map(str::to_owned),
            systemd_cgroup: systemd_cgroup(containerd, "default_runtime_name"),
            config_path: images["registry"]["config_path"].as_str().map(str::to_owned),
            cri_is_off: disabled.filter_map(Value::as_str).any(is_cri),
            has_mirrors: images["registry"]["mirrors"].as_object().is_some_and(|mirrors| !mirrors.is_empty()),
        })
    }

    /// Reads what `crictl info` prints: what the running containerd has. containerd 2.x tells nothing of images there.
    ///
    /// # Errors
    /// In words, when it is no JSON. The text itself may hold passwords of registries.
    pub fn of_info(info: &str) -> Result<Self, String> {
        let info: Json = serde_json::from_str(info).map_err(|_| "what crictl info prints is no JSON".to_owned())?;
        let config = &info["config"];
        let text = |value: &Json| value.as_str().map(str::to_owned);
        Ok(Self {
            sandbox_image: text(&config["sandboxImage"]),
            systemd_cgroup: systemd_cgroup(&config["containerd"], "defaultRuntimeName"),
            config_path: text(&config["registry"]["configPath"]),
            cri_is_off: false,
            has_mirrors: false,
        })
    }

    /// In which ways it is not what `expected` says, for people; of what it does not tell, nothing.
    #[must_use]
    pub fn differences(&self, expected: &Expected<'_>) -> Vec<String> {
        let mut all = Vec::new();
        if self.cri_is_off {
            all.push("disabled_plugins switches the CRI plugin off".to_owned());
        }
        match (&self.sandbox_image, expected.sandbox_image) {
            (Some(is), Some(wanted)) if is != wanted => {
                all.push(format!("the sandbox image is {}, not {wanted}", crate::text::plain(is)));
            }
            _ => {}
        }
        for (runtime, is) in &self.systemd_cgroup {
            if *is != expected.systemd_cgroup {
                all.push(format!("SystemdCgroup of runtime {} is {is}", crate::text::plain(runtime)));
            }
        }
        match &self.config_path {
            Some(path) if !path.split(':').any(|path| path == CERTIFICATES) => {
                all.push(format!("registry config_path is {:?}, not {CERTIFICATES}", crate::text::plain(path)));
            }
            _ => {}
        }
        if self.has_mirrors {
            all.push("registry.mirrors is set, which containerd refuses beside config_path".to_owned());
        }
        all
    }
}

fn systemd_cgroup(containerd: &Json, default: &str) -> Vec<(String, bool)> {
    let default = containerd[default].as_str().filter(|name| *name != "runc");
    let runtimes = ["runc"].into_iter().chain(default);
    let option = |name: &str| {
        let runtime = containerd["runtimes"].get(name)?;
        // What is left out is off.
        Some((name.to_owned(), runtime["options"]["SystemdCgroup"].as_bool().unwrap_or_default()))
    };
    runtimes.filter_map(option).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::kubeadm::CgroupDriver;

    const EXPECTED: Expected<'_> = Expected { sandbox_image: Some("r/pause:3.10"), systemd_cgroup: true };

    #[test]
    fn what_differs_is_named() {
        let good = super::super::drop_in(super::super::Format::V2, Some("r/pause:3.10"), CgroupDriver::Systemd);
        let newer = super::super::drop_in(super::super::Format::V3, Some("r/pause:3.10"), CgroupDriver::Systemd);
        for (from, to, named) in [
            ("", "", ""),
            ("r/pause:3.10", "r/pause:3.9", "r/pause:3.9"),
            ("SystemdCgroup = true", "SystemdCgroup = false", "runtime runc is false"),
            ("SystemdCgroup = true", "", "runtime runc is false"),
            ("/etc/containerd/certs.d", "", "config_path"),
            ("/etc/containerd/certs.d", "/etc/containerd/certs.d:/etc/docker/certs.d", ""),
        ] {
            for text in [&good, &newer] {
                let found = Effective::of_dump(&text.replace(from, to)).unwrap().differences(&EXPECTED);
                assert_eq!(found.is_empty(), named.is_empty(), "{found:?}");
                assert!(found.iter().all(|found| found.contains(named)), "{found:?}");
            }
        }
        for off in ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"] {
            let text = format!("disabled_plugins = ['{off}']\n{good}");
            assert_eq!(Effective::of_dump(&text).unwrap().differences(&EXPECTED).len(), 1);
        }
        let mirrors = format!("{newer}\n[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']\n");
        assert_eq!(Effective::of_dump(&mirrors).unwrap().differences(&EXPECTED).len(), 1);
        let other = good.replace("[plugins.\"io.containerd.grpc.v1.cri\"]\n", "[plugins.\"io.containerd.grpc.v1.cri\"]\ncontainerd.default_runtime_name = \"kata\"\ncontainerd.runtimes.kata.options.SystemdCgroup = false\n");
        let found = Effective::of_dump(&other).map(|found| found.differences(&EXPECTED));
        assert!(found.is_err() || found.unwrap()[0].contains("kata"));
        assert!(Effective::of_dump("[").is_err());
    }

    #[test]
    fn the_running_one_tells_what_it_tells() {
        let old = r#"{"config":{"sandboxImage":"r/pause:3.6","systemdCgroup":false,"registry":{"configPath":"",
            "configs":{"r":{"auth":{"password":"hunter2"}}}},
            "containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":false}}}}}}"#;
        let found = Effective::of_info(old).unwrap();
        assert_eq!(found.differences(&EXPECTED).len(), 3);
        assert!(!format!("{found:?}").contains("hunter2"));
        let new = r#"{"config":{"containerd":{"runtimes":{"runc":{"options":{"SystemdCgroup":true}}}}}}"#;
        assert_eq!(Effective::of_info(new).unwrap().differences(&EXPECTED), [""; 0]);
        let failure = Effective::of_info("hunter2").unwrap_err();
        assert!(!failure.contains("hunter2"));
        assert_eq!(Effective::of_info("{}").unwrap(), Effective::default());
    }
}
