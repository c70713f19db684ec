//! `cks-agent bootstrap`: locate, look, plan, apply, and look again until nothing is left to do.

mod left;
mod offer;
mod reach;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstrap::bundle::Role;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;
use bootstrap::plan::{self, Bundle, Plan, Wanted};
use bootstrap::state::{NodeState, Phase};
use serde::Serialize;
use tokio::signal::unix::{self, Signal, SignalKind};

use crate::adopt::{self, UserDataRecord};
use crate::apply::apply;
use crate::board::{self, Board};
use crate::cli;
use crate::config::Config;
use crate::containerd::Containerd;
use crate::facts;
use crate::host::{Host, STATUS_PATH};
use crate::install::{Site, staging, versions};
use crate::journal::{INSTALLED, Journal};
use crate::leave;
use crate::media::{Media, candidates};
use crate::member;
use crate::metrics;
use crate::notify::Notify;
use crate::outside::Outside;
use crate::progress;
use crate::reconcile;
use crate::record::{BundleRecord, NodeRecord};
use crate::report::{self, Log};
use crate::verify::Outcome;
use crate::wish::{Task, Told, Wish};

use self::offer::Offer;
pub(crate) use self::reach::reach;
use self::reach::{connect, lease_name};

/// A stock ISO tells what its tarballs hold only while they are unpacked, so its plan takes two rounds;
/// a third would mean that something undoes what is done.
const MAX_ROUNDS: usize = 3;

/// Runs `bootstrap` and prints what came of it. Returns the exit code.
pub async fn bootstrap(arguments: &cli::Bootstrap) -> u8 {
    carry_out(arguments, begin(arguments)).await
}

/// Runs to the end what was begun, or failed to begin, and prints what came of it.
pub(crate) async fn carry_out(arguments: &cli::Bootstrap, start: Result<Start, Failure>) -> u8 {
    let board = Board::new(arguments.role.map(Role::from));
    let began = Instant::now();
    let shown = progress::show(
        board.subscribe(),
        arguments.json || cli::log() == Log::Journal,
        cli::terminal(std::io::stderr()),
    );
    let seen = start.as_ref().ok().filter(|_| !arguments.dry_run);
    let outside = seen.map(|start| Outside::of(&start.host, &board));
    let outcome = match start {
        // What the run has told of its failure stands.
        Ok(start) => run(arguments, start, &board).await,
        Err(failure) => {
            board.fail(&report::state_of(&failure));
            Err(failure)
        }
    };
    let state = board.snapshot();
    drop(board);
    shown.finish().await;
    if let Some(outside) = outside {
        outside.finish().await;
    } else if let Some(failure) = &state.failure {
        report::log_failure(failure);
    }
    match outcome {
        Ok(planned) => {
            print(arguments, &state, planned.as_ref(), began.elapsed());
            0
        }
        Err(failure) => {
            if arguments.json {
                print_json(&state);
            }
            report::last_words(&report::state_of(&failure), cli::log());
            failure.code.exit_code()
        }
    }
}

/// What a run was about, for its last words.
#[derive(Debug, Serialize)]
pub(crate) struct Planned {
    pub(crate) bundle: String,
    pub(crate) directory: String,
    #[serde(flatten)]
    pub(crate) plan: Plan,
}

impl Planned {
    pub(crate) fn nothing(bundle: &Bundle) -> Self {
        Self { bundle: bundle.id.to_string(), directory: bundle.directory(), plan: Plan::default() }
    }
}

/// What a run begins with. A run that is refused here (a bad argument, another run at work) has changed
/// nothing, not even the node's status.
pub(crate) struct Start {
    pub(crate) host: Host,
    pub(crate) settings: Config,
    pub(crate) wish: Wish,
    pub(crate) journal: Arc<Journal>,
    /// The bundle that it has to be; any where none is named.
    pub(crate) only: Option<Digest>,
}

pub(crate) fn begin(arguments: &cli::Bootstrap) -> Result<Start, Failure> {
    let host = Host::new(&arguments.root)?;
    let settings = arguments.settings(Config::read(&host, arguments.config.as_deref())?);
    let wish = Wish::of(arguments, &host)?;
    let journal = if arguments.dry_run { Journal::peek(&host)? } else { Journal::open(&host)? };
    Ok(Start { host, settings, wish, journal: Arc::new(journal), only: None })
}

