//! The call that makes an ISO known to CloudStack.

use std::path::Path;

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;

use crate::init::arch_suffix;
use crate::spec::upstream::bare;

/// CloudStack's own minimum for a node: processors, and MiB of memory.
const MINIMUM: (u32, u32) = (2, 2048);

/// `addKubernetesSupportedVersion` as CloudMonkey takes it, with placeholders for what only the operator
/// knows; none for an ISO without Kubernetes.
#[must_use]
pub fn call(manifest: &Manifest, iso: &Path, sha256: Digest) -> Option<String> {
    let version = bare(manifest.kubernetes.as_deref()?);
    let file = iso.file_name().unwrap_or_default().to_string_lossy();
    let (cpus, memory) = MINIMUM;
    // A bare checksum would be taken for MD5.
    Some(format!(
        "cmk add kubernetessupportedversion name={name} semanticversion={version} {url} zoneid=ZONE \
         'checksum={{SHA-256}}{sha256}' arch={arch} mincpunumber={cpus} minmemory={memory}",
        name = quoted(&manifest.name),
        url = quoted(&format!("url=http://SERVER/{file}")),
        sha256 = sha256.hex(),
        arch = arch_suffix(manifest.arch),
    ))
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+=:/".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_can_be_pasted_into_a_shell() {
        let text = r#"{"schema":1,"name":"v1.33.1 it's","kubernetes":"v1.33.1","arch":"arm64","entries":[]}"#;
        let mut manifest = Manifest::parse(text.as_bytes()).unwrap();
        let digest = Digest::of(b"iso");
        let said = call(&manifest, Path::new("/tmp/a.iso"), digest).unwrap();
        let want = format!(
            "cmk add kubernetessupportedversion name='v1.33.1 it'\\''s' semanticversion=1.33.1 url=http://SERVER/a.iso \
             zoneid=ZONE 'checksum={{SHA-256}}{}' arch=aarch64 mincpunumber=2 minmemory=2048",
            digest.hex()
        );
        assert_eq!(said, want);
        manifest.kubernetes = None;
        assert_eq!(call(&manifest, Path::new("a.iso"), digest), None);
    }
}
