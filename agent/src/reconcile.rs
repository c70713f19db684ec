//! `cks-agent reconcile`: what the last successful run made of this node, made again where something was lost.
//!
//! What is lost is found without any source: the node keeps its bundle's manifest. Sources are looked for only
//! when bytes or texts are missing, and only that very bundle is taken from them.

use std::fs;

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::plan::{self, Bundle, Plan, Signature, Wanted};

use crate::board::Board;
use crate::cli;
use crate::etcd;
use crate::facts;
use crate::host::Host;
use crate::install::staging;
use crate::progress;
use crate::record::NodeRecord;
use crate::report;
use crate::run::{self, Planned, Start};

/// What a look at the node brought to light.
enum Found {
    /// No run has succeeded here yet.
    NoRecord,
    /// Everything is as it was left.
    Whole(Planned),
    /// Something has to be done, by this run.
    Drift(Box<cli::Bootstrap>, Box<Result<Start, Failure>>),
}

/// Looks, mends, and prints what came of it. Returns the exit code: that of `bootstrap`.
pub async fn reconcile(arguments: &cli::Reconcile) -> u8 {
    match look(arguments).await {
        Ok(Found::NoRecord) => {
            tracing::info!("nothing to do: no bootstrap has succeeded here");
            0
        }
        Ok(Found::Whole(planned)) => {
            tracing::info!(directory = planned.directory, "nothing to do");
            match (arguments.json, arguments.dry_run) {
                (true, _) => run::print_json(&planned),
                (false, true) => run::print_text(&progress::plan_lines(&planned.plan)),
                (false, false) => {}
            }
            0
        }
        Ok(Found::Drift(arguments, start)) => run::carry_out(&arguments, *start).await,
        Err(failure) => {
            eprint!("{}", report::lines(&report::state_of(&failure)));
            failure.code.exit_code()
        }
    }
}

async fn look(arguments: &cli::Reconcile) -> Result<Found, Failure> {
    let host = Host::new(&arguments.root)?;
    let Some(record) = NodeRecord::read(&host)? else { return Ok(Found::NoRecord) };
    let repeated = Box::new(again(arguments, &record));
    let mut start = run::begin(&repeated)?;
    if !arguments.dry_run {
        // Certificates end whether anything is lost or not.
        etcd::tend(&start.host).await?;
    }
    start.only = Some(record.bundle.id);
    let Some(bundle) = recorded(&host, &record) else { return Ok(Found::Drift(repeated, Box::new(Ok(start)))) };
    staging::check(&host, &bundle.directory_name())?;
    match plan(&repeated, &start, &bundle).await {
        Ok(plan) if plan.is_empty() => {
            let (id, directory) = (bundle.id.to_string(), bundle.directory());
            Ok(Found::Whole(Planned { bundle: id, directory, plan }))
        }
        Ok(_) => Ok(Found::Drift(repeated, Box::new(Ok(start)))),
        // Told and shown as the failure of a run.
        Err(failure) => Ok(Found::Drift(repeated, Box::new(Err(failure)))),
    }
}

/// The command line that would make the node anew as it was made.
fn again(arguments: &cli::Reconcile, record: &NodeRecord) -> cli::Bootstrap {
    cli::Bootstrap {
        root: arguments.root.clone(),
        role: record.role.into(),
        sources: record.sources.clone(),
        dry_run: arguments.dry_run,
        json: arguments.json,
        config: arguments.config.clone(),
        policy: None,
        // What is to be mended is what is installed: it is no way back to an older one.
        allow_downgrade: false,
        wait: arguments.wait,
        node_name: Some(record.node_name.clone()),
        node_ip: record.node_ip,
        etcd_initial_cluster: record.etcd_initial_cluster.clone(),
        containerd: record.containerd.clone(),
        snapshotter: Some(record.snapshotter.clone()),
        verbose: arguments.verbose,
    }
}

/// The bundle that is installed, as the node keeps it; none where that is lost or changed.
fn recorded(host: &Host, record: &NodeRecord) -> Option<Bundle> {
    let read = |name: &str| fs::read_to_string(host.path(&format!("{}/{name}", record.bundle.directory))).ok();
    let derived = record.bundle.learned.is_some();
    let text = read(if derived { plan::LISTING_NAME } else { bootstrap::bundle::MANIFEST_PATH })?;
    if Digest::of(text.as_bytes()) != record.bundle.id {
        return None;
    }
    let manifest = match &record.bundle.learned {
        Some(learned) => Manifest::clone(learned),
        None => Manifest::parse(text.as_bytes()).ok()?,
    };
    let mut bundle = Bundle { id: record.bundle.id, manifest, text, derived, signature: None };
    let signature = fs::read_to_string(host.path(&bundle.signature_path())).ok();
    bundle.signature = signature.map(|text| Signature { text, signers: Vec::new() });
    Some(bundle)
}

async fn plan(arguments: &cli::Bootstrap, start: &Start, bundle: &Bundle) -> Result<Plan, Failure> {
    let (host, journal) = (&start.host, &start.journal);
    let arch = host.arch()?;
    let wanted = Wanted::of(&start.spec, bundle)?;
    let board = Board::new(start.spec.role);
    let containerd = run::reach(arguments, &start.settings, &board, host, &start.spec, bundle).await?;
    let facts = facts::gather(host, journal, arch, bundle, &wanted, containerd.as_ref()).await?;
    plan::plan(&wanted, bundle, &facts)
}
