//! Inputs that are far.

use std::fs;

use bootstrap::digest::Digest;

use crate::fetching::content;
use crate::fixture::{Bed, End, Reply, Server, try_run};

#[test]
fn downloads_are_checked_and_kept() {
    let bed = Bed::new();
    let kubelet = fs::read(bed.path("bin/kubelet")).unwrap();
    let server = Server::start(&[("/kubelet", "200 OK", kubelet.clone())]);
    let digest = Digest::of(&kubelet).hex();
    let input = format!("url = \"{}\", sha256 = \"{digest}\"", server.url("/kubelet"));
    bed.edit("file = \"bin/kubelet\"", &input);
    let first = fs::read(bed.build()).unwrap();
    assert!(first == fs::read(bed.build()).unwrap());
    assert_eq!(server.asked(), 1, "the second build takes the cache");

    // A damaged cache is not trusted, and what a killed download left is taken over.
    bed.write(&format!("cache/sha256/{digest}"), "damaged");
    bed.write(&format!("cache/sha256/.{digest}.partial"), "half");
    assert!(first == fs::read(bed.build()).unwrap());
    assert_eq!(server.asked(), 2);
    assert_eq!(fs::read_dir(bed.path("cache/sha256")).unwrap().count(), 1, "no temporary file stays");

    // The same ISO as from local files.
    assert!(first == fs::read(Bed::new().build()).unwrap());
}

#[test]
fn passwords_are_sent_but_not_shown() {
    let server = Server::start(&[("/other", "200 OK", b"other".to_vec())]);
    let digest = Digest::of(b"wanted").hex();
    for url in [server.url("/missing"), server.url("/other"), "http://127.0.0.1:1/kubelet".to_owned()] {
        let bed = Bed::new();
        let with_password = url.replace("http://", "http://me:secret@");
        bed.edit("file = \"bin/kubelet\"", &format!("url = \"{with_password}\", sha256 = \"{digest}\""));
        let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(&url), "{said}");
        assert!(!said.contains("secret") && !said.contains("me:"), "{said}");
    }
}

#[test]
fn refused_downloads_have_their_codes() {
    let server = Server::start(&[
        ("/broken", "503 Service Unavailable", b"later".to_vec()),
        ("/denied", "403 Forbidden", b"<html>".to_vec()),
        ("/other", "200 OK", b"other".to_vec()),
    ]);
    let digest = Digest::of(b"wanted").hex();
    for (url, code, exit) in [
        (server.url("/missing"), "SOURCE_FILE_MISSING", 65),
        (server.url("/broken"), "SOURCE_UNREACHABLE", 75),
        (server.url("/denied"), "SOURCE_INVALID", 65),
        (server.url("/other"), "DIGEST_MISMATCH", 65),
        ("http://127.0.0.1:1/kubelet".to_owned(), "SOURCE_UNREACHABLE", 75),
    ] {
        let bed = Bed::new();
        bed.edit("file = \"bin/kubelet\"", &format!("url = \"{url}\", sha256 = \"{digest}\""));
        let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("error[{code}]: kubernetes.kubelet: ")), "{said}");
        assert!(said.contains(&url) && said.contains("\nremedy: "), "{said}");
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(!bed.path("out.iso").exists() && bed.hidden().is_empty());
        assert_eq!(fs::read_dir(bed.path("cache/sha256")).unwrap().count(), 0);
    }
}

