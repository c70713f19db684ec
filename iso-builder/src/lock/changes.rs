//! What a new lock brings against the old one.

use super::{Lock, LockedFile, LockedImage};

/// The differences, as one line each: `+`, `-` or `~`, and what it is.
#[must_use]
pub fn changes(old: Option<&Lock>, new: &Lock) -> Vec<String> {
    let empty = Lock { files: Vec::new(), images: Vec::new(), components: Vec::new(), ..new.clone() };
    let old = old.unwrap_or(&empty);
    let mut lines = Vec::new();
    if old.epoch != new.epoch {
        lines.push(format!("~ epoch {} → {}", old.epoch, new.epoch));
    }
    if old.node != new.node {
        lines.push("~ node: kernel settings or kubeadm arguments".to_owned());
    }
    let named = |lock: &Lock| -> Vec<(String, String)> {
        let files = lock.files.iter().map(|file| (file.key.clone(), of_file(file)));
        files.chain(lock.images.iter().map(|image| (image.reference.clone(), of_image(image)))).collect()
    };
    let (before, after) = (named(old), named(new));
    for (name, now) in &after {
        match before.iter().find(|(other, _)| other == name) {
            None => lines.push(format!("+ {name} {now}")),
            Some((_, then)) if then != now => lines.push(format!("~ {name} {then} → {now}")),
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.iter().any(|(other, _)| other == name));
    lines.extend(gone.map(|(name, then)| format!("- {name} {then}")));
    lines
}

/// What a person tells a file's two states apart by: its digest, and where it came from.
fn of_file(file: &LockedFile) -> String {
    let digest = file.sha256.map(|digest| digest.short()).unwrap_or_default();
    let origin = file.url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
    let replaced = match file.replaced.len() {
        0 => String::new(),
        count => format!(" (texts replaced: {count})"),
    };
    format!("{digest}{origin}{replaced}")
}

fn of_image(image: &LockedImage) -> String {
    image.manifest.digest.short()
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn what_came_went_and_changed_is_told() {
        let old = sample();
        assert_eq!(changes(Some(&old), &old), [""; 0]);
        assert_eq!(changes(None, &old).len(), 3);
        let mut new = old.clone();
        new.files[1].key = "cri-tools".to_owned();
        new.images[0].manifest.digest = bootstrap::digest::Digest::of(b"other");
        new.epoch += 1;
        let lines = changes(Some(&old), &new);
        let starts: Vec<_> = lines.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(starts, ["~ epoch", "+ cri-tools", "~ registry.k8s.io/pause:3.10", "- etcd"]);
    }
}
