//! The lock as TOML. It is written by hand, so that a diff of two locks shows a line per change.

use std::fmt::Write;

use super::{Lock, LockedBlob, LockedFile, LockedImage};
use crate::text::quoted;

const HEADER: &str = "\
# Made by cks-iso lock: the exact bytes that the spec stood for when this was made. Keep it beside the spec,
# under version control. cks-iso build --locked takes nothing else; cks-iso lock --update looks again.

";

/// The text of `lock`.
pub(super) fn of(lock: &Lock) -> String {
    let mut text = HEADER.to_owned();
    line(&mut text, "version", lock.version);
    line(&mut text, "name", quoted(&lock.name));
    line(&mut text, "arch", quoted(lock.arch.as_str()));
    line(&mut text, "epoch", lock.epoch);
    line(&mut text, "spec", quoted(&lock.spec.to_string()));
    for component in &lock.components {
        text += "\n[[components]]\n";
        line(&mut text, "name", quoted(&component.name));
        line(&mut text, "version", quoted(&component.version));
    }
    if !lock.node().is_empty() {
        text += "\n[node]\n";
        list(&mut text, "kubeadm-arguments", lock.node.kubeadm_arguments.iter().map(|argument| quoted(argument)));
        if !lock.node.sysctl.is_empty() {
            text += "\n[node.sysctl]\n";
        }
        for (key, value) in &lock.node.sysctl {
            line(&mut text, &quoted(key), quoted(value));
        }
    }
    for locked in &lock.files {
        file(&mut text, locked);
    }
    for locked in &lock.images {
        image(&mut text, locked);
    }
    text
}

fn file(text: &mut String, file: &LockedFile) {
    *text += "\n[[files]]\n";
    line(text, "key", quoted(&file.key));
    for (key, value) in [("path", &file.path), ("url", &file.url), ("file", &file.file), ("built-in", &file.built_in)] {
        if let Some(value) = value {
            line(text, key, quoted(value));
        }
    }
    if let Some(packed) = &file.packed {
        list(text, "packed", packed.iter().map(|path| quoted(path)));
    }
    for (key, digest) in [("chart", file.chart), ("sha256", file.sha256)] {
        if let Some(digest) = digest {
            line(text, key, quoted(&digest.to_string()));
        }
    }
    line(text, "size", file.size);
    if let Some(checked) = &file.checked {
        line(text, "checked", quoted(checked));
    }
    if !file.replaced.is_empty() {
        list(text, "replaced", file.replaced.iter().map(|(from, to)| format!("[{}, {}]", quoted(from), quoted(to))));
    }
}

fn image(text: &mut String, image: &LockedImage) {
    *text += "\n[[images]]\n";
    line(text, "reference", quoted(&image.reference));
    list(text, "named-by", image.named_by.iter().map(|by| quoted(by)));
    if let Some(index) = image.index {
        line(text, "index", quoted(&index.to_string()));
    }
    line(text, "manifest", blob(&image.manifest));
    line(text, "config", blob(&image.config));
    list(text, "layers", image.layers.iter().map(blob));
    list(text, "diff-ids", image.diff_ids.iter().map(|digest| quoted(&digest.to_string())));
}

fn blob(blob: &LockedBlob) -> String {
    let (digest, media_type) = (quoted(&blob.digest.to_string()), quoted(&blob.media_type));
    format!("{{ digest = {digest}, size = {}, media-type = {media_type} }}", blob.size)
}

fn line(text: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing into a String does not fail.
    let _ = writeln!(text, "{key} = {value}");
}

fn list(text: &mut String, key: &str, values: impl Iterator<Item = String>) {
    let values: Vec<_> = values.collect();
    match values.as_slice() {
        [] => line(text, key, "[]"),
        [one] if one.len() < 80 => line(text, key, format!("[{one}]")),
        _ => line(text, key, format!("[\n    {},\n]", values.join(",\n    "))),
    }
}
