//! How systemd starts containerd.

use super::registries::PROXY;
use super::{CONFIG, HEAD};

/// The drop-in of containerd's unit.
pub const SERVICE_DROP_IN: &str = "/etc/systemd/system/containerd.service.d/50-cks.conf";

/// Where containerd's unit may be, as systemd looks for it.
pub const UNIT_PLACES: [&str; 4] = [
    "/etc/systemd/system/containerd.service",
    "/usr/local/lib/systemd/system/containerd.service",
    "/usr/lib/systemd/system/containerd.service",
    "/lib/systemd/system/containerd.service",
];

/// Where distributions put containerd.
const PROGRAM: &str = "/usr/bin/containerd";

/// The drop-in for a unit of this text; without one, for containerd where distributions put it. The proxy is read from
/// a file of its own: everybody may ask systemd for the environment of a unit.
#[must_use]
pub fn service_drop_in(unit: Option<&str>) -> String {
    let command = unit.and_then(exec_start).unwrap_or_else(|| PROGRAM.to_owned());
    format!(
        "{HEAD}.
[Service]
EnvironmentFile=-{PROXY}
ExecStart=
ExecStart={command} --config {CONFIG}
"
    )
}

/// What the unit starts, without its choice of a configuration.
fn exec_start(unit: &str) -> Option<String> {
    let whole = unit.replace("\\\n", " ");
    let mut section = "";
    let mut command = None;
    for line in whole.lines().map(str::trim) {
        match line.strip_prefix("ExecStart").map(str::trim_start).and_then(|rest| rest.strip_prefix('=')) {
            // An empty one takes back those before it.
            Some(value) if section == "[Service]" => command = Some(value.trim()).filter(|value| !value.is_empty()),
            _ if line.starts_with('[') => section = line,
            _ => {}
        }
    }
    let mut words = command?.split_whitespace();
    let mut kept = vec![words.next()?];
    while let Some(word) = words.next() {
        match word {
            "--config" | "-config" | "-c" => _ = words.next(),
            word if word.starts_with("--config=") || word.starts_with("-config=") || word.starts_with("-c=") => {}
            word => kept.push(word),
        }
    }
    Some(kept.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_keeps_what_it_starts_but_for_the_configuration() {
        for (unit, command) in [
            ("[Service]\nExecStart=/usr/bin/containerd\n", "/usr/bin/containerd"),
            ("[Service]\nExecStart=-/usr/local/bin/containerd -l debug\n", "-/usr/local/bin/containerd -l debug"),
            ("[Service]\nExecStart = /c --config /x -l warn\n", "/c -l warn"),
            ("[Service]\nExecStart=/c \\\n  --config=/x \\\n  --root /r\n", "/c --root /r"),
            ("[Service]\nExecStart=/c -c /x\nExecStartPre=/y\n", "/c"),
            ("[Service]\nExecStart=/a\nExecStart=\nExecStart=/b\n", "/b"),
            ("[Install]\nExecStart=/a\n", "/usr/bin/containerd"),
            ("[Service]\nExecStart=\n", "/usr/bin/containerd"),
            ("", "/usr/bin/containerd"),
        ] {
            let text = service_drop_in(Some(unit));
            let wanted = format!("\nExecStart=\nExecStart={command} --config /etc/containerd/cks.toml\n");
            assert!(text.ends_with(&wanted), "{unit:?}: {text}");
        }
        assert_eq!(service_drop_in(None), service_drop_in(Some("")));
    }
}
