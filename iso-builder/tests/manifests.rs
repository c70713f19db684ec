//! The corpus of manifests, written in the shape of real ones: beside each `X.yaml`, `X.images` has a
//! line `LINE REFERENCE` for each image, and `LINE ?` for each place that does not tell.

use std::path::Path;

use iso_builder::manifests::{Origin, if_not_present, survey};

/// Name, text and expected lines of every manifest of the corpus.
fn corpus() -> Vec<(String, String, Vec<String>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut corpus = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let expected = std::fs::read_to_string(path.with_extension("images")).unwrap_or_default();
            let lines = expected.lines().map(str::to_owned).collect();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            corpus.push((name, std::fs::read_to_string(&path).unwrap(), lines));
        }
    }
    corpus.sort();
    assert!(corpus.len() >= 15, "{} manifests", corpus.len());
    corpus
}

/// What is found in `text`, as the `.images` files write it, by line.
fn found(text: &str) -> Vec<String> {
    let survey = survey(text).unwrap();
    let references = survey.references.iter().map(|found| (found.line, found.image.as_str()));
    let unclear = survey.unclear.iter().map(|found| (found.line, "?"));
    let mut lines: Vec<(usize, &str)> = references.chain(unclear).collect();
    lines.sort_unstable();
    lines.into_iter().map(|(line, image)| format!("{line} {image}")).collect()
}

#[test]
fn the_corpus_yields_exactly_the_expected_images() {
    for (name, text, expected) in corpus() {
        assert_eq!(found(&text), expected, "{name}");
    }
}

#[test]
fn each_reference_is_found_at_its_line() {
    let mut mutated = 0;
    for (name, text, expected) in corpus() {
        for wanted in &expected {
            let (line, image) = wanted.split_once(' ').unwrap();
            let number: usize = line.parse().unwrap();
            let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
            // A reference in parts stands nowhere as it is.
            if !lines[number - 1].contains(image) || image == "?" {
                continue;
            }
            let other = "example.org/another:v9";
            lines[number - 1] = lines[number - 1].replace(image, other);
            let mut want: Vec<String> = expected
                .iter()
                .map(|line| if line == wanted { format!("{number} {other}") } else { line.clone() })
                .collect();
            want.sort_by_key(|line| {
                line.split_once(' ').map(|(line, image)| (line.parse::<usize>().unwrap(), image.to_owned()))
            });
            assert_eq!(found(&lines.join("\n")), want, "{name}, line {number}");
            mutated += 1;
        }
    }
    assert!(mutated > 50, "{mutated}");
}

#[test]
fn rewritten_manifests_name_the_same_images_and_pull_none_again() {
    for (name, text, expected) in corpus() {
        let once = if_not_present(&text).unwrap();
        assert_eq!(found(&once), expected, "{name}");
        assert_eq!(if_not_present(&once).unwrap(), once, "{name}");
        for reference in survey(&once).unwrap().references {
            let outside = reference.origin == Origin::Container && !reference.object.starts_with("ConfigMap");
            assert!(!outside || reference.policy.is_none_or(|policy| policy == "IfNotPresent"), "{name}");
        }
        // Line by line, only those change that say the policy.
        assert_eq!(once.lines().count(), text.lines().count(), "{name}");
        for (before, after) in text.lines().zip(once.lines()) {
            assert!(before == after || before.contains("Always") || before.contains("*policy"), "{name}: {before}");
        }
    }
}
