//! Hundreds of nodes at one virtual router at once: is anybody starved, and is the link used?

mod nodes;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bootstrap::bundle::{Arch, MANIFEST_PATH, Manifest, Role};
use cks_tests::components::Components;
use cks_tests::images::{self, Format};
use cks_tests::process::Command;
use cks_tests::vr::Vr;
use cks_tests::{programs, scratch, small, spec, throttle};
use clap::{Parser, Subcommand};

use self::nodes::Served;

/// Lets many nodes fetch a bundle from one Apache over one bounded link.
///
/// The clients are the agent's own code in one process; what they fetch is hashed and thrown away. Prints the
/// time until the last node has everything against what the link allows, the spread between nodes, and the
/// requests per node. Asserts nothing about times.
#[derive(Debug, Parser)]
struct Cli {
    /// Nodes that come at the same moment
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    nodes: u64,
    /// What a node fetches, in MB (10⁶ bytes), about
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..))]
    size: u64,
    /// The router's link in Mbit/s
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(8..))]
    link: u64,
    #[command(subcommand)]
    command: Option<Inner>,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// The nodes: a process inside the router's network
    #[command(hide = true)]
    Nodes {
        /// Where the bundle is
        url: String,
        /// How many
        nodes: usize,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Inner::Nodes { url, nodes }) => inside(url, *nodes),
        None => run(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-crowd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arch() -> Result<Arch> {
    Arch::parse(std::env::consts::ARCH).context("CKS runs on x86_64 and aarch64")
}

fn inside(url: &str, nodes: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(nodes::crowd(url, nodes, arch()?))?;
    println!("{}", serde_json::to_string(&served)?);
    Ok(())
}

fn run(cli: &Cli) -> Result<()> {
    let work = scratch("crowd")?;
    let mut components = small::components(&work.path().join("tree"), arch()?)?;
    more_images(&mut components, cli.size.saturating_sub(2))?;
    let iso = work.path().join("crowd.iso");
    let build = Command::new(programs::built("cks-iso")?).arg("build").arg(spec::write(&components, "crowd")?);
    build.arg("-o").arg(&iso).ok()?;
    let vr = Vr::start(&iso)?;
    let text = std::fs::read(vr.docroot.join("cks-iso").join(MANIFEST_PATH))?;
    let manifest = Manifest::parse(&text).context("Reading the manifest")?;
    throttle::slow(&vr.netns, cli.link / 8)?;
    eprintln!("bench-crowd: {} nodes over {} Mbit/s", cli.nodes, cli.link);
    let itself = std::env::current_exe().context("Finding this program")?;
    let nodes = Command::new(itself).arg("nodes").arg(&vr.url).arg(cli.nodes.to_string());
    let served: Vec<Served> =
        serde_json::from_str(&vr.netns.enter(nodes).ok()?).context("Reading the nodes' answer")?;
    let requests = vr.requests()?;
    report(cli, &manifest, &served, &requests)
}

/// Layers of 1 MB that don't compress, in images of four.
fn more_images(components: &mut Components, megabytes: u64) -> Result<()> {
    for number in 0..megabytes {
        let reference = format!("quay.io/example/filler-{number}:v1");
        let image = images::incompressible(&reference, 1_000_000, 100 + number)?;
        image.archive(Format::CtrExport, &components.directory.join("docker"))?;
        components.archives.push(format!("docker/{}", image.file_name()));
    }
    Ok(())
}

fn report(cli: &Cli, manifest: &Manifest, served: &[Served], requests: &[cks_tests::vr::Request]) -> Result<()> {
    let mut seconds: Vec<f64> = served.iter().map(|node| node.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let (first, last) = (seconds.first().copied().unwrap_or(0.0), seconds.last().copied().unwrap_or(0.0));
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    let sent: u64 = requests.iter().map(|request| request.bytes).sum();
    let wanted: u64 = served.iter().map(|node| node.bytes).sum();
    let link = cli.link as f64 * 1e6 / 8.0;
    let (ideal, blobs) = (wanted as f64 / link, nodes::ranges(manifest).len());
    let per_node = requests.len() as f64 / served.len().max(1) as f64;
    let refused = requests.iter().filter(|request| request.status >= 400).count();
    println!(
        "nodes                  {} with {:.1} MB each in {blobs} files and blobs",
        served.len(),
        wanted as f64 / 1e6 / served.len().max(1) as f64
    );
    println!("first, median, last    {first:.1} s, {median:.1} s, {last:.1} s");
    println!("link allows            {ideal:.1} s; ratio {:.3} (goal 1.15)", last / ideal);
    println!("bytes sent / wanted    {:.3}", sent as f64 / wanted as f64);
    println!(
        "requests per node      {per_node:.1}; per file and blob {:.2} (goal 2); refused {refused}",
        per_node / blobs as f64
    );
    let role = Role::Worker;
    println!("role                   {role}; bundle {}", manifest.name);
    Ok(())
}
