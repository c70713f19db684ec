//! `cks-agent sources`: every source, what it holds, what became of it, and which one is next.

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bootstrap::failure::Failure;
use indicatif::HumanBytes;

use crate::cli;
use crate::config::Config;
use crate::host::Host;
use crate::journal::Journal;
use crate::media::locate::Search;
use crate::media::prober::look_once;
use crate::media::shown::{Document, SOURCES_PATH, Shown};
use crate::trust;

/// Longer than this nobody waits for an answer here.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the sources: as a running bootstrap sees them, else as they are found by looking now, which changes
/// nothing. Returns the exit code: 0 when one can be used, else that of `MEDIA_NOT_FOUND`.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `CONFIG_INVALID`, `ARCH_MISMATCH`.
pub async fn print(arguments: &cli::Sources) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let mut config = Config::read(&host, arguments.config.as_deref())?;
    let last = last(&host);
    let document = match last {
        Some(last) if arguments.sources.is_empty() && Journal::is_held(&host) => last,
        last => {
            if !arguments.sources.is_empty() {
                config.sources.clone_from(&arguments.sources);
            }
            let mut document = look(&host, &config).await?;
            for shown in &mut document.sources {
                let before = last.iter().flat_map(|last| &last.sources).find(|before| before.source == shown.source);
                shown.bytes = before.map_or(0, |before| before.bytes);
            }
            document
        }
    };
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&document).unwrap_or_default() + "\n",
        false => lines(&document),
    };
    // A reader that went away is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if document.next.is_some() { 0 } else { bootstrap::failure::Code::MediaNotFound.exit_code() })
}

async fn look(host: &Host, config: &Config) -> Result<Document, Failure> {
    let mut http = config.http.clone();
    http.inactivity = http.inactivity.min(PATIENCE);
    let rules = Arc::new(trust::rules(host, config, false)?);
    let search = Search { role: None, arch: host.arch()?, rules, only: None, http };
    Ok(look_once(&config.sources, search, host, PATIENCE).await)
}

/// What the run at work tells, or told last.
fn last(host: &Host) -> Option<Document> {
    serde_json::from_slice(&fs::read(host.path(SOURCES_PATH)).ok()?).ok()
}

/// The document as lines for people.
#[must_use]
pub fn lines(document: &Document) -> String {
    let mut text = String::new();
    for (number, shown) in document.sources.iter().enumerate() {
        text += &format!("{:>2}  {}\n", number + 1, line(shown));
    }
    text += &match (&document.next, &document.bundle) {
        (Some(next), Some(bundle)) => {
            let doing = if document.running { "next bytes come" } else { "a bootstrap would take its bytes" };
            format!("{doing} from {next}: {}\n", bundle.name)
        }
        _ => "no source holds a CKS ISO that could be used\n".to_owned(),
    };
    text
}

fn line(shown: &Shown) -> String {
    let mut text = shown.source.clone();
    if shown.entry != shown.source {
        text += &format!(" ({})", shown.entry);
    }
    text += &format!(" {}", shown.verdict);
    if let Some(bundle) = &shown.bundle {
        text += &format!(": {} ({})", bundle.name, bundle.kubernetes.as_deref().unwrap_or("no Kubernetes"));
    }
    if let Some(label) = &shown.label {
        text += &format!(", labelled {label}");
    }
    if let Some(latency) = shown.latency_ms {
        text += &format!(", {latency} ms");
    }
    if shown.bytes > 0 {
        text += &format!(", {} fetched", HumanBytes(shown.bytes));
    }
    if !shown.reason.is_empty() {
        text += &format!("\n      {}", shown.reason);
    }
    if let Some(next_try) = shown.next_try.as_ref().filter(|_| shown.verdict != "in-use") {
        text += &format!("\n      next try {next_try}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::shown::Held;
    use serde_json::{Value, json};

    const SCHEMA: &str = include_str!("../../docs/schema/sources.schema.json");

    /// Every field that a document can have.
    fn full() -> Document {
        let bundle = Held {
            id: format!("sha256:{}", "0".repeat(64)),
            name: "v1.34.0-calico".to_owned(),
            kubernetes: Some("v1.34.0".to_owned()),
        };
        let time = "2026-01-01T00:00:00Z".to_owned();
        let shown = Shown {
            entry: "disc".to_owned(),
            source: "/dev/sr0".to_owned(),
            verdict: "SOURCE_TRUNCATED".to_owned(),
            reason: "ends after 5 bytes".to_owned(),
            bundle: Some(bundle.clone()),
            label: Some("ISOIMAGE".to_owned()),
            latency_ms: Some(3),
            tries: 1,
            next_try: Some(time.clone()),
            bytes: 7,
        };
        let next = Some("/dev/sr0".to_owned());
        Document { schema: 1, running: true, bundle: Some(bundle), next, sources: vec![shown], updated: time }
    }

    #[test]
    fn the_schema_says_what_is_told_and_nothing_else() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let whole = serde_json::to_value(full()).unwrap();
        assert!(validator.is_valid(&whole), "{:?}", validator.validate(&whole));
        for place in ["", "/sources/0", "/bundle"] {
            let at = |value: &Value| value.pointer(place).unwrap().as_object().unwrap().clone();
            let object = schema.pointer(match place {
                "" => "",
                "/bundle" => "/$defs/held",
                _ => "/$defs/source",
            });
            let object = object.unwrap();
            let mut told: Vec<String> = at(&whole).keys().cloned().collect();
            let mut described: Vec<String> = object["properties"].as_object().unwrap().keys().cloned().collect();
            told.sort();
            described.sort();
            assert_eq!(told, described, "{place}: all fields are told here");
            for field in &told {
                let mut less = whole.clone();
                less.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(field);
                let required = object["required"].as_array().unwrap().contains(&json!(field));
                assert_eq!(validator.is_valid(&less), !required, "{place}/{field}");
                let reads = serde_json::from_value::<Document>(less).is_ok();
                assert_eq!(reads, !required, "{place}/{field}");
            }
            let mut more = whole.clone();
            more.pointer_mut(place).unwrap()["unheard_of"] = json!(1);
            assert!(!validator.is_valid(&more), "{place}");
        }
    }

    #[tokio::test]
    async fn looking_tells_why_nothing_can_be_used() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let named = root.path().join("none.iso").to_string_lossy().into_owned();
        let sources = vec!["disc".to_owned(), named.clone(), "ftp://x/".to_owned()];
        let document = look(&host, &Config { sources, ..Config::default() }).await.unwrap();
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let value = serde_json::to_value(&document).unwrap();
        assert!(jsonschema::is_valid(&schema, &value), "{value}");
        let verdicts: Vec<&str> = document.sources.iter().map(|shown| shown.verdict.as_str()).collect();
        assert_eq!(verdicts, ["MEDIA_NOT_FOUND", "MEDIA_NOT_FOUND", "CONFIG_INVALID"]);
        let text = lines(&document);
        assert!(text.contains(&format!(" 2  {named} MEDIA_NOT_FOUND")) && text.contains("no source holds"), "{text}");
    }
}
