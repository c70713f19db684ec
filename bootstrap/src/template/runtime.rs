//! containerd's settings, as `bootstrap` writes them later, with the sandbox image that it then knows.

use super::services::enabled;
use super::{Edit, Facts, Item};
pub(super) use crate::render::containerd::{CONFIG, DROP_IN, MAIN, SERVICE_DROP_IN};
use crate::render::containerd::{Effective, Expected, Format, UNIT_PLACES, config, drop_in, main, service_drop_in};
use crate::render::kubeadm::CgroupDriver;

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    vec![
        config_files(facts),
        settings(facts),
        service(facts),
        enabled(facts, "containerd-unit", &["containerd.service"], "containerd does not run at boot"),
    ]
}

/// The version of containerd's package; none where there is none.
fn version(facts: &Facts) -> Option<&str> {
    // Where the first is a name alone, the second does the work.
    let real = |package: &&str| facts.packages.contains_key(*package);
    let package = ["containerd", "containerd.io"].into_iter().find(real)?;
    facts.packages.get(package).map(|version| version.rsplit(':').next().unwrap_or(version))
}

fn format(facts: &Facts) -> Option<Format> {
    version(facts).map(Format::of_version)
}

fn config_files(facts: &Facts) -> Item {
    let name = "containerd-config";
    let Some(format) = format(facts) else {
        return Item::not_applicable(name, "containerd is no package here yet");
    };
    let mut edits = Vec::new();
    if facts.text(CONFIG) != Some(&config(format)) {
        edits.push(Edit::write(CONFIG, config(format)));
    }
    if facts.entry(MAIN).is_none() {
        edits.push(Edit::write(MAIN, main(format)));
    }
    match edits.first() {
        None => Item::ok(name, format!("{CONFIG} reads {MAIN}, and then conf.d")),
        Some(Edit::Write { path, .. }) => {
            let what = format!(
                "{path} is missing, or another one: the server's user data overwrites {MAIN}, and ours has to count"
            );
            Item::lacks(name, what, edits)
        }
        Some(_) => Item::lacks(name, "containerd's configuration is not ours", edits),
    }
}

fn settings(facts: &Facts) -> Item {
    let name = "containerd-settings";
    let Some(format) = format(facts) else {
        return Item::not_applicable(name, "containerd is no package here yet");
    };
    let lacks = |what: String| {
        Item::lacks(name, what, vec![Edit::write(DROP_IN, drop_in(format, None, CgroupDriver::Systemd))])
    };
    let Some(text) = facts.text(DROP_IN) else {
        return lacks(format!("there is no {DROP_IN}: systemd would not make the control groups"));
    };
    // A machine that was a node has its sandbox image there, which is as it should be.
    let expected = Expected { sandbox_image: None, systemd_cgroup: true };
    match Effective::of_dump(text).map(|effective| effective.differences(&expected)) {
        Ok(differences) if differences.is_empty() => {
            Item::ok(name, format!("{DROP_IN}: systemd makes the control groups"))
        }
        Ok(differences) => lacks(format!("{DROP_IN}: {}", crate::text::plain(&differences.join("; ")))),
        Err(why) => lacks(format!("{DROP_IN}: {}", crate::text::plain(&why))),
    }
}

fn service(facts: &Facts) -> Item {
    let name = "containerd-service";
    let unit = UNIT_PLACES.iter().find_map(|path| facts.text(path));
    if unit.is_none() {
        return Item::not_applicable(name, "there is no unit of containerd's yet");
    }
    let wanted = service_drop_in(unit);
    match facts.text(SERVICE_DROP_IN) {
        Some(text) if text == wanted => Item::ok(name, format!("{SERVICE_DROP_IN} starts it with {CONFIG}")),
        there => {
            let how = if there.is_some() { "has another text" } else { "is missing" };
            let what = format!(
                "{SERVICE_DROP_IN} {how}: containerd would be started with {MAIN}, which the server's user data overwrites"
            );
            Item::lacks(name, what, vec![Edit::write(SERVICE_DROP_IN, wanted)])
        }
    }
}
