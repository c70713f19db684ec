//! States that a node can be in, made by a board on a clock that the tests hold.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use agent::board::{Board, Clock, Now};
use bootstrap::bundle::{Arch, Kind, Manifest, Role};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{Bundle, Plan, Step, Warning};
use bootstrap::state::{NodeState, Phase, SourceState};

pub(crate) const ROUTER: &str = "http://10.1.1.1/cks-iso/";
pub(crate) const DISC: &str = "/dev/sr0";
pub(crate) const MIB: u64 = 1 << 20;

/// A board and its time.
pub(crate) struct Scene {
    pub(crate) board: Board,
    time: Arc<Mutex<Duration>>,
    began: Instant,
}

/// When every scene begins: 2026-01-02T03:04:05Z.
fn dawn() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

impl Scene {
    pub(crate) fn new(role: Role) -> Self {
        let time = Arc::new(Mutex::new(Duration::ZERO));
        let (began, shared) = (Instant::now(), Arc::clone(&time));
        let clock = Clock::new(move || {
            let passed = *shared.lock().unwrap();
            Now { instant: began + passed, wall: dawn() + passed }
        });
        Self { board: Board::with_clock(role, clock), time, began }
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        *self.time.lock().unwrap() += time;
    }

    pub(crate) fn instant(&self) -> Instant {
        self.began + *self.time.lock().unwrap()
    }

    pub(crate) fn wall(&self) -> SystemTime {
        dawn() + *self.time.lock().unwrap()
    }

