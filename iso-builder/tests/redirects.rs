//! What servers learn that somebody is sent to, and what is believed of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use bootstrap::failure::Code;
use iso_builder::access::{Access, Patience};
use iso_builder::cache::Cache;
use iso_builder::fetch::{Fetched, Wanted, fetch_all};
use iso_builder::progress::Progress;
use iso_builder::registry::resolve;

use crate::fetching::{content, quick};
use crate::fixture::registry::Content;
use crate::fixture::{End, Reply, Server};

fn fetch(url: &str, sha256: Option<Digest>) -> Result<(Fetched, Vec<u8>), bootstrap::failure::Failure> {
    let dir = tempfile::tempdir().unwrap();
    let wanted = Wanted { url: url.parse().unwrap(), sha256, size: None, name: "it".to_owned() };
    let fetched = fetch_all(&[wanted], &quick(), &Cache::new(dir.path()), Progress::Silent)?.remove(0);
    let bytes = fs::read(&fetched.path).unwrap();
    Ok((fetched, bytes))
}

#[test]
fn the_query_of_a_url_is_for_its_server_alone() {
    let other = Server::start(&[("/g", "200 OK", b"bytes".to_vec())]);
    let target = other.url("/g");
    let server = Server::scripted(move |_, _| Reply::new("302 Found", "").with("Location", target.clone()));
    fetch(&server.url("/f?token=hidden"), Some(Digest::of(b"bytes"))).unwrap();
    let seen = format!("{:?}", other.requests());
    assert!(other.asked() == 1 && !seen.contains("hidden"), "{seen}");
}

#[test]
fn a_refresh_token_is_for_its_realm_alone() {
    let other = Server::scripted(|_, _| Reply::new("200 OK", r#"{"token":"t0"}"#));
    let target = other.url("/token");
    let realm = Server::scripted(move |_, _| Reply::new("307 Temporary Redirect", "").with("Location", target.clone()));
    let mut images = Content { uses: 1000, realm: Some(realm.url("/token")), ..Content::default() };
    images.image("1", &serde_json::json!({ "os": "linux", "architecture": "amd64" }), &[b"layer".to_vec()]);
    let registry = images.serve();
    let logins = format!(r#"{{"auths":{{"{}":{{"identitytoken":"refresh-me"}}}}}}"#, registry.host());
    let patience = Patience { retries: 1, pause: Duration::from_millis(1), ..Patience::default() };
    let config = format!("[registries.\"{}\"]\ninsecure = true", registry.host());
    let access = Access::parse(&config, Path::new("")).unwrap().with_docker(&logins).unwrap().with_patience(patience);
    let dir = tempfile::tempdir().unwrap();
    let reference = format!("{}/a:1", registry.host());
    let resolved = resolve(&[reference], Arch::Amd64, &access, &Cache::new(dir.path()), Progress::Silent);
    // The server leaves the last byte unread.
    assert!(realm.requests()[0].body.contains("refresh_token=refresh-m"));
    assert_eq!(other.asked(), 0, "{:?}", other.requests());
    let failure = resolved.unwrap_err();
    assert!(failure.code == Code::RegistryDenied && failure.what.contains("/token"), "{failure}");
}

#[test]
fn nothing_but_http_is_followed() {
    for target in ["file:///etc/hostname", "ftp://127.0.0.1/f", "data:text/plain,x"] {
        let server = Server::scripted(move |_, _| Reply::new("302 Found", "").with("Location", target));
        let failure = fetch(&server.url("/f"), None).unwrap_err();
        assert_eq!((failure.code, server.asked()), (Code::SourceInvalid, 1), "{target}: {failure}");
    }
}

#[test]
fn two_versions_of_one_second_are_not_mixed() {
    let date = "Sat, 21 Nov 2026 17:00:00 GMT";
    let (old, new) = (content(50_000), content(50_001)[1..].to_vec());
    let server = Server::scripted({
        let new = new.clone();
        move |request, number| {
            let bytes = if number == 0 { &old } else { &new };
            let fits = request.header("if-range").is_none_or(|told| told == date);
            let reply = match request.from().filter(|_| fits) {
                Some(from) => Reply::new("206 Partial Content", &bytes[from..])
                    .with("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
                None => Reply::new("200 OK", &bytes[..]),
            };
            let reply = reply.with("Last-Modified", date).with("Date", date);
            if number == 0 { reply.cut(20_000, End::Close) } else { reply }
        }
    });
    let (_, bytes) = fetch(&server.url("/f"), None).unwrap();
    assert!(bytes == new, "a mixture of two versions");
}
