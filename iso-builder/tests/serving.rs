//! What clients get from `cks-iso serve`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

use bootstrap::bundle::autoindex;
use iso_builder::opened::Opened;

use crate::fixture::serving::{Serving, tree};
use crate::fixture::{Bed, by_us, files_below, run, text};

/// Every file that the index pages lead to.
fn crawl(serving: &Serving, top: &str) -> BTreeSet<String> {
    let (mut pending, mut files) = (vec![String::new()], BTreeSet::new());
    while let Some(directory) = pending.pop() {
        let answer = serving.get(&format!("{top}{}", autoindex::percent_encode_path(&directory)));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html;charset=UTF-8")));
        for link in autoindex::parse(std::str::from_utf8(&answer.body).unwrap()) {
            match link.directory {
                true => pending.push(format!("{directory}{}/", link.name)),
                false => assert!(files.insert(format!("{directory}{}", link.name))),
            }
        }
    }
    files
}

#[test]
fn the_iso_and_its_content_are_served_byte_for_byte() {
    let bed = Bed::new();
    let iso = bed.build();
    bed.write("out.iso.sha256", "0000  out.iso\n");
    let serving = Serving::start(&iso, &[]);
    let bytes = fs::read(&iso).unwrap();
    assert_eq!(serving.curl(&[], "/out.iso"), bytes);
    assert_eq!(serving.curl(&[], "/out.iso.sha256"), b"0000  out.iso\n");
    let files = by_us(&iso);
    assert_eq!(crawl(&serving, "/cks-iso/"), files.keys().cloned().collect());
    assert_eq!(crawl(&serving, "/").len(), files.len() + 2);
    let (manifest, digest) = Opened::open(&iso).unwrap().manifest().unwrap().unwrap();
    for (path, (_, content)) in &files {
        let answer = serving.get(&format!("/cks-iso/{path}"));
        assert_eq!(answer.body, *content, "{path}");
        let want = manifest.entry(path).map_or(digest, |entry| entry.sha256.unwrap());
        let etag = format!("\"{}\"", want.hex());
        assert_eq!(answer.header("etag"), Some(etag.as_str()), "{path}");
        let again = serving.ask("GET", &format!("/cks-iso/{path}"), &[&format!("If-None-Match: {etag}")]);
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(etag.as_str())));
        let head = serving.ask("HEAD", &format!("/cks-iso/{path}"), &[]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(content.len().to_string().as_str()), "{path}");
    }
    let head = text(serving.scratch(), "curl", &["-sSI", "--noproxy", "*", &serving.url("/out.iso")]);
    assert!(head.contains(&format!("content-length: {}\r\n", bytes.len())), "{head}");
    assert!(head.contains("accept-ranges: bytes\r\n") && head.contains("application/x-iso9660-image"), "{head}");
    let served = &serving.listening["served"][0];
    assert_eq!(served["source"], serving.url("/cks-iso/"));
    assert!(served["title"].as_str().unwrap().contains("v1.33.1-bed, Kubernetes v1.33.1"), "{served}");
}

