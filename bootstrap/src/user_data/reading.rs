//! All parts of one user data, read together.

use std::collections::BTreeSet;

use minijinja::Value as Variables;
use serde::Serialize;

use super::cloud_config::CloudConfig;
use super::cloud_init::{self, Outcome};
use super::cni::{self, Cni};
use super::decode::{Kind, Layer, Part, decode};
use super::place::{Findings, Ignored, Origin, Place, Remark};
use super::section::{Member, Section, section};
use super::server::{self, Release, Server};
use super::split::{UserText, split};
use super::wish::{self, Said};
use super::yaml::Entry;
use super::{Metadata, jinja, placeholder, refused_at};
use crate::failure::{Code, Failure};
use crate::node_spec::NodeSpec;
use crate::text::plain;

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
    let mut looker = Looker { variables: jinja::variables(metadata), ..Looker::default() };
    looker.many = decoded.parts.len() > 1;
    looker.jinja = decoded.parts.iter().any(|part| part.jinja);
    for (index, part) in decoded.parts.iter().enumerate() {
        looker.part(index + 1, part)?;
    }
    looker.other_parts(&decoded.parts)?;
    looker.conclude(decoded.layers, &decoded.parts, metadata)
}

#[derive(Debug, Default)]
struct Looker {
    variables: Variables,
    findings: Findings,
    /// Whether places name their part.
    many: bool,
    /// Whether any part is a jinja template.
    jinja: bool,
    server: Option<(usize, Server)>,
    section: Option<Section>,
    cni: Option<Cni>,
    outcome: Option<Outcome>,
}

impl Looker {
    fn place(&self, number: usize) -> Place {
        Place { origin: if self.many { Origin::Part(number) } else { Origin::Whole }, line: 0 }
    }

    /// Reads one part: the server's, or one with a section. What else it says is looked at when the server is known.
    fn part(&mut self, number: usize, part: &Part) -> Result<(), Failure> {
        if part.kind != Kind::CloudConfig {
            return Ok(());
        }
        let place = self.place(number);
        let (text, user) = split(&part.text);
        let is_server = server::is_likely(text);
        let guarded = self.readable(text, part.jinja, is_server, place);
        let config = CloudConfig::read(&guarded);
        if is_server && self.server.is_none() {
            self.server = server::recognise(&config, place, &mut self.findings)?.map(|server| (number, server));
            if self.server.is_none() {
                let why = "none of them calls kubeadm init or kubeadm join; they are left to cloud-init";
                self.findings.ignore(place, "the management server's scripts", why);
            } else {
                self.outcome = Some(cloud_init::outcome(part, &self.variables));
                let registry = self.server.as_ref().is_some_and(|(_, server)| server.node.registry.is_some());
                if registry && part.jinja && part.text.contains("registry is defined") {
                    let text = "jinja leaves the private registry out of what cloud-init writes here; it is set up all the same";
                    self.findings.warn(place, text);
                }
            }
        }
        if let Some(entry) = config.get("cks") {
            self.section(entry, place)?;
        }
        for fault in &config.unread {
            self.findings.ignore(place.at(fault.line), "a piece that is no YAML", plain(&fault.what));
        }
        let is_ours = self.server.as_ref().is_some_and(|(at, _)| *at == number);
        if is_ours || config.get("cks").is_some() {
            self.twice(&config, place);
            self.others(&config, place, is_ours);
            self.unfilled(&guarded, place);
            if let Some(user) = user {
                self.user_text(&user, Origin::Cni, place)?;
            }
        }
        Ok(())
    }

    /// The text as it is read: the server's conditions kept, variables of the metadata filled in, placeholders guarded.
    fn readable(&mut self, text: &str, is_jinja: bool, is_server: bool, place: Place) -> String {
        let mut text = without_conditions(text, is_server);
        if is_jinja {
            text = jinja::substitute(&text, &self.variables);
            if !is_server && text.contains("{%") {
                match jinja::render(&text, &self.variables) {
                    Ok(rendered) => text = rendered.text,
                    Err(faults) => faults.into_iter().for_each(|fault| {
                        self.findings.ignore(place.at(fault.line), "jinja", fault.what);
                    }),
                }
            }
        }
        placeholder::guard(&text)
    }

    fn section(&mut self, entry: &Entry, place: Place) -> Result<(), Failure> {
        if let Some(first) = &self.section {
            return Err(refused_at(
                place.at(entry.line),
                format!("a second cks: section; the first is at {}", first.place),
            ));
        }
        self.section = Some(section(entry, place, &mut self.findings)?);
        Ok(())
    }

