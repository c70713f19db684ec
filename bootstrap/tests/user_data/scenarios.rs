//! Scenario directories: user data and metadata as a node gets them, and what is made of it.
//!
//! `UPDATE=1 cargo test -p bootstrap --test user_data` writes what is made of it now; look at the difference.

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::cluster::{Facts, actions};
use bootstrap::failure::Failure;
use bootstrap::user_data::{Metadata, look, outline, read};
use serde_json::{Value, json};

/// What was planted into the scenarios: the secret part of the token, the certificate key, a password, a private key,
/// and what base64 makes of user and password.
pub(crate) const PLANTED: [&str; 5] = [
    "pl4nt3dt0k3n5ecr",
    "5ec7e7b05ec7e7b0",
    "Pl4nted-Passw0rd",
    "UExBTlRFRC1QUklWQVRFLUtFWQ",
    "UGw0bnRlZC1QYXNzdzByZA",
];

/// A scenario directory.
pub(crate) struct Scenario {
    pub(crate) path: PathBuf,
    pub(crate) user_data: Vec<u8>,
    pub(crate) metadata: Metadata,
}

#[expect(clippy::disallowed_methods, reason = "the runner reads the scenarios")]
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The scenarios, in their order.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/user_data");
    let mut paths: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    let scenario = |path: PathBuf| {
        let keys: std::collections::BTreeMap<String, String> =
            serde_json::from_slice(&bytes(&path.join("metadata.json"))).unwrap();
        Scenario { user_data: bytes(&path.join("user-data")), metadata: bootstrap::datasource::from_keys(keys), path }
    };
    paths.into_iter().map(scenario).collect()
}

fn refusal(failure: &Failure) -> Value {
    json!({ "code": failure.code, "what": failure.what, "remedy": failure.remedy() })
}

/// What is made of a scenario.
fn made_of(scenario: &Scenario) -> Value {
    let failure = read(&scenario.user_data, &scenario.metadata).err().map(|failure| refusal(&failure));
    match look(&scenario.user_data, &scenario.metadata) {
        Err(_) => json!({ "failure": failure }),
        Ok(reading) => {
            let actions = reading.spec.as_ref().map(|spec| actions(spec, &Facts::default()).unwrap());
            let outline = reading.spec.as_ref().map(outline);
            json!({ "failure": failure, "reading": reading, "plan": actions, "outline": outline })
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE=1 writes what is expected from now on")]
fn each_scenario_is_understood_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let scenarios = scenarios();
    assert!(scenarios.len() >= 40, "only {} scenarios", scenarios.len());
    let mut wrong = Vec::new();
    for scenario in &scenarios {
        let made = serde_json::to_string_pretty(&made_of(scenario)).unwrap() + "\n";
        let path = scenario.path.join("expected.json");
        if update {
            fs::write(&path, &made).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != made {
            wrong.push(format!("{}:\n{made}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{} scenarios differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_file_belongs_to_a_scenario() {
    for scenario in scenarios() {
        let mut names: Vec<String> = fs::read_dir(&scenario.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["expected.json", "metadata.json", "user-data"], "{}", scenario.path.display());
    }
}

#[test]
fn no_planted_secret_is_told() {
    let mut planted = 0;
    for scenario in scenarios() {
        planted +=
            usize::from(PLANTED.iter().any(|secret| String::from_utf8_lossy(&scenario.user_data).contains(secret)));
        let reading = look(&scenario.user_data, &scenario.metadata);
        let told = [
            String::from_utf8(bytes(&scenario.path.join("expected.json"))).unwrap(),
            format!("{reading:?}"),
            made_of(&scenario).to_string(),
        ];
        for secret in PLANTED {
            assert!(!told.iter().any(|text| text.contains(secret)), "{} tells {secret}", scenario.path.display());
        }
    }
    assert!(planted > 40, "secrets stand in {planted} scenarios only");
}

/// Nothing but the version of the scripts tells the same wish apart.
#[test]
fn each_encoding_of_a_text_says_the_same() {
    let scenarios = scenarios();
    let spec = |name: &str| {
        let scenario = scenarios.iter().find(|scenario| scenario.path.ends_with(name)).unwrap();
        look(&scenario.user_data, &scenario.metadata).unwrap().spec.unwrap()
    };
    let plain = spec("01-worker-4.22");
    let encoded = ["worker-base64", "worker-gzip", "worker-base64-of-gzip", "worker-crlf-and-mark"];
    for name in encoded {
        let path = scenarios.iter().find(|scenario| {
            scenario
                .path
                .file_name()
                .is_some_and(|file| file.to_string_lossy().split_once('-').is_some_and(|(_, rest)| rest == name))
        });
        let file = path.unwrap().path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(spec(&file), plain, "{name}");
    }
}
