//! One part of user data after the other.

mod text;

use std::collections::BTreeSet;

use minijinja::Value as Variables;

use self::text::{guard, headless, is_comment, without_registry_condition};
use super::{CniFault, PartShown, Reading, Recognised, takeover};
use crate::failure::Failure;
use crate::text::plain;
use crate::user_data::cloud_config::CloudConfig;
use crate::user_data::cloud_init::{self, Outcome};
use crate::user_data::cni::{self, Cni};
use crate::user_data::decode::{Kind, Layer, Part};
use crate::user_data::jinja::Rendered;
use crate::user_data::place::{Findings, Origin, Place};
use crate::user_data::section::{Member, Section, section};
use crate::user_data::server::{self, Release, Server};
use crate::user_data::split::{UserText, split};
use crate::user_data::wish::{self, Said};
use crate::user_data::yaml::Entry;
use crate::user_data::{Metadata, jinja, placeholder, refused_at};

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Looker {
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
    /// Before any of `parts` is read.
    pub(super) fn new(variables: Variables, parts: &[Part]) -> Self {
        let jinja = parts.iter().any(|part| part.jinja);
        Self { variables, many: parts.len() > 1, jinja, ..Self::default() }
    }

    fn place(&self, number: usize) -> Place {
        Place { origin: if self.many { Origin::Part(number) } else { Origin::Whole }, line: 0 }
    }

    /// Reads one part: the server's, or one with a section. What else it says is looked at when the server is known.
    pub(super) fn part(&mut self, number: usize, part: &Part) -> Result<(), Failure> {
        if part.kind != Kind::CloudConfig {
            return Ok(());
        }
        let place = self.place(number);
        let (text, user) = split(&part.text);
        let is_server = server::is_likely(text);
        let readable = self.readable(text, part.jinja, place);
        let mut config = CloudConfig::read(&readable.text);
        config.relocate(&|line| readable.source_line(line));
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
            self.unfilled(&readable, place);
            if let Some(user) = user {
                self.user_text(&user, Origin::Cni, place)?;
            }
        }
        Ok(())
    }

    /// The text as it is read: variables of the metadata filled in, conditions decided, placeholders guarded. That on a
    /// private registry counts as true.
    fn readable(&mut self, text: &str, is_jinja: bool, place: Place) -> Rendered {
        let text = without_registry_condition(text);
        if !is_jinja {
            return Rendered::plain(&placeholder::guard(&text));
        }
        if text.contains("{%") {
            match jinja::render_keeping(&text, &self.variables) {
                Ok(rendered) => return rendered,
                Err(faults) => faults.into_iter().for_each(|fault| {
                    self.findings.ignore(place.at(fault.line), "conditions of jinja", fault.what);
                }),
            }
        }
        Rendered::plain(&placeholder::guard(&jinja::substitute(&text, &self.variables)))
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
    fn unfilled(&mut self, readable: &Rendered, place: Place) {
        let mut named: BTreeSet<&str> = BTreeSet::new();
        for (line, name) in placeholder::all(&readable.text) {
            let line = readable.source_line(line);
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
    pub(super) fn other_parts(&mut self, parts: &[Part]) -> Result<(), Failure> {
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

    pub(super) fn conclude(
        mut self,
        layers: Vec<Layer>,
        parts: &[Part],
        metadata: &Metadata,
    ) -> Result<Reading, Failure> {
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
        let adoption = takeover::adoption(server, spec.as_ref(), outcome);
        self.findings.ignored.sort();
        self.findings.warnings.sort();
        Ok(Reading {
            spec,
            recognised,
            ignored: self.findings.ignored,
            warnings: self.findings.warnings,
            cni: faults.into_iter().map(|(at, what)| CniFault { at, what }).collect(),
            adoption,
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
