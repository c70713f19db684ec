//! `cks-agent verify`: is what is installed and imported still what the bundle says? Needs no source, and
//! changes nothing.
//!
//! Files are read again, blobs are read from containerd's content store; texts, units and links are
//! compared with a plan that is made from what is there: what `bootstrap` would do again is drift.

mod files;
mod images;
mod outcome;
mod show;

pub use outcome::Outcome;

use std::fs;
use std::time::Instant;

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;
use bootstrap::plan::{Bundle, Signature, Wanted};
use serde::Serialize;

use crate::board;
use crate::cli;
use crate::config::Config;
use crate::containerd::Containerd;
use crate::host::Host;
use crate::journal::Journal;
use crate::record::NodeRecord;
use crate::{report, trust};
use show::Meter;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, link or image.
    pub object: String,
    /// What it is.
    pub is: String,
    /// What it should be.
    pub should: String,
    /// What a person does.
    pub remedy: String,
}

/// What was looked at and what was found; `--json` prints it (`docs/schema/node-verify.schema.json`).
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    /// When it was finished (RFC 3339, UTC).
    at: String,
    /// The digest of the bundle.
    bundle: Digest,
    directory: String,
    /// `manifest`; `learned` where a stock ISO was installed.
    reference: &'static str,
    /// The trusted keys that signed the manifest.
    signed_by: Vec<String>,
    quick: bool,
    /// Files, links, texts, records, snapshots and blobs that were looked at.
    checked: u64,
    /// Bytes that were read.
    bytes: u64,
    seconds: f64,
    findings: Vec<Finding>,
    /// What could not be looked at, and why.
    unchecked: Vec<String>,
}

/// A look at a node under way.
struct Audit<'a> {
    host: &'a Host,
    bundle: Bundle,
    wanted: Wanted,
    /// Whether fingerprints and presence are enough.
    quick: bool,
    findings: Vec<Finding>,
    unchecked: Vec<Failure>,
    damaged: Vec<Digest>,
    checked: u64,
    meter: Meter,
}

/// Looks at the node and prints what it found. Returns the exit code: 0, or that of `DRIFT`.
///
/// # Errors
/// `ROOT_NOT_FOUND`; `ALREADY_RUNNING` while a bootstrap is at work; `STATE_INVALID` where none ever
/// succeeded; `KEY_INVALID`, `CONFIG_INVALID`, `CONTAINERD_…`, `IO`.
pub async fn verify(arguments: &cli::Verify) -> Result<u8, Failure> {
    let (host, began) = (Host::new(&arguments.root)?, Instant::now());
    if Journal::is_held(&host) {
        let what = format!("a bootstrap is at work on {}", host.root().display());
        return Err(Failure::new(Code::AlreadyRunning, what));
    }
    let settings = Config::read(&host, arguments.config.as_deref())?;
    let record = NodeRecord::read(&host)?.ok_or_else(|| nothing_recorded(&host))?;
    let mut spec = record.spec()?;
    spec.role = arguments.role.map_or(spec.role, Into::into);
    let mut audit = begin(&host, &settings, &record, &spec, arguments)?;
    audit.signature(&settings)?;
    let containerd = if audit.wanted.images.is_empty() || audit.bundle.text.is_empty() {
        None
    } else {
        audit.connect(arguments, &settings, &record).await
    };
    audit.files()?;
    audit.plan(containerd.as_ref()).await?;
    if let Some(containerd) = &containerd {
        audit.images(containerd).await?;
    }
    audit.end(arguments, began)
}

fn nothing_recorded(host: &Host) -> Failure {
    let what = format!("{}: no bootstrap has succeeded here", host.root().display());
    Failure::new(Code::StateInvalid, what).with_remedy("run cks-agent bootstrap")
}

/// Reads the reference: the manifest in the version directory, or what was learned of a stock ISO.
fn begin<'a>(
    host: &'a Host,
    settings: &Config,
    record: &NodeRecord,
    spec: &NodeSpec,
    arguments: &cli::Verify,
) -> Result<Audit<'a>, Failure> {
    let derived = record.bundle.learned.is_some();
    let manifest = record.bundle.learned.as_deref().cloned().unwrap_or_else(empty);
    let mut bundle = Bundle { id: record.bundle.id, manifest, text: String::new(), derived, signature: None };
    // The name of the directory has the version, which the manifest tells.
    bundle.manifest.kubernetes.clone_from(&record.bundle.kubernetes);
    let path = bundle.record_path();
    let bytes = fs::read(host.path(&path));
    let is =
        bytes.as_ref().map_or_else(|_| "missing or not readable".to_owned(), |bytes| Digest::of(bytes).to_string());
    let mut damaged = None;
    match bytes {
        Ok(bytes) if Digest::of(&bytes) == bundle.id => {
            if !derived {
                bundle.manifest = Manifest::parse(&bytes)?;
            }
            bundle.text = String::from_utf8_lossy(&bytes).into_owned();
            let signature = fs::read_to_string(host.path(&bundle.signature_path())).ok();
            bundle.signature = signature.map(|text| Signature { text, signers: Vec::new() });
        }
        _ => damaged = Some((path, is, bundle.id.to_string())),
    }
    let driver = settings.cluster.cgroup_driver;
    let wanted = if damaged.is_none() { Wanted::of(spec, &bundle, driver)? } else { Wanted::default() };
    let meter = Meter::new(arguments.json, total_bytes(&bundle, &wanted, arguments.quick));
    let mut audit = Audit {
        host,
        bundle,
        wanted,
        quick: arguments.quick,
        findings: Vec::new(),
        unchecked: Vec::new(),
        damaged: Vec::new(),
        checked: 1,
        meter,
    };
    if let Some((path, is, should)) = damaged {
        audit.find(path, is, should, "run cks-agent bootstrap: without it nothing else can be checked");
    }
    Ok(audit)
}

