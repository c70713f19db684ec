//! What `docs/schema/status.schema.json` says of the document is so, and says all of it.

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::scenes;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/schema/status.schema.json")).unwrap()
}

fn validator() -> Validator {
    jsonschema::options().build(&schema()).unwrap()
}

fn document(state: &bootstrap::state::NodeState) -> Value {
    serde_json::to_value(state).unwrap()
}

#[test]
fn every_scene_is_as_the_schema_says() {
    let validator = validator();
    for (name, scene) in scenes::ALL {
        let document = document(&scene().0);
        let wrong: Vec<String> =
            validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

/// The objects of `value`, by the name of the field that holds them, with their fields.
fn objects<'a>(name: &str, value: &'a Value, found: &mut Vec<(String, Vec<&'a str>)>) {
    match value {
        Value::Object(fields) => {
            found.push((name.to_owned(), fields.keys().map(String::as_str).collect()));
            fields.iter().for_each(|(name, value)| objects(name, value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| objects(name, value, found)),
        _ => {}
    }
}

#[test]
fn no_field_is_missing_from_the_schema_or_wrong_unseen() {
    let validator = validator();
    let (state, _) = scenes::stalled();
    let good = document(&state);
    assert!(validator.is_valid(&good));
    let mut found = Vec::new();
    objects("", &good, &mut found);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["active", "finished", "waits", "wait", "counters", "sources", "bundle", "timeline"] {
        assert!(names.contains(&name), "{name} is not tried");
    }
    // Each field of each object in turn has a value of a type that no field has.
    fn each(value: &mut Value, whole: &dyn Fn(&mut Value)) {
        match value {
            Value::Object(fields) => fields.values_mut().for_each(|value| each(value, whole)),
            Value::Array(values) => values.iter_mut().for_each(|value| each(value, whole)),
            leaf => whole(leaf),
        }
    }
    let leaves = std::cell::Cell::new(0);
    each(&mut good.clone(), &|_| leaves.set(leaves.get() + 1));
    for place in 0..leaves.get() {
        let mut bad = good.clone();
        let seen = std::cell::Cell::new(0);
        each(&mut bad, &|leaf| {
            if seen.get() == place {
                *leaf = json!(true);
            }
            seen.set(seen.get() + 1);
        });
        assert!(!validator.is_valid(&bad), "{}", serde_json::to_string_pretty(&bad).unwrap());
    }
}

#[test]
fn what_nobody_waits_for_and_what_nobody_knows_is_refused() {
    let validator = validator();
    let good = document(&scenes::fetching().0);
    for (field, value) in
        [("schema", json!(2)), ("phase", json!("done")), ("role", json!("master")), ("rate", json!(-1))]
    {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(!validator.is_valid(&bad), "{field}");
    }
    for required in schema()["required"].as_array().unwrap() {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(required.as_str().unwrap());
        assert!(!validator.is_valid(&bad), "without {required}");
    }
    let codes = schema()["$defs"]["code"]["enum"].as_array().unwrap().clone();
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str().unwrap()).collect();
    let all: Vec<String> = bootstrap::failure::Code::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(codes, all);
}
