//! A main file that somebody else wrote.

use toml::{Table, Value};

use super::is_ours;

/// The CRI plugin in format 2.
const CRI: &str = "io.containerd.grpc.v1.cri";

/// Why no containerd with a CRI could be started that imports this main file, for people; none where one could. The
/// file of Docker's package is such a one: it switches the CRI plugin off, and nothing imported later switches it on.
#[must_use]
pub fn refusal(main: &str) -> Option<String> {
    let table = match main.parse::<Table>() {
        Ok(table) => table,
        Err(error) => return Some(format!("is no TOML ({})", error.message())),
    };
    let named = |key| table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if named("disabled_plugins")
        .any(|plugin| plugin == "cri" || plugin == CRI || plugin.starts_with("io.containerd.cri."))
    {
        return Some("switches the CRI plugin off".to_owned());
    }
    // Those of format 1 have no place in a later one.
    let old =
        named("disabled_plugins").chain(named("required_plugins")).find(|plugin| !plugin.starts_with("io.containerd."));
    old.map(|plugin| format!("names plugin {plugin:?} as format 1 did"))
}

/// Whether a containerd of this version loses the CRI section of a main file in format 2. containerd 1.x takes a section
/// from the last file that has it, which is our drop-in. 2.0 to 2.2 convert what all files come to, and only where the
/// last one is of format 2; later ones convert each file.
#[must_use]
pub fn loses_sections(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|number| number.parse::<u64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(2)), Some(Ok(minor))) => minor < 3,
        (Some(Ok(major)), _) => major < 2,
        _ => true,
    }
}

/// What a main file of format 2 sets in the CRI section and loses where [`loses_sections`]: the things that somebody
/// will miss. All else there, most often, is what `containerd config default` prints.
#[must_use]
pub fn lost_settings(main: &str) -> Vec<String> {
    let Ok(table) = main.parse::<Table>() else { return Vec::new() };
    let Some(cri) = table.get("plugins").and_then(|plugins| plugins.get(CRI)) else { return Vec::new() };
    if is_ours(main) {
        return Vec::new();
    }
    let under = |path: &[&str]| path.iter().try_fold(cri, |value, key| value.get(key)).and_then(Value::as_table);
    let runtimes = under(&["containerd", "runtimes"]).into_iter().flat_map(Table::keys).filter(|name| *name != "runc");
    let mut lost: Vec<String> = runtimes.map(|name| format!("containerd.runtimes.{name}")).collect();
    for key in ["mirrors", "configs", "headers"] {
        if under(&["registry", key]).is_some_and(|table| !table.is_empty()) {
            lost.push(format!("registry.{key}"));
        }
    }
    let name = |path: &[&str]| path.iter().try_fold(cri, |value, key| value.get(key)).and_then(Value::as_str);
    let path = name(&["registry", "config_path"]).unwrap_or_default();
    if !path.is_empty() && !path.split(':').any(|path| path.trim_end_matches('/') == super::CERTIFICATES) {
        lost.push("registry.config_path".to_owned());
    }
    for (path, default) in [
        (["cni", "bin_dir"], "/opt/cni/bin"),
        (["cni", "conf_dir"], "/etc/cni/net.d"),
        (["containerd", "snapshotter"], "overlayfs"),
        (["containerd", "default_runtime_name"], "runc"),
    ] {
        if name(&path).is_some_and(|value| value != default) {
            lost.push(path.join("."));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_keep_the_cri_away_is_named() {
        for (main, reason) in [
            ("", None),
            ("version = 2\nroot = \"/data\"\n", None),
            ("disabled_plugins = []\n", None),
            ("version = 2\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n", None),
            // Docker's package.
            ("#root = \"/var/lib/containerd\"\ndisabled_plugins = [\"cri\"]\n", Some("CRI plugin off")),
            ("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n", Some("CRI plugin off")),
            ("version = 3\ndisabled_plugins = [\"io.containerd.cri.v1.images\"]\n", Some("CRI plugin off")),
            ("disabled_plugins = [\"btrfs\"]\n", Some("\"btrfs\"")),
            ("required_plugins = [\"cri\"]\n", Some("\"cri\"")),
            ("version = 2\n[plug", Some("no TOML")),
        ] {
            let found = refusal(main);
            assert_eq!(found.is_some(), reason.is_some(), "{main}: {found:?}");
            assert!(reason.is_none_or(|reason| found.unwrap().contains(reason)), "{main}");
        }
    }

    #[test]
    fn old_containerds_lose_sections() {
        for (version, loses) in [
            ("1.6.20~ds1", true),
            ("v1.7.35", true),
            ("v2.0.14", true),
            ("v2.2.9", true),
            ("v2.3.0", false),
            ("v3.0.0", false),
            ("", true),
        ] {
            assert_eq!(loses_sections(version), loses, "{version}");
        }
    }

    #[test]
    fn settings_that_somebody_will_miss_are_named() {
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        for (main, lost) in [
            (format!("[{cri}]\nsandbox_image = \"x\"\n"), vec![]),
            (format!("[{cri}.containerd]\nsnapshotter = \"overlayfs\"\ndefault_runtime_name = \"runc\"\n"), vec![]),
            (format!("[{cri}.containerd.runtimes.runc]\n[{cri}.registry.mirrors]\n"), vec![]),
            (format!("[{cri}.registry]\nconfig_path = \"\"\n"), vec![]),
            (format!("[{cri}.registry]\nconfig_path = \"/etc/containerd/certs.d:/x\"\n"), vec![]),
            (format!("[{cri}.containerd.runtimes.nvidia]\n"), vec!["containerd.runtimes.nvidia"]),
            (format!("[{cri}.registry.mirrors.\"docker.io\"]\n"), vec!["registry.mirrors"]),
            (format!("[{cri}.registry]\nconfig_path = \"/x\"\n"), vec!["registry.config_path"]),
            (format!("[{cri}.cni]\nconf_dir = \"/x\"\n"), vec!["cni.conf_dir"]),
            (format!("{}\n[{cri}.cni]\nconf_dir = \"/x\"\n", super::super::HEAD), vec![]),
            ("[plugins.x]\n".to_owned(), vec![]),
        ] {
            assert_eq!(lost_settings(&main), lost, "{main}");
        }
    }
}
