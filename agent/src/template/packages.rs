//! Packages, by the distribution's own manager.

use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::template::{Facts, Family, Metapackage, candidates, metapackage};
use rand::Rng as _;

use super::inside::Inside;
use crate::files;
use crate::host::Host;
use crate::tool::Tool;

/// Where packages of ours are made; gone when they are installed.
const MADE: &str = "/var/cache/cks-agent/packages";

/// How long another package manager may be at work, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(3);

const APT: [&str; 7] = [
    "-y",
    "-q",
    "--no-install-recommends",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Dpkg::Options::=--force-confdef",
];

/// Installs packages, by name and whether they are there and lack something.
///
/// # Errors
/// `SOURCE_UNREACHABLE` where no repository answers; `HOST_UNFIT` names what can't be installed; `TOOL_MISSING`, `IO`.
pub(super) async fn install(
    host: &Host,
    inside: &Inside<'_>,
    facts: &Facts,
    wanted: &[(&str, bool)],
    mut say: impl FnMut(&str),
) -> Result<(), Failure> {
    let names =
        |again: bool| -> Vec<&str> { wanted.iter().filter(|(_, is)| *is == again).map(|(name, _)| *name).collect() };
    match facts.distribution.family() {
        Some(Family::Debian) => debian(host, inside, facts, names(false), names(true), &mut say).await,
        Some(Family::RedHat) => red_hat(inside, names(false), names(true), &mut say).await,
        None => {
            let what = format!("nothing is known of how packages are installed on {}", facts.distribution.name);
            Err(Failure::new(Code::HostUnfit, what)
                .with_remedy(format!("install {}", wanted.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" "))))
        }
    }
}

async fn red_hat(
    inside: &Inside<'_>,
    new: Vec<&str>,
    again: Vec<&str>,
    say: &mut impl FnMut(&str),
) -> Result<(), Failure> {
    for (verb, names) in [("install", new), ("reinstall", again)] {
        if !names.is_empty() {
            say(&format!("dnf {verb} {}", names.join(" ")));
            let fixed = [verb, "-y", "-q", "--setopt=install_weak_deps=False"];
            let args: Vec<&str> = fixed.into_iter().chain(names).collect();
            inside.ok(Tool::Dnf, &args, Code::HostUnfit).await?;
        }
    }
    Ok(())
}

async fn debian(
    host: &Host,
    inside: &Inside<'_>,
    facts: &Facts,
    mut new: Vec<&str>,
    again: Vec<&str>,
    say: &mut impl FnMut(&str),
) -> Result<(), Failure> {
    // What a killed run left half installed.
    patiently(inside, Tool::Dpkg, &["--configure", "-a", "--force-confold"], Code::HostUnfit, say).await?;
    say("apt-get update");
    let remedy = "check the package repositories of this machine, and the way to them";
    let updated = patiently(inside, Tool::AptGet, &["update", "-q"], Code::SourceUnreachable, say).await;
    updated.map_err(|failure| failure.with_remedy(remedy))?;
    let mut made = Vec::new();
    if !new.is_empty() {
        let args: Vec<&str> = ["policy"].into_iter().chain(new.iter().copied()).collect();
        let known = candidates(&inside.ok(Tool::AptCache, &args, Code::HostUnfit).await?);
        // Docker's package takes the place of the distribution's, which may be there already.
        let keeps_own = facts.packages.contains_key("containerd");
        let is_made = |name: &str| !known.contains(name) || (name == "containerd.io" && keeps_own);
        for name in new.iter().copied().filter(|name| is_made(name)) {
            made.push(metapackage(name).ok_or_else(|| nowhere(name))?);
        }
        let dockers = new.contains(&"containerd.io") && !is_made("containerd.io");
        new.retain(|name| !(is_made(name) || dockers && matches!(*name, "containerd" | "runc")));
        for depends in made.iter().filter_map(|package| package.depends) {
            if !new.contains(&depends) {
                new.push(depends);
            }
        }
    }
    apt(inside, &[], &new, say).await?;
    apt(inside, &["--reinstall"], &again, say).await?;
    for package in &made {
        say(&format!("a package called {}, which holds nothing", package.name));
        make(host, inside, package).await?;
    }
    Ok(())
}

fn nowhere(name: &str) -> Failure {
    Failure::new(Code::HostUnfit, format!("no package repository of this machine has {name}")).with_remedy(
        "add the distribution's whole repositories (on Ubuntu: universe), or leave the item out with --skip",
    )
}

async fn apt(inside: &Inside<'_>, how: &[&str], names: &[&str], say: &mut impl FnMut(&str)) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    say(&format!(
        "apt-get install {}{}",
        how.iter().map(|word| format!("{word} ")).collect::<String>(),
        names.join(" ")
    ));
    let args: Vec<&str> =
        ["install"].into_iter().chain(APT).chain(how.iter().copied()).chain(names.iter().copied()).collect();
    patiently(inside, Tool::AptGet, &args, Code::HostUnfit, say).await
}

/// Runs a program again for as long as another package manager is at work: unattended upgrades begin soon after boot, and one that a
/// killed `prepare` left behind comes to its end.
async fn patiently(
    inside: &Inside<'_>,
    tool: Tool,
    args: &[&str],
    code: Code,
    say: &mut impl FnMut(&str),
) -> Result<(), Failure> {
    let since = Instant::now();
    loop {
        let said = inside.run(tool, args).await?;
        if said.code == Some(0) {
            return Ok(());
        }
        let is_locked = said.stderr.contains("lock was locked by") || said.stderr.contains("Could not get lock");
        if !is_locked || since.elapsed() > PATIENCE {
            return Err(said.failure(&format!("{} {}", tool.name(), args.join(" ")), code));
        }
        say("waiting for another package manager");
        tokio::time::sleep(PAUSE.mul_f64(rand::rng().random_range(0.7..1.3))).await;
    }
}

/// Makes a package that holds nothing, and installs it.
async fn make(host: &Host, inside: &Inside<'_>, package: &Metapackage) -> Result<(), Failure> {
    let directory = format!("{MADE}/{}", package.name);
    files::write(&host.prepare(&format!("{directory}/DEBIAN/control"))?, package.control().as_bytes(), 0o644)?;
    let archive = format!("{directory}.deb");
    inside.ok(Tool::DpkgDeb, &["--build", "--root-owner-group", &directory, &archive], Code::HostUnfit).await?;
    inside.ok(Tool::Dpkg, &["--install", &archive], Code::HostUnfit).await?;
    super::seal::remove(&host.path(MADE), false)
}
