//! What a node asks of a server: little, over few connections, below the given place, and nothing while it is
//! sent away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use bootstrap::bundle::{Manifest, Role};
use cks_tests::containerd::Containerd;
use cks_tests::faults::{Fault, Moment};
use cks_tests::netns::{ADDRESS, Netns};
use cks_tests::node::Node;
use cks_tests::programs;
use cks_tests::web::{Answer, Web};

use crate::Bed;

#[test]
fn few_requests_over_few_connections_and_only_below_the_prefix() {
    let bed = Bed::new();
    let manifest = Manifest::parse(&fs::read(bed.vr.docroot.join("cks-iso/cks-bundle.json")).unwrap()).unwrap();
    let blobs: usize = manifest.images_for(Role::Worker).map(|image| image.layers.len() + 2).sum();
    let settings = cks_tests::scratch("settings").unwrap();
    for connections in [1, 2] {
        let config = settings.path().join("config.toml");
        fs::write(&config, format!("[http]\nconnections = {connections}\n")).unwrap();
        for form in bed.forms() {
            let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
            let faults = bed.faults(&form.url);
            let node = Node::new("worker").unwrap().inside(&bed.vr.netns).using(&containerd);
            let node = node.with(&["--config", &config.to_string_lossy()]);
            let output = node.run(&[&faults.url]).unwrap();
            assert_eq!(output.code, 0, "{output:?}");
            let asked = faults.asked();
            let entries = manifest.entries.len();
            assert!(asked.len() <= entries + 2 * blobs + 8, "{} requests: {asked:#?}", asked.len());
            assert!(faults.connections() <= connections, "{} connections", faults.connections());
            let prefix = form.url.trim_start_matches("http://").trim_start_matches(ADDRESS);
            for request in &asked {
                assert!(request.path.starts_with(prefix), "{request:?}");
                assert!(!request.headers.contains_key("accept-encoding"), "{request:?}");
            }
            // Opening an .iso file reads blocks that may hold content, too.
            let twice = if form.url.ends_with(".iso") { 192 << 10 } else { 0 };
            assert!(faults.sent_and_repeated().1 <= twice, "each byte once: {:?}", faults.sent_and_repeated());
            println!("{}: {} requests for {entries} entries and {blobs} blobs", form.url, asked.len());
        }
    }
}

#[test]
fn a_server_that_sends_us_away_is_left_alone_that_long() {
    let bed = Bed::new();
    for form in bed.forms() {
        let faults = bed.faults(&form.url);
        for nth in [0, 2] {
            faults.on(Moment::request(nth), Fault::Status(503, Some("2".to_owned())));
        }
        let output = bed.node().run(&[&faults.url]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        let asked = faults.asked();
        let refused: Vec<usize> = (0..asked.len()).filter(|&at| asked[at].status == 503).collect();
        assert_eq!(refused.len(), 2, "{asked:#?}");
        for at in refused {
            let pause = asked[at + 1].at.duration_since(asked[at].at);
            assert!(pause >= Duration::from_secs(2), "came back after {pause:?}");
        }
    }
}

#[test]
fn a_hostile_server_leads_nowhere() {
    let netns = Netns::new().unwrap();
    let listing = r#"<a href="../metadata/">x</a> <a href="http://10.1.1.1:81/elsewhere/k8s/">x</a>
        <a href="/etc/kubeadm">x</a> <a href="..%2f..%2fmetadata">x</a> <a href="%2e%2e/">x</a> <a href="..\x">x</a>
        <a href="k8s/">k8s</a> <a href="//10.1.1.1/other">x</a> <a href="kubelet.service">x</a>"#;
    let programs = r#"<a href="kubeadm">x</a> <a href="../../secret/">x</a> <a href="%2e%2e%2f%2e%2e%2fsecret">x</a>
        <a href="..%5c..%5csecret">x</a>"#;
    let web = Web::start(&netns, "10.1.1.1:80", None, move |request| match request.path.as_str() {
        "cks/" => Answer::new(200, "text/html", listing),
        "cks/k8s/" => Answer::new(200, "text/html", programs),
        "cks/kubelet.service" | "cks/k8s/kubeadm" => Answer::new(200, "text/plain", "x"),
        _ => Answer::page(404),
    })
    .unwrap();
    let node = Node::new("etcd").unwrap().inside(&netns).with(&["--wait", "1s"]);
    let output = node.run(&["http://user:secret@10.1.1.1/cks/"]).unwrap();
    assert!(output.code != 0, "{output:?}");
    let asked = web.requests();
    assert!(asked.iter().any(|request| request.path == "cks/k8s/kubeadm"), "{asked:?}");
    for request in &asked {
        assert!(request.path.starts_with("cks/"), "{request:?}");
        assert_eq!(request.authorization.as_deref(), Some("Basic dXNlcjpzZWNyZXQ="));
    }
    let shown = node.status().unwrap().to_string();
    assert!(!shown.contains("secret") && !output.stderr.contains("secret"), "{shown}\n{output:?}");
}

#[test]
fn a_password_is_never_shown_and_bytes_count_once() {
    let bed = Bed::new();
    let node = bed.node();
    let url = bed.vr.url.replace("http://", "http://user:secret@");
    let output = node.run(&[&url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    for name in ["status.json", "sources.json", "metrics.prom"] {
        let text = fs::read_to_string(node.root.join("run/cks-agent").join(name)).unwrap();
        assert!(text.contains(&bed.vr.url) && !text.contains("secret"), "{name}: {text}");
    }
    let sources = node.agent("sources").unwrap().args(["--source", &url]).output().unwrap();
    assert!(!sources.stdout.contains("secret"), "{sources:?}");
    let state = node.status().unwrap();
    assert_eq!(state["counters"]["bytes_fetched"], state["sources"][0]["bytes"], "{state}");
}

#[test]
fn an_iso_that_ends_early_is_refused_as_a_whole() {
    let bed = Bed::new();
    let whole = fs::read(&bed.iso).unwrap();
    let short = bed.vr.docroot.join("isos/short.iso");
    fs::write(&short, &whole[..whole.len() / 2]).unwrap();
    fs::set_permissions(&short, fs::Permissions::from_mode(0o644)).unwrap();
    let node = bed.node().with(&["--wait", "1s"]);
    let output = node.run(&[&format!("http://{ADDRESS}/isos/short.iso")]).unwrap();
    assert_eq!((cks_tests::node::code(&output), output.code), ("SOURCE_TRUNCATED", 65), "{output:?}");
    assert!(output.stderr.contains("reaches beyond the end"), "{output:?}");
    assert!(!node.root.join("opt/cks").exists(), "nothing was begun");
}

#[test]
fn a_listing_without_end_is_refused() {
    let netns = Netns::new().unwrap();
    let listing: String = (0..10_000).map(|number| format!("<a href=\"d{number}/\">x</a>\n")).collect();
    let web = Web::start(&netns, "10.1.1.1:80", None, move |request| match request.path.ends_with('/') {
        true => Answer::new(200, "text/html", listing.as_str()),
        false => Answer::page(404),
    })
    .unwrap();
    let node = Node::new("etcd").unwrap().inside(&netns).with(&["--wait", "1s"]);
    let output = node.run(&["http://10.1.1.1/cks/"]).unwrap();
    assert_eq!((cks_tests::node::code(&output), output.code), ("SOURCE_INVALID", 65), "{output:?}");
    assert!(web.requests().iter().filter(|request| request.path.ends_with('/')).count() < 4, "{:?}", web.requests());
}
