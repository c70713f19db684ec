//! Carries a plan out: what is fetched first, side by side; then what makes the node live; and the images that no node
//! waits for, of which the first may begin earlier.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{CURRENT, Plan, Step, Wave};
use bootstrap::render;
use bootstrap::state::Phase;
use futures::TryStreamExt as _;
use futures::future::try_join;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use crate::containerd::Containerd;
use crate::containerd::images::Shared;
use crate::files;
use crate::host::io_failure;
use crate::install::{Site, file, labels, unpack, versions};
use crate::verify::Outcome;

/// Artefacts in flight: enough to keep two cores and a link busy, few enough for 48 MiB of memory and
/// for a small router that serves many nodes.
const SIDE_BY_SIDE: usize = 4;
/// Of them, those that begin with what no node waits for before the node is live.
const EARLY: usize = 1;

/// Carries `plan` out; the first failure stops it, and what was finished stays; one in the rest stops the rest alone. Of
/// a plan that learns, only the first wave: what it learns belongs to what goes live.
///
/// # Errors
/// The failure of the step, which names its object.
pub async fn apply(site: &Arc<Site>, plan: &Plan, containerd: Option<&Containerd>) -> Result<(), Failure> {
    let shared = Shared::with_dropped(Outcome::suspects(&site.host));
    let lanes = Lanes { all: Semaphore::new(SIDE_BY_SIDE), early: Semaphore::new(EARLY) };
    let wave = |wave| plan.steps.iter().filter(move |step| step.wave() == wave).collect::<Vec<_>>();
    let (first, rest) = (wave(Wave::First), wave(Wave::Rest));
    let is_rest = !rest.is_empty() && !plan.learns;
    let going_live = async {
        site.board.phase(Phase::Install);
        fetch_all(site, first, containerd, &shared, &lanes).await?;
        if !plan.learns {
            go_live(site, plan).await?;
        }
        if is_rest {
            site.board.phase(Phase::ImportRest);
            lanes.early.add_permits(SIDE_BY_SIDE - EARLY);
        }
        Ok(())
    };
    if !is_rest {
        return going_live.await;
    }
    // What fails there does not keep the node from going live.
    let importing_rest = async {
        let objects = rest.iter().map(|step| step.object()).collect();
        let fetched = fetch_all(site, rest, containerd, &shared, &lanes).await;
        Ok(fetched.inspect_err(|failure| {
            tracing::warn!(code = %failure.code, "told in the end, other images wait for it: {}", failure.what);
            site.board.drop_active(&objects);
        }))
    };
    let ((), fetched) = try_join(going_live, importing_rest).await?;
    fetched
}

/// Who may fetch: steps ask in their order, the first wave before the rest, and are let in as they asked.
struct Lanes {
    all: Semaphore,
    /// For the rest, besides: one as long as the node is not live. It keeps a core busy that the end of the first wave
    /// leaves idle, and takes little of a slow link.
    early: Semaphore,
}

async fn go_live(site: &Site, plan: &Plan) -> Result<(), Failure> {
    site.board.phase(Phase::Activate);
    let steps = || plan.steps.iter().filter(|step| step.wave() == Wave::Live);
    let is_link = |step: &&Step| matches!(step, Step::Link { .. } | Step::Unlink { .. });
    for step in steps().filter(|step| !is_link(step)) {
        live(site, step)?;
    }
    labels::restore(site, plan).await;
    for step in steps().filter(is_link) {
        live(site, step)?;
    }
    Ok(())
}

/// Carries the steps of a wave out, as many at a time as there are `lanes`, and gives its images their names.
async fn fetch_all(
    site: &Arc<Site>,
    steps: Vec<&Step>,
    containerd: Option<&Containerd>,
    shared: &Shared,
    lanes: &Lanes,
) -> Result<(), Failure> {
    let images: BTreeSet<&str> = steps.iter().map(|step| step.object()).collect();
    let fetches = steps.into_iter().map(async |step| {
        let _early = match step.wave() {
            Wave::Rest => Some(lanes.early.acquire().await),
            Wave::First | Wave::Live => None,
        };
        let _lane = lanes.all.acquire().await;
        fetch(site, step, containerd, shared).await
    });
    let fetched = fetches.collect::<FuturesUnordered<_>>().try_collect::<()>().await;
    let Some(containerd) = containerd else { return fetched };
    // What is whole is named even where something else failed.
    let named = containerd.name_images(site, shared, &images).await;
    fetched.and(named)
}

async fn fetch(site: &Arc<Site>, step: &Step, containerd: Option<&Containerd>, shared: &Shared) -> Result<(), Failure> {
    site.board.begin(step);
    let entry = |path: &str| {
        let missing = || Failure::new(Code::ManifestInvalid, format!("the manifest has no entry {path}"));
        site.bundle.manifest.entry(path).ok_or_else(missing)
    };
    match step {
        Step::InstallFile { entry: path, path: to, mode, .. } => file::install(site, entry(path)?, to, *mode).await?,
        Step::Unpack { entry: path, directory, members, .. } => {
            unpack::unpack(site, entry(path)?, directory, members).await?;
        }
        Step::ImportImage { reference, .. } => {
            let image = site.bundle.manifest.images.iter().find(|image| image.reference == *reference);
            let (Some(image), Some(containerd)) = (image, containerd) else {
                let what = format!("there is no containerd to import {reference} into");
                return Err(Failure::new(Code::ContainerdUnavailable, what));
            };
            containerd.import(site, image, shared).await?;
        }
        Step::RecordBundle { .. }
        | Step::WriteFile { .. }
        | Step::RenderUnit { .. }
        | Step::Link { .. }
        | Step::Unlink { .. } => {}
    }
    site.board.end(step);
    tracing::info!(step = %step, bytes = step.bytes(), "done");
    Ok(())
}

fn live(site: &Site, step: &Step) -> Result<(), Failure> {
    site.board.begin(step);
    match step {
        Step::RecordBundle { path } => {
            if let Some(signature) = &site.bundle.signature {
                let path = site.host.prepare(&site.bundle.signature_path())?;
                files::write(&path, signature.text.as_bytes(), 0o644)?;
            }
            files::write(&site.host.prepare(path)?, site.bundle.text.as_bytes(), 0o644)?;
        }
        Step::WriteFile { path, text } => files::write(&site.host.prepare(path)?, text.as_bytes(), 0o644)?,
        Step::RenderUnit { source, path } => {
            let source = site.host.path(source);
            let text = fs::read_to_string(&source).map_err(|e| io_failure("Reading", &source, e))?;
            files::write(&site.host.prepare(path)?, render::unit::to_opt_bin(&text).as_bytes(), 0o644)?;
        }
        Step::Link { path, target } => {
            let full = site.host.prepare(path)?;
            site.host.check_link(path, target)?;
            if path == CURRENT {
                versions::retire(&site.host);
            }
            files::link(&full, target)?;
        }
        Step::Unlink { path } => files::remove(&site.host.path(path))?,
        Step::InstallFile { .. } | Step::Unpack { .. } | Step::ImportImage { .. } => {}
    }
    site.board.end(step);
    Ok(())
}
