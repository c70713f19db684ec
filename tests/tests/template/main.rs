//! A template made of a real Debian root: what is taken away is named and mended, the management server's check passes,
//! and what is sealed is nobody yet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::collections::BTreeSet;

use cks_tests::root::Root;
use serde_json::Value;

mod node;
mod prerequisites;
mod sealing;
mod server;

/// A prepared root, with the agent in it.
fn prepared() -> Root {
    let root = Root::new("bookworm-node").unwrap();
    root.install_agent().unwrap();
    let output = root.agent("prepare", &[]).unwrap();
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    root
}

/// The items that are not as they should be.
fn findings(root: &Root) -> BTreeSet<String> {
    let document = root.document("check", &[]).unwrap();
    let items = document["items"].as_array().unwrap();
    let wrong = items.iter().filter(|item| item["result"] == "failed" || item["result"] == "warning");
    wrong.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// The edits that a document of `prepare` tells, by their items.
fn edits(document: &Value) -> Vec<&str> {
    document["edits"].as_array().unwrap().iter().map(|edit| edit["item"].as_str().unwrap()).collect()
}
