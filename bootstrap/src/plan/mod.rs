//! The plan: what has to be done to a machine, as data.
//!
//! [`Wanted`] says what a node consists of, [`Facts`] what is there, [`plan`] what is missing. The same
//! call on a finished node gives an empty plan; that is also how a run proves its own work.

mod facts;
mod space;
mod step;
#[cfg(test)]
mod tests;
mod wanted;

pub use facts::{ContainerdFact, Facts, FileFact, Filesystem, ImageFact};
pub use step::{Plan, Step, UnpackMember, Warning, Wave};
pub use wanted::{
    Bundle, CURRENT, LISTING_NAME, Signature, VERSIONS_DIR, Wanted, WantedFile, directory_of, install_name, paths_of,
};

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::bundle::{Arch, Image, Place, Role};
use crate::digest::Digest;
use crate::failure::{Code, Failure};
use crate::render::{self, containerd::Format};

/// Label that makes an image visible to the CRI plugin (containerd `internal/cri/labels`).
pub const CRI_LABEL: (&str, &str) = ("io.cri-containerd.image", "managed");
/// Label that keeps kubelet's garbage collector away (containerd 1.6.22, 1.7.3 and later).
pub const PINNED_LABEL: (&str, &str) = ("io.cri-containerd.pinned", "pinned");
/// Label that tells which bundle brought the image.
pub const OWNER_LABEL: &str = "io.cks-node.bundle";

/// The labels that an image of `bundle` carries.
#[must_use]
pub fn image_labels(bundle: &Bundle) -> BTreeMap<String, String> {
    let owner = (OWNER_LABEL.to_owned(), bundle.directory_name());
    let fixed = [CRI_LABEL, PINNED_LABEL].map(|(key, value)| (key.to_owned(), value.to_owned()));
    fixed.into_iter().chain([owner]).collect()
}

/// Refuses a bundle that a machine of `arch` can't use, or that nobody can become a `role` by.
///
/// # Errors
/// `ARCH_MISMATCH`, `MEDIA_LACKS_ETCD` and `MEDIA_LACKS_COMPONENT`.
pub fn check_fit(bundle: &Bundle, arch: Arch, role: Option<Role>) -> Result<(), Failure> {
    check_arch(bundle, arch)?;
    role.map_or(Ok(()), |role| Wanted::default().check_components(role, bundle))
}

fn check_arch(bundle: &Bundle, machine: Arch) -> Result<(), Failure> {
    let is = bundle.manifest.arch;
    if is == machine {
        return Ok(());
    }
    let what = format!("bundle {:?} is for {is}, this machine is {machine}", bundle.manifest.name);
    Err(Failure::new(Code::ArchMismatch, what))
}

/// What has to be done so that the machine that `facts` tells of becomes what `wanted` says.
///
/// # Errors
/// `ARCH_MISMATCH` and `NO_SPACE`, before anything is written.
pub fn plan(wanted: &Wanted, bundle: &Bundle, facts: &Facts) -> Result<Plan, Failure> {
    check_arch(bundle, facts.arch)?;
    let mut plan = Plan { warnings: wanted.warnings.clone(), learns: !wanted.unlisted.is_empty(), ..Plan::default() };
    let (mut rest, mut first): (Vec<Step>, Vec<Step>) =
        image_steps(wanted, bundle, facts).into_iter().partition(|step| step.wave() == Wave::Rest);
    first.extend(file_steps(wanted, bundle, facts));
    space::check(first.iter().chain(&rest), bundle, facts)?;
    // Images first, which cost more than their bytes tell, and of each the largest: what is left for the end of a wave
    // is small, and a run that is stopped has the dear half behind it.
    first.sort_by_key(|step| Reverse((matches!(step, Step::ImportImage { .. }), step.bytes())));
    rest.sort_by_key(|step| Reverse(step.bytes()));
    plan.steps = first;
    live_steps(wanted, bundle, facts, &mut plan);
    plan.steps.extend(rest);
    Ok(plan)
}

