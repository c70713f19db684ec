//! What has been asked for and is not done yet: starts and stops, in the order of `After=` and `Before=`.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use crate::launch::Place;
use crate::service::{Exit, News, Service, State};
use crate::unit::Unit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Start,
    Stop,
    /// A stop and then a start.
    Restart,
    Reload,
}

#[derive(Debug)]
struct Job {
    kind: Kind,
    running: bool,
}

/// A job that came to its end: its unit, and the reason where it was no good one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) unit: String,
    pub(crate) failure: Option<&'static str>,
}

/// All units that somebody has asked for, and the jobs about them.
#[derive(Debug)]
pub(crate) struct Units {
    pub(crate) services: BTreeMap<String, Service>,
    jobs: BTreeMap<String, Job>,
    pub(crate) place: Place,
}

impl Units {
    pub(crate) fn new(place: Place) -> Self {
        Self { services: BTreeMap::new(), jobs: BTreeMap::new(), place }
    }

    /// The unit, read now unless it is at work: then it stays as it was read until `daemon-reload`.
    pub(crate) fn get(&mut self, name: &str) -> Result<Option<&mut Service>> {
        let Some(unit) = Unit::load(name)? else {
            // A unit that runs outlives its file.
            return Ok(self.services.get_mut(name));
        };
        let service = self.services.entry(unit.name.clone()).or_insert_with(|| Service::new(unit.clone()));
        if matches!(service.state, State::Inactive | State::Failed) {
            service.unit = unit;
        }
        Ok(Some(service))
    }

    /// Reads all units anew.
    pub(crate) fn reload(&mut self) -> Result<()> {
        for service in self.services.values_mut() {
            if let Some(unit) = Unit::load(&service.unit.name)? {
                service.unit = unit;
            }
        }
        let dead = |service: &Service| {
            service.state == State::Inactive && !service.unit.path.as_ref().is_some_and(|p| p.exists())
        };
        self.services.retain(|_, service| !dead(service));
        Ok(())
    }

    /// Asks for a unit and for all that comes with it.
    pub(crate) fn ask(&mut self, name: &str, kind: Kind) -> Result<()> {
        let Some(service) = self.get(name)? else { return Ok(()) };
        let (name, unit, state) = (service.unit.name.clone(), service.unit.clone(), service.state);
        let same = self.jobs.get(&name).is_some_and(|job| job.kind == kind);
        if same || (kind == Kind::Start && state == State::Active && !name.ends_with(".target")) {
            return Ok(());
        }
        self.jobs.insert(name.clone(), Job { kind, running: false });
        match kind {
            Kind::Start => {
                for (wanted, _) in unit.wanted() {
                    self.ask(&wanted, Kind::Start)?;
                }
            }
            Kind::Stop | Kind::Restart => {
                for follower in self.followers(&name) {
                    self.ask(&follower, kind)?;
                }
            }
            Kind::Reload => {}
        }
        Ok(())
    }

    /// The running units that are stopped and restarted with `name`.
    fn followers(&self, name: &str) -> Vec<String> {
        let up = self
            .services
            .values()
            .filter(|service| matches!(service.state, State::Active | State::Activating) && service.unit.name != name);
        let follows = up.filter(|service| service.unit.follows().iter().any(|followed| followed == name));
        follows.map(|service| service.unit.name.clone()).collect()
    }

    /// Begins what may begin, collects what has ended.
    pub(crate) fn proceed(&mut self, now: Instant) -> Vec<Done> {
        let mut done = Vec::new();
        loop {
            let next = self.jobs.iter().filter(|(_, job)| !job.running).map(|(name, _)| name.clone());
            let ready: Vec<String> = next.filter(|name| self.may_run(name)).collect();
            for name in &ready {
                self.run(name, now, &mut done);
            }
            let heard = self.collect(&mut done);
            if ready.is_empty() && !heard {
                return done;
            }
        }
    }

