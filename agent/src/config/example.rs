//! The example that packages install, `packaging/config.toml`, says what this crate reads: no key more, none less.

use super::*;

const EXAMPLE: &str = include_str!("../../../packaging/config.toml");

/// Keys that have no value by themselves: what the example shows for them is no default.
const EXAMPLES: [&str; 9] = [
    "metadata.user-data",
    "metadata.directory",
    "trust.policy",
    "trust.minimum-version",
    "http.proxy",
    "containerd.socket",
    "csi.node-id",
    "csi.zone",
    "csi.max-volumes",
];

/// Every line that is a key or a section behind its comment sign, with the section that it stands in.
fn keys() -> Vec<(String, &'static str, &'static str)> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in EXAMPLE.lines().filter_map(|line| line.strip_prefix('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => section = name,
            None if line.starts_with(' ') || line.is_empty() => {}
            None => {
                let key = line.split(" = ").next().unwrap();
                let name = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
                keys.push((name, section, line));
            }
        }
    }
    keys
}

/// The keys and sections that `section` may hold, as the refusal of an unknown one lists them.
fn known(section: &str) -> Vec<String> {
    let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    let refusal = Config::parse(&format!("{header}no-such-key = 1")).unwrap_err().what;
    let listed = refusal.split_once("expected").unwrap().1;
    let names = listed.split('`').skip(1).step_by(2);
    names.map(|name| if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }).collect()
}

#[test]
fn as_it_is_installed_it_says_nothing() {
    assert_eq!(Config::parse(EXAMPLE).unwrap(), Config::default());
    let told = EXAMPLE.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(told, None);
}

#[test]
fn each_key_can_be_uncommented_and_shows_its_default() {
    for (name, section, line) in keys() {
        let text = if section.is_empty() { line.to_owned() } else { format!("[{section}]\n{line}") };
        let config = Config::parse(&text).unwrap_or_else(|failure| panic!("{name}: {}", failure.what));
        assert_eq!(config == Config::default(), !EXAMPLES.contains(&name.as_str()), "{name}");
    }
    let sections: Vec<_> = EXAMPLE.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let all = sections.into_iter().filter(|line| !line.starts_with(' ')).collect::<Vec<_>>().join("\n");
    Config::parse(&all).unwrap();
}

#[test]
fn it_names_every_key_once() {
    let mut named: Vec<String> = keys().into_iter().map(|(name, ..)| name).collect();
    let top = known("");
    let is_section = |name: &String| EXAMPLE.lines().any(|line| *line == format!("#[{name}]"));
    let (sections, mut wanted): (Vec<String>, Vec<String>) = top.into_iter().partition(is_section);
    wanted.extend(sections.iter().flat_map(|section| known(section)));
    named.sort();
    wanted.sort();
    assert_eq!(named, wanted);
}