#[test]
fn ranges_are_the_isos_bytes() {
    let bed = Bed::new();
    let iso = bed.build();
    let serving = Serving::start(&iso, &[]);
    let bytes = fs::read(&iso).unwrap();
    let (size, last) = (bytes.len(), bytes.len() - 1);
    for (range, want) in [
        ("0-0".to_owned(), 0..1),
        ("32768-40959".to_owned(), 32_768..40_960),
        ("100000-".to_owned(), 100_000..size),
        ("-2048".to_owned(), size - 2048..size),
        (format!("{last}-{}", size * 2), last..size),
        (format!("0-{last}"), 0..size),
        ("0-1,5-6".to_owned(), 0..size),
    ] {
        let got = serving.curl(&["-r", &range], "/out.iso");
        assert!(got == bytes[want.clone()], "{range}: {} bytes", got.len());
        let answer = serving.ask("GET", "/out.iso", &[&format!("Range: bytes={range}")]);
        let told = format!("bytes {}-{}/{size}", want.start, want.end - 1);
        let whole = range.contains(',');
        assert_eq!(answer.header("content-range"), (!whole).then_some(told.as_str()), "{range}");
        assert_eq!(answer.status, if whole { 200 } else { 206 }, "{range}");
        assert!(answer.body == bytes[want]);
    }
    let answer = serving.ask("GET", "/out.iso", &[&format!("Range: bytes={size}-")]);
    assert_eq!((answer.status, answer.header("content-range")), (416, Some(format!("bytes */{size}").as_str())));
    let etag = answer_etag(&serving);
    for (condition, status) in [(etag.as_str(), 206), ("\"other\"", 200)] {
        let answer = serving.ask("GET", "/out.iso", &["Range: bytes=0-9", &format!("If-Range: {condition}")]);
        assert_eq!(answer.status, status, "{condition}");
    }

    // Broken-off downloads are gone on with.
    for client in [&["curl", "-sS", "--noproxy", "*", "-C", "-", "-o"][..], &["wget", "-q", "--no-proxy", "-c", "-O"]] {
        let part = serving.scratch().join("part.iso");
        fs::write(&part, &bytes[..size / 3]).unwrap();
        run(serving.scratch(), client[0], &[&client[1..], &["part.iso", &serving.url("/out.iso")]].concat());
        assert!(fs::read(&part).unwrap() == bytes, "{client:?}");
        let told =
            |range: &str| (0..99).map(|_| serving.logged("request")).find(|line| line["range"] == range).unwrap();
        assert_eq!(told(&format!("bytes={}-", size / 3))["bytes"].as_u64().unwrap(), (size - size / 3) as u64);
    }
}

fn answer_etag(serving: &Serving) -> String {
    serving.ask("HEAD", "/out.iso", &[]).header("etag").unwrap().to_owned()
}

#[test]
fn the_stock_wget_gets_the_content_and_nothing_else() {
    let bed = Bed::new();
    let (iso, tree) = (bed.build(), tree(bed.dir(), 1 << 20));
    for path in [iso.as_path(), &tree] {
        let serving = Serving::start(path, &[]);
        let wget = ["-q", "--no-proxy", "-r", "-R", "index.html*", &serving.url("/cks-iso"), "-P", "aux"];
        run(serving.scratch(), "wget", &wget);
        let got = files_below(&serving.scratch().join("aux"));
        let want = if path == iso { by_us(&iso) } else { files_below(&tree) };
        let want: Vec<_> = want.into_iter().filter(|(path, _)| path != ".hidden").collect();
        assert_eq!(got.len(), want.len(), "{:?}", got.keys());
        for (path, (_, content)) in want {
            let (_, found) = &got[&format!("{}/cks-iso/{path}", serving.address)];
            assert!(*found == content, "{path}");
        }
    }
}

#[test]
fn no_path_leads_out() {
    let bed = Bed::new();
    let iso = bed.build();
    let tree = tree(bed.dir(), 800);
    for served in [&iso, &tree, &bed.dir().to_owned()] {
        let serving = Serving::start(served, &[]);
        for target in [
            "/spec.toml",
            "/../spec.toml",
            "/cks-iso/../spec.toml",
            "/cks-iso/../../../../../../etc/passwd",
            "/cks-iso/%2e%2e/spec.toml",
            "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/cks-iso/..%2fspec.toml",
            "/cks-iso/..%5cspec.toml",
            "//etc/passwd",
            "//",
            "/cks-iso//k8s/kubelet",
            "/cks-iso/./k8s/kubelet",
            "/cks-iso/k8s/link",
            "/cks-iso/.hidden",
            "/cks-iso/k8s/kubelet/",
            "/cks-iso/k8s/kubelet%00",
            "/cache/",
            "*",
        ] {
            let answer = serving.get(target);
            assert_eq!(answer.status, 404, "{target}: {}", answer.head);
        }
        for target in ["/%zz", "/%ff", "/%4"] {
            assert_eq!(serving.get(target).status, 400, "{target}");
        }
        assert!(!crawl(&serving, "/").iter().any(|path| path.contains("hidden") || path.contains("link")));
    }
    let serving = Serving::start(&tree, &[]);
    assert_eq!(serving.get("/cks-iso/docker/pause:3.10.tar").body, b"pause");
    assert_eq!(serving.get("/cks-iso/docker/pause%3a3.10.tar").body, b"pause");
    assert_eq!(serving.get("/cks-iso/docker/a%20b&c.tar?query").body, b"odd name");
    assert_eq!(serving.get("/cks-iso/k8s/empty").header("content-length"), Some("0"));
    assert!(serving.said().contains("k8s/link is no regular file, and left out"), "{}", serving.said());
    for (target, location) in [("/cks-iso", "/cks-iso/"), ("/cks-iso/docker", "/cks-iso/docker/")] {
        let answer = serving.get(target);
        assert_eq!((answer.status, answer.header("location")), (301, Some(location)));
    }
}

