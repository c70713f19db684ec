//! `cks-agent volumes`: what is staged and published on this machine, where, and from which disk.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use serde::Serialize;

use super::DRIVER;
use crate::cli;
use crate::config::Config;
use crate::host::Host;
use crate::volume::{self, Found};

/// What `--json` prints (`docs/schema/volumes.schema.json`).
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: u32,
    volumes: &'a [Found],
}

/// Prints the volumes. Returns the exit code: 0, or 1 when a volume is not what it is said to be.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `CONFIG_INVALID`, `IO`.
pub fn print(arguments: &cli::Volumes) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let kubelet = Config::read(&host, None)?.csi.kubelet;
    let found = volume::list(&host, &kubelet, DRIVER)
        .map_err(|refusal| Failure::new(Code::Io, "Looking at the node's volumes").with_source(refusal))?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&Document { schema: 1, volumes: &found }).unwrap_or_default() + "\n"
    } else {
        lines(&found)
    };
    // A reader that went away is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(u8::from(found.iter().any(|found| found.wrong.is_some())))
}

/// As a person reads it.
fn lines(found: &[Found]) -> String {
    if found.is_empty() {
        return "no volume is mounted\n".to_owned();
    }
    let mut text = String::new();
    for volume in found {
        let disk = volume.disk.as_deref().or(volume.device.as_deref()).unwrap_or("no disk");
        let serial = volume.serial.as_deref().unwrap_or("none");
        // Writing to a text can't fail.
        let _ = writeln!(text, "{}  {}  {} (serial {})", plain(&volume.volume), volume.filesystem, disk, plain(serial));
        if let (Some(encryption), Some(mapping)) = (volume.encryption, &volume.mapping) {
            let _ = writeln!(text, "  encrypted {encryption}, {}", plain(mapping));
        }
        let places = |name: &'static str, paths: &[PathBuf]| {
            paths.iter().map(|path| format!("  {name:<9} {}\n", plain(&path.to_string_lossy()))).collect::<String>()
        };
        text += &places("staged", &volume.staged);
        text += &places("published", &volume.published);
        if let Some(wrong) = &volume.wrong {
            let _ = writeln!(text, "  WRONG     {}", plain(wrong));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(wrong: Option<&str>) -> Found {
        Found {
            volume: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".to_owned(),
            disk: Some("vdb".to_owned()),
            device: Some("254:16".to_owned()),
            serial: Some("0a1b2c3d4e5f60718293".to_owned()),
            encryption: None,
            mapping: None,
            filesystem: "ext4".to_owned(),
            staged: vec!["/s".into()],
            published: vec!["/p".into(), "/q".into()],
            wrong: wrong.map(str::to_owned),
        }
    }

    fn encrypted() -> Found {
        let mapping = Some("cks-0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".to_owned());
        Found { encryption: Some("luks2"), mapping, ..found(None) }
    }

    #[test]
    fn each_place_has_a_line() {
        assert_eq!(
            lines(&[found(Some("its disk is gone"))]),
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9  ext4  vdb (serial 0a1b2c3d4e5f60718293)\n  staged    /s\n  \
             published /p\n  published /q\n  WRONG     its disk is gone\n"
        );
        assert_eq!(lines(&[]), "no volume is mounted\n");
        let told = lines(&[encrypted()]);
        assert!(told.contains("\n  encrypted luks2, cks-0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\n  staged "), "{told}");
    }

    #[test]
    fn the_document_is_as_its_schema_says() {
        let schema = serde_json::from_str(include_str!("../../../docs/schema/volumes.schema.json")).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        for found in [found(None), found(Some("x")), encrypted()] {
            let volumes = [found];
            let document = serde_json::to_value(Document { schema: 1, volumes: &volumes }).unwrap();
            schema.validate(&document).unwrap();
            let mut other = document;
            other["volumes"][0]["more"] = 1.into();
            assert!(schema.validate(&other).is_err());
        }
    }
}
