//! `cks-iso` from a version's number to an ISO that nodes install from, as a user without rights, in a network
//! that has nothing but a registry and the sites of a release.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod arm;
mod faults;
mod imports;
mod kills;
mod registries;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};

use cks_tests::bare::Bare;
use cks_tests::images::{self, Format};
use cks_tests::process::{Command, Output};
use cks_tests::world::{
    CSI_IMAGES, DASHBOARD, FLOW, HEADLAMP, KUBERNETES_IMAGES, NETWORK_IMAGES, PROXY, VERSION, World,
};

/// The profiles of an ISO with everything.
const PROFILES: [&str; 5] = ["calico", "dashboard", "headlamp", "csi", "etcd"];

/// An image of one architecture.
const PLAIN: &str = "registry.example.org/team/busybox:1.35.0";

/// A user with a spec and the machine's configuration.
struct Desk {
    user: Bare,
}

impl Desk {
    /// The user of `world` who has run `cks-iso init` and has found the registry at `url`.
    fn new(world: &World, url: &str, init: &[&str]) -> Self {
        let desk = Self { user: Bare::new(Some(&world.netns)).unwrap() };
        let few = "\n[http]\nretries = 3\ntimeout-seconds = 5\n";
        desk.user.put("config.toml", &(world.config(url) + few)).unwrap();
        let profiles = PROFILES.iter().flat_map(|profile| ["--profile", profile]);
        let args = ["init", "--kubernetes", VERSION, "-o", "spec.toml"].into_iter().chain(profiles);
        desk.user.cks_iso(&args.chain(init.iter().copied()).collect::<Vec<_>>()).ok().unwrap();
        desk
    }

    /// Adds an image to the spec.
    fn want(&self, reference: &str) {
        let spec = fs::read_to_string(self.path("spec.toml")).unwrap();
        self.user.put("spec.toml", &format!("{spec}\n[[images]]\nreference = \"{reference}\"\n")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.user.place.join(name)
    }

    fn lock(&self) -> Command {
        self.user.cks_iso(&["lock", "spec.toml", "--config", "config.toml", "--cache", "cache"])
    }

    fn build(&self) -> Command {
        let output = ["-o", "out.iso", "--config", "config.toml", "--cache", "cache"];
        self.user.cks_iso(&["build", "spec.toml", "--locked"]).args(output)
    }

    /// Both; gives the ISO.
    fn iso(&self) -> PathBuf {
        self.lock().ok().unwrap();
        self.build().ok().unwrap();
        self.path("out.iso")
    }

    /// What lies beside the spec, without the cache.
    fn files(&self) -> Vec<String> {
        let files = self.user.files(&self.user.place).unwrap().into_iter().map(|(path, _)| path);
        files.filter(|path| !path.starts_with("cache/")).collect()
    }

    /// The digests of the whole files of the cache, and the bytes of downloads that have not ended.
    fn cached(&self) -> (Vec<String>, u64) {
        let files = self.user.files(&self.path("cache")).unwrap_or_default();
        let rests = files.iter().filter(|(path, _)| path.ends_with(".partial")).map(|(_, size)| size).sum();
        let whole = files.iter().filter_map(|(path, _)| path.strip_prefix("sha256/"));
        (whole.filter(|name| !name.starts_with('.')).map(str::to_owned).collect(), rests)
    }
}

/// Whether a message has this code.
fn told(output: &Output, code: &str) -> bool {
    output.stderr.contains(&format!("error[{code}]"))
}

/// The names of all images of an ISO with [`PROFILES`], sorted: a digest's tag is a name, too.
fn references(world: &World) -> Vec<String> {
    let tags =
        KUBERNETES_IMAGES.iter().chain(&NETWORK_IMAGES).chain(&CSI_IMAGES).chain([&DASHBOARD, &HEADLAMP, &PROXY]);
    let by_digest = [PROXY, FLOW].map(|reference| {
        let (name, _) = reference.rsplit_once(':').unwrap();
        format!("{name}@{}", world.digest_of(reference).unwrap())
    });
    let mut all: Vec<String> = tags.map(|reference| (*reference).to_owned()).chain(by_digest).collect();
    all.sort();
    all
}

/// Puts an image into the registry that is of this machine's architecture alone, by Docker's media types.
fn publish_plain(world: &World) {
    let work = cks_tests::scratch("archive").unwrap();
    let archive = images::busybox(PLAIN).unwrap().archive(Format::DockerSave, work.path()).unwrap();
    world.registry.fill_from_archive(&archive, PLAIN).unwrap();
}

/// An ISO's content as a directory, by another reader than ours.
fn extract(iso: &Path, directory: &Path) {
    let osirrox = Command::new("xorriso").args(["-osirrox", "on", "-indev"]).arg(iso);
    osirrox.args(["-extract", "/"]).arg(directory).ok().unwrap();
}