/// Works with the status document kept up to date, and its last version on disk before the lock is free.
async fn run(arguments: &cli::Bootstrap, start: Start, board: &Board) -> Result<Option<Planned>, Failure> {
    let journal = Arc::clone(&start.journal);
    let status = if arguments.dry_run { None } else { Some(start.host.prepare(STATUS_PATH)?) };
    let (host, mends) = (start.host.clone(), start.only.is_some());
    let writer = status.clone().map(|path| tokio::spawn(board::write_status(board.clone(), host.clone(), path)));
    let outcome = tokio::select! {
        outcome = whole(arguments, board, start) => outcome,
        signal = signal() => Err(Failure::new(Code::Interrupted, format!("stopped by {signal}"))),
    };
    if let Err(failure) = &outcome {
        let told = report::state_of(failure);
        match member::phase(&host) {
            // What could not be mended has not kept the member from its work.
            Phase::Ready if mends => board.stop(Phase::Ready, format!("{}: {}", told.code, told.message)),
            _ => board.fail(&told),
        }
    }
    if let (Some(writer), Some(path)) = (writer, status) {
        writer.abort();
        // It may be in the middle of a write; the last state is written after it.
        let _ = writer.await;
        // Where it can't be written, the exit code still tells.
        let state = board.snapshot();
        if let Err(failure) = board::write(&path, &state).and_then(|()| metrics::write(&host, &state)) {
            tracing::warn!("{failure}");
        }
    }
    // Threads that were stopped half-way may still write: the lock ends with the process, not with the run.
    std::mem::forget(journal);
    outcome
}

/// Finds out what is wanted, installs it, and makes it a member of its cluster; none where nothing is wanted.
async fn whole(arguments: &cli::Bootstrap, board: &Board, start: Start) -> Result<Option<Planned>, Failure> {
    let Start { host, settings, wish, journal, only } = start;
    if matches!(wish, Wish::UserData { dry_run: false, .. }) {
        // Before the user data is asked what it is to this machine: a node that was taken out counts as one that left.
        leave::finish_foreign_reset(&host, board).await?;
    }
    let told = wish.resolve(&host, settings, board).await?;
    // What cloud-init does next finds the management server's scripts taken over, or has to do with them itself.
    Notify::to(cli::notify_socket()).ready();
    let Task { spec, settings, found } = match told {
        Told::Become(task) => *task,
        Told::Nothing(phase) => {
            board.phase(phase);
            return Ok(None);
        }
    };
    board.role(spec.role);
    let by_user_data = found.is_some() && !arguments.dry_run;
    let mut kept = by_user_data.then(|| adopt::keep(&host, &spec, &settings, board));
    let with = Installing { host: &host, settings: &settings, spec: &spec, journal, only };
    // What is installed by then is of use to the server's scripts, too; a cluster has to be joined by one of us.
    let installed = tokio::select! {
        biased;
        failure = adopt::lost(kept.as_mut()) => return Err(failure),
        installed = left::installed(arguments, board, with) => installed?,
    };
    if spec.membership.is_some() && !arguments.dry_run {
        member::join(&host, &settings, &spec, &installed.bundle, board).await?;
        found.map_or(Ok(()), |found| UserDataRecord::end(&host, &found))?;
    }
    Ok(Some(installed.planned))
}

/// What an installation is made with.
pub(crate) struct Installing<'a> {
    pub(crate) host: &'a Host,
    pub(crate) settings: &'a Config,
    pub(crate) spec: &'a NodeSpec,
    pub(crate) journal: Arc<Journal>,
    pub(crate) only: Option<Digest>,
}

/// What came of an installation.
struct Installed {
    planned: Planned,
    bundle: Bundle,
}

impl Installed {
    /// What an earlier run left, and this one has nothing to add to.
    fn before(bundle: Bundle, board: &Board) -> Self {
        board.bundle(&bundle);
        Self { planned: Planned::nothing(&bundle), bundle }
    }
}

/// Installs what is offered.
async fn install(
    arguments: &cli::Bootstrap,
    board: &Board,
    with: Installing<'_>,
    offer: Offer,
) -> Result<Installed, Failure> {
    let Installing { host, settings, spec, journal, .. } = with;
    let Offer { probing, mut bundle, patience } = offer;
    let arch = host.arch()?;
    journal.complete(bundle.id, &mut bundle.manifest);
    board.bundle(&bundle);
    if bundle.derived {
        board.warn(format!(
            "LEGACY_BUNDLE: {} has no cks-bundle.json: nothing vouches for what is installed; --policy require-manifest refuses it",
            probing.set().names().first().map_or("the source", String::as_str)
        ));
    }
    board.phase(Phase::Preflight);
    staging::check(host, &bundle.directory_name())?;
    let mut containerd = connect(arguments, settings, board, host, spec, &bundle).await?;
    let media = Media::new(probing, patience, board.clone());
    let mut site = Arc::new(Site { host: host.clone(), journal, bundle, media, board: board.clone(), arch });
    if !arguments.dry_run {
        site.drop_partials_except(site.bundle.manifest.entries.iter())?;
    }
    let mut first: Option<Plan> = None;
    for _ in 0..MAX_ROUNDS {
        let mut plan = look(&site, settings, spec, containerd.as_ref()).await?;
        if !arguments.allow_downgrade {
            reconcile::refuse_upgraded(host, spec.role, &site.bundle, &plan).await?;
        }
        if let Some(reached) = containerd.as_ref().filter(|reached| plan.imports() && !reached.is_leased())
            && !arguments.dry_run
        {
            containerd = Some(reached.with_lease(&lease_name(&site.bundle)).await?);
            // What was there and was collected before the lease could hold it is missing now.
            plan = look(&site, settings, spec, containerd.as_ref()).await?;
        }
        board.plan(&plan);
        let done = plan.is_empty() || arguments.dry_run;
        let planned = first.get_or_insert_with(|| plan.clone());
        if done {
            let planned = planned.clone();
            if !arguments.dry_run {
                let kept = site.media.release(settings.disc.eject);
                kept.iter().for_each(|failure| board.warn(format!("{}: {}", failure.code, failure.what)));
                let record = record(arguments, settings, spec, &site.bundle);
                finish(&site, settings, containerd.as_ref(), &record, !planned.is_empty()).await?;
            }
            let planned = Planned { plan: planned, ..Planned::nothing(&site.bundle) };
            if spec.membership.is_none() {
                board.phase(member::phase(host));
            }
            return Ok(Installed { planned, bundle: site.bundle.clone() });
        }
        site.drop_partials_except(site.entries_of(&plan))?;
        let applied = apply(&site, &plan, containerd.as_ref()).await;
        board.source_bytes(&site.media.bytes_by_source());
        applied?;
        board.phase(Phase::Verify);
        site = learn(site)?;
    }
    let left = look(&site, settings, spec, containerd.as_ref()).await?;
    let step = left.steps.first().map(ToString::to_string).unwrap_or_default();
    Err(Failure::new(Code::Io, format!("the machine does not stay as it is left: again to do: {step}"))
        .with_remedy("find out what else changes these files"))
}

