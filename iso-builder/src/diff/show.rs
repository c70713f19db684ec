//! A difference as text.

use std::fmt::{self, Write};

use bootstrap::text::plain;
use indicatif::HumanBytes;

use super::{Change, Difference, Side};
use crate::columns::{WIDTH, bytes, cell, count, cut};

/// Characters of the column with names.
const NAMES: usize = 62;

impl Difference {
    fn all(&self, out: &mut String) -> fmt::Result {
        side("A", &self.a, out)?;
        side("B", &self.b, out)?;
        self.notes.iter().try_for_each(|note| writeln!(out, "Note  {}", plain(note)))?;
        title("Components", &self.components, out)?;
        for change in &self.components {
            let version = |version: &Option<String>| version.as_deref().map_or("none".to_owned(), |text| cut(text, 30));
            writeln!(
                out,
                "  {} {}  {} → {}",
                sign(change),
                cell(&change.name, 20),
                version(&change.old),
                version(&change.new)
            )?;
        }
        title("Files", &self.files, out)?;
        for change in &self.files {
            let sizes = match (change.old, change.new) {
                (Some(old), Some(new)) => format!("{} → {}", bytes(old), bytes(new).trim_start()),
                (old, new) => bytes(old.or(new).unwrap_or_default()),
            };
            writeln!(out, "  {} {} {sizes}", sign(change), cell(&change.name, NAMES))?;
        }
        match (self.images.is_empty(), self.retagged.len()) {
            (true, 1..) => writeln!(out, "\nImages: the same under other names")?,
            _ => title("Images", &self.images, out)?,
        }
        for change in &self.images {
            let digests = match (change.old, change.new) {
                (Some(old), Some(new)) => format!("{} → {}", old.short(), new.short()),
                (old, new) => old.or(new).map(|digest| digest.short()).unwrap_or_default(),
            };
            writeln!(out, "  {} {} {digests}", sign(change), cell(&change.name, NAMES))?;
        }
        for (old, new) in &self.retagged {
            writeln!(out, "  = {} → {}", cut(old, 51), cut(new, 51))?;
        }
        self.objects(out)?;
        self.bytes(out)
    }

    fn objects(&self, out: &mut String) -> fmt::Result {
        for (at, manifest) in self.manifests.iter().enumerate() {
            if at == 0 {
                writeln!(out, "\nKubernetes manifests")?;
            }
            let objects = format!("{} added, {} removed", manifest.added.len(), manifest.removed.len());
            writeln!(out, "    {} {objects}", cell(&manifest.path, NAMES))?;
            for (sign, names) in [("+", &manifest.added), ("-", &manifest.removed)] {
                names.iter().try_for_each(|name| writeln!(out, "      {sign} {}", cut(name, WIDTH - 8)))?;
            }
        }
        Ok(())
    }

    fn bytes(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nImage blobs")?;
        for (name, amount) in [("shared", self.shared), ("new in B", self.new), ("gone", self.gone)] {
            writeln!(out, "    {name:13} {}  {}", bytes(amount.bytes), count(amount.blobs, "blob"))?;
        }
        writeln!(out, "\nA node that has A fetches for B")?;
        for fetch in &self.fetches {
            let what = format!("{}, {}", count(fetch.files, "file"), count(fetch.blobs, "blob"));
            writeln!(out, "    {:13} {}  {what}", fetch.role.as_str(), bytes(fetch.bytes))?;
        }
        Ok(())
    }
}

fn side(letter: &str, side: &Side, out: &mut String) -> fmt::Result {
    let about = format!("{}, {}, {}", plain(&side.name), side.arch, HumanBytes(side.size));
    writeln!(out, "{letter}     {}\n      {about}", plain(&side.path))
}

fn title<T>(name: &str, changes: &[Change<T>], out: &mut String) -> fmt::Result {
    let of = |wanted: &str| changes.iter().filter(|change| sign(change) == wanted).count();
    match changes.len() {
        0 => writeln!(out, "\n{name}: the same"),
        _ => writeln!(out, "\n{name}: {} added, {} removed, {} changed", of("+"), of("-"), of("~")),
    }
}

fn sign<T>(change: &Change<T>) -> &'static str {
    match (&change.old, &change.new) {
        (None, _) => "+",
        (_, None) => "-",
        _ => "~",
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.all(&mut out)?;
        f.write_str(&out)
    }
}