    /// Names keys that stand twice at the top level.
    fn twice(&mut self, config: &CloudConfig, place: Place) {
        for twice in &config.duplicates {
            let text =
                format!("{} stands twice, first in line {}; cloud-init takes this one", plain(&twice.key), twice.first);
            self.findings.warn(place.at(twice.second), text);
        }
    }

    /// Names the placeholders that are still there. Those of a private registry always are, on a cluster without one.
    fn unfilled(&mut self, guarded: &str, place: Place) {
        let mut named: BTreeSet<&str> = BTreeSet::new();
        for (line, name) in placeholder::all(guarded) {
            if !name.starts_with("registry.") && named.insert(name) {
                if self.findings.ignored.iter().any(|one| one.at == place.at(line)) {
                    continue;
                }
                let what = format!("{{{{ {} }}}}", plain(name));
                self.findings.ignore(place.at(line), what, "the management server did not fill it in");
            }
        }
    }

    /// Names the keys that nothing is made of.
    fn others(&mut self, config: &CloudConfig, place: Place, is_server: bool) {
        let servers = ["users", "write_files", "write-files", "runcmd", "ssh_authorized_keys", "coreos", "cks"];
        for entry in &config.entries {
            let known = servers.contains(&entry.key.as_str()) && (is_server || entry.key == "cks");
            if !known {
                self.findings.ignore(
                    place.at(entry.line),
                    format!("{}:", plain(&placeholder::written(&entry.key))),
                    "it is left to cloud-init",
                );
            }
        }
    }

    /// Reads the text behind the server's.
    fn user_text(&mut self, user: &UserText, origin: Origin, place: Place) -> Result<(), Failure> {
        let announced = match &self.server {
            Some((_, server)) => {
                matches!(server.task, server::Task::Init(_)) && server.node.external_cni != Some(false)
            }
            None => self
                .section
                .as_ref()
                .is_none_or(|section| matches!(section.member, None | Some(Member::FirstControlPlane))),
        };
        if !announced {
            return self.left(user, place);
        }
        let variables = (self.jinja || user.text.contains("## template: jinja")).then(|| self.variables.clone());
        let cni = cni::read(user, origin, variables.as_ref(), &mut self.findings);
        if let Some(entry) = &cni.section {
            let mut entry = entry.clone();
            guard(&mut entry);
            self.section(&entry, Place { origin, line: 0 })?;
        }
        let all = self.cni.get_or_insert_default();
        all.steps.extend(cni.steps);
        all.faults.extend(cni.faults);
        Ok(())
    }

    /// Reads the section of a text that is cloud-init's otherwise.
    fn left(&mut self, user: &UserText, place: Place) -> Result<(), Failure> {
        let mut config = CloudConfig::read(&placeholder::guard(&user.text));
        let down = |line: usize| line + user.before;
        let first = user.text.lines().position(|line| !line.trim().is_empty() && !is_comment(line)).unwrap_or_default();
        let sections = config.entries.extract_if(.., |entry| entry.key == "cks");
        for mut entry in sections.collect::<Vec<_>>() {
            entry.line = down(entry.line);
            entry.value.relocate(&down);
            self.section(&entry, place)?;
        }
        if !config.entries.is_empty() || !config.unread.is_empty() {
            let what = "the text behind the management server's commands";
            self.findings.ignore(place.at(down(first + 1)), what, "it is left to cloud-init");
        }
        Ok(())
    }

    /// Looks at the parts beside the server's: on the first control plane node a CNI configuration may be one of them.
    fn other_parts(&mut self, parts: &[Part]) -> Result<(), Failure> {
        let wanted = self.server.as_ref().is_some_and(|(_, server)| {
            matches!(server.task, server::Task::Init(_)) && server.node.external_cni == Some(true)
        });
        let own = self.server.as_ref().map(|(number, _)| *number);
        let configs =
            parts.iter().enumerate().filter(|(index, part)| part.kind == Kind::CloudConfig && Some(index + 1) != own);
        let single = configs.count() == 1;
        for (index, part) in parts.iter().enumerate() {
            let number = index + 1;
            if Some(number) == own {
                continue;
            }
            let place = self.place(number);
            let (what, why) = match part.kind {
                Kind::CloudConfig if wanted => {
                    let origin = if single { Origin::Cni } else { Origin::Part(number) };
                    let text = headless(&part.text);
                    self.user_text(&UserText { text, before: 0, cut: false }, origin, place)?;
                    if self.outcome == Some(Outcome::Runs) && cloud_init::replaces(part) {
                        self.outcome = Some(Outcome::Replaced);
                    }
                    continue;
                }
                Kind::CloudConfig if own.is_none() && self.section.is_some() => continue,
                Kind::CloudConfig => ("a cloud-config", "nothing in it is for this agent: it is left to cloud-init"),
                Kind::ShellScript => ("a shell script", "cloud-init runs it"),
                Kind::Boothook => ("a boothook", "cloud-init runs it"),
                Kind::Include => ("an include", "nothing is read from elsewhere: it is left to cloud-init"),
                Kind::Other => ("a text", "it is not understood, and left to cloud-init"),
                Kind::Binary => ("bytes", "they are no text"),
            };
            self.findings.ignore(place, what, why);
        }
        Ok(())
    }

