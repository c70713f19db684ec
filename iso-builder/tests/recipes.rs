//! The recipes of `docs/ci/` are YAML, and call `cks-iso` as it wants to be called.

use clap::Parser;
use iso_builder::cli::Cli;

const RECIPES: [(&str, &str); 4] = [
    ("docs/ci.md", include_str!("../../docs/ci.md")),
    ("github-actions.yml", include_str!("../../docs/ci/github-actions.yml")),
    ("gitlab-ci.yml", include_str!("../../docs/ci/gitlab-ci.yml")),
    ("Jenkinsfile", include_str!("../../docs/ci/Jenkinsfile")),
];

/// The command lines of a recipe: what follows `cks-iso ` where a command can begin, to its end.
fn calls(text: &str) -> Vec<Vec<String>> {
    let begins = ["$ cks-iso ", "- cks-iso ", "run: cks-iso ", "sh 'cks-iso ", "          cks-iso "];
    let command = |line: &str| begins.iter().find_map(|begin| Some(line.split_once(begin)?.1.to_owned()));
    let words = |rest: String| -> Vec<String> {
        let rest = rest.trim_end().trim_end_matches('\'').replace('"', "");
        rest.split_whitespace().map(str::to_owned).collect()
    };
    text.lines().filter_map(command).map(words).collect()
}

#[test]
fn the_recipes_are_yaml() {
    for (name, text) in RECIPES.into_iter().filter(|(name, _)| name.ends_with(".yml")) {
        for event in saphyr_parser::Parser::new_from_str(text) {
            event.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn every_call_of_a_recipe_is_understood() {
    for (name, text) in RECIPES {
        let calls = calls(text);
        assert!(calls.len() >= 3, "{name}: {calls:?}");
        for call in calls {
            let parsed = Cli::try_parse_from(std::iter::once("cks-iso".to_owned()).chain(call.clone()));
            assert!(parsed.is_ok(), "{name}: cks-iso {}: {}", call.join(" "), parsed.unwrap_err());
        }
    }
}
