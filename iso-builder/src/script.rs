//! The positional arguments of CloudStack's `create-kubernetes-binaries-iso.sh` (4.14 … 4.23) as a spec.
//! Nothing is read or fetched: what a call meant is told from the arguments alone.

mod text;

use std::path::Path;

use bootstrap::bundle::Arch;
use bootstrap::failure::{Code, Failure};

use crate::init::arch_suffix;
use crate::spec::upstream::bare;

/// The newest release whose script is known: `(4, 23)`.
pub const NEWEST: (u32, u32) = (4, 23);

/// The oldest one.
pub const OLDEST: (u32, u32) = (4, 14);

/// How the script is called.
const USAGE: &str = "OUTPUT_PATH KUBERNETES_VERSION CNI_VERSION CRICTL_VERSION NETWORK_YAML DASHBOARD BUILD_NAME [ARCH] \
                     [ETCD_VERSION]";

/// What a call of the script meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// The spec, as text.
    pub spec: String,
    /// The directory for the ISO, as it was given.
    pub directory: String,
    /// The ISO's file name.
    pub iso: String,
    /// What was ambiguous, or would have failed, a line each.
    pub warnings: Vec<String>,
}

/// A call, understood.
#[derive(Debug, Default)]
struct Call {
    release: (u32, u32),
    directory: String,
    kubernetes: String,
    cni: String,
    crictl: String,
    /// None for Cilium's script, which renders it.
    network: Option<String>,
    dashboard: Option<Dashboard>,
    name: Option<String>,
    arch: Option<Arch>,
    etcd: Option<String>,
    cilium: Option<String>,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Dashboard {
    Manifest(String),
    Version(String),
    Headlamp(String),
}

/// Reads a release: `4.22`, also with a patch number.
#[must_use]
pub fn release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let release = (parts.next()??, parts.next()??);
    (OLDEST..=NEWEST).contains(&release).then_some(release)
}

/// The spec that `args` meant for the script of `release`; relative files are taken from `directory`.
///
/// # Errors
/// `CONFIG_INVALID` for arguments that have no meaning.
pub fn translate(args: &[String], release: (u32, u32), directory: &Path) -> Result<Translated, Failure> {
    let mut call = Call { release, ..Call::default() };
    if let Some(bad) = args.iter().find(|arg| arg.contains(char::is_control)) {
        return Err(refuse(format!("{bad:?} is no argument of the script")));
    }
    let arg = |at: usize| args.get(at - 1).map(String::as_str).filter(|arg| !arg.is_empty());
    if is_cilium(args) {
        call.read_cilium(args)?;
    } else {
        if args.len() < 6 {
            return Err(refuse(format!("{} arguments; the script needs at least 6: {USAGE}", args.len())));
        }
        call.network = Some(call.manifest("NETWORK_YAML", arg(5).unwrap_or_default())?);
        call.read_dashboard(arg(6).unwrap_or_default())?;
        call.read_rest(args.get(6..).unwrap_or_default())?;
    }
    call.directory = arg(1).unwrap_or(".").to_owned();
    call.kubernetes = call.version("KUBERNETES_VERSION", arg(2))?;
    call.cni = call.version("CNI_VERSION", arg(3))?;
    call.crictl = call.version("CRICTL_VERSION", arg(4))?;
    Ok(call.translated(directory))
}

/// Cilium's script (proposed for 4.23) has the build's name where the others have the network.
fn is_cilium(args: &[String]) -> bool {
    args.len() >= 8 && Arch::parse(&args[5]).is_some() && is_version(&args[6]) && is_version(&args[7])
}

