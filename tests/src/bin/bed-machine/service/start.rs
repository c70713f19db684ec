//! The way of a service from a start that is asked for to its being up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Service, Stage, State, TIMEOUT};
use crate::command::{Exec, conditions_hold, environment};
use crate::launch::{Place, make_directories};
use crate::policy;
use crate::unit::span;

impl Service {
    pub(super) fn begin(&mut self, place: &Place, now: Instant) {
        self.deadline = None;
        self.stopping = false;
        if !conditions_hold(&self.unit) {
            self.enter(State::Inactive, Stage::Idle);
            return self.up();
        }
        if self.limited(now) {
            self.result = "start-limit-hit";
            return self.rest();
        }
        self.result = "success";
        self.exit = None;
        self.text.clear();
        match self.prepared() {
            Ok(environment) => self.environment = environment,
            Err(error) => {
                crate::say(&format!("{}: {error:#}", self.unit.name));
                self.result = "resources";
                return self.finish(now);
            }
        }
        self.deadline = self.unit.time("TimeoutStartSec", self.start_timeout()).map(|limit| now + limit);
        self.queue = Exec::all(&self.unit, "ExecStartPre").into();
        self.enter(State::Activating, Stage::StartPre);
        self.advance(place, now);
    }

    /// A oneshot may take as long as it wants unless it says otherwise.
    fn start_timeout(&self) -> Duration {
        if self.kind() == "oneshot" { Duration::from_secs(86400) } else { TIMEOUT }
    }

    fn prepared(&self) -> Result<BTreeMap<String, String>> {
        let mut environment = environment(&self.unit)?;
        environment.extend(make_directories(&self.unit)?);
        if self.kind() == "notify" || self.unit.service("NotifyAccess").is_some_and(|access| access != "none") {
            let socket = crate::notify::listen(&self.unit.name)?;
            environment.insert("NOTIFY_SOCKET".to_owned(), socket.to_string_lossy().into_owned());
        }
        environment.insert("INVOCATION_ID".to_owned(), policy::invocation()?);
        Ok(environment)
    }

    pub(super) fn kind(&self) -> &str {
        let has_command = self.unit.service("ExecStart").is_some();
        self.unit.service("Type").unwrap_or(if has_command { "simple" } else { "oneshot" })
    }

    fn limited(&mut self, now: Instant) -> bool {
        let setting = |key: &str, old: &str| {
            let found = self.unit.last("Unit", key).or_else(|| self.unit.last("Unit", old));
            found.or_else(|| self.unit.service(key)).or_else(|| self.unit.service(old)).map(str::to_owned)
        };
        let interval = setting("StartLimitIntervalSec", "StartLimitInterval");
        let interval = interval.map_or(Some(Duration::from_secs(10)), |text| span(&text).ok().flatten());
        let burst = setting("StartLimitBurst", "StartLimitBurst").and_then(|text| text.parse().ok()).unwrap_or(5);
        let interval = interval.unwrap_or(Duration::MAX);
        self.starts.retain(|start| now.duration_since(*start) < interval);
        self.starts.push_back(now);
        interval > Duration::ZERO && self.starts.len() > burst
    }

    /// The next command, or the next stage where there is none.
    pub(super) fn advance(&mut self, place: &Place, now: Instant) {
        if let Some(exec) = self.queue.pop_front() {
            match place.start(&self.unit, &exec, &self.environment) {
                Ok(process) if self.stage == Stage::Start => self.main = Some(process),
                Ok(process) => self.control = Some((process, exec.may_fail)),
                Err(error) => {
                    crate::say(&format!("{}: {error:#}", self.unit.name));
                    self.result = "resources";
                    return self.term(place, now);
                }
            }
            return;
        }
        match self.stage {
            Stage::StartPre => self.start_main(place, now),
            Stage::Start => self.after_main(place, now),
            Stage::StartPost => {
                self.deadline = None;
                self.enter(State::Active, Stage::Running);
                self.up();
                let stays = self.kind() != "oneshot" || self.unit.on("RemainAfterExit");
                if self.main.is_none() && !stays {
                    self.term(place, now);
                }
            }
            Stage::Stop => self.term(place, now),
            Stage::StopPost => self.finish(now),
            _ => {}
        }
    }

    fn start_main(&mut self, place: &Place, now: Instant) {
        self.queue = Exec::all(&self.unit, "ExecStart").into();
        self.enter(State::Activating, Stage::Start);
        self.advance(place, now);
        if self.stage == Stage::Start {
            match self.kind() {
                "oneshot" => {}
                "notify" | "forking" => self.stage = Stage::AwaitReady,
                _ => self.after_main(place, now),
            }
        }
    }

    pub(super) fn after_main(&mut self, place: &Place, now: Instant) {
        self.queue = Exec::all(&self.unit, "ExecStartPost").into();
        self.enter(State::Activating, Stage::StartPost);
        if let Some(main) = self.main {
            self.environment.insert("MAINPID".to_owned(), main.to_string());
        }
        self.advance(place, now);
    }
}
