//! All parts of one user data, read together.

mod looker;
mod takeover;

use serde::Serialize;

use self::looker::Looker;
use super::cloud_init::Outcome;
use super::decode::{Kind, Layer, decode};
use super::place::{Ignored, Place, Remark};
use super::server::Release;
use super::{Metadata, jinja, wish};
use crate::failure::{Code, Failure};
use crate::node_spec::NodeSpec;

/// Faults of a CNI configuration that one message tells.
const MOST_FAULTS: usize = 10;

/// What user data says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// What the node is meant to become; none where nothing is asked that is known.
    pub spec: Option<NodeSpec>,
    /// What it was recognised by.
    pub recognised: Recognised,
    /// What is left alone.
    pub ignored: Vec<Ignored>,
    /// What works, and somebody should know.
    pub warnings: Vec<Remark>,
    /// What is wrong with the CNI configuration. With any of these the node is not begun ([`read`]).
    pub cni: Vec<CniFault>,
    /// What is taken over from the server's files, and what stays.
    pub adoption: Adoption,
}

/// What user data was recognised by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recognised {
    /// Encodings that were taken off, outermost first.
    pub layers: Vec<Layer>,
    /// Its parts.
    pub parts: Vec<PartShown>,
    /// Which releases of CloudStack write it.
    pub release: Option<Release>,
    /// Where its `cks:` section begins.
    pub section: Option<Place>,
    /// Whether certificates of CloudStack's authority came with it.
    pub certificates: bool,
}

/// A part as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartShown {
    /// What it is.
    pub kind: Kind,
    /// Its lines.
    pub lines: usize,
    /// Whether cloud-init renders it as a jinja template.
    pub jinja: bool,
}

/// Something that is wrong with a CNI configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CniFault {
    /// Where, in the text that the user registered.
    pub at: Place,
    /// What, and what to write instead.
    pub what: String,
}

/// What adoption deals with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adoption {
    /// The server's scripts and units whose work is done otherwise; in these files one call into the agent stands.
    pub take_over: Vec<String>,
    /// Why none is, one line for each reason: they stay, and run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// The server's other files, which stay as they are.
    pub keep: Vec<String>,
    /// What cloud-init makes of the server's commands.
    pub cloud_init: Outcome,
}

impl Reading {
    /// The wish.
    ///
    /// # Errors
    /// `USER_DATA_UNKNOWN`: there is none. `CNI_INVALID`: the CNI configuration can't be used; each line is named.
    pub fn wish(&self) -> Result<&NodeSpec, Failure> {
        let spec = self.spec.as_ref().ok_or_else(wish::unknown)?;
        if self.cni.is_empty() {
            return Ok(spec);
        }
        let told = |fault: &CniFault| format!("{}: {}", fault.at, fault.what);
        let mut faults: Vec<String> = self.cni.iter().take(MOST_FAULTS).map(told).collect();
        if let Some(more) = self.cni.len().checked_sub(MOST_FAULTS).filter(|more| *more > 0) {
            faults.push(format!("and {more} more"));
        }
        Err(Failure::new(Code::CniInvalid, faults.join("; ")))
    }
}

/// Reads user data. A reading without a wish is no failure: the machine is somebody else's.
///
/// # Errors
/// `USER_DATA_INVALID`: it is the server's or ours, and can't be used. `CNI_INVALID`: the user's CNI configuration can't.
pub fn read(bytes: &[u8], metadata: &Metadata) -> Result<Reading, Failure> {
    let reading = look(bytes, metadata)?;
    match reading.wish() {
        Err(failure) if failure.code == Code::CniInvalid => Err(failure),
        _ => Ok(reading),
    }
}

/// Reads user data, and tells what is wrong with its CNI configuration beside the rest.
///
/// # Errors
/// `USER_DATA_INVALID`: it is the server's or ours, and can't be used.
pub fn look(bytes: &[u8], metadata: &Metadata) -> Result<Reading, Failure> {
    let decoded = decode(bytes)?;
    let mut looker = Looker::new(jinja::variables(metadata), &decoded.parts);
    for (index, part) in decoded.parts.iter().enumerate() {
        looker.part(index + 1, part)?;
    }
    looker.other_parts(&decoded.parts)?;
    looker.conclude(decoded.layers, &decoded.parts, metadata)
}