fn is_version(text: &str) -> bool {
    let text = bare(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.split('.');
    let two = parts.next().is_some_and(number) && parts.next().is_some_and(number);
    two && text.len() <= 32 && text.chars().all(plain)
}

fn refuse(what: String) -> Failure {
    Failure::new(Code::ConfigInvalid, what).with_remedy(format!("the arguments are {USAGE}"))
}

impl Call {
    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    fn version(&mut self, what: &str, text: Option<&str>) -> Result<String, Failure> {
        let text = text.unwrap_or_default();
        if !is_version(text) {
            return Err(refuse(format!("{what}: {text:?} is no version like 1.33.1")));
        }
        if text.starts_with('v') {
            self.warn(format!("{what}: the script puts a v before it, and would have looked for v{text}"));
        }
        Ok(bare(text).to_owned())
    }

    /// A manifest's URL or file.
    fn manifest(&mut self, what: &str, text: &str) -> Result<String, Failure> {
        if text.ends_with(".tgz") || text.ends_with(".tar.gz") {
            return Err(refuse(format!("{what}: {text} is an archive, perhaps a Helm chart, and no manifest"))
                .with_remedy("write the spec by hand: a chart goes to [manifests] as { chart = { url, name } }"));
        }
        let far = text.starts_with("http://") || text.starts_with("https://");
        if text.contains("://") && !far && !text.starts_with("file:///") {
            return Err(refuse(format!("{what}: {text} is neither http, https nor a file")));
        }
        if far && url::Url::parse(text).is_err()
            || !far && (text.is_empty() || Arch::parse(text).is_some() || is_version(text))
        {
            return Err(refuse(format!("{what}: {text:?} is no URL of a manifest")));
        }
        if far && ["/main/", "/master/", "/latest", "refs/heads/"].iter().any(|branch| text.contains(branch)) {
            self.warn(format!("{what}: {text} changes with time; the lock keeps what it is now"));
        }
        if text.contains("weave") {
            self.warn(format!(
                "{what}: Weave Net is no longer developed; the profiles calico, cilium and flannel are there"
            ));
        }
        Ok(text.to_owned())
    }

    fn read_dashboard(&mut self, text: &str) -> Result<(), Failure> {
        if !is_version(text) {
            let manifest = self.manifest("DASHBOARD", text)?;
            if self.release >= (4, 23) {
                self.warn("DASHBOARD: from 4.23 the script wants a version of Headlamp here and would have failed; taken as dashboard.yaml");
            }
            self.dashboard = Some(Dashboard::Manifest(manifest));
            return Ok(());
        }
        let version = bare(text).to_owned();
        let headlamp = version.starts_with("0.");
        let program = if headlamp { "Headlamp" } else { "Kubernetes Dashboard" };
        if self.release < (4, 23) || !headlamp {
            let wants = if self.release < (4, 23) { "a URL" } else { "a version of Headlamp" };
            self.warn(format!("DASHBOARD: the script wants {wants} here; {text} is taken for {program} {version}"));
        }
        self.dashboard = Some(if headlamp { Dashboard::Headlamp(version) } else { Dashboard::Version(version) });
        Ok(())
    }

    /// `[BUILD_NAME] [ARCH] [ETCD_VERSION]`, wherever the call has put them.
    fn read_rest(&mut self, rest: &[String]) -> Result<(), Failure> {
        for (at, text) in rest.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            let slot = at + 7;
            match Arch::parse(text) {
                Some(arch) if self.arch.is_none() => {
                    if slot != 8 {
                        self.warn(format!("{text} is taken for ARCH; it belongs into place 8, and the script would not have built for it"));
                    } else if self.release < (4, 21) {
                        self.warn(format!(
                            "ARCH: the script of {}.{} knows amd64 only and would have left {text} unread",
                            self.release.0, self.release.1
                        ));
                    }
                    self.arch = Some(arch);
                }
                None if is_version(text) && (slot > 7 || self.name.is_some()) && self.etcd.is_none() => {
                    if slot != 9 {
                        self.warn(format!("{text} is taken for ETCD_VERSION; it belongs into place 9, after ARCH: the script would have stopped"));
                    }
                    self.etcd = Some(bare(text).to_owned());
                }
                None if self.name.is_none() && (slot == 7 || self.arch.is_some()) => {
                    self.name = Some(text.clone());
                }
                _ => {
                    return Err(refuse(format!(
                        "argument {slot}: {text:?} is neither an architecture nor a version, or is one too many"
                    )));
                }
            }
        }
        Ok(())
    }

    fn read_cilium(&mut self, args: &[String]) -> Result<(), Failure> {
        self.name = Some(args[4].clone()).filter(|name| !name.is_empty());
        self.arch = Arch::parse(&args[5]);
        self.etcd = Some(self.version("ETCD_VERSION", Some(&args[6]))?);
        self.cilium = Some(self.version("CILIUM_VERSION", Some(&args[7]))?);
        self.dashboard = Some(Dashboard::Version("2.7.0".to_owned()));
        match args.get(8) {
            Some(more) => Err(refuse(format!("{more:?} is one argument too many"))),
            None => Ok(()),
        }
    }

    /// The build's name without what the script adds.
    fn build_name(&mut self) -> Result<String, String> {
        let Some(given) = self.name.clone() else {
            let name = format!("setup-v{}", self.kubernetes);
            self.warn(format!(
                "BUILD_NAME is missing: the script would have named the ISO after nothing; it is {name} here"
            ));
            return Ok(name);
        };
        let suffix = format!("-{}", arch_suffix(self.arch.unwrap_or(Arch::Amd64)));
        let mut name = given.as_str();
        name = name.strip_suffix(".iso").unwrap_or(name);
        if self.release >= (4, 21) {
            name = name.strip_suffix(&suffix).unwrap_or(name);
        }
        if name != given {
            self.warn(format!("BUILD_NAME: the script adds the ending itself; {given} is taken as {name}"));
        }
        if name.is_empty() || name.contains('/') || name.starts_with('.') || name.len() > 128 {
            return Err(given);
        }
        Ok(name.to_owned())
    }

    fn translated(mut self, directory: &Path) -> Translated {
        let name = match self.build_name() {
            Ok(name) => name,
            Err(given) => {
                let name = format!("setup-v{}", self.kubernetes);
                self.warn(format!("BUILD_NAME: {given:?} is no file name; it is {name} here"));
                name
            }
        };
        let arch = self.arch.unwrap_or(Arch::Amd64);
        let spec = text::spec(&self, &name, arch, directory);
        let ending = if self.release >= (4, 21) { format!("-{}", arch_suffix(arch)) } else { String::new() };
        Translated { spec, iso: format!("{name}{ending}.iso"), directory: self.directory, warnings: self.warnings }
    }
}

#[cfg(test)]
mod tests;
