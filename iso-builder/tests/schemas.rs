//! What `docs/schema` says of the JSON texts is so.

use std::fs;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

use crate::fixture::{Bed, by_xorriso, run};

const BASE: &str = "json-schema:///";
const BUNDLE: &str = include_str!("../../docs/schema/cks-bundle.schema.json");
const INSPECT: &str = include_str!("../../docs/schema/inspect.schema.json");
const VERIFY: &str = include_str!("../../docs/schema/verify.schema.json");
const BUILD: &str = include_str!("../../docs/schema/build.schema.json");
const IMPORT: &str = include_str!("../../docs/schema/import.schema.json");
const DIFF: &str = include_str!("../../docs/schema/diff.schema.json");
const SIGN: &str = include_str!("../../docs/schema/sign.schema.json");

fn validator(text: &str) -> Validator {
    let schema: Value = serde_json::from_str(text).unwrap();
    let bundle: Value = serde_json::from_str(BUNDLE).unwrap();
    let registry = Registry::new().add(format!("{BASE}cks-bundle.schema.json"), bundle).unwrap().prepare().unwrap();
    jsonschema::options().with_base_uri(format!("{BASE}x.json")).with_registry(&registry).build(&schema).unwrap()
}

/// Every text that differs from `value` by one field: one that `value` has is removed, or one that
/// nobody knows is added. With the place where it is.
fn mutated(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    match value {
        Value::Object(fields) => {
            let mut more = fields.clone();
            more.insert("surprise".to_owned(), json!(1));
            all.push(("+surprise".to_owned(), Value::Object(more)));
            for (name, inner) in fields {
                let mut less = fields.clone();
                less.remove(name);
                all.push((format!("-{name}"), Value::Object(less)));
                for (place, changed) in mutated(inner) {
                    let mut other = fields.clone();
                    other.insert(name.clone(), changed);
                    all.push((format!("{name}.{place}"), Value::Object(other)));
                }
            }
        }
        // The elements are alike but for tarballs, which come early.
        Value::Array(values) => {
            for (at, inner) in values.iter().enumerate().take(6) {
                for (place, changed) in mutated(inner) {
                    let mut other = values.clone();
                    other[at] = changed;
                    all.push((format!("{at}.{place}"), Value::Array(other)));
                }
            }
        }
        _ => {}
    }
    all
}

/// Fields that may be absent.
const OPTIONAL: [&str; 15] = [
    "-kubernetes",
    "-sandbox_image",
    "-node",
    "-sysctl",
    "-net/ipv4/ip_forward",
    "-kubeadm_arguments",
    "-components",
    "-images",
    "-unpacked",
    "-critical",
    "-blobs",
    "-warnings",
    "-file",
    "-line",
    "-signatures",
];

fn check(validator: &Validator, value: &Value) {
    let wrong: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (place, changed) in mutated(value) {
        let last = place.rsplit('.').next().unwrap();
        if !OPTIONAL.contains(&last) {
            assert!(!validator.is_valid(&changed), "{place} goes unnoticed");
        }
    }
}

fn json(bed: &Bed, args: &[&str]) -> Value {
    let output = bed.cks_iso(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {said}"))
}

#[test]
fn real_manifests_and_outputs_hold_to_the_schemas() {
    let bed = Bed::new();
    assert!(bed.cks_iso(&["keygen", "a", "--no-password"]).status.success());
    check(&validator(BUILD), &json(&bed, &["build", "spec.toml", "-o", "out.iso", "--json"]));
    check(&validator(SIGN), &json(&bed, &["sign", "out.iso", "--key", "a.key", "--json"]));
    let inspected = json(&bed, &["inspect", "out.iso", "--json"]);
    check(&validator(BUNDLE), &inspected["manifest"]);
    check(&validator(INSPECT), &inspected);
    bed.flip(bed.place("network.yaml", 1));
    check(&validator(VERIFY), &json(&bed, &["verify", "out.iso", "--json"]));
    bed.flip(bed.place("network.yaml", 1));

    // A stock ISO has no manifest, and a small bundle few fields.
    by_xorriso(bed.dir(), "out.iso");
    for name in ["cks-bundle.json", "cks-bundle.json.minisig"] {
        fs::remove_file(bed.path("by-xorriso").join(name)).unwrap();
    }
    run(bed.dir(), "genisoimage", &["-quiet", "-V", "CDROM", "-J", "-R", "-o", "stock.iso", "by-xorriso"]);
    check(&validator(INSPECT), &json(&bed, &["inspect", "stock.iso", "--json"]));
    // Its tarballs and archives have the names of ours.
    let import = ["import", "stock.iso", "-o", "imported.iso", "--json"];
    check(&validator(IMPORT), &json(&bed, &[&import[..], &["--sign", "a.key"]].concat()));
    check(&validator(IMPORT), &json(&bed, &import));
    for (a, b) in [("stock.iso", "out.iso"), ("out.iso", "imported.iso")] {
        check(&validator(DIFF), &json(&bed, &["diff", a, b, "--json"]));
    }
    let small = "name = \"n\"\narch = \"arm64\"\nkubeadm-arguments = [\"--v=5\"]\n[sysctl]\n\"net/ipv4/ip_forward\" = \"1\"\n[manifests]\n\"network.yaml\" = { file = \"calico.yaml\" }\n";
    bed.write("spec.toml", small);
    bed.build();
    check(&validator(BUNDLE), &json(&bed, &["inspect", "out.iso", "--json"])["manifest"]);
}

#[test]
fn values_that_the_agent_refuses_are_refused() {
    let bed = Bed::new();
    bed.build();
    let (validator, good) = (validator(BUNDLE), json(&bed, &["inspect", "out.iso", "--json"])["manifest"].clone());
    for (place, value) in [
        ("/schema", json!(2)),
        ("/arch", json!("x86_64")),
        ("/entries/0/path", json!("/etc/passwd")),
        ("/entries/0/path", json!("cks-bundle.json.minisig")),
        ("/entries/0/sha256", json!("0123")),
        ("/entries/0/size", json!(-1)),
        ("/entries/0/kind", json!("thing")),
        ("/entries/0/roles", json!(["master"])),
        ("/blobs/0/at", json!({ "elsewhere": {} })),
        ("/images/0/layers", json!("sha256:")),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(place).unwrap() = value.clone();
        assert!(!validator.is_valid(&changed), "{place} = {value}");
        assert!(bootstrap::bundle::Manifest::parse(changed.to_string().as_bytes()).is_err(), "{place} = {value}");
    }
}