/// What makes the node live, in the order that leaves one whole version in use wherever it breaks off:
/// what nobody looks at yet, units, links for names that nothing had, the switch, and then links for names
/// where something stood that had to work until now.
fn live_steps(wanted: &Wanted, bundle: &Bundle, facts: &Facts, plan: &mut Plan) {
    let signature = bundle.signature.as_ref().map(|signature| &signature.text);
    let signature_kept = signature.is_none() || facts.texts.get(&bundle.signature_path()) == signature;
    if facts.texts.get(&bundle.record_path()) != Some(&bundle.text) || !signature_kept {
        plan.steps.push(Step::RecordBundle { path: bundle.record_path() });
    }
    text_steps(wanted, facts, plan);
    for (destination, source) in &wanted.units {
        let made = facts.texts.get(source).map(|text| render::unit::to_opt_bin(text));
        if made.is_none() || made.as_ref() != facts.texts.get(destination) {
            plan.steps.push(Step::RenderUnit { source: source.clone(), path: destination.clone() });
        }
    }
    let (current, version) = (CURRENT.to_owned(), bundle.directory_name());
    // A unit is enabled when the programs that it starts are there, not before.
    let (enabling, programs): (Vec<_>, Vec<_>) = wanted.links.iter().partition(|(path, _)| path.contains(".wants/"));
    let (late, early): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|(path, _)| facts.until_switch.contains(*path));
    let links = early.into_iter().chain([(&current, &version)]).chain(late).chain(enabling);
    for (path, target) in links {
        if facts.links.get(path) != Some(target) {
            plan.steps.push(Step::Link { path: path.clone(), target: target.clone() });
        }
    }
    // While tarballs are unread, a name that nobody wants may only be one that nobody knows yet.
    if !plan.learns {
        plan.steps.extend(facts.stale_links.iter().map(|path| Step::Unlink { path: path.clone() }));
    }
}

fn is_there(file: &WantedFile, facts: &Facts) -> bool {
    let there = facts.files.get(&file.path);
    there.is_some_and(|there| Some(there.sha256) == file.sha256 && there.mode == file.mode)
}

fn file_steps(wanted: &Wanted, bundle: &Bundle, facts: &Facts) -> Vec<Step> {
    let mut tarballs: BTreeMap<&str, Vec<UnpackMember>> = BTreeMap::new();
    let mut steps = Vec::new();
    for file in wanted.files.iter().filter(|file| !is_there(file, facts)) {
        match &file.member {
            Some(member) => tarballs.entry(&file.entry).or_default().push(UnpackMember {
                member: member.clone(),
                path: file.path.clone(),
                size: file.size,
                sha256: file.sha256,
            }),
            None => steps.push(Step::InstallFile {
                entry: file.entry.clone(),
                size: file.size,
                sha256: file.sha256,
                path: file.path.clone(),
                mode: file.mode,
            }),
        }
    }
    let unlisted = wanted.unlisted.iter().map(|path| (path.as_str(), Vec::new()));
    for (path, members) in tarballs.into_iter().chain(unlisted) {
        if let Some(entry) = bundle.manifest.entry(path) {
            steps.push(Step::Unpack {
                entry: path.to_owned(),
                size: entry.size,
                sha256: entry.sha256,
                kind: entry.kind,
                directory: format!("{}/{}", bundle.directory(), directory_of(entry.kind)),
                members,
            });
        }
    }
    steps
}

