//! Downloads through every fault that servers have.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use iso_builder::access::{Access, Patience};
use iso_builder::cache::Cache;
use iso_builder::fetch::{Fetched, Wanted, fetch_all, text};
use iso_builder::partial::hidden;
use iso_builder::progress::Progress;
use tempfile::TempDir;

use crate::fixture::{End, Reply, Request, Server, run_alone};

/// Bytes that no pattern repeats.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Patience for tests: quick, and soon at its end.
pub(crate) fn quick() -> Access {
    let short = Duration::from_millis(1);
    Access::default().with_patience(Patience { retries: 2, pause: short, longest: short, ..Patience::default() })
}

fn wanted(server: &Server, path: &str, sha256: Option<Digest>, size: Option<u64>) -> Wanted {
    Wanted { url: server.url(path).parse().unwrap(), sha256, size, name: "it".to_owned() }
}

struct Bed {
    _dir: TempDir,
    cache: Cache,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { cache: Cache::new(dir.path().join("cache")), _dir: dir }
    }

    fn fetch(&self, wanted: &Wanted) -> Result<Fetched, Failure> {
        self.fetch_with(wanted, &quick())
    }

    fn fetch_with(&self, wanted: &Wanted, access: &Access) -> Result<Fetched, Failure> {
        fetch_all(std::slice::from_ref(wanted), access, &self.cache, Progress::Silent).map(|mut all| all.remove(0))
    }

    /// The names in the cache.
    fn names(&self) -> Vec<String> {
        let list = fs::read_dir(self.cache.root().join("sha256")).unwrap();
        list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn froms(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(Request::from).collect()
}

#[test]
fn a_break_costs_only_the_bytes_that_are_missing() {
    let bytes = Arc::new(content(300_000));
    for end in [End::Close, End::Reset, End::Silence] {
        for known in [true, false] {
            let bed = Bed::new();
            let served = Arc::clone(&bytes);
            let server = Server::scripted(move |request, number| match number {
                0 => Reply::file(request, &served).cut(100_000, end),
                _ => Reply::file(request, &served),
            });
            let access = quick().with_patience(Patience {
                silence: Duration::from_millis(400),
                pause: Duration::from_millis(1),
                ..Patience::default()
            });
            let wanted = wanted(&server, "/f", known.then(|| Digest::of(&bytes)), None);
            let fetched = bed.fetch_with(&wanted, &access).unwrap();
            assert!(fs::read(&fetched.path).unwrap() == *bytes);
            assert_eq!((fetched.sha256, fetched.size), (Digest::of(&bytes), 300_000));
            let froms = froms(&server);
            assert_eq!(froms.len(), 2, "{end:?}");
            // A reset may overtake bytes that were sent before it.
            let from = froms[1].unwrap_or(0);
            assert!(if end == End::Reset { from <= 100_000 } else { from == 100_000 }, "{end:?}: {froms:?}");
            assert_eq!(server.requests()[1].header("if-range").is_some(), !known && froms[1].is_some());
        }
    }
}

#[test]
fn what_an_interrupted_run_left_is_gone_on_with() {
    let bytes = content(200_000);
    let digest = Digest::of(&bytes);
    for (left, asked) in [
        (bytes[..70_000].to_vec(), vec![Some(70_000)]),
        // Whole already, but killed before it had its name.
        (bytes.clone(), vec![]),
        // Not of this file: told by the digest, and all comes anew.
        (vec![7; 50_000], vec![Some(50_000), None]),
        // Longer than the file.
        (vec![7; 300_000], vec![Some(300_000), None]),
    ] {
        let bed = Bed::new();
        let served = bytes.clone();
        let server = Server::scripted(move |request, _| Reply::file(request, &served));
        let path = bed.cache.path(digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(hidden(&path), &left).unwrap();
        bed.fetch(&wanted(&server, "/f", Some(digest), None)).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        assert_eq!(froms(&server), asked);
        assert_eq!(bed.names().len(), 1);
    }
}

#[test]
fn what_failed_is_kept_for_the_next_run() {
    let bytes = content(200_000);
    for known in [true, false] {
        let bed = Bed::new();
        let served = bytes.clone();
        let server = Server::scripted(move |request, number| match number {
            0..3 => Reply::file(request, &served).cut(30_000, End::Close),
            _ => Reply::file(request, &served),
        });
        let wanted = wanted(&server, "/f", known.then(|| Digest::of(&bytes)), None);
        let failure = bed.fetch(&wanted).unwrap_err();
        assert_eq!(failure.code, Code::SourceTruncated, "{failure}");
        assert!(failure.what.starts_with(&format!("it: {}", server.url("/f"))), "{failure}");
        bed.fetch(&wanted).unwrap();
        assert_eq!(froms(&server), [None, Some(30_000), Some(60_000), Some(90_000)]);
    }
}

#[test]
fn without_a_digest_two_versions_are_never_mixed() {
    let (old, new) = (content(200_000), content(210_000).into_iter().rev().collect::<Vec<_>>());
    for ignores_if_range in [false, true] {
        let bed = Bed::new();
        let (first, second) = (old.clone(), new.clone());
        let server = Server::scripted(move |request, number| match number {
            0 => Reply::file(request, &first).cut(50_000, End::Close),
            _ => {
                let mut request = request.clone();
                if ignores_if_range {
                    request.headers.remove("if-range");
                }
                Reply::file(&request, &second)
            }
        });
        let fetched = bed.fetch(&wanted(&server, "/f", None, None)).unwrap();
        assert!(fs::read(fetched.path).unwrap() == new);
    }
    // Without a validator nothing tells the versions apart.
    let bed = Bed::new();
    let served = new.clone();
    let server = Server::scripted(move |request, number| {
        let whole = Request { headers: Default::default(), ..request.clone() };
        let reply =
            if number == 0 { Reply::new("200 OK", &old[..]).cut(9, End::Close) } else { Reply::file(&whole, &served) };
        reply.with("X-Number", number.to_string())
    });
    assert!(fs::read(bed.fetch(&wanted(&server, "/f", None, None)).unwrap().path).unwrap() == new);
    assert_eq!(froms(&server), [None, None]);
}

#[test]
fn what_did_not_change_does_not_come_again() {
    let bed = Bed::new();
    let bytes = content(1000);
    let served = bytes.clone();
    let server = Server::scripted(move |request, number| {
        Reply::file(request, if number < 2 { &served } else { b"new version" })
    });
    let wanted = wanted(&server, "/f", None, None);
    let first = bed.fetch(&wanted).unwrap();
    assert_eq!(bed.fetch(&wanted).unwrap(), first);
    assert!(server.requests()[1].header("if-none-match").is_some());
    assert_eq!(bed.fetch_with(&wanted, &quick().offline()).unwrap(), first);
    assert_eq!(server.asked(), 2);
    assert_eq!(bed.fetch(&wanted).unwrap().sha256, Digest::of(b"new version"));
    // A damaged cache is not believed.
    fs::write(bed.cache.path(Digest::of(b"new version")), "damaged").unwrap();
    assert_eq!(bed.fetch(&wanted).unwrap().sha256, Digest::of(b"new version"));
    assert_eq!(server.requests()[3].header("if-none-match"), None);
}

#[test]
fn servers_that_ignore_ranges_or_are_busy_are_borne() {
    let bytes = content(200_000);
    let bed = Bed::new();
    let served = bytes.clone();
    let server = Server::scripted(move |request, number| match number {
        0 => Reply::new("503 Service Unavailable", "").with("Retry-After", "3600"),
        1 => Reply::file(request, &served).cut(50_000, End::Close),
        2 => Reply::new("200 OK", &served[..]),
        _ => panic!("{request:?}"),
    });
    bed.fetch(&wanted(&server, "/f", Some(Digest::of(&bytes)), None)).unwrap();
    assert_eq!(froms(&server), [None, None, Some(50_000)]);
}

#[test]
fn each_fault_has_its_code() {
    let html = "<!DOCTYPE html><title>Log in</title>";
    let good = content(5000);
    let digest = Digest::of(&good);
    let (known, sized) = (Some(digest), Some(5000));
    type Case<'a> = (&'a str, Option<Digest>, Option<u64>, Code, &'a str, usize);
    let cases: [Case<'_>; 14] = [
        ("/404", known, None, Code::SourceFileMissing, "HTTP 404", 1),
        ("/410", None, None, Code::SourceFileMissing, "HTTP 410", 1),
        ("/403", known, None, Code::SourceInvalid, "HTTP 403", 1),
        ("/503", known, None, Code::SourceUnreachable, "HTTP 503", 3),
        ("/429", None, None, Code::SourceUnreachable, "HTTP 429", 3),
        ("/reset", known, None, Code::SourceUnreachable, "/reset", 3),
        ("/html", None, None, Code::ContentInvalid, "is an HTML page", 1),
        ("/html", known, None, Code::ContentInvalid, "is an HTML page", 1),
        ("/html", known, sized, Code::ContentInvalid, "is an HTML page", 1),
        ("/short", known, sized, Code::SourceTruncated, "has 4000 bytes, not 5000", 3),
        ("/long", known, sized, Code::DigestMismatch, "has 6000 bytes, not 5000", 1),
        ("/other", known, sized, Code::DigestMismatch, "has the digest", 1),
        ("/loop", known, None, Code::SourceInvalid, "redirects too often", 11),
        ("/ftp", known, None, Code::SourceUnreachable, "/ftp", 3),
    ];
    for (path, sha256, size, code, said, asked) in cases {
        let bed = Bed::new();
        let good = good.clone();
        let server = Server::scripted(move |request, _| match request.path.as_str() {
            "/404" => Reply::new("404 Not Found", html),
            "/410" => Reply::new("410 Gone", html),
            "/403" => Reply::new("403 Forbidden", html),
            "/503" => Reply::new("503 Service Unavailable", html),
            "/429" => Reply::new("429 Too Many Requests", ""),
            "/reset" => Reply::new("200 OK", "x").cut(0, End::Reset),
            "/html" => Reply::new("200 OK", html),
            "/short" => Reply::new("200 OK", &good[..4000]),
            "/long" => Reply::new("200 OK", [&good[..], &good[..1000]].concat()),
            "/other" => Reply::new("200 OK", vec![0; 5000]),
            "/ftp" => Reply::new("302 Found", "").with("Location", "ftp://127.0.0.1:1/x"),
            _ => Reply::new("302 Found", "").with("Location", "/loop"),
        });
        if path == "/ftp" {
            // Another scheme is not followed; which failure it is, is the client's to say.
            assert!(bed.fetch(&wanted(&server, path, sha256, size)).is_err());
            continue;
        }
        let failure = bed.fetch(&wanted(&server, path, sha256, size)).unwrap_err();
        let shown = iso_builder::report::failure(&failure);
        assert_eq!(failure.code, code, "{path}: {shown}");
        assert!(shown.contains(said) && shown.contains(&server.url(path)), "{path}: {shown}");
        assert_eq!(server.asked(), asked, "{path}");
        assert!(!bed.cache.path(digest).exists());
        if code == Code::DigestMismatch || code == Code::ContentInvalid {
            assert!(bed.names().is_empty(), "{path}: {:?}", bed.names());
        }
    }
}

#[test]
fn redirects_are_followed_and_passwords_are_not_given_away() {
    let bytes = content(100);
    let served = bytes.clone();
    let elsewhere = Arc::new(Server::scripted(move |request, _| Reply::file(request, &served)));
    let target = elsewhere.url("/real");
    let server = Server::scripted(move |_, _| Reply::new("307 Temporary Redirect", "").with("Location", &target));
    let bed = Bed::new();
    let mut wanted = wanted(&server, "/f", Some(Digest::of(&bytes)), None);
    wanted.url.set_username("me").unwrap();
    wanted.url.set_password(Some("secret")).unwrap();
    bed.fetch(&wanted).unwrap();
    assert!(server.requests()[0].header("authorization").is_some());
    assert_eq!(elsewhere.requests()[0].header("authorization"), None);
}

#[test]
fn mirrors_stand_in_and_offline_asks_nobody() {
    let bytes = content(100);
    let served = bytes.clone();
    let mirror = Server::scripted(move |request, _| match request.path.as_str() {
        "/dl/v1/kubelet" => Reply::file(request, &served),
        _ => Reply::new("404 Not Found", ""),
    });
    let config = format!("[mirrors]\n\"https://dl.k8s.io/\" = \"{}\"\n[http]\nretries = 0\n", mirror.url("/dl/"));
    let access = Access::parse(&config, Path::new("")).unwrap();
    let bed = Bed::new();
    let get = |path: &str| Wanted {
        url: format!("https://dl.k8s.io/{path}").parse().unwrap(),
        sha256: Some(Digest::of(&bytes)),
        size: None,
        name: path.to_owned(),
    };
    let both = [get("v1/kubelet"), Wanted { sha256: Some(Digest::of(b"x")), ..get("v1/kubeadm") }];
    let offline = access.clone().offline();
    let failure = fetch_all(&both, &offline, &bed.cache, Progress::Silent).unwrap_err();
    assert_eq!(failure.code, Code::NotCached);
    assert!(failure.what.contains("kubelet") && failure.what.contains("kubeadm"), "{failure}");
    assert_eq!(mirror.asked(), 0);
    let failure = fetch_all(&both, &access, &bed.cache, Progress::Silent).unwrap_err();
    assert!(failure.what.contains("https://dl.k8s.io/v1/kubeadm (of the mirror http://127.0.0.1"), "{failure}");
    bed.fetch_with(&both[0], &access).unwrap();
    let asked = mirror.asked();
    bed.fetch_with(&both[0], &offline).unwrap();
    assert_eq!(mirror.asked(), asked);
    let url = "https://dl.k8s.io/v1/kubelet.sha256".parse().unwrap();
    assert_eq!(text(&url, 100, &offline).unwrap_err().code, Code::NotCached);
    assert_eq!(text(&url, 100, &access).unwrap_err().code, Code::SourceFileMissing);
}

#[test]
fn a_proxy_is_asked_for_all_that_it_is_for() {
    let proxy = Server::scripted(|request, _| Reply::new("200 OK", request.path.clone()));
    let config = format!("[http]\nproxy = \"{}\"\nno-proxy = \"127.0.0.1\"\n", proxy.url(""));
    let access = Access::parse(&config, Path::new("")).unwrap();
    let url = "http://files.invalid/sums";
    assert_eq!(text(&url.parse().unwrap(), 100, &access).unwrap(), url);
    let direct = Server::start(&[("/sums", "200 OK", b"direct".to_vec())]);
    assert_eq!(text(&direct.url("/sums").parse().unwrap(), 100, &access).unwrap(), "direct");
}

#[test]
fn small_texts_are_texts_and_small() {
    let server = Server::scripted(|request, number| match request.path.as_str() {
        "/sums" if number == 0 => Reply::new("200 OK", "abc def\n").cut(3, End::Close),
        "/sums" => Reply::new("200 OK", "abc def\n"),
        "/html" => Reply::new("200 OK", "<html>"),
        _ => Reply::new("200 OK", vec![0xff; 20]),
    });
    let get = |path: &str, limit| text(&server.url(path).parse().unwrap(), limit, &quick());
    assert_eq!(get("/sums", 10).unwrap(), "abc def\n");
    for (path, limit, said) in
        [("/html", 10, "is an HTML page"), ("/x", 10, "longer than 10"), ("/x", 20, "is no text")]
    {
        let failure = get(path, limit).unwrap_err();
        assert_eq!(failure.code, Code::ContentInvalid);
        assert!(failure.what.contains(said), "{failure}");
    }
}

#[test]
fn two_builds_at_once_download_once() {
    let bytes = content(400_000);
    let served = bytes.clone();
    let server = Server::scripted(move |request, _| Reply::file(request, &served));
    let bed = Bed::new();
    // Of one program too: the same file under two names.
    let wanted =
        [wanted(&server, "/f", Some(Digest::of(&bytes)), None), wanted(&server, "/f", Some(Digest::of(&bytes)), None)];
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| fetch_all(&wanted, &quick(), &bed.cache, Progress::Silent).unwrap());
        }
    });
    assert_eq!(server.asked(), 1);
    assert_eq!(bed.names(), [Digest::of(&bytes).hex()]);
}

