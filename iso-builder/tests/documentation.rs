//! What the pages of `docs/` say is so.

use std::path::Path;

use bootstrap::bundle::Manifest;
use iso_builder::access::Access;
use iso_builder::finding::Level;
use iso_builder::lint;
use iso_builder::opened::Opened;
use iso_builder::profile;
use iso_builder::recipe::Recipe;
use iso_builder::spec::Spec;
use iso_builder::verify::RULES;

use crate::fixture::Bed;

const BUILDING: &str = include_str!("../../docs/building.md");
const DOWNLOADS: &str = include_str!("../../docs/downloads.md");
const FORMAT: &str = include_str!("../../docs/iso-format.md");
const VERIFYING: &str = include_str!("../../docs/verifying.md");

#[test]
fn the_example_is_a_spec() {
    let (_, rest) = BUILDING.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let digest = format!("\"{}\"", "0".repeat(64));
    let spec = Spec::parse(&example.replace("\"…64 hex digits…\"", &digest).replace("\"…\"", &digest)).unwrap();
    assert_eq!((spec.images.len(), spec.manifests.len(), spec.inputs().len()), (2, 2, 9));
}

#[test]
fn the_example_with_a_lock_is_a_spec_and_its_profile_one() {
    let examples: Vec<_> = BUILDING.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    let spec = Spec::parse(examples.iter().find(|text| text.contains("[images-from]")).unwrap()).unwrap();
    let own = examples.iter().find(|text| text.contains("requires =")).unwrap();
    let profiles = profile::load(&spec, |_| Ok((*own).to_owned())).unwrap();
    let recipe = Recipe::of(&spec, &profiles).unwrap();
    assert!(recipe.needs_lock() && recipe.part("manifests.\"policies.yaml\"").is_some());
    for (name, _) in profile::BUILT_IN {
        assert!(BUILDING.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_example_is_a_configuration() {
    let (_, rest) = DOWNLOADS.split_once("```toml config\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    Access::parse(example, Path::new("")).unwrap();
}

#[test]
fn every_rule_is_described() {
    for rule in RULES.iter().chain(lint::RULES) {
        let row = VERIFYING.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{}`", rule.id)));
        let row = row.unwrap_or_else(|| panic!("{} is not described", rule.id));
        assert_eq!(row.contains("(warning)"), rule.level == Level::Warning, "{row}");
    }
}

#[test]
fn every_field_of_the_manifest_is_described() {
    let bed = Bed::new();
    let (manifest, _): (Manifest, _) = Opened::open(&bed.build()).unwrap().manifest().unwrap().unwrap();
    let mut pending = vec![serde_json::to_value(&manifest).unwrap()];
    while let Some(value) = pending.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let written = [format!("`{name}`"), format!("`{name}["), format!(".{name}"), format!("\"{name}\"")];
                    assert!(written.iter().any(|name| FORMAT.contains(name)), "{name} is not described");
                    pending.push(value);
                }
            }
            serde_json::Value::Array(values) => pending.extend(values),
            _ => {}
        }
    }
}
