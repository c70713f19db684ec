//! The board's counts, on a clock that the test holds.

use bootstrap::bundle::Role;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::Plan;
use bootstrap::state::{Activity, Phase};

use crate::scenes::{self, DISC, MIB, ROUTER, Scene, file, seconds, source, tarball};

#[test]
fn rates_and_etas_follow_the_bytes_and_the_clock() {
    let scene = Scene::new(Role::Worker);
    let (kubelet, cni) = (file("k8s/kubelet", 100 * MIB), tarball("cni.tgz", 10 * MIB));
    // Looking for media takes its time and is no slow download.
    scene.pass(seconds(100));
    scene.board.plan(&Plan { steps: vec![kubelet.clone(), cni.clone()], warnings: Vec::new(), learns: false });
    scene.board.begin(&kubelet);
    scene.board.begin(&cni);
    for _ in 0..2 {
        scene.pass(seconds(1));
        scene.board.advance(kubelet.object(), 10 * MIB);
        scene.board.advance(cni.object(), 2 * MIB);
    }
    let state = scene.board.snapshot();
    assert_eq!((state.rate, state.eta_seconds), (12 * MIB, Some(8)), "86 MiB are left");
    let kubelet_shown = &state.active[0];
    assert_eq!((kubelet_shown.rate, kubelet_shown.eta_seconds), (10 * MIB, Some(8)));
    assert_eq!((state.active[1].rate, state.active[1].eta_seconds), (2 * MIB, Some(3)));

    // What was kept from before is progress and no speed.
    scene.board.resumed(kubelet.object(), 50 * MIB);
    let state = scene.board.snapshot();
    assert_eq!((state.rate, state.eta_seconds), (12 * MIB, Some(3)));
    assert_eq!((state.bytes.done, state.counters.bytes_resumed), (74 * MIB, 50 * MIB));

    // Nothing comes any more: a beat is enough to tell.
    scene.pass(seconds(6));
    scene.board.tick();
    let state = scene.board.snapshot();
    assert_eq!((state.rate, state.eta_seconds, state.active[0].rate), (0, None, 0));
}

#[test]
fn what_happens_to_an_artefact_is_told() {
    let scene = Scene::new(Role::Worker);
    let (kubelet, cni) = (file("k8s/kubelet", 2), tarball("cni.tgz", 2));
    let doing = |object: &str| {
        let state = scene.board.snapshot();
        state.active.iter().find(|active| active.object == object).map(|active| active.doing)
    };
    for step in [&kubelet, &cni] {
        scene.board.begin(step);
        scene.board.advance(step.object(), 1);
        assert_eq!(doing(step.object()), Some(Activity::Fetching));
        scene.board.advance(step.object(), 1);
    }
    assert_eq!(doing("k8s/kubelet"), Some(Activity::Fetching));
    assert_eq!(doing("cni.tgz"), Some(Activity::Unpacking), "by itself, at the last byte");
    scene.board.doing("cni.tgz", Activity::Hashing);
    scene.board.doing("nobody knows", Activity::Hashing);
    assert_eq!(doing("cni.tgz"), Some(Activity::Hashing));
    scene.board.comes_from("cni.tgz", DISC);
    scene.pass(seconds(2));
    scene.board.end(&cni);
    assert_eq!(doing("cni.tgz"), None);
    let done = scene.board.snapshot().finished;
    assert_eq!((done[0].object.as_str(), done[0].bytes, done[0].seconds), ("cni.tgz", 2, 2.0));
    assert_eq!(done[0].source, DISC);
}