#[test]
fn a_killed_build_leaves_a_cache_that_the_next_goes_on_with() {
    let bed = Bed::new();
    let bytes = content(300_000);
    let served = bytes.clone();
    let server = Server::scripted(move |request, number| match number {
        0 => Reply::file(request, &served).cut(100_000, End::Silence),
        _ => Reply::file(request, &served),
    });
    let digest = Digest::of(&bytes).hex();
    bed.edit("file = \"calico.yaml\"", &format!("url = \"{}\", sha256 = \"{digest}\"", server.url("/f")));
    let program = env!("CARGO_BIN_EXE_cks-iso");
    let args = ["-s", "KILL", "2", program, "build", "spec.toml", "-o", "out.iso"];
    assert!(!try_run(bed.dir(), "timeout", &args).status.success());
    assert!(!bed.path("out.iso").exists());
    // It is no text, which is told once all of it is there.
    let said = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("is no text"));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].from(), Some(100_000));
    assert!(fs::read(bed.path(&format!("cache/sha256/{digest}"))).unwrap() == bytes);
}

#[test]
fn progress_is_shown_as_asked_for() {
    let bed = Bed::new();
    let kubelet = fs::read(bed.path("bin/kubelet")).unwrap();
    let server = Server::start(&[("/kubelet", "200 OK", kubelet.clone())]);
    let digest = Digest::of(&kubelet).hex();
    bed.edit("file = \"bin/kubelet\"", &format!("url = \"{}\", sha256 = \"{digest}\"", server.url("/kubelet")));
    let build = |how: &str| {
        let _ = fs::remove_file(bed.path(&format!("cache/sha256/{digest}")));
        let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso", "--progress", how]);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let events: Vec<serde_json::Value> = build("json")
        .lines()
        .filter(|line| !line.starts_with("warning: "))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| events.iter().filter(|event| event["name"] == name).collect::<Vec<_>>();
    let (size, kubelet) = (kubelet.len(), of("kubernetes.kubelet"));
    assert_eq!((kubelet[0]["event"].as_str(), kubelet[0]["phase"].as_str()), (Some("start"), Some("Downloading")));
    let last = kubelet.last().unwrap();
    assert_eq!((last["event"].as_str(), last["bytes"].as_u64()), (Some("done"), Some(size as u64)));
    assert!(events.iter().any(|event| event["phase"] == "Writing" && event["event"] == "done"));
    assert!(build("lines").contains(" Downloading kubernetes.kubelet, "));
    assert!(!build("none").contains("Downloading"));
}

#[test]
fn an_offline_build_asks_nobody() {
    let bed = Bed::new();
    let server = Server::start(&[]);
    let input = format!("url = \"{}\", sha256 = \"{}\"", server.url("/kubelet"), Digest::of(b"x").hex());
    bed.edit("file = \"bin/kubelet\"", &input);
    let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso", "--offline"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("error[NOT_CACHED]: the cache lacks kubernetes.kubelet ") && said.contains("/kubelet"),
        "{said}"
    );
    assert_eq!((output.status.code(), server.asked()), (Some(78), 0));
    bed.write("bad.toml", "[http]\nproxi = 1\n");
    let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso", "--config", "bad.toml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("error[CONFIG_INVALID]: bad.toml: line 2: unknown field `proxi`"), "{said}");
}

#[test]
fn a_bundle_behind_a_url_is_reached_as_configured() {
    let bed = Bed::new();
    let iso = fs::read(bed.build()).unwrap();
    let url = "http://bundles.invalid/out.iso";
    let proxy = Server::start(&[(url, "200 OK", iso)]);
    bed.write("proxy.toml", format!("[http]\nproxy = \"{}\"\n", proxy.url("")));
    for (command, more) in [("verify", None), ("inspect", None), ("diff", Some(url))] {
        let mut call = vec![command, url, "--config", "proxy.toml", "--progress", "json"];
        call.extend(more);
        let output = bed.cks_iso(&call);
        assert!(output.status.success() && output.stderr.starts_with(b"{\"event\":\"start\""), "{output:?}");
    }
    assert_eq!(proxy.asked(), 4);
    // What lies on this machine needs no configuration.
    let output = bed.cks_iso(&["verify", "out.iso", "--config", "missing.toml", "--progress", "none"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let output = bed.cks_iso(&["verify", url, "--config", "missing.toml"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("error[CONFIG_INVALID]: missing.toml"), "{output:?}");
}
