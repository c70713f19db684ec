//! Proxies and private authorities.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use cks_tests::authority::Authority;
use cks_tests::netns::{ADDRESS, Netns};
use cks_tests::node::{Node, code};
use cks_tests::vr::Vr;
use cks_tests::web::{Answer, Web};

use crate::Bed;

/// The first line and the credentials of a request.
type Heard = (String, Option<String>);

/// A proxy inside the router's network.
struct Proxy {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Proxy {
    /// Hands `CONNECT` on, and requests with a whole URL. Inside `netns`, at `port`.
    fn start(netns: &Netns, port: u16) -> Self {
        let (heard, network) = (Arc::new(Mutex::new(Vec::new())), netns.path());
        let hears = Arc::clone(&heard);
        let (ready, listening) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let namespace = fs::File::open(network).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind((ADDRESS, port)).unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming().map_while(Result::ok) {
                // Threads of this one are in its namespace, too.
                let hears = Arc::clone(&hears);
                thread::spawn(move || drop(carry(stream, &hears)));
            }
        });
        listening.recv().unwrap();
        Self { url: format!("http://us%65r:p%40ss@{ADDRESS}:{port}"), heard }
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

fn carry(client: TcpStream, hears: &Mutex<Vec<Heard>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut lines, mut credentials) = (Vec::new(), None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("proxy-authorization: ") {
            credentials = Some(line[line.len() - value.len()..].trim_end().to_owned());
        } else if !line.to_ascii_lowercase().starts_with("connection:") {
            lines.push(line);
        }
    }
    let Some(first) = lines.first().cloned() else { return Ok(()) };
    hears.lock().unwrap().push((first.trim_end().to_owned(), credentials));
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut client = client;
    let server = if first.starts_with("CONNECT ") {
        let server = TcpStream::connect(&target)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        server
    } else {
        let rest = target.trim_start_matches("http://");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut server =
            TcpStream::connect(if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") })?;
        lines[0] = first.replace(&target, &format!("/{path}"));
        server.write_all(format!("{}Connection: close\r\n\r\n", lines.concat()).as_bytes())?;
        server
    };
    let (mut up, mut asks) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        drop(io::copy(&mut asks, &mut up));
        drop(up.shutdown(Shutdown::Write));
    });
    let mut server = server;
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

fn settings(directory: &Path, text: &str) -> String {
    let path = directory.join("config.toml");
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// The content of `vr`, over TLS at port 443 of its network.
fn secured(vr: &Vr, authority: &Authority) -> Web {
    let identity = authority.issue(ADDRESS).unwrap();
    let content = vr.docroot.clone();
    Web::start(&vr.netns, &format!("{ADDRESS}:443"), Some((&identity.certificate, &identity.key)), move |request| {
        let path = request.path.replace("%3A", ":");
        fs::read(content.join(path)).map_or_else(|_| Answer::page(404), |bytes| Answer::file(Arc::new(bytes)))
    })
    .unwrap()
}

#[test]
fn a_proxy_is_used_as_told() {
    let bed = Bed::new();
    let work = cks_tests::scratch("proxy").unwrap();
    let whole = bed.whole();
    let proxy = Proxy::start(&bed.vr.netns, 3128);
    let told = |more: &str| format!("[http]\nproxy = \"{}\"\n{more}", proxy.url);
    for form in bed.forms() {
        let node = bed.node().with(&["--config", &settings(work.path(), &told(""))]);
        let output = node.run(&[&form.url]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(whole.digest(), node.tree().unwrap().digest());
        let heard = proxy.heard();
        let asked = |line: &str| line.starts_with(&format!("GET http://{ADDRESS}/"));
        assert!(heard.iter().all(|(line, _)| asked(line)), "{heard:?}");
        assert!(heard.iter().all(|(_, credentials)| credentials.as_deref() == Some("Basic dXNlcjpwQHNz")), "{heard:?}");
        proxy.heard.lock().unwrap().clear();
    }
    let node = bed.node().with(&["--config", &settings(work.path(), &told("no-proxy = [\"10.0.0.0/8\"]"))]);
    assert_eq!(node.run(&[&bed.vr.url]).unwrap().code, 0);
    assert_eq!(proxy.heard(), []);

    let dead = format!("[http]\nproxy = \"http://user:secret@{ADDRESS}:9\"\n");
    let node = bed.node().with(&["--wait", "1s", "--config", &settings(work.path(), &dead)]);
    let output = node.run(&[&bed.vr.url]).unwrap();
    assert_eq!(code(&output), "SOURCE_UNREACHABLE", "{output:?}");
    assert!(output.stderr.contains("proxy 10.1.1.1:9") && !output.stderr.contains("secret"), "{output:?}");
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let bed = Bed::new();
    let work = cks_tests::scratch("authority").unwrap();
    let whole = bed.whole();
    let authority = Authority::new(work.path()).unwrap();
    let web = secured(&bed.vr, &authority);
    let proxy = Proxy::start(&bed.vr.netns, 3128);
    let ca = format!("[http]\nca = [{:?}]\n", authority.certificate);
    let by_proxy = format!("{ca}proxy = \"{}\"\n", proxy.url);
    for (text, tunnels) in [(&ca, false), (&by_proxy, true)] {
        for path in ["cks-iso/", "isos/small.iso"] {
            let node = bed.node().with(&["--config", &settings(work.path(), text)]);
            let output = node.run(&[&format!("https://{ADDRESS}/{path}")]).unwrap();
            assert_eq!(output.code, 0, "{output:?}");
            assert_eq!(whole.digest(), node.tree().unwrap().digest());
            let heard = proxy.heard();
            assert_eq!(!heard.is_empty(), tunnels);
            let tunnel = format!("CONNECT {ADDRESS}:443 HTTP/1.1");
            assert!(heard.iter().all(|(line, credentials)| *line == tunnel && credentials.is_some()), "{heard:?}");
        }
    }
    assert!(!web.requests().is_empty());

    let url = format!("https://{ADDRESS}/cks-iso/");
    let stranger = Node::new("etcd").unwrap().inside(&bed.vr.netns).with(&["--wait", "1s"]);
    let output = stranger.run(&[&url]).unwrap();
    assert!(code(&output) == "SOURCE_UNREACHABLE" && output.stderr.contains("certificate"), "{output:?}");
    let missing = settings(work.path(), "[http]\nca = [\"/nowhere/our.pem\"]\n");
    let output = stranger.with(&["--config", &missing]).run(&[&url]).unwrap();
    assert!(code(&output) == "CONFIG_INVALID" && output.stderr.contains("/nowhere/our.pem"), "{output:?}");
}
