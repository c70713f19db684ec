//! The documents say what the programs do.

use std::fs;

use bootstrap::failure::{Code, Retry};
use cks_tests::programs;

#[test]
fn the_error_catalogue_has_every_code_with_its_exit_code_and_remedy() {
    let catalogue = fs::read_to_string(programs::workspace().join("docs/errors.md")).unwrap();
    let rows: Vec<&str> =
        catalogue.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 6).collect();
    assert_eq!(rows.len(), Code::ALL.len());
    for (code, row) in Code::ALL.iter().zip(rows) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let transient = if code.retry() == Retry::Transient { "transient" } else { "" };
        let want = [format!("`{code}`"), code.exit_code().to_string(), transient.to_owned()];
        assert_eq!(cells[1..4], want, "{row}");
        assert_eq!(cells[5], code.remedy(), "{row}");
    }
}

#[test]
fn every_document_that_is_pointed_to_is_there() {
    let root = programs::workspace();
    let mut documents = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    for directory in ["docs", "docs/decisions"] {
        documents.extend(fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path()));
    }
    for document in documents.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") {
                let target = document.parent().unwrap().join(path);
                assert!(target.exists(), "{} points to {link}", document.display());
            }
        }
    }
}
