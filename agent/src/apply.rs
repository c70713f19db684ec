//! Carries a plan out: what is fetched first, side by side; then what makes the node live; then the images
//! that no node waits for.

use std::cmp::Reverse;
use std::fs;
use std::sync::Arc;

use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{CURRENT, Plan, Step, Wave};
use bootstrap::render;
use bootstrap::state::Phase;
use futures::future::{try_join, try_join_all};
use tokio::sync::Semaphore;

use crate::containerd::Containerd;
use crate::containerd::images::Shared;
use crate::files;
use crate::host::io_failure;
use crate::install::{Site, file, labels, remove, unpack, versions};
use crate::verify::Outcome;

/// Artefacts in flight: enough to keep two cores and a link busy, few enough for 48 MiB of memory and
/// for a small router that serves many nodes.
const SIDE_BY_SIDE: usize = 4;

/// Carries `plan` out; the first failure stops it, and what was finished stays. Of a plan that learns, only the
/// first wave: what it learns belongs to what goes live.
///
/// # Errors
/// The failure of the step, which names its object.
pub async fn apply(site: &Arc<Site>, plan: &Plan, containerd: Option<&Containerd>) -> Result<(), Failure> {
    let shared = Shared::with_dropped(Outcome::suspects(&site.host));
    let lanes = Semaphore::new(SIDE_BY_SIDE);
    let wave = |wave| plan.steps.iter().filter(move |step| step.wave() == wave);
    let going_live = async {
        site.board.phase(Phase::Install);
        fetch_all(site, wave(Wave::First), containerd, &shared, &lanes).await?;
        if !plan.learns {
            go_live(site, plan).await?;
        }
        Ok(())
    };
    if plan.learns || wave(Wave::Rest).next().is_none() {
        return going_live.await;
    }
    // What no node waits for takes the lanes that the first wave leaves free: they are handed out in the order in
    // which they are asked for, and it asks first. What fails there does not keep the node from going live.
    let rest = async {
        let fetched = fetch_all(site, wave(Wave::Rest), containerd, &shared, &lanes).await;
        Ok(fetched)
    };
    let live = async {
        going_live.await?;
        site.board.phase(Phase::ImportRest);
        Ok(())
    };
    let ((), fetched) = try_join(live, rest).await?;
    fetched
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
    steps: impl Iterator<Item = &Step>,
    containerd: Option<&Containerd>,
    shared: &Shared,
    lanes: &Semaphore,
) -> Result<(), Failure> {
    // The largest first: at the end of a wave it would keep one core busy alone.
    let mut steps: Vec<&Step> = steps.collect();
    steps.sort_by_key(|step| Reverse(step.bytes()));
    let fetched = try_join_all(steps.into_iter().map(async |step| {
        let _lane = lanes.acquire().await;
        fetch(site, step, containerd, shared).await
    }));
    let fetched = fetched.await.map(drop);
    let Some(containerd) = containerd else { return fetched };
    // What is whole is named even where something else failed.
    let named = containerd.name_images(site, shared).await;
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
        Step::Unlink { path } => remove(&site.host.path(path))?,
        Step::InstallFile { .. } | Step::Unpack { .. } | Step::ImportImage { .. } => {}
    }
    site.board.end(step);
    Ok(())
}
