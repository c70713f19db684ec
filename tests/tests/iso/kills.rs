//! `kill -9` at random moments: what was whole stays, what was not is not seen.

use std::fs;
use std::time::{Duration, Instant};

use bootstrap::digest::Digest;
use cks_tests::images::noise;
use cks_tests::netns::ADDRESS;
use cks_tests::process::Command;
use cks_tests::relay::Relay;
use cks_tests::throttle;
use cks_tests::tree::digest_of;
use cks_tests::world::World;

use crate::Desk;

/// Of lock and of build.
const KILLS: [u32; 2] = [10, 10];
/// Runs it and kills it `after` so long; whether it had ended before.
fn killed(desk: &Desk, command: &Command, after: Duration) -> bool {
    let mut running = command.start(&desk.user.place.with_file_name("log")).unwrap();
    let deadline = Instant::now() + after;
    while Instant::now() < deadline {
        if let Some(code) = running.ended().unwrap() {
            assert_eq!(code, 0, "{}", fs::read_to_string(desk.user.place.with_file_name("log")).unwrap());
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    running.kill().unwrap();
    false
}

/// Beside the spec there is nothing but what is whole, and parts that nobody takes for it.
fn nothing_half_done(desk: &Desk, lock: &[u8], iso: Digest, what: &str) {
    for file in desk.files().iter().filter(|file| !matches!(file.as_str(), "config.toml" | "spec.toml")) {
        match file.as_str() {
            "cks-iso.lock" => assert!(fs::read(desk.path(file)).unwrap() == lock, "{what}"),
            "out.iso" => assert_eq!(digest_of(&desk.path(file)).unwrap(), iso, "{what}"),
            file if file.starts_with("out.iso.") => {}
            file => assert!(file.starts_with('.') && file.ends_with(".partial"), "{what}: {file}"),
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_and_leaves_nothing() {
    let world = World::new(false).unwrap();
    let relay = Relay::start(&world.netns, &format!("{ADDRESS}:5001"), &format!("{ADDRESS}:5000")).unwrap();
    throttle::small_sockets(&world.netns).unwrap();
    throttle::slow(&world.netns, 16).unwrap();
    let url = format!("http://{ADDRESS}:5001");
    let sent = || relay.brought() + world.upstream.requests().iter().map(|request| request.bytes).sum::<u64>();

    // One that nobody disturbs, for its result, its bytes and its time.
    let calm = Desk::new(&world, &url, &[]);
    let before = sent();
    let mut took = [calm.lock(), calm.build()].map(|command| {
        let started = Instant::now();
        command.ok().unwrap();
        started.elapsed()
    });
    let whole = sent() - before;
    let (lock, iso) = (fs::read(calm.path("cks-iso.lock")).unwrap(), digest_of(&calm.path("out.iso")).unwrap());

    let desk = Desk::new(&world, &url, &[]);
    let before = sent();
    let (mut kills, mut runs) = ([0; 2], 0_u32);
    let moments = noise(8 * 200, 0x6b_69_6c_6c);
    let mut moments = moments.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    while kills != KILLS {
        let at = usize::from(kills[0] == KILLS[0]);
        if at == 1 && !desk.path("cks-iso.lock").exists() {
            desk.lock().ok().unwrap();
        }
        // The first are early, or one whole run would leave nothing to be broken.
        let within = took[at].mul_f64(f64::from(kills[at] + 1) / f64::from(KILLS[at]));
        let after = within.mul_f64((moments.next().unwrap() % 1000) as f64 / 1000.0);
        let started = Instant::now();
        let done = killed(&desk, &[desk.lock(), desk.build()][at], after);
        (kills[at], runs) = (kills[at] + u32::from(!done), runs + 1);
        let what = format!("{kills:?} kills of lock and build, the last after {after:?}");
        println!("{what}: {}", if done { "had ended" } else { "killed" });
        nothing_half_done(&desk, &lock, iso, &what);
        if done {
            fs::remove_file(desk.path(["cks-iso.lock", "out.iso"][at])).unwrap();
            // With all of it in the cache it is faster.
            took[at] = started.elapsed();
        }
    }
    desk.iso();
    assert_eq!(digest_of(&desk.path("out.iso")).unwrap(), iso);
    assert!(desk.files().iter().all(|file| !file.starts_with('.')), "{:?}", desk.files());
    assert_eq!(desk.cached().1, 0, "no rest of a download");
    let again = sent() - before;
    println!("{runs} runs: {again} bytes came, {whole} without kills");
    // What was on the way comes again, and the texts whose names don't tell their bytes.
    assert!(again < whole + whole / 4, "{again} bytes instead of {whole}");
}
