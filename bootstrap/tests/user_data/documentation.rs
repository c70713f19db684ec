//! `docs/user-data.md` tells every key, and what it shows can be read.

use bootstrap::user_data::{Metadata, look};

use crate::scenarios::bytes;

fn document() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/user-data.md");
    String::from_utf8(bytes(&path)).unwrap()
}

/// The keys that a section, or a mapping within it, may have: what the refusal of an unknown one names.
fn known(text: &str) -> Vec<String> {
    let failure = look(text.as_bytes(), &Metadata::default()).unwrap_err();
    let names = failure.remedy().strip_prefix("known are ").unwrap_or_else(|| panic!("{}", failure.what)).to_owned();
    names.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented() {
    let document = document();
    for (within, text) in [
        ("", "#cloud-config\ncks: { nonsense: x }\n"),
        ("etcd", "#cloud-config\ncks: { etcd: { nonsense: x } }\n"),
        ("registries", "#cloud-config\ncks: { registries: { h: { nonsense: x } } }\n"),
        ("proxy", "#cloud-config\ncks: { proxy: { nonsense: x } }\n"),
    ] {
        let keys = known(text);
        assert!(!keys.is_empty());
        for key in keys {
            assert!(document.contains(&format!("`{key}`")), "{within}: `{key}` is not told");
        }
    }
    // And nothing that is no key.
    let (_, table) = document.split_once("| key | example | is |").unwrap();
    let table = table.split_once("\n\n").unwrap().0;
    let keys = known("#cloud-config\ncks: { nonsense: x }\n");
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rows.len(), keys.len(), "{rows:?} {keys:?}");
    assert!(rows.iter().all(|row| keys.iter().any(|key| key == row)), "{rows:?} {keys:?}");
}

#[test]
fn what_is_shown_can_be_read() {
    let document = document();
    let blocks: Vec<&str> = document.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 4);
    let metadata = bootstrap::datasource::from_keys([("local-hostname".to_owned(), "n1".to_owned())]);
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/user_data/31-cni-announced-and-missing/user-data");
    let server = String::from_utf8(bytes(&path)).unwrap();
    for block in blocks {
        let text = match block.contains("cks:") {
            true => block.to_owned(),
            // A CNI configuration is appended without its first line.
            false => format!("{server}\n\n{}", block.split_once('\n').unwrap().1),
        };
        let reading = look(text.as_bytes(), &metadata).unwrap_or_else(|failure| panic!("{block}: {}", failure.what));
        let wish = reading.wish();
        assert!(wish.is_ok(), "{block}: {}", wish.unwrap_err().what);
    }
}