fn image_steps(wanted: &Wanted, bundle: &Bundle, facts: &Facts) -> Vec<Step> {
    let labels = image_labels(bundle);
    let is_there = |image: &Image| {
        let there = facts.images.get(&image.reference);
        there.is_some_and(|there| {
            let labelled = labels.iter().all(|(key, value)| there.labels.get(key) == Some(value));
            there.digest == image.digest && there.unpacked && labelled
        })
    };
    let size = |digest: &Digest| match bundle.manifest.blob(digest) {
        Some(blob) if matches!(blob.at, Place::Range { .. }) => blob.size,
        _ => 0,
    };
    let lacks = |image: &Image| {
        let there = facts.images.get(&image.reference);
        let unpacked = there.is_some_and(|there| there.digest == image.digest && there.unpacked);
        // A layer that is unpacked needs no blob.
        let layers = if unpacked { &[] } else { image.layers.as_slice() };
        let all = [image.digest, image.config].into_iter().chain(layers.iter().copied());
        all.filter(|digest| !facts.blobs.contains(digest)).collect::<Vec<_>>()
    };
    let is_sandbox = |image: &Image| wanted.sandbox_image.as_ref() == Some(&image.reference);
    let mut images: Vec<(&Image, Vec<Digest>)> =
        wanted.images.iter().filter(|image| !is_there(image)).map(|image| (image, lacks(image))).collect();
    // A blob that images of both waves share comes with the first wave. Within one the steps are sorted again.
    images.sort_by_key(|(image, missing)| {
        (!is_sandbox(image), !image.critical, Reverse(missing.iter().map(size).sum::<u64>()))
    });
    // A blob that two images share is fetched by the first of them.
    let mut coming = BTreeSet::new();
    let mut steps = Vec::new();
    for (image, missing) in images {
        let missing: Vec<Digest> = missing.into_iter().filter(|digest| coming.insert(*digest)).collect();
        steps.push(Step::ImportImage {
            reference: image.reference.clone(),
            digest: image.digest,
            sandbox: is_sandbox(image),
            critical: is_sandbox(image) || image.critical,
            size: missing.iter().map(size).sum(),
            missing,
        });
    }
    steps
}

fn text_steps(wanted: &Wanted, facts: &Facts, plan: &mut Plan) {
    let mut texts = wanted.texts.clone();
    if wanted.has_runtime && (facts.containerd.is_some() || !wanted.images.is_empty()) {
        containerd_texts(wanted, facts, plan, &mut texts);
    }
    for (path, text) in texts {
        if facts.texts.get(&path) != Some(&text) {
            plan.steps.push(Step::WriteFile { path, text });
        }
    }
}

/// What containerd is started with, and how. The main file is somebody else's: it is only written where there is none, or
/// where no containerd could be started with it.
fn containerd_texts(wanted: &Wanted, facts: &Facts, plan: &mut Plan, texts: &mut BTreeMap<String, String>) {
    use crate::render::containerd::{
        CONFIG, DROP_IN, MAIN, SERVICE_DROP_IN, SET_ASIDE, UNIT_PLACES, config, drop_in, loses_sections, lost_settings,
        main, refusal, service_drop_in,
    };
    let version = facts.containerd.as_ref().map(|containerd| containerd.version.as_str());
    let format = Format::of_version(version.unwrap_or_default());
    let unit = UNIT_PLACES.iter().find_map(|place| facts.texts.get(*place)).map(String::as_str);
    texts.insert(CONFIG.to_owned(), config(format));
    texts.insert(DROP_IN.to_owned(), drop_in(format, wanted.sandbox_image.as_deref(), wanted.cgroup_driver));
    texts.insert(SERVICE_DROP_IN.to_owned(), service_drop_in(unit));
    let mut warn = |code: &str, text| plan.warnings.push(Warning { code: code.to_owned(), text });
    let Some(there) = facts.texts.get(MAIN) else {
        texts.insert(MAIN.to_owned(), main(format));
        return;
    };
    if let Some(why) = refusal(there) {
        texts.insert(SET_ASIDE.to_owned(), there.clone());
        texts.insert(MAIN.to_owned(), main(format));
        warn("CONTAINERD_CONFIG_SET_ASIDE", format!("{MAIN} {why}: it is kept as {SET_ASIDE}"));
        return;
    }
    let lost = lost_settings(there);
    if loses_sections(version.unwrap_or_default()) && !lost.is_empty() {
        let (lost, number) = (lost.join(", "), format.number());
        warn(
            "CONTAINERD_SECTION_REPLACED",
            format!(
                "this containerd takes the CRI section from {DROP_IN}, not from {MAIN}, and so without {lost}: write a whole section in format {number} into a file of conf.d that sorts after it"
            ),
        );
    }
}
