use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent::explain::{Document, explain, lines};
use bootstrap::datasource;
use serde_json::{Value, json};

/// As in `bootstrap/tests/user_data/scenarios.rs`.
const PLANTED: [&str; 5] = [
    "pl4nt3dt0k3n5ecr",
    "5ec7e7b05ec7e7b0",
    "Pl4nted-Passw0rd",
    "UExBTlRFRC1QUklWQVRFLUtFWQ",
    "UGw0bnRlZC1QYXNzdzByZA",
];

/// Scenarios whose explanation is looked at word by word (`agent/tests/goldens`).
const SHOWN: [&str; 5] = [
    "worker-4.22-router",
    "control-first-4.22-external-etcd",
    "cni-mixed-indentation",
    "section-worker",
    "foreign-ubuntu",
];

/// The name of each scenario with what is told of it.
fn documents() -> Vec<(String, Document)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bootstrap/tests/user_data");
    let mut paths: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    let document = |path: PathBuf| {
        let keys: BTreeMap<String, String> =
            serde_json::from_slice(&fs::read(path.join("metadata.json")).unwrap()).unwrap();
        let user_data = fs::read(path.join("user-data")).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1.to_owned();
        (name, explain(&user_data, &datasource::from_keys(keys), "user-data".to_owned()))
    };
    let documents: Vec<_> = paths.into_iter().map(document).collect();
    assert!(documents.len() >= 40);
    documents
}

#[test]
fn no_planted_secret_is_told() {
    for (name, document) in documents() {
        let told = [lines(&document), serde_json::to_string(&document).unwrap(), format!("{document:?}")];
        for secret in PLANTED {
            assert!(!told.iter().any(|text| text.contains(secret)), "{name} tells {secret}");
        }
    }
}

#[test]
fn every_document_is_as_the_schema_says() {
    let schema = serde_json::from_str(include_str!("../../../docs/schema/explain.schema.json")).unwrap();
    let validator = jsonschema::options().build(&schema).unwrap();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (name, document) in documents() {
        let value = serde_json::to_value(&document).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        let kind = value.pointer("/reading/spec/membership/as").and_then(Value::as_str).unwrap_or("none");
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["control-plane", "etcd", "first-control-plane", "none", "worker"]);
}

/// The places of all leaves.
fn leaves(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(&format!("{at}/{}", name.replace('/', "~1")), value, found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| leaves(&format!("{at}/{n}"), value, found))
        }
        _ => found.push(at.to_owned()),
    }
}

#[test]
fn no_field_may_be_of_another_kind() {
    let schema = serde_json::from_str(include_str!("../../../docs/schema/explain.schema.json")).unwrap();
    let validator = jsonschema::options().build(&schema).unwrap();
    let documents = documents();
    for wanted in ["section-worker", "section-etcd-tls", "section-first-control-plane", "cni-mixed-indentation"] {
        let (_, document) = documents.iter().find(|(name, _)| name == wanted).unwrap();
        let good = serde_json::to_value(document).unwrap();
        let mut places = Vec::new();
        leaves("", &good, &mut places);
        for place in places {
            let mut wrong = good.clone();
            *wrong.pointer_mut(&place).unwrap() = json!({ "no": "such" });
            assert!(!validator.is_valid(&wrong), "{wanted}: {place} may be anything");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE=1 writes what is expected from now on")]
fn explanations_read_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let documents = documents();
    for wanted in SHOWN {
        let (_, document) = documents.iter().find(|(name, _)| name == wanted).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/explain-{wanted}.txt"));
        let text = lines(document);
        if update {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "{wanted}");
    }
}