/// Stands for a manifest that can't be read.
fn empty() -> Manifest {
    Manifest {
        schema: bootstrap::bundle::SCHEMA,
        name: String::new(),
        kubernetes: None,
        arch: bootstrap::bundle::Arch::Amd64,
        components: Vec::new(),
        sandbox_image: None,
        node: bootstrap::bundle::Node::default(),
        entries: Vec::new(),
        images: Vec::new(),
        blobs: Vec::new(),
    }
}

fn total_bytes(bundle: &Bundle, wanted: &Wanted, quick: bool) -> u64 {
    if quick {
        return 0;
    }
    let files: u64 = wanted.files.iter().map(|file| file.size).sum();
    let blobs = images::blobs_of(wanted);
    files + blobs.iter().filter_map(|digest| bundle.manifest.blob(digest)).map(|blob| blob.size).sum::<u64>()
}

impl Audit<'_> {
    fn find(&mut self, object: impl Into<String>, is: impl Into<String>, should: impl Into<String>, remedy: &str) {
        let finding =
            Finding { object: object.into(), is: is.into(), should: should.into(), remedy: remedy.to_owned() };
        self.meter.say(&show::line(&finding));
        self.findings.push(finding);
    }

    /// Checks the recorded signature with the keys of today.
    fn signature(&mut self, settings: &Config) -> Result<(), Failure> {
        let rules = trust::rules(self.host, settings, true)?;
        if self.bundle.text.is_empty() {
            return Ok(());
        }
        let signature = self.bundle.signature.as_ref().map(|signature| signature.text.clone());
        let told = match self.bundle.derived {
            true => rules.check_legacy().map(|()| Vec::new()),
            false => rules.signers(self.bundle.text.as_bytes(), signature.as_deref().map(str::as_bytes)),
        };
        self.checked += 1;
        match (told, &mut self.bundle.signature) {
            (Ok(signers), Some(signature)) => signature.signers = signers,
            (Ok(_), None) => {}
            (Err(failure), _) => {
                let should = format!("as {} and the policy want it", rules.directory);
                let what = format!("{}: {}", failure.code, failure.what);
                self.find(self.bundle.signature_path(), what, should, failure.remedy());
            }
        }
        Ok(())
    }

    /// containerd; where it does not answer, the rest is looked at all the same.
    async fn connect(&mut self, arguments: &cli::Verify, settings: &Config, record: &NodeRecord) -> Option<Containerd> {
        let imported_by = arguments.containerd.clone().or_else(|| record.containerd.clone());
        let socket = imported_by.or_else(|| settings.containerd.socket.clone());
        let socket = socket.unwrap_or_else(|| self.host.path("/run/containerd/containerd.sock"));
        let snapshotter = arguments.snapshotter.as_ref().unwrap_or(&record.snapshotter);
        match Containerd::try_connect(&socket, snapshotter).await {
            Ok(containerd) => Some(containerd.of_boot(self.host.boot_id())),
            Err(failure) => {
                self.unchecked.push(failure);
                None
            }
        }
    }

    fn end(mut self, arguments: &cli::Verify, began: Instant) -> Result<u8, Failure> {
        if self.quick {
            // No blob was read: what an earlier look found is not mended by this one.
            self.damaged.extend(Outcome::suspects(self.host));
        }
        let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let report = Report {
            schema: 1,
            at: board::timestamp(std::time::Duration::ZERO),
            bundle: self.bundle.id,
            directory: self.bundle.directory(),
            reference: if self.bundle.derived { "learned" } else { "manifest" },
            signed_by: self.bundle.signers().to_vec(),
            quick: self.quick,
            checked: self.checked,
            bytes: self.meter.finish(),
            seconds,
            findings: self.findings,
            unchecked: self.unchecked.iter().map(|failure| report::state_of(failure).message).collect(),
        };
        // Nobody but root may write it; what was found is told all the same.
        if let Err(failure) = Outcome::of(&report, self.damaged).write(self.host) {
            tracing::warn!("{failure}");
        }
        show::print(&report, arguments.json);
        let drift = (!report.findings.is_empty()).then(|| {
            let what = format!("{} of {} objects are not as they should be", report.findings.len(), report.checked);
            Failure::new(Code::Drift, what)
        });
        match drift.or(self.unchecked.into_iter().next()) {
            Some(failure) => Err(failure),
            None => Ok(0),
        }
    }
}