#[test]
fn a_full_disk_is_told_and_the_next_run_goes_on() {
    let bytes = content(600_000);
    let served = bytes.clone();
    let server = Server::scripted(move |request, _| Reply::file(request, &served));
    let digest = Digest::of(&bytes);
    let dir = tempfile::tempdir().unwrap();
    let spec = format!(
        "name = \"x\"\narch = \"amd64\"\n[manifests]\n\"network.yaml\" = {{ url = \"{}\", sha256 = \"{}\" }}\n",
        server.url("/f"),
        digest.hex()
    );
    fs::write(dir.path().join("spec.toml"), spec).unwrap();
    fs::create_dir(dir.path().join("cache")).unwrap();
    // In a mount namespace of its own; where there may be none, a full disk can't be had.
    let script = "mount -t tmpfs -o size=256k tmpfs cache || exit 99\n\
        \"$0\" build spec.toml -o out.iso; test $? = 78 || exit 1\n\
        ls -A cache/sha256 | grep -q partial || exit 2\n\
        mount -o remount,size=2m cache || exit 99\n\
        \"$0\" build spec.toml -o out.iso; exit 0";
    let output = run_alone(dir.path(), script, env!("CARGO_BIN_EXE_cks-iso"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("unshare failed") || output.status.code() == Some(99) {
        eprintln!("no mount namespace here: {said}");
        return;
    }
    assert!(output.status.success(), "{} {said}", output.status);
    assert!(said.contains("error[NO_SPACE]: manifests.\"network.yaml\": "), "{said}");
    assert!(said.contains("goes on where this one stopped"), "{said}");
    let froms = froms(&server);
    assert!(froms.len() == 2 && froms[1].is_some_and(|from| from > 100_000), "{froms:?}");
}