    fn may_run(&self, name: &str) -> bool {
        let (Some(job), Some(service)) = (self.jobs.get(name), self.services.get(name)) else { return true };
        let stops = |kind: Kind| matches!(kind, Kind::Stop | Kind::Restart);
        let waits_for = |(other, theirs): (&String, &Job)| -> bool {
            let Some(their) = self.services.get(other).filter(|_| other != name) else { return false };
            let we_after = ordered(&service.unit, &their.unit);
            let they_after = ordered(&their.unit, &service.unit);
            if stops(theirs.kind) && job.kind == Kind::Start {
                return we_after || they_after;
            }
            if stops(theirs.kind) && stops(job.kind) { they_after } else { !stops(job.kind) && we_after }
        };
        // A stop may break off a start under way; a start waits until a stop is over.
        (service.at_rest() || job.kind == Kind::Stop || job.kind == Kind::Restart) && !self.jobs.iter().any(waits_for)
    }

    fn run(&mut self, name: &str, now: Instant, done: &mut Vec<Done>) {
        let lacks = self.lacks(name);
        let Some(job) = self.jobs.get_mut(name) else { return };
        let Some(service) = self.services.get_mut(name) else { return };
        job.running = true;
        match job.kind {
            Kind::Start if lacks => {
                self.jobs.remove(name);
                done.push(Done { unit: name.to_owned(), failure: Some("dependency") });
            }
            Kind::Start => service.start(&self.place, now),
            Kind::Stop | Kind::Restart => service.stop(&self.place, now),
            Kind::Reload => service.reload(&self.place, now),
        }
    }

    /// Whether something that the unit requires was to be started before it and has failed.
    fn lacks(&self, name: &str) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        service.unit.wanted().iter().any(|(wanted, must)| {
            let known = self.services.get(wanted);
            let up = known.is_some_and(|other| matches!(other.state, State::Active | State::Activating));
            // A unit whose conditions don't hold, or a oneshot that has run, is no failure.
            let failed = known.is_none_or(|other| other.state == State::Failed);
            let after = known.is_none_or(|other| ordered(&service.unit, &other.unit));
            *must && after && !up && failed
        })
    }

    fn collect(&mut self, done: &mut Vec<Done>) -> bool {
        let mut heard = false;
        for (name, service) in &mut self.services {
            for news in std::mem::take(&mut service.news) {
                heard = true;
                let Some(job) = self.jobs.get_mut(name).filter(|job| job.running) else { continue };
                let failure = match (&news, job.kind) {
                    (News::Started(result), Kind::Start) => result.err(),
                    (News::Stopped, Kind::Stop) | (News::Reloaded, Kind::Reload) => None,
                    (News::Stopped, Kind::Restart) => {
                        *job = Job { kind: Kind::Start, running: false };
                        continue;
                    }
                    _ => continue,
                };
                self.jobs.remove(name);
                done.push(Done { unit: name.clone(), failure });
            }
        }
        heard
    }

    /// Whether somebody has still to wait for the unit.
    pub(crate) fn pending(&self, name: &str) -> bool {
        self.jobs.contains_key(name)
    }

    /// A process has ended.
    pub(crate) fn exited(&mut self, process: u32, exit: Exit, now: Instant) {
        if let Some(service) = self.services.values_mut().find(|service| service.owns(process)) {
            service.exited(process, exit, &self.place, now);
        }
    }

    /// Looks at every unit that waits for a moment, and gives the next such moment.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Instant> {
        for service in self.services.values_mut() {
            if service.next(now).is_some() {
                service.tick(&self.place, now);
            }
        }
        self.services.values().filter_map(|service| service.next(now)).min()
    }
}

/// Whether `one` comes after `other`.
fn ordered(one: &Unit, other: &Unit) -> bool {
    one.list("Unit", "After").contains(&other.name) || other.list("Unit", "Before").contains(&one.name)
}
