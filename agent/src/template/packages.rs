//! Packages, by the distribution's own manager.

use std::fs;

use bootstrap::failure::{Code, Failure};
use bootstrap::template::{Facts, Family, Metapackage, candidates, metapackage};

use super::inside::Inside;
use crate::files;
use crate::host::{Host, io_failure};
use crate::tool::Tool;

/// Where packages of ours are made; gone when they are installed.
const MADE: &str = "/var/cache/cks-agent/packages";

/// Another apt may be at work: unattended upgrades begin soon after boot.
const APT: [&str; 9] = [
    "-y",
    "-q",
    "--no-install-recommends",
    "-o",
    "DPkg::Lock::Timeout=120",
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
    inside.ok(Tool::Dpkg, &["--configure", "-a", "--force-confold"], Code::HostUnfit).await?;
    say("apt-get update");
    let remedy = "check the package repositories of this machine, and the way to them";
    let updated = inside.ok(Tool::AptGet, &["update", "-q"], Code::SourceUnreachable).await;
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
        new.retain(|name| !is_made(name) && !(dockers && matches!(*name, "containerd" | "runc")));
        new.extend(made.iter().filter_map(|package| package.depends));
        new.dedup();
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
    inside.ok(Tool::AptGet, &args, Code::HostUnfit).await.map(|_| ())
}

/// Makes a package that holds nothing, and installs it.
async fn make(host: &Host, inside: &Inside<'_>, package: &Metapackage) -> Result<(), Failure> {
    let directory = format!("{MADE}/{}", package.name);
    files::write(&host.prepare(&format!("{directory}/DEBIAN/control"))?, package.control().as_bytes(), 0o644)?;
    let archive = format!("{directory}.deb");
    inside.ok(Tool::DpkgDeb, &["--build", "--root-owner-group", &directory, &archive], Code::HostUnfit).await?;
    inside.ok(Tool::Dpkg, &["--install", &archive], Code::HostUnfit).await?;
    let made = host.path(MADE);
    fs::remove_dir_all(&made).map_err(|e| io_failure("Removing", &made, e))
}
