//! Faults × moments × sources: whatever happens on the way, the node is the same as without it, or the run ends
//! with the right code and nothing is visible; and little is fetched twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use cks_tests::containerd::Containerd;
use cks_tests::faults::{Fault, Moment as At};
use cks_tests::node::{Node, code};
use cks_tests::throttle::SOCKET_BYTES;

use crate::bed::{Bed, Target};
use crate::cases::{Case, Expected, Form, Kind, Moment};

mod bed;
mod cases;
mod lanes;
mod table;

/// Cases side by side: most of their time they wait.
const SIDE_BY_SIDE: usize = 4;
/// What is read of an answer before it is refused, and of a source that is looked at again after a fault: the
/// manifest; of an .iso file its directories, too.
const READ_AHEAD: u64 = 256 << 10;

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) case: Case,
    pub(crate) result: Result<Ended, String>,
}

#[derive(Debug)]
pub(crate) struct Ended {
    /// The code it ended with, where it did.
    pub(crate) code: Option<&'static str>,
    pub(crate) sent: u64,
    /// More than without the fault.
    pub(crate) again: u64,
}

#[test]
fn every_fault_at_every_moment_of_every_source() {
    let bed = Bed::new().unwrap();
    let cases = Case::all();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let began = Instant::now();
                    let result = run(&bed, case).map_err(|e| format!("{e:#}"));
                    if began.elapsed().as_secs() > 8 {
                        println!("{case:?} took {:?}", began.elapsed());
                    }
                    outcomes.lock().unwrap().push(Outcome { case: *case, result });
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    print!("{}", table::text(&outcomes));
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} cases: {failed:#?}", failed.len(), outcomes.len());
}

fn run(bed: &Bed, case: &Case) -> Result<Ended> {
    let (role, target) = (case.role(), bed.target(case)?);
    let own = matches!(case.kind, Kind::Touched | Kind::Replaced);
    let own = own.then(|| format!("{:?}-{:?}-{:?}", case.form, case.moment, case.kind));
    let faults = bed.faults(case.form, own.as_deref())?;
    let fault = match &own {
        None => case.kind.fault(),
        Some(own) => {
            let file = bed.served(case.form, own, &target.path);
            Some(Fault::Breaks(bed.replacement(&target, file, case.kind == Kind::Replaced)))
        }
    };
    let (moment, fault) = due(case, &target, fault.unwrap_or(Fault::Reset));
    faults.on(moment, fault);
    let (node, containerd) = bed.node(role, case.moment == Moment::End)?;
    let output = node.run(&bed.sources(case.form, &faults))?;
    ensure!(faults.left() == 0, "the fault has not struck: {output:?}\n{:#?}", faults.asked());
    let (whole, made) = (bed.whole(case.form, role)?, bed.made(&node, containerd.as_ref(), &faults)?);
    let asked = || format!("{output:?}\n{:#?}", faults.asked());
    let ended = match case.expected() {
        Expected::Same => {
            ensure!(output.code == 0, "{}", asked());
            ensure!(made.tree == whole.tree, "{}", whole.tree.difference(&made.tree));
            ensure!(made.images == whole.images, "{:#?} and not {:#?}", made.images, whole.images);
            None
        }
        Expected::Code(expected) => {
            ensure!(code(&output) == expected && output.code == 65, "not {expected}: {}", asked());
            bed.nothing_visible(&node, containerd.as_ref())?;
            again_without(bed, case, &node, containerd.as_ref())?;
            Some(expected)
        }
    };
    let again = made.bytes.saturating_sub(whole.bytes);
    let allowed = allowed(case, &target, whole.bytes);
    ensure!(again <= allowed, "{again} bytes more than the {} without it, {allowed} allowed: {}", whole.bytes, asked());
    Ok(Ended { code: ended, sent: made.bytes, again })
}

/// The next run, of a good server, leaves the same node.
fn again_without(bed: &Bed, case: &Case, node: &Node, containerd: Option<&Containerd>) -> Result<()> {
    let faults = bed.faults(case.form, None)?;
    let output = node.run(&bed.sources(case.form, &faults))?;
    let (whole, made) = (bed.whole(case.form, case.role())?, bed.made(node, containerd, &faults)?);
    ensure!(output.code == 0 && made.tree == whole.tree && made.images == whole.images, "the next run: {output:?}");
    Ok(())
}

/// When the fault is due, and what comes before it.
fn due(case: &Case, target: &Target, fault: Fault) -> (At, Fault) {
    let of = |from: u64, to: u64| {
        let at = At::of(&target.path, 0);
        if target.ranged { at.beginning(target.offset + from..target.offset + to) } else { at }
    };
    let after = match case.moment {
        Moment::Opening if case.form == Form::Stock => 0,
        Moment::Opening | Moment::Middle => target.length / 2,
        Moment::Beginning => 0,
        Moment::End => target.length.saturating_sub(1000),
    };
    let at_a_byte = case.kind.strikes_anywhere();
    let goes_on_there = case.form != Form::Standby;
    if !at_a_byte && target.ranged && after > 0 && case.moment != Moment::Opening && goes_on_there {
        let resumed = of(1, target.length);
        return (of(0, 1).after(after), Fault::Then(Box::new((resumed, fault))));
    }
    let moment = if at_a_byte { of(0, 1).after(after) } else { of(0, 1) };
    (if case.kind == Kind::Corrupt { moment.always() } else { moment }, fault)
}

/// How many bytes may come twice: a hundredth of all. A node of few bytes can't be held to that: there it is what
/// the sockets hold, and what is looked at again. And a byte that is wrong shows only in the digest of the whole
/// artefact, which has to come again as a whole.
fn allowed(case: &Case, target: &Target, total: u64) -> u64 {
    let part = if case.role() == "etcd" { SOCKET_BYTES + READ_AHEAD } else { total / 100 };
    let whole = match case.kind {
        Kind::CorruptOnce | Kind::Corrupt | Kind::Replaced => target.length,
        // Without a digest nothing else tells that the halves belong together.
        Kind::Touched if case.form == Form::Stock => target.length,
        _ => 0,
    };
    part + whole
}