    /// The state now, with the time at which it is looked at.
    pub(crate) fn state(&self) -> (NodeState, SystemTime) {
        (self.board.snapshot(), self.wall())
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn file(entry: &str, size: u64) -> Step {
    Step::InstallFile { entry: entry.to_owned(), size, sha256: None, path: format!("/opt/{entry}"), mode: 0o755 }
}

pub(crate) fn tarball(entry: &str, size: u64) -> Step {
    let directory = "/opt/cni/bin".to_owned();
    Step::Unpack { entry: entry.to_owned(), size, sha256: None, kind: Kind::CniPlugins, directory, members: Vec::new() }
}

pub(crate) fn source(name: &str, verdict: &str, reason: &str) -> SourceState {
    SourceState { source: name.into(), verdict: verdict.into(), reason: reason.into(), ..SourceState::default() }
}

fn bundle(name: &str) -> Bundle {
    let manifest = Manifest {
        schema: 1,
        name: name.to_owned(),
        kubernetes: Some("v1.33.1".to_owned()),
        arch: Arch::Amd64,
        components: Vec::new(),
        sandbox_image: None,
        node: bootstrap::bundle::Node::default(),
        entries: Vec::new(),
        images: Vec::new(),
        blobs: Vec::new(),
    };
    Bundle { id: Digest::of(name.as_bytes()), manifest, text: String::new(), signature: None, derived: false }
}

/// Nothing was found yet.
pub(crate) fn locating() -> (NodeState, SystemTime) {
    let scene = Scene::new(Role::Worker);
    scene.board.phase(Phase::Locate);
    scene.pass(seconds(7));
    scene.board.sources(&[
        source(DISC, "MEDIA_NOT_FOUND", "/dev/sr0: No medium found"),
        source(ROUTER, "SOURCE_UNREACHABLE", "http://10.1.1.1/cks-iso/: connection refused"),
    ]);
    let why = "/dev/sr0: No medium found; http://10.1.1.1/cks-iso/: connection refused";
    scene.board.wait("a source that holds a CKS ISO", why, scene.began, seconds(4), seconds(300));
    scene.pass(seconds(1));
    scene.state()
}

/// Up to the first bytes, with `steps` planned and begun.
fn installing(steps: &[Step]) -> Scene {
    let scene = Scene::new(Role::ControlPlane);
    scene.board.phase(Phase::Locate);
    scene.pass(Duration::from_millis(312));
    scene.board.sources(&[source(ROUTER, "in-use", ""), source(DISC, "standby", "")]);
    scene.board.bundle(&bundle("v1.33.1-calico"));
    scene.board.phase(Phase::Preflight);
    scene.pass(Duration::from_millis(95));
    let mut steps = steps.to_vec();
    steps.push(file("k8s/kubeadm", 58 * MIB));
    let code = "CONTAINERD_CONFIG_NOT_IMPORTED".to_owned();
    let text = "/etc/containerd/config.toml does not import conf.d".to_owned();
    scene.board.plan(&Plan { steps: steps.clone(), warnings: vec![Warning { code, text }], learns: false });
    scene.board.phase(Phase::Install);
    for step in &steps {
        scene.board.begin(step);
    }
    scene
}

fn usual() -> [Step; 3] {
    [
        file("registry.k8s.io/kube-apiserver:v1.33.1", 96 * MIB),
        file("docker.io/calico/node:v3.30.0", 140 * MIB),
        tarball("cni/cni-plugins-amd64.tgz", 45 * MIB),
    ]
}

/// The run of [`fetching`] where its bytes are on their way.
pub(crate) fn fetching_scene() -> Scene {
    let [apiserver, calico, cni] = usual();
    let scene = installing(&[apiserver.clone(), calico.clone(), cni.clone()]);
    let board = &scene.board;
    board.resumed(calico.object(), 40 * MIB);
    for _ in 0..4 {
        scene.pass(seconds(1));
        for (object, from, count) in [
            (apiserver.object(), ROUTER, 12 * MIB),
            (calico.object(), DISC, 4 * MIB),
            (cni.object(), ROUTER, 10 * MIB),
            ("k8s/kubeadm", ROUTER, 29 * MIB / 2),
        ] {
            board.advance(object, count);
            board.fetched(object, from, count);
        }
    }
    board.end(&file("k8s/kubeadm", 58 * MIB));
    board.advance(cni.object(), 5 * MIB);
    board.fetched(cni.object(), ROUTER, 5 * MIB);
    scene
}

/// Bytes come from two sources; one of them was lost and found again.
pub(crate) fn fetching() -> (NodeState, SystemTime) {
    let scene = fetching_scene();
    scene.board.retry(ROUTER, "connection reset by peer");
    scene.board.moved(DISC, "/dev/sr0: Input/output error");
    scene.state()
}

/// All sources are silent, and containerd is.
pub(crate) fn stalled() -> (NodeState, SystemTime) {
    let scene = fetching_scene();
    let quiet = scene.instant();
    scene.pass(seconds(9));
    let [apiserver, calico, _] = usual();
    for (object, pause) in [(&apiserver, 3), (&calico, 2)] {
        let waits_for = format!("bytes from {ROUTER}");
        let why = "no byte within 2 s";
        scene.board.wait_for(Some(object.object()), &waits_for, why, quiet, seconds(pause), seconds(300));
    }
    let containerd = "containerd at /run/containerd/containerd.sock";
    scene.board.wait(containerd, "connection refused", quiet, seconds(1), seconds(60));
    scene.state()
}

/// Names that nobody vouches for.
pub(crate) fn hostile() -> (NodeState, SystemTime) {
    let evil = "docker.io/\u{1b}[2J\u{1b}]0;pwned\u{7}\r\n\u{202e}evil:\u{9b}31m";
    let wide = "registry.example/日本語の画像/名前がとても長いコンテナ:v1.0.0";
    let long = format!("registry.example/{}:latest", "a".repeat(200));
    let scene = installing(&[file(evil, 10 * MIB), file(wide, 20 * MIB), file(&long, 30 * MIB)]);
    scene.pass(seconds(1));
    for object in [evil, wide, &long] {
        scene.board.advance(object, 5 * MIB);
        scene.board.fetched(object, "http://\u{1b}[31mrouter/\n", 5 * MIB);
    }
    scene.board.sources(&[source("http://\u{1b}[31mrouter/\n", "in-use", "a\r\nb\u{1b}]0;x\u{7}\"} 1")]);
    scene.board.warn("LEGACY_BUNDLE: \u{1b}[5mblink\nnext line".to_owned());
    scene.board.wait("\u{1b}[31mred", "\u{202e}gnol", scene.instant(), seconds(1), seconds(2));
    scene.state()
}

/// All is done.
pub(crate) fn installed() -> (NodeState, SystemTime) {
    let scene = fetching_scene();
    for (step, left) in usual().into_iter().zip([48 * MIB, 84 * MIB, 0]) {
        scene.board.advance(step.object(), left);
        scene.board.fetched(step.object(), ROUTER, left);
        scene.board.end(&step);
    }
    scene.board.phase(Phase::Activate);
    scene.pass(Duration::from_millis(20));
    scene.board.phase(Phase::Verify);
    scene.pass(Duration::from_millis(1480));
    scene.board.phase(Phase::Installed);
    let end = scene.wall();
    scene.pass(seconds(3600));
    assert_eq!(scene.state().1, end + seconds(3600));
    scene.state()
}

/// It stopped.
pub(crate) fn failed() -> (NodeState, SystemTime) {
    let scene = fetching_scene();
    let what = "docker.io/calico/node:v3.30.0 from http://10.1.1.1/cks-iso/, /dev/sr0: is \
        sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef, the manifest says \
        sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    scene.board.fail(&agent::report::state_of(&Failure::new(Code::DigestMismatch, what)));
    scene.pass(seconds(5));
    scene.state()
}

/// A scene by its name.
pub(crate) type Named = (&'static str, fn() -> (NodeState, SystemTime));

/// All scenes, by name.
pub(crate) const ALL: [Named; 6] = [
    ("locating", locating),
    ("fetching", fetching),
    ("stalled", stalled),
    ("hostile", hostile),
    ("installed", installed),
    ("failed", failed),
];
