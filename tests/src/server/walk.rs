//! One walk of the server: its steps, each of them written down.

use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};

use super::cloud::Cloud;
use super::cluster::{Cluster, FIRST_PORT};
use super::session::{Said, Sessions};
use super::transcript::{Step, Transcript, Verdict};
use super::{ManagementServer, Pace, Release, answer, scripts};

/// How long `kubectl get`, `cat` and the like may be silent, in seconds.
pub(super) const LOOK: u64 = 20;

/// How long what changes something may be silent, in seconds.
pub(super) const ACT: u64 = 60;

/// How long what takes its time may be silent, in seconds.
pub(super) const WORK: u64 = 600;

/// A question, and what makes an answer a good one.
pub(super) type Look<'a> = (String, &'a dyn Fn(&str) -> Result<(), String>);

/// The server on its way.
pub(super) struct Walk<'a> {
    pub(super) release: Release,
    pub(super) pace: Pace,
    pub(super) cloud: &'a mut dyn Cloud,
    pub(super) transcript: Transcript,
    sessions: Sessions,
    files: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(server: ManagementServer, cloud: &'a mut dyn Cloud, transcript: Transcript) -> Result<Self> {
        let ManagementServer { release, pace } = server;
        let sessions = Sessions::new(cloud.network(), cloud.public_address(), cloud.key(), pace)?;
        Ok(Self { release, pace, cloud, transcript, sessions, files: 0 })
    }

    /// The public address of the cluster's network.
    pub(super) fn public(&self) -> String {
        self.sessions.public.clone()
    }

    /// Writes down what no node sees.
    pub(super) fn api(&mut self, what: impl std::fmt::Display) {
        let said = Said { exit: Ok(0), text: String::new(), elapsed: std::time::Duration::ZERO };
        self.note("api", format!("api {what}"), said, Verdict::Good);
    }

    fn note(&mut self, to: &str, command: String, said: Said, verdict: Verdict) {
        let Said { exit, text, elapsed } = said;
        let to = to.to_owned();
        self.transcript.steps.push(Step { to, command, exit: exit.ok(), text, elapsed, verdict });
    }

    fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.sessions.public)
    }

    /// A command, with what `judge` makes of the answer.
    pub(super) fn run<T>(
        &mut self,
        port: u16,
        command: &str,
        silence: u64,
        judge: impl FnOnce(&Said) -> (Verdict, T),
    ) -> Result<T> {
        let said = self.sessions.execute(port, command, silence)?;
        let (verdict, value) = judge(&said);
        self.note(&self.at(port), command.to_owned(), said, verdict);
        Ok(value)
    }

    /// A command whose end the server minds; its text otherwise.
    pub(super) fn must(&mut self, port: u16, command: &str, silence: u64) -> Result<()> {
        let why = self.run(port, command, silence, |said| match said.is_good() {
            true => (Verdict::Good, None),
            false => (Verdict::Fatal(said.why()), Some(said.why())),
        })?;
        why.map_or(Ok(()), |why| bail!("{command}: {why}"))
    }

    /// A command whose end the server does not mind; whether it was a good one.
    pub(super) fn may(&mut self, port: u16, command: &str, silence: u64) -> Result<bool> {
        self.run(port, command, silence, |said| match said.is_good() {
            true => (Verdict::Good, true),
            false => (Verdict::Ignored(said.why()), false),
        })
    }

    /// A command that is run so many times at most, until it succeeds.
    pub(super) fn tries(&mut self, port: u16, command: &str, silence: u64, tries: u32) -> Result<()> {
        for left in (0..tries).rev() {
            let done = self.run(port, command, silence, |said| match (said.is_good(), left) {
                (true, _) => (Verdict::Good, true),
                (false, 0) => (Verdict::Fatal(said.why()), false),
                (false, _) => (Verdict::NotYet(said.why()), false),
            })?;
            if done {
                return Ok(());
            }
        }
        bail!("{command}: not in {tries} tries")
    }

    /// Asks again and again until `judge` takes the text, or the deadline is over; the text that it took.
    pub(super) fn poll(
        &mut self,
        command: &str,
        pause: u64,
        deadline: Instant,
        judge: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String> {
        self.poll_any(&[(command.to_owned(), &judge)], pause, deadline)
    }

    /// As [`Self::poll`], with several questions before each pause. There is at least one round.
    pub(super) fn poll_any(&mut self, looks: &[Look<'_>], pause: u64, deadline: Instant) -> Result<String> {
        loop {
            let mut last = String::new();
            for (command, judge) in looks {
                let said = self.sessions.execute(FIRST_PORT, command, LOOK)?;
                let judged = if said.is_good() { judge(&said.text) } else { Err(said.why()) };
                let text = said.text.clone();
                let verdict = judged.clone().map_or_else(Verdict::NotYet, |()| Verdict::Good);
                self.note(&self.at(FIRST_PORT), command.clone(), said, verdict);
                match judged {
                    Ok(()) => return Ok(text),
                    Err(why) => last = format!("{command}: timed out; at last: {why}"),
                }
            }
            ensure!(Instant::now() < deadline, last);
            self.pace.pause(pause);
        }
    }

    /// Waits until the first control plane node's SSH takes connections.
    pub(super) fn reachable(&mut self, deadline: Instant) -> Result<()> {
        self.look("connect", 10, deadline, |sessions| sessions.connect(FIRST_PORT))
    }

    /// Waits until the API tells its version.
    pub(super) fn api_answers(&mut self, deadline: Instant) -> Result<()> {
        let url = format!("GET https://{}:6443/version", self.sessions.public);
        self.look(&url, 15, deadline, |sessions| {
            let mut said = sessions.version()?;
            if said.is_good() && said.text.is_empty() {
                said.exit = Err("an empty body".to_owned());
            }
            Ok(said)
        })
    }

    fn look(
        &mut self,
        what: &str,
        pause: u64,
        deadline: Instant,
        look: impl Fn(&Sessions) -> Result<Said>,
    ) -> Result<()> {
        loop {
            let said = look(&self.sessions)?;
            let (good, why) = (said.is_good(), said.why());
            let verdict = if good { Verdict::Good } else { Verdict::NotYet(why.clone()) };
            let to = if what.starts_with("GET") { 6443 } else { FIRST_PORT };
            self.note(&self.at(to), what.to_owned(), said, verdict);
            if good {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{what}: timed out; at last: {why}");
            self.pace.pause(pause);
        }
    }

    /// Waits until so many nodes are ready as the cluster has machines, no more and no less.
    pub(super) fn count_ready(&mut self, cluster: &Cluster, deadline: Instant) -> Result<()> {
        let (total, etcd) = (i32::try_from(cluster.total())?, i32::try_from(cluster.etcd())?);
        let command = "sudo /opt/bin/kubectl get nodes | grep -w 'Ready' | wc -l";
        let counted = self.poll(command, 15, deadline, |text| {
            let ready = answer::ready_nodes(text)?;
            if ready + etcd == total { Ok(()) } else { Err(format!("{ready} and {etcd} of etcd are not {total}")) }
        });
        counted.map(drop).map_err(|error| anyhow!("counting ready nodes: {error:#}"))
    }

    /// Copies a file into the login's home, under a name that Java makes.
    pub(super) fn copy(&mut self, port: u16, name: &str, text: &str) -> Result<String> {
        self.files += 1;
        let digits = u64::from(std::process::id()) * 1_000_000_007 + u64::from(self.files);
        let file = format!("{name}{digits}.sh");
        let said = self.sessions.copy(port, &file, text)?;
        let (good, why) = (said.is_good(), said.why());
        let verdict = if good { Verdict::Good } else { Verdict::Fatal(why.clone()) };
        let told = said.text.clone();
        self.note(&self.at(port), format!("scp {file} ~/"), said, verdict);
        ensure!(good, "scp {file}: {why}\n{told}");
        Ok(file)
    }

    /// Copies a script to where the server runs it from.
    pub(super) fn push(&mut self, port: u16, name: &str) -> Result<()> {
        let file = self.copy(port, name, &scripts::text(self.release, name))?;
        let command = format!("sudo mkdir -p /opt/bin/ ; sudo mv ~/{file} /opt/bin//{name}");
        self.may(port, &command, LOOK).map(drop)
    }
}
