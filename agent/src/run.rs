//! `cks-agent bootstrap`: locate, look, plan, apply, and look again until nothing is left to do.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure, Retry};
use bootstrap::node_spec::NodeSpec;
use bootstrap::plan::{self, Bundle, Plan, VERSIONS_DIR, Wanted};
use bootstrap::state::{NodeState, Phase};
use serde::Serialize;

use crate::apply::apply;
use crate::board::{self, Board};
use crate::cli;
use crate::config::{Config, Policy};
use crate::containerd::{Containerd, LEASE_PREFIX};
use crate::facts;
use crate::host::{Host, STATUS_PATH};
use crate::install::Site;
use crate::journal::Journal;
use crate::media::Media;
use crate::media::locate::{Located, Search, locate};
use crate::media::stream::IMPATIENCE;
use crate::progress;
use crate::report;

/// A stock ISO tells what its tarballs hold only while they are unpacked, so its plan takes two rounds;
/// a third would mean that something undoes what is done.
const MAX_ROUNDS: usize = 3;
/// What is waited for while no source has it.
const BUNDLE: &str = "a source that holds a CKS ISO";
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs `bootstrap` and prints what came of it. Returns the exit code.
pub async fn bootstrap(arguments: &cli::Bootstrap) -> u8 {
    let board = Board::new(arguments.role.into());
    let began = Instant::now();
    let shown = progress::show(board.subscribe(), arguments.json);
    let outcome = match begin(arguments) {
        Ok(start) => run(arguments, start, &board).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = &outcome {
        board.fail(&report::state_of(failure));
    }
    let state = board.snapshot();
    drop(board);
    shown.finish().await;
    match outcome {
        Ok(planned) => {
            print(arguments, &state, &planned, began.elapsed());
            0
        }
        Err(failure) => {
            if arguments.json {
                print_json(&state);
            }
            eprint!("{}", report::lines(&report::state_of(&failure)));
            failure.code.exit_code()
        }
    }
}

/// What a run was about, for its last words.
#[derive(Debug, Serialize)]
struct Planned {
    bundle: String,
    directory: String,
    #[serde(flatten)]
    plan: Plan,
}

/// What a run begins with. A run that is refused here (a bad argument, another run at work) has changed
/// nothing, not even the node's status.
struct Start {
    host: Host,
    settings: Config,
    spec: NodeSpec,
    journal: Arc<Journal>,
}

fn begin(arguments: &cli::Bootstrap) -> Result<Start, Failure> {
    let host = Host::new(&arguments.root)?;
    let settings = arguments.settings(Config::read(&host, arguments.config.as_deref())?);
    let name = arguments.node_name.clone().unwrap_or_else(|| host.name());
    let cluster = arguments.etcd_initial_cluster.as_deref();
    let spec = NodeSpec::new(arguments.role.into(), &name, arguments.node_ip, cluster)?;
    let journal = if arguments.dry_run { Journal::peek(&host)? } else { Journal::open(&host)? };
    Ok(Start { host, settings, spec, journal: Arc::new(journal) })
}

/// Works with the status document kept up to date, and its last version on disk before the lock is free.
async fn run(arguments: &cli::Bootstrap, start: Start, board: &Board) -> Result<Planned, Failure> {
    let journal = Arc::clone(&start.journal);
    let status = if arguments.dry_run { None } else { Some(start.host.prepare(STATUS_PATH)?) };
    let writer = status.clone().map(|path| tokio::spawn(board::write_status(board.subscribe(), path)));
    let outcome = tokio::select! {
        outcome = work(arguments, board, start) => outcome,
        signal = signal() => Err(Failure::new(Code::Interrupted, format!("stopped by {signal}"))),
    };
    if let (Some(writer), Some(path)) = (writer, status) {
        writer.abort();
        // It may be in the middle of a write; the last state is written after it.
        let _ = writer.await;
        if let Err(failure) = &outcome {
            board.fail(&report::state_of(failure));
        }
        // Where it can't be written, the exit code still tells.
        if let Err(failure) = board::write(&path, &board.snapshot()) {
            tracing::warn!("{failure}");
        }
    }
    // Threads that were stopped half-way may still write: the lock ends with the process, not with the run.
    std::mem::forget(journal);
    outcome
}

async fn work(arguments: &cli::Bootstrap, board: &Board, start: Start) -> Result<Planned, Failure> {
    let Start { host, settings, spec, journal } = start;
    board.phase(Phase::Locate);
    let arch = host.arch()?;
    let located = wait_for_media(&settings, board, &spec, arch).await?;
    let Located { mut bundle, sources } = located;
    journal.complete(bundle.id, &mut bundle.manifest);
    board.bundle(&bundle);
    if bundle.derived {
        board.warn(format!(
            "LEGACY_BUNDLE: {} has no cks-bundle.json: nothing vouches for what is installed; --policy require-manifest refuses it",
            sources.first().map_or("the source", |source| source.name.as_str())
        ));
    }
    board.phase(Phase::Preflight);
    let containerd = connect(arguments, &settings, board, &host, &spec, &bundle).await?;
    let media = Media::new(sources, settings.wait, board.clone());
    let mut site = Arc::new(Site { host, journal, bundle, media, board: board.clone(), arch });
    if !arguments.dry_run {
        site.drop_partials_except(site.bundle.manifest.entries.iter())?;
    }
    let mut first: Option<Plan> = None;
    for _ in 0..MAX_ROUNDS {
        let plan = look(&site, &spec, containerd.as_ref()).await?;
        board.plan(&plan);
        let done = plan.is_empty() || arguments.dry_run;
        let planned = first.get_or_insert_with(|| plan.clone());
        if done {
            let planned = planned.clone();
            finish(&site, containerd.as_ref(), arguments.dry_run).await?;
            let (bundle, directory) = (site.bundle.id.to_string(), site.bundle.directory());
            return Ok(Planned { bundle, directory, plan: planned });
        }
        site.drop_partials_except(site.entries_of(&plan))?;
        let applied = apply(&site, &plan, containerd.as_ref()).await;
        let bytes = site.media.sources.iter().map(|source| (source.name.clone(), source.bytes())).collect::<Vec<_>>();
        board.source_bytes(&bytes);
        applied?;
        board.phase(Phase::Verify);
        site = learn(site)?;
    }
    let left = look(&site, &spec, containerd.as_ref()).await?;
    let step = left.steps.first().map(ToString::to_string).unwrap_or_default();
    Err(Failure::new(Code::Io, format!("the machine does not stay as it is left: again to do: {step}"))
        .with_remedy("find out what else changes these files"))
}

/// Looks for the bundle until a source has it, for as long as the operator wants to wait.
async fn wait_for_media(
    settings: &Config,
    board: &Board,
    spec: &NodeSpec,
    arch: bootstrap::bundle::Arch,
) -> Result<Located, Failure> {
    let since = Instant::now();
    // With another source at hand nobody waits long for one that says nothing.
    let stall = if settings.sources.len() > 1 { settings.wait.min(IMPATIENCE) } else { settings.wait };
    let search = Search { role: spec.role, arch, policy: settings.trust.policy.unwrap_or(Policy::AcceptLegacy), stall };
    let (mut pause, mut verdicts) = (FIRST_PAUSE, Vec::new());
    loop {
        let located = locate(&settings.sources, search, &mut verdicts).await;
        board.sources(&verdicts);
        match located {
            Err(failure) if failure.code.retry() == Retry::Transient && since.elapsed() < settings.wait => {
                // The last try is at the deadline that was shown.
                pause = pause.min(settings.wait.saturating_sub(since.elapsed()));
                board.wait(BUNDLE, &failure.what, since, pause, settings.wait);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => {
                board.stop_waiting(BUNDLE);
                return outcome;
            }
        }
    }
}

/// containerd, where the role has images to import. A dry run tells the plan without it, too.
async fn connect(
    arguments: &cli::Bootstrap,
    settings: &Config,
    board: &Board,
    host: &Host,
    spec: &NodeSpec,
    bundle: &Bundle,
) -> Result<Option<Containerd>, Failure> {
    if bundle.manifest.images_for(spec.role).next().is_none() {
        return Ok(None);
    }
    let address = settings.containerd.socket.clone().unwrap_or_else(|| host.path("/run/containerd/containerd.sock"));
    if !arguments.dry_run {
        let containerd = Containerd::connect(&address, &settings.containerd.snapshotter, settings.wait, board).await?;
        let containerd = containerd.of_boot(host.boot_id()).with_lease(&lease_name(bundle)).await?;
        containerd.remove_doubtful().await?;
        return Ok(Some(containerd));
    }
    match Containerd::try_connect(&address, &settings.containerd.snapshotter).await {
        Ok(containerd) => Ok(Some(containerd.of_boot(host.boot_id()))),
        Err(failure) if failure.code == Code::ContainerdUnavailable => {
            board.warn(format!("CONTAINERD_UNAVAILABLE: {}: the plan imports every image", failure.what));
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

fn lease_name(bundle: &Bundle) -> String {
    format!("{LEASE_PREFIX}{}", bundle.directory_name())
}

async fn look(site: &Site, spec: &NodeSpec, containerd: Option<&Containerd>) -> Result<Plan, Failure> {
    let wanted = Wanted::of(spec, &site.bundle)?;
    let facts = facts::gather(&site.host, &site.journal, site.arch, &site.bundle, &wanted, containerd).await?;
    plan::plan(&wanted, &site.bundle, &facts)
}

/// The site with what was learned about a stock ISO while it was installed.
fn learn(site: Arc<Site>) -> Result<Arc<Site>, Failure> {
    let shared = || Failure::new(Code::Io, "a step of the last round is still at work");
    let mut site = Arc::try_unwrap(site).map_err(|_| shared())?;
    site.journal.complete(site.bundle.id, &mut site.bundle.manifest);
    Ok(Arc::new(site))
}

async fn finish(site: &Site, containerd: Option<&Containerd>, dry_run: bool) -> Result<(), Failure> {
    if dry_run {
        return Ok(());
    }
    if let Some(containerd) = containerd {
        containerd.collect(&site.bundle, &site.host.names(VERSIONS_DIR)).await?;
        containerd.end_lease().await?;
    }
    site.drop_partials_except(std::iter::empty())?;
    site.journal.ended(board::timestamp(Duration::ZERO), site.bundle.id, "installed")?;
    site.board.phase(Phase::Installed);
    Ok(())
}

async fn signal() -> &'static str {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            // Without the handler the kernel ends us, which is safe, too.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "SIGINT",
        _ = terminate => "SIGTERM",
    }
}

fn print(arguments: &cli::Bootstrap, state: &NodeState, planned: &Planned, took: Duration) {
    match (arguments.json, arguments.dry_run) {
        (true, true) => print_json(planned),
        (true, false) => print_json(state),
        (false, true) => print_text(&progress::plan_lines(&planned.plan)),
        (false, false) => print_text(&progress::summary(state, took)),
    }
}

/// A reader that went away (`| head`) is no failure of ours.
fn print_text(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn print_json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        print_text(&(text + "\n"));
    }
}
