//! `cks-agent reconcile`: what the last successful run made of this node, made again where something was lost.
//!
//! What is lost is found without any source: the node keeps its bundle's manifest. Sources are looked for only
//! when bytes or texts are missing, and only that very bundle is taken from them.

use std::fs;

use bootstrap::bundle::{Manifest, Role};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{self, Bundle, CURRENT, Plan, Signature, Step, Wanted};
use bootstrap::version::Version;

use crate::board::Board;
use crate::cli;
use crate::etcd;
use crate::facts;
use crate::host::Host;
use crate::install::staging;
use crate::leave;
use crate::member;
use crate::progress;
use crate::record::NodeRecord;
use crate::report;
use crate::run::{self, Installing, Planned, Start};
use crate::tool::Tool;

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
            let state = report::state_of(&failure);
            report::log_failure(&state);
            report::last_words(&state, cli::log());
            failure.code.exit_code()
        }
    }
}

async fn look(arguments: &cli::Reconcile) -> Result<Found, Failure> {
    let host = Host::new(&arguments.root)?;
    if leave::is_under_way(&host) {
        // What is mended now would be taken away again.
        return Ok(Found::NoRecord);
    }
    let Some(record) = NodeRecord::read(&host)? else { return Ok(Found::NoRecord) };
    let repeated = Box::new(again(arguments, &record));
    let mut start = run::begin(&repeated)?;
    if !arguments.dry_run {
        // Certificates end whether anything is lost or not.
        etcd::tend(&start.host).await?;
    }
    start.only = Some(record.bundle.id);
    let spec = record.spec()?;
    let Some(bundle) = recorded(&host, &record) else { return Ok(Found::Drift(repeated, Box::new(Ok(start)))) };
    staging::check(&host, &bundle.directory_name())?;
    let journal = std::sync::Arc::clone(&start.journal);
    let with = Installing { host: &host, settings: &start.settings, spec: &spec, journal, only: None };
    match plan(&repeated, &with, &bundle, &Board::new(spec.role)).await {
        Ok(plan) if plan.is_empty() => Ok(Found::Whole(Planned::nothing(&bundle))),
        Ok(plan) => {
            refuse_upgraded(&host, spec.role, &bundle, &plan).await?;
            Ok(Found::Drift(repeated, Box::new(Ok(start))))
        }
        // Told and shown as the failure of a run.
        Err(failure) => Ok(Found::Drift(repeated, Box::new(Err(failure)))),
    }
}

/// Refuses to put `bundle` in the place of what is no damage: the management server's own upgrade copies newer programs
/// through the links of `/opt/bin` into the version that is installed. Put back, the node would be older than its cluster.
pub(crate) async fn refuse_upgraded(host: &Host, role: Role, bundle: &Bundle, plan: &Plan) -> Result<(), Failure> {
    let replaces = plan.steps.iter().any(|step| match step {
        Step::InstallFile { path, .. } => path.ends_with("/bin/kubeadm"),
        Step::Link { path, .. } => path == CURRENT,
        _ => false,
    });
    // What is in no cluster is older than none.
    let brought = bundle.manifest.kubernetes.as_deref().filter(|_| replaces && member::is_one(host));
    let Some(brought) = brought.and_then(Version::parse) else { return Ok(()) };
    // One that is gone, or says nothing, is damaged indeed.
    let Some(Ok(said)) = Tool::Kubeadm.ask_version(host).await else { return Ok(()) };
    let Some(now) = Version::parse(&said).filter(|now| brought.is_before(now)) else { return Ok(()) };
    let what = format!("kubeadm is {now}, the bundle's is {brought}: the management server has upgraded this node");
    Err(Failure::new(Code::Drift, what).with_remedy(format!(
        "attach the ISO of {now} and run cks-agent bootstrap --role {role}: it makes that version the installed one"
    )))
}

/// The command line that would make the node anew as it was made.
fn again(arguments: &cli::Reconcile, record: &NodeRecord) -> cli::Bootstrap {
    cli::Bootstrap {
        root: arguments.root.clone(),
        role: Some(record.role.into()),
        user_data: None,
        metadata: None,
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
pub(crate) fn recorded(host: &Host, record: &NodeRecord) -> Option<Bundle> {
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

/// What is missing of a bundle.
pub(crate) async fn plan(
    arguments: &cli::Bootstrap,
    with: &Installing<'_>,
    bundle: &Bundle,
    board: &Board,
) -> Result<Plan, Failure> {
    let arch = with.host.arch()?;
    let wanted = Wanted::of(with.spec, bundle, with.settings.cluster.cgroup_driver)?;
    let containerd = run::reach(arguments, with.settings, board, with.host, with.spec, bundle).await?;
    let facts = facts::gather(with.host, &with.journal, arch, bundle, &wanted, containerd.as_ref()).await?;
    plan::plan(&wanted, bundle, &facts)
}
