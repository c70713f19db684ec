//! Carries a plan out. What is fetched comes first, side by side; what makes it live comes last.

use std::fs;
use std::sync::Arc;

use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{Plan, Step};
use bootstrap::render;
use bootstrap::state::Phase;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::containerd::Containerd;
use crate::containerd::images::Shared;
use crate::files;
use crate::host::io_failure;
use crate::install::{Site, file, unpack};

/// Artefacts in flight: enough to keep two cores and a link busy, few enough for 48 MiB of memory and
/// for a small router that serves many nodes.
const SIDE_BY_SIDE: usize = 4;

/// Carries `plan` out; the first failure stops it, and what was finished stays.
///
/// # Errors
/// The failure of the step, which names its object.
pub async fn apply(site: &Arc<Site>, plan: &Plan, containerd: Option<&Containerd>) -> Result<(), Failure> {
    let (fetching, activating): (Vec<&Step>, Vec<&Step>) = plan.steps.iter().partition(|step| step.fetches());
    let shared = Shared::default();
    site.board.phase(Phase::Install);
    let fetched = futures::stream::iter(fetching)
        .map(|step| fetch(site, step, containerd, &shared))
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect::<()>()
        .await;
    if let Some(containerd) = containerd {
        // What is whole is named even where something else failed.
        let named = containerd.name_images(site, &shared).await;
        fetched.and(named)?;
    } else {
        fetched?;
    }
    site.board.phase(Phase::Activate);
    for step in activating {
        site.board.begin(step);
        activate(site, step)?;
        site.board.end(step);
    }
    Ok(())
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
        Step::RecordBundle { .. } | Step::WriteFile { .. } | Step::RenderUnit { .. } | Step::Link { .. } => {}
    }
    site.board.end(step);
    tracing::info!(step = %step, bytes = step.bytes(), "done");
    Ok(())
}

fn activate(site: &Site, step: &Step) -> Result<(), Failure> {
    match step {
        Step::RecordBundle { path } => files::write(&site.host.prepare(path)?, site.bundle.text.as_bytes(), 0o644),
        Step::WriteFile { path, text } => files::write(&site.host.prepare(path)?, text.as_bytes(), 0o644),
        Step::RenderUnit { source, path } => {
            let source = site.host.path(source);
            let text = fs::read_to_string(&source).map_err(|e| io_failure("Reading", &source, e))?;
            files::write(&site.host.prepare(path)?, render::unit::to_opt_bin(&text).as_bytes(), 0o644)
        }
        Step::Link { path, target } => {
            let full = site.host.prepare(path)?;
            site.host.check_link(path, target)?;
            files::link(&full, target)
        }
        Step::InstallFile { .. } | Step::Unpack { .. } | Step::ImportImage { .. } => Ok(()),
    }
}
