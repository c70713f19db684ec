//! The end of a run: times beside their floor, the peer's and the goals.

use crate::Measured;
use crate::memory::Memory;
use crate::samples::Samples;

/// What the driver of CloudStack's own repository took for the same, in a run of its own, on a machine like this one, with
/// a loop device on ext4 and a cloud that answers at once. Milliseconds, p50.
const PEER: &str = "cloudstack-csi-driver 3.0, published in docs/performance.md: another run, not this one";

/// Name, time, floor, peer, goal: an absolute one, or one of the floor.
type Row<'a> = (&'a str, &'a Samples, Option<&'a Samples>, &'static str, Goal);

#[derive(Debug, Clone, Copy)]
enum Goal {
    None,
    Milliseconds(f64),
    TimesFloor(f64),
}

/// Prints everything.
pub(crate) fn print(measured: &Measured, volumes: u32) {
    let Measured { calls, floor, fresh, mkfs, cycles, memory } = measured;
    println!(
        "\n{:27} {:>5} {:>8} {:>8} {:>9} {:>8} {:>11}  GOAL",
        "RPC, ms", "TIMES", "p50", "p90", "FLOOR p50", "/ FLOOR", "PEER p50"
    );
    let rows: [Row<'_>; 9] = [
        ("stage, formatted ext4", &calls.stage, Some(&floor.mount), "43 to 50", Goal::Milliseconds(10.0)),
        ("stage with mkfs", fresh, Some(mkfs), "49 to 53", Goal::TimesFloor(1.3)),
        ("publish", &calls.publish, Some(&floor.bind), "4.2 to 4.6", Goal::Milliseconds(0.3)),
        ("unpublish", &calls.unpublish, Some(&floor.unbind), "2.4", Goal::Milliseconds(0.3)),
        ("unstage", &calls.unstage, Some(&floor.unmount), "7 to 14", Goal::None),
        ("stats", &calls.stats, Some(&floor.stat), "0.18", Goal::Milliseconds(0.1)),
        ("NodeGetInfo", &calls.info, Some(&calls.capabilities), "0.06 to 0.09", Goal::None),
        ("Probe", &calls.probe, Some(&calls.capabilities), "0.06 to 0.09", Goal::None),
        ("NodeGetCapabilities", &calls.capabilities, None, "", Goal::None),
    ];
    for (name, times, floor, peer, goal) in rows {
        let (p50, p90) = (times.percentile(50), times.percentile(90));
        let low = floor.map(|floor| floor.percentile(50));
        let (shown, ratio) =
            low.map_or_else(Default::default, |low| (format!("{low:.3}"), format!("{:.2}", p50 / low)));
        let goal = match (goal, low) {
            (Goal::Milliseconds(most), _) => verdict(&format!("{most} ms"), p50 / most),
            (Goal::TimesFloor(most), Some(low)) => verdict(&format!("{most} x"), p50 / low / most),
            _ => String::new(),
        };
        let times = times.count();
        println!("{name:27} {times:>5} {p50:>8.3} {p90:>8.3} {shown:>9} {ratio:>8} {peer:>12} {goal}");
    }
    println!(
        "\nFloor: mount(2), bind with mkdir, umount2 with rmdir, umount2, statvfs by a program of their own; mkfs.ext4 with the\n\
         agent's arguments; for what asks no disk, an RPC that only answers. Peer: {PEER}."
    );
    println!("\n{:40} {:>8} {:>12}  GOAL", format!("{volumes} VOLUMES, WHOLE CYCLE, s"), "", "PEER");
    for cycle in cycles {
        let (took, peer) = (cycle.took.as_secs_f64(), if cycle.name.starts_with('4') { "2.1" } else { "4.1 to 5.0" });
        println!("{:40} {took:>8.3} {peer:>12}  {}", cycle.name, verdict("1 s", took));
    }
    println!("\n{:28} {:>8} {:>8} {:>10} {:>8}  GOAL", "MEMORY, MiB", "RSS", "PSS", "ANONYMOUS", "THREADS");
    for Memory { operations, rss, shared_out, anonymous, threads } in memory {
        let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
        let goal = match operations {
            0 => verdict("12 MiB", mebibytes(*rss) / 12.0),
            10_000 => verdict("16 MiB", mebibytes(*rss) / 16.0),
            _ => String::new(),
        };
        let name = if *operations == 0 { "idle".to_owned() } else { format!("after {operations} operations") };
        let [rss, pss, anonymous] = [*rss, *shared_out, *anonymous].map(mebibytes);
        println!("{name:28} {rss:>8.2} {pss:>8.2} {anonymous:>10.2} {threads:>8}  {goal}");
    }
    let after = |operations: u32| memory.iter().find(|one| one.operations >= operations && one.operations > 0);
    if let (Some(first), Some(last)) = (after(10_000), memory.last().filter(|last| last.operations > 10_000)) {
        let grown = last.rss as f64 - first.rss as f64;
        println!(
            "growth after the first 10 000 operations: {grown:+.0} KiB (goal: none); peer 11 MiB idle, 19 after load"
        );
    }
}

fn verdict(goal: &str, ratio: f64) -> String {
    if ratio <= 1.0 { format!("{goal}: met") } else { format!("{goal}: missed, {ratio:.2} of it") }
}
