//! Which cases there are, and their rounds: the ways take turns, so that what disturbs one disturbs the other.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bootstrap::bundle::Role;
use cks_tests::programs;
use serde_json::{Value, json};

use crate::Cli;
use crate::content::{Content, Layers};
use crate::measure::Measured;
use crate::way::Site;

/// What is compared: a role, a link, a containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) role: Role,
    /// Mbit/s; none is as fast as the machine.
    pub(crate) link: Option<u32>,
    /// The version's name; none for a role without one.
    pub(crate) containerd: Option<String>,
    /// Where that containerd lies.
    pub(crate) programs: Option<PathBuf>,
}

/// Who did what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Stock,
    /// The first run of cks-agent.
    Ours(Layers),
    /// Once more, with nothing to do.
    Again(Layers),
    /// The rest after a kill at half of the bytes.
    AfterKill(Layers),
    /// An ISO of 8 GB.
    Large,
}

/// One way of one case, in all rounds.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) way: Way,
    /// Bytes of the role on the ISO that was served; unknown for a stock one.
    pub(crate) bytes: Option<u64>,
    pub(crate) runs: Vec<Measured>,
}

/// Everything that was measured, in the order of the first run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<Row>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let containerd = self.containerd.as_deref().unwrap_or("-");
        write!(f, "{}/{}/{containerd}", self.role, self.link.unwrap_or(0))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stock => write!(f, "stock"),
            Self::Ours(layers) => write!(f, "ours, {}", layers.as_str()),
            Self::Again(layers) => write!(f, "  second run, {}", layers.as_str()),
            Self::AfterKill(layers) => write!(f, "  after kill, {}", layers.as_str()),
            Self::Large => write!(f, "ours, ISO of 8 GB"),
        }
    }
}

impl Case {
    /// With the containerd of a version, which is built where it isn't there yet.
    pub(crate) fn new(role: Role, link: Option<u32>, containerd: Option<&str>) -> Result<Self> {
        let version = containerd.map(|version| (version != "debian").then_some(version));
        let programs = version.map(programs::containerd).transpose()?;
        Ok(Self { role, link, containerd: containerd.map(str::to_owned), programs })
    }
}

impl Results {
    /// Adds a run to its row, and says it.
    pub(crate) fn add(&mut self, case: &Case, way: Way, bytes: Option<u64>, run: Measured) {
        let written = run.written as f64 / 1e6;
        let (wall, cpu, fetched, peak) = (run.wall, run.cpu(), run.fetched as f64 / 1e6, run.peak_kib as f64 / 1024.0);
        eprintln!(
            "bench-install: {case}: {way}: {wall:.2} s, {cpu:.2} s of CPU, \
             {written:.1} MB written, {fetched:.1} MB fetched, {peak:.0} MiB"
        );
        match self.rows.iter_mut().find(|row| row.case == *case && row.way == way) {
            Some(row) => row.runs.push(run),
            None => self.rows.push(Row { case: case.clone(), way, bytes, runs: vec![run] }),
        }
    }

    /// Every measurement.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let way = match row.way {
                Way::Stock => ("stock", None),
                Way::Ours(layers) => ("ours", Some(layers)),
                Way::Again(layers) => ("second-run", Some(layers)),
                Way::AfterKill(layers) => ("after-kill", Some(layers)),
                Way::Large => ("large", None),
            };
            json!({
                "role": row.case.role.as_str(), "link_mbit": row.case.link, "containerd": row.case.containerd,
                "way": way.0, "layers": way.1.map(Layers::as_str), "role_bytes": row.bytes,
                "runs": row.runs.iter().map(Measured::json).collect::<Vec<_>>(),
            })
        });
        Value::Array(rows.collect())
    }
}

/// The cases that are wanted.
pub(crate) fn cases(cli: &Cli) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for &link in &cli.links {
        for &role in &cli.roles {
            let role = Role::from(role);
            let link = (link > 0).then_some(link);
            // An etcd node has no container runtime.
            let versions: Vec<Option<&str>> = match role {
                Role::Etcd => vec![None],
                _ => cli.containerd.iter().map(|version| Some(version.as_str())).collect(),
            };
            for version in versions {
                cases.push(Case::new(role, link, version)?);
            }
        }
    }
    cases.retain(|case| cli.only.as_ref().is_none_or(|only| case.to_string().contains(only.as_str())));
    Ok(cases)
}

/// Measures a case in `rounds`, or one where the link makes them long.
pub(crate) fn measure(case: &Case, content: &Content, rounds: u32, results: &mut Results) -> Result<()> {
    let slow = case.link.is_some_and(|megabits| megabits < 1000);
    let stock = Site::new(&content.stock, case.link)?;
    let ours = content.ours.iter().map(|ours| Ok((ours, Site::new(&ours.tree, case.link)?)));
    let ours = ours.collect::<Result<Vec<_>>>()?;
    for round in 0..if slow { 1 } else { rounds } {
        eprintln!("bench-install: {case}: round {}", round + 1);
        let named = |way: &str| format!("Measuring {case}, {way}");
        let run = stock.stock(case.role, case.programs.as_deref()).with_context(|| named("the stock way"))?;
        results.add(case, Way::Stock, None, run);
        for (ours, site) in &ours {
            let (layers, bytes) = (ours.layers, ours.bytes_of(case.role));
            // What no image layer is in is the same with all layers.
            if case.role == Role::Etcd && layers != content.ours[0].layers {
                continue;
            }
            let runs = site.ours(case.role, case.programs.as_deref()).with_context(|| named("ours"))?;
            results.add(case, Way::Ours(layers), Some(bytes), runs.first);
            results.add(case, Way::Again(layers), Some(bytes), runs.second);
            if case.link.is_none() && case.role != Role::Etcd {
                let rest = site.after_kill(case.role, case.programs.as_deref(), bytes / 2, runs.first.received);
                let rest = rest.with_context(|| named("ours after a kill"))?;
                results.add(case, Way::AfterKill(layers), Some(bytes), rest);
            }
        }
    }
    Ok(())
}