    fn conclude(mut self, layers: Vec<Layer>, parts: &[Part], metadata: &Metadata) -> Result<Reading, Failure> {
        let server = self.server.as_ref().map(|(_, server)| server);
        let steps = self.cni.as_ref().map(|cni| cni.steps.as_slice());
        let said = Said { server, section: self.section.as_ref(), cni: steps, metadata };
        let spec = said.spec(&mut self.findings)?;
        let place = self.place(self.server.as_ref().map_or(1, |(number, _)| *number));
        if let (Some(server), Some(spec)) = (server, &spec) {
            wish::remarks(server, spec, place, &mut self.findings);
        }
        let outcome = self.outcome.unwrap_or(Outcome::Absent);
        self.tell(outcome, place);
        let shown = |part: &Part| PartShown { kind: part.kind, lines: part.text.lines().count(), jinja: part.jinja };
        let server = self.server.map(|(_, server)| server);
        let ours = self.section.as_ref().filter(|section| section.member.is_some()).map(|_| Release::Ours);
        let recognised = Recognised {
            layers,
            parts: parts.iter().map(shown).collect(),
            release: server.as_ref().map(|server| server.release).or(ours),
            section: self.section.map(|section| section.place),
            certificates: server.as_ref().is_some_and(server::has_certificates),
        };
        let faults = self.cni.map(|cni| cni.faults).unwrap_or_default();
        let (mut take_over, keep) = server.map_or_else(Default::default, |server| (server.scripts, server.kept));
        take_over.sort();
        self.findings.ignored.sort();
        self.findings.warnings.sort();
        Ok(Reading {
            spec,
            recognised,
            ignored: self.findings.ignored,
            warnings: self.findings.warnings,
            cni: faults.into_iter().map(|(at, what)| CniFault { at, what }).collect(),
            adoption: Adoption { take_over, keep, cloud_init: outcome },
        })
    }

    fn tell(&mut self, outcome: Outcome, place: Place) {
        let text = match outcome {
            Outcome::Runs | Outcome::Absent => return,
            Outcome::Folded => "cloud-init takes the text behind the server's commands for words of the last one",
            Outcome::Replaced => {
                "cloud-init takes a second list instead of the server's and so does not do what the server asks"
            }
            Outcome::Unreadable => "cloud-init can't read this user data and does nothing of it",
        };
        self.findings.warn(place, text);
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The text without the condition on a private registry, which jinja finds undefined even where the server filled in all
/// that is within; of the server's own text, without any condition. Lines stay where they are.
fn without_conditions(text: &str, is_server: bool) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut open = false;
    for line in text.split_inclusive('\n') {
        let inner = line.trim();
        let is_tag = inner.starts_with("{%") && inner.ends_with("%}");
        let opens = is_tag && inner.contains("registry is defined");
        let closes = is_tag && open && inner.contains("endif");
        open = (open || opens) && !closes;
        match opens || closes || (is_tag && is_server) {
            true => kept.push('\n'),
            false => kept.push_str(line),
        }
    }
    kept
}

/// The text with an empty line in the place of each header.
fn headless(text: &str) -> String {
    let is_header =
        |line: &str| line.starts_with("#cloud-config") || line.to_ascii_lowercase().starts_with("## template:");
    let mut rest = text;
    let mut empty = String::new();
    while let Some((line, after)) = rest.split_once('\n') {
        if !is_header(line) {
            break;
        }
        empty.push('\n');
        rest = after;
    }
    empty + rest
}

/// Guards the placeholders of a section that came with the user's text.
fn guard(entry: &mut Entry) {
    use super::yaml::{Node, Value};
    fn each(node: &mut Node) {
        match &mut node.value {
            Value::Scalar { text, .. } => *text = placeholder::guard(text),
            Value::List(items) => items.iter_mut().for_each(each),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.key = placeholder::guard(&entry.key);
                each(&mut entry.value);
            }),
        }
    }
    each(&mut entry.value);
}