async fn look(
    site: &Site,
    settings: &Config,
    spec: &NodeSpec,
    containerd: Option<&Containerd>,
) -> Result<Plan, Failure> {
    let wanted = Wanted::of(spec, &site.bundle, settings.cluster.cgroup_driver)?;
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

/// What later commands have to know of this run.
fn record(arguments: &cli::Bootstrap, settings: &Config, spec: &NodeSpec, bundle: &Bundle) -> NodeRecord {
    NodeRecord {
        role: spec.role,
        node_name: spec.node_name.clone(),
        node_ip: spec.address,
        etcd_initial_cluster: arguments.etcd_initial_cluster.clone(),
        sources: settings.sources.iter().map(|source| absolute(source)).collect(),
        containerd: settings.containerd.socket.clone(),
        snapshotter: settings.containerd.snapshotter.clone(),
        bundle: BundleRecord::of(bundle),
    }
}

/// A path as it is told from everywhere; anything else as it was named.
fn absolute(source: &str) -> String {
    if [candidates::DISC, candidates::ROUTER].contains(&source) {
        // Whatever else has that name in the directory that we were started in.
        return source.to_owned();
    }
    let there = std::path::Path::new(source).exists().then(|| std::path::absolute(source).ok()).flatten();
    there.map_or_else(|| source.to_owned(), |path| path.display().to_string())
}

async fn finish(
    site: &Site,
    settings: &Config,
    containerd: Option<&Containerd>,
    record: &NodeRecord,
    changed: bool,
) -> Result<(), Failure> {
    if let Some(containerd) = containerd {
        let kept = versions::kept(&site.host, &site.bundle.directory_name(), settings.keep);
        containerd.collect(&site.bundle, &kept).await?;
        containerd.end_lease().await?;
    }
    site.drop_partials_except(std::iter::empty())?;
    record.write(&site.host)?;
    Outcome::mended(&site.host)?;
    // The node is whole; what can't be tidied up is the next run's.
    let tidied = versions::prune(site, settings.keep).and_then(|()| staging::clear_stock(site, &record.sources));
    if let Err(failure) = tidied {
        site.board.warn(format!("{}: {}", failure.code, report::state_of(&failure).message));
    }
    site.journal.ended(board::timestamp(Duration::ZERO), site.bundle.id, INSTALLED, changed)
}

/// Waits for a signal that ends the program. From this call on none ends it by itself, whenever that is waited for.
pub(crate) fn signal() -> impl Future<Output = &'static str> + Send + 'static {
    // Without a handler the kernel ends us, which is safe, too.
    let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| unix::signal(kind).ok());
    async move {
        tokio::select! {
            () = received(interrupt) => "SIGINT",
            () = received(terminate) => "SIGTERM",
        }
    }
}

async fn received(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

fn print(arguments: &cli::Bootstrap, state: &NodeState, planned: Option<&Planned>, took: Duration) {
    match (arguments.json, planned.filter(|_| arguments.dry_run)) {
        (true, Some(planned)) => print_json(planned),
        (true, None) => print_json(state),
        (false, Some(planned)) => print_text(&progress::plan_lines(&planned.plan)),
        (false, None) => print_text(&progress::summary(state, took)),
    }
}

/// A reader that went away (`| head`) is no failure of ours.
pub(crate) fn print_text(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

pub(crate) fn print_json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        print_text(&(text + "\n"));
    }
}