#[test]
fn traffic_is_counted_by_source_whatever_is_known_of_it() {
    let scene = Scene::new(Role::Worker);
    let kubelet = file("k8s/kubelet", 100);
    // Bytes of a source that has no verdict yet are not lost.
    scene.board.source_progress(ROUTER, 5);
    scene.board.begin(&kubelet);
    scene.board.sources(&[source(ROUTER, "in-use", ""), source(DISC, "standby", "")]);
    scene.pass(seconds(1));
    scene.board.fetched(kubelet.object(), ROUTER, 10);
    scene.board.retry(ROUTER, "reset\n");
    scene.board.retry(DISC, "I/O error");
    scene.board.moved(DISC, "gone");
    scene.board.sources(&[source(DISC, "MEDIA_NOT_FOUND", "pulled out"), source(ROUTER, "in-use", "")]);
    let state = scene.board.snapshot();
    let [disc, router] = &state.sources[..] else { panic!("{state:?}") };
    assert_eq!((router.bytes, router.retries, router.last_error.as_str()), (15, 1, "reset\\n"));
    assert_eq!(router.last_byte_at.as_deref(), Some("2026-01-02T03:04:06Z"));
    assert_eq!((disc.bytes, disc.retries, disc.last_error.as_str(), &disc.last_byte_at), (0, 1, "gone", &None));
    assert_eq!((state.counters.retries, state.counters.blobs_moved, state.counters.bytes_fetched), (2, 1, 15));
    assert_eq!(state.active[0].source, ROUTER);
    // The sources' own count is the last word.
    scene.board.source_bytes(&[(ROUTER.to_owned(), 20)]);
    let state = scene.board.snapshot();
    assert_eq!((state.sources[1].bytes, state.counters.bytes_fetched), (20, 20));
}

#[test]
fn several_wait_and_the_one_that_ends_first_comes_first() {
    let scene = Scene::new(Role::Worker);
    let board = &scene.board;
    let now = scene.instant();
    board.wait("late", "a", now, seconds(1), seconds(300));
    board.wait_for(Some("x"), "early", "b", now, seconds(1), seconds(60));
    board.wait_for(Some("y"), "early", "c\u{1b}", now, seconds(2), seconds(60));
    board.wait_for(Some("y"), "early", "c\u{1b}", now, seconds(2), seconds(60));
    let state = board.snapshot();
    assert_eq!(state.wait.as_ref(), state.waits.first());
    let [early, late] = &state.waits[..] else { panic!("{state:?}") };
    assert_eq!((early.waits_for.as_str(), late.waits_for.as_str()), ("early", "late"));
    assert_eq!((early.last_error.as_str(), &early.objects[..]), ("c\\u{1b}", &["x".to_owned(), "y".to_owned()][..]));
    assert_eq!(early.deadline, "2026-01-02T03:05:05Z");
    assert_eq!(early.next_try, "2026-01-02T03:04:07Z");

    board.stop_waiting_for("x", "early");
    assert_eq!(board.snapshot().wait.unwrap().objects, ["y"], "y still waits");
    board.stop_waiting_for("y", "early");
    assert_eq!(board.snapshot().wait.unwrap().waits_for, "late");
    board.stop_waiting("late");
    let state = board.snapshot();
    assert!(state.wait.is_none() && state.waits.is_empty());
}

#[test]
fn phases_have_their_seconds_and_the_end_stays() {
    let scene = Scene::new(Role::Worker);
    for (phase, time) in [(Phase::Locate, 1), (Phase::Install, 2), (Phase::Install, 3), (Phase::Verify, 4)] {
        scene.board.phase(phase);
        scene.pass(seconds(time));
    }
    let failure = agent::report::state_of(&Failure::new(Code::Io, "x"));
    scene.board.wait("x", "y", scene.instant(), seconds(1), seconds(1));
    scene.board.fail(&failure);
    let state = scene.board.snapshot();
    let times: Vec<(Phase, f64)> = state.timeline.iter().map(|time| (time.phase, time.seconds)).collect();
    assert_eq!(times, [(Phase::Locate, 1.0), (Phase::Install, 5.0), (Phase::Verify, 4.0)]);
    assert!(state.wait.is_none() && state.waits.is_empty() && state.rate == 0 && state.eta_seconds.is_none());
    scene.pass(seconds(1));
    assert_eq!(scene.board.snapshot(), state, "what is over does not change");
}

#[test]
fn an_older_document_is_still_read() {
    let (state, _) = scenes::fetching();
    let mut value = serde_json::to_value(&state).unwrap();
    for field in ["rate", "eta_seconds", "finished", "waits", "counters"] {
        value.as_object_mut().unwrap().remove(field);
    }
    let read: bootstrap::state::NodeState = serde_json::from_value(value).unwrap();
    assert_eq!((read.bytes, read.rate), (state.bytes, 0));
}
