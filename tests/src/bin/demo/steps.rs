//! The steps of the demo, each of which fails unless it did what it should.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cks_tests::components::{Components, KUBERNETES};
use cks_tests::containerd::Containerd;
use cks_tests::process::Command;
use cks_tests::vr::{Request, Vr};
use cks_tests::{programs, scratch, spec, unit};

use crate::node::Node;
use crate::table::Table;

const ETCD_ADDRESS: &str = "10.1.1.11";
const ETCD_TARBALL: &str = "etcd/etcd-linux-amd64.tar.gz";

/// A second run has nothing to fetch but the manifest; this leaves it and the headers room.
const SECOND_RUN_BYTES: u64 = 64 << 10;

/// The whole demo. `kubernetes` is the directory with `kubernetes-VERSION` directories.
pub(crate) fn run(kubernetes: Option<&Path>, stop: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    let work = scratch("demo")?;
    let mut table = Table::default();
    let go_on = || if stop.load(Ordering::Relaxed) { Err(anyhow!("Interrupted")) } else { Ok(()) };

    let iso = build(work.path(), kubernetes, &mut table)?;
    go_on()?;
    let vr = Vr::start(&iso)?;
    let containerd = Containerd::start(&programs::containerd(None)?, None)?;
    println!("the virtual router serves it at {}, a private containerd is up", vr.url);

    let socket = containerd.socket.to_string_lossy().into_owned();
    let named = ["--role", "etcd", "--node-name", "etcd-1", "--node-ip", ETCD_ADDRESS];
    let etcd = Node::new(work.path().join("etcd-1"), &named)?;
    let named = ["--role", "worker", "--node-name", "worker-1", "--containerd", socket.as_str()];
    let worker = Node::new(work.path().join("worker-1"), &named)?;
    bootstrap(&vr, &etcd, &worker, stop, &mut table)?;
    go_on()?;
    show_images(&containerd)?;
    use_etcd(work.path(), &vr, &etcd, &mut table)?;
    for node in [&etcd, &worker] {
        title(&format!("status of {}", node.root.display()));
        print!("{}", node.status()?.ok()?);
    }
    go_on()?;
    again(&vr, &[&etcd, &worker], &mut table)?;
    refuse(work.path(), &vr, &mut table)?;
    go_on()?;
    table.print(begun);
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn build(work: &Path, kubernetes: Option<&Path>, table: &mut Table) -> Result<PathBuf> {
    title("an ISO of real components");
    let began = Instant::now();
    let kubernetes = kubernetes.and_then(newest);
    let components = Components::make(&work.join("components"), kubernetes.as_deref())?;
    let Components { etcd, cni_plugins, cri_tools, .. } = &components;
    println!("etcd {etcd}, CNI plugins {cni_plugins} of the distribution; crictl {cri_tools}");
    match &components.kubernetes {
        Some(version) => println!("kubeadm, kubelet and kubectl {version}"),
        None => println!("without kubeadm, kubelet and kubectl: `./dev kubernetes` builds them (6 minutes)"),
    }
    println!("image archives: {}", components.archives.join(", "));
    table.add("components", Some(size(&components.directory)?), Some(began.elapsed()));

    let began = Instant::now();
    let (spec, iso) = (spec::write(&components, "demo")?, work.join("demo.iso"));
    let said = Command::new(programs::built("cks-iso")?).arg("build").arg(spec).arg("-o").arg(&iso).ok()?;
    print!("{said}");
    table.add("build the ISO", Some(size(&iso)?), Some(began.elapsed()));
    Ok(iso)
}

/// The newest complete `kubernetes-VERSION` below the cache.
fn newest(cache: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(cache).ok()?.flatten().map(|entry| entry.path());
    let complete = entries.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("kubernetes-") && KUBERNETES.iter().all(|program| path.join(program).is_file())
    });
    let version = |path: &PathBuf| -> Vec<u32> {
        let name = path.to_string_lossy().into_owned();
        name.rsplit("-v").next().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    complete.max_by_key(version)
}

/// Both nodes at once; the worker has the terminal, the etcd node's words come after it.
fn bootstrap(vr: &Vr, etcd: &Node, worker: &Node, stop: &AtomicBool, table: &mut Table) -> Result<()> {
    title("bootstrap: an etcd node and a worker, side by side");
    let beside = etcd.bootstrap(vr)?;
    let began = Instant::now();
    let (etcd_output, code, took) = thread::scope(|scope| {
        let beside = scope.spawn(|| beside.output());
        let code = worker.bootstrap(vr)?.attached(stop)?;
        let took = began.elapsed();
        let output = beside.join().map_err(|_| anyhow!("The thread of the etcd node panicked"))??;
        Ok::<_, anyhow::Error>((output, code, took))
    })?;
    for line in etcd_output.stderr.lines().chain(etcd_output.stdout.lines()) {
        println!("etcd-1: {line}");
    }
    ensure!(code == 0, "The worker's bootstrap ended with exit code {code}");
    ensure!(etcd_output.code == 0, "The etcd node's bootstrap ended with exit code {}", etcd_output.code);

    let told = vr.requests()?;
    let top = |request: &&Request| request.path.trim_start_matches("/cks-iso/").split('/').next() == Some("etcd");
    let shared = |request: &&Request| request.path.contains("/cks-bundle.json");
    let sum = |wanted: &dyn Fn(&&Request) -> bool| told.iter().filter(wanted).map(|request| request.bytes).sum();
    table.add("the manifest, for both", Some(sum(&shared)), None);
    table.add("etcd node", Some(sum(&top)), Some(etcd_output.elapsed));
    table.add("worker", Some(sum(&|request| !top(request) && !shared(request))), Some(took));
    Ok(())
}