#[test]
fn only_get_and_head_are_answered() {
    let bed = Bed::new();
    let serving = Serving::start(&tree(bed.dir(), 800), &[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer = serving.ask(method, "/cks-iso/k8s/kubelet", &["Content-Length: 0"]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let mut answer = String::new();
    serving.send("nonsense\r\n\r\n").read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    // One connection, several requests; and a client of 1996.
    let (one, two) = (serving.url("/cks-iso/10-kubeadm.conf"), serving.url("/cks-iso/docker/pause:3.10.tar"));
    let said = text(serving.scratch(), "curl", &["-sS", "--noproxy", "*", "-w", "%{num_connects}.", &one, &two]);
    assert_eq!(said, "[Service]\n1.pause0.");
    assert_eq!(serving.curl(&["-0"], "/cks-iso/docker/pause:3.10.tar"), b"pause");
}

#[test]
fn a_directory_of_isos_is_listed() {
    let bed = Bed::new();
    bed.build();
    fs::create_dir(bed.path("isos")).unwrap();
    let put = |name: &str| fs::copy(bed.path("out.iso"), bed.path("isos").join(name)).unwrap();
    put("one.iso");
    bed.write("isos/half.iso", &fs::read(bed.path("out.iso")).unwrap()[..60_000]);
    bed.write("isos/notes.txt", "mine");
    let serving = Serving::start(&bed.path("isos"), &[]);
    assert!(serving.said().contains("warning: half.iso is left out: "), "{}", serving.said());
    let names = |serving: &Serving| {
        let page = serving.get("/").body;
        let links = autoindex::parse(std::str::from_utf8(&page).unwrap()).into_iter();
        links.map(|link| link.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&serving), ["cks-iso", "one.iso"]);

    // A second one, and the server looks again.
    put("two.iso");
    bed.write("isos/two.iso.minisig", "signed");
    assert_eq!(serving.get("/two.iso").status, 404);
    serving.signal("HUP");
    serving.logged("reloaded");
    assert_eq!(names(&serving), ["one", "one.iso", "two", "two.iso", "two.iso.minisig"]);
    assert_eq!(crawl(&serving, "/one/"), crawl(&serving, "/two/"));
    assert_eq!(serving.curl(&[], "/two.iso"), fs::read(bed.path("out.iso")).unwrap());
    assert_eq!(serving.get("/notes.txt").status, 404);
}

#[test]
fn the_log_is_one_that_other_programs_read() {
    let bed = Bed::new();
    let serving = Serving::start(&tree(bed.dir(), 800), &[]);
    serving.curl(&["-r", "0-99", "-A", "a \"quoted\" agent"], "/cks-iso/k8s/kubelet?x");
    let line = serving.logged("request");
    assert_eq!((&line["status"], &line["bytes"], &line["client"]), (&206.into(), &100.into(), &"127.0.0.1".into()));
    assert_eq!((&line["target"], &line["method"]), (&"/cks-iso/k8s/kubelet?x".into(), &"GET".into()));
    assert_eq!((&line["agent"], &line["range"]), (&"a \"quoted\" agent".into(), &"bytes=0-99".into()));
}