fn show_images(containerd: &Containerd) -> Result<()> {
    title("images in containerd, as crictl lists them");
    print!("{}", containerd.crictl(["images"])?.ok()?);
    Ok(())
}

/// Starts etcd as its unit would, stores a key and reads it back.
fn use_etcd(work: &Path, vr: &Vr, node: &Node, table: &mut Table) -> Result<()> {
    title("the real etcd, by the ExecStart line of its installed unit");
    let began = Instant::now();
    let serve = unit::lone_etcd(&node.root, ETCD_ADDRESS)?;
    println!("$ {serve}");
    let endpoint = format!("http://{ETCD_ADDRESS}:2379");
    let etcdctl = |args: &[&str]| {
        let program = node.root.join("opt/bin/etcdctl");
        let client = Command::new(program).args(["--endpoints", endpoint.as_str()]).args(args);
        vr.netns.enter(client.env("ETCDCTL_API", "3"))
    };
    let mut etcd = vr.netns.enter(serve).daemon(&work.join("etcd.log"))?;
    let healthy = || etcdctl(&["endpoint", "health"]).output().is_ok_and(|output| output.code == 0);
    etcd.ready(Duration::from_secs(30), healthy).context("Starting etcd")?;
    let key = "/demo/of-the-iso";
    for args in [&["put", key, "it works"][..], &["get", key]] {
        println!("$ etcdctl {}\n{}", args.join(" "), etcdctl(args).ok()?.trim_end());
    }
    let got = etcdctl(&["get", "--print-value-only", key]).ok()?;
    ensure!(got.trim() == "it works", "etcd gives {got:?} for what was put");
    table.add("etcd: start, put, get", None, Some(began.elapsed()));
    Ok(())
}

/// The same commands once more: an empty plan, and no content fetched.
fn again(vr: &Vr, nodes: &[&Node], table: &mut Table) -> Result<()> {
    title("the same bootstraps again: nothing to do");
    let before = vr.requests()?.len();
    let began = Instant::now();
    for node in nodes {
        let output = node.bootstrap(vr)?.output()?;
        print!("{}{}", output.stderr, output.stdout);
        ensure!(output.code == 0, "The second run ended with exit code {}", output.code);
    }
    let took = began.elapsed();
    let bytes = vr.requests()?.iter().skip(before).map(|request| request.bytes).sum();
    ensure!(bytes < SECOND_RUN_BYTES, "The second run fetched {bytes} bytes");
    table.add("both again", Some(bytes), Some(took));
    Ok(())
}

/// One byte of the etcd tarball turned over on the server: a fresh node must take nothing of it.
fn refuse(work: &Path, vr: &Vr, table: &mut Table) -> Result<()> {
    title("one byte turned over on the server: a fresh etcd node refuses");
    let path = vr.docroot.join("cks-iso").join(ETCD_TARBALL);
    let mut bytes = fs::read(&path).with_context(|| format!("Reading {}", path.display()))?;
    let middle = bytes.len() / 2;
    let Some(byte) = bytes.get_mut(middle) else { bail!("{} is empty", path.display()) };
    *byte ^= 1;
    vr.replace(ETCD_TARBALL, &bytes)?;

    let fresh = Node::new(work.join("etcd-2"), &["--role", "etcd", "--node-name", "etcd-2", "--node-ip", "10.1.1.12"])?;
    let before = vr.requests()?.len();
    let output = fresh.bootstrap(vr)?.output()?;
    print!("{}{}", output.stderr, output.stdout);
    ensure!(output.code == 65, "A changed byte gives exit code {} instead of 65", output.code);
    ensure!(output.stderr.contains("DIGEST_MISMATCH"), "The refusal doesn't name DIGEST_MISMATCH");
    ensure!(fs::symlink_metadata(fresh.root.join("opt/bin/etcd")).is_err(), "etcd was installed all the same");
    let bytes = vr.requests()?.iter().skip(before).map(|request| request.bytes).sum();
    table.add("the refusal", Some(bytes), Some(output.elapsed));
    Ok(())
}

/// Bytes of a file, or of all files below a directory.
fn size(path: &Path) -> Result<u64> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("Reading {}", path.display()))?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let entries = fs::read_dir(path).with_context(|| format!("Reading {}", path.display()))?;
    entries.map(|entry| size(&entry.with_context(|| format!("Reading {}", path.display()))?.path())).sum()
}
