use std::os::unix::fs::MetadataExt as _;

use bootstrap::bundle::Role;
use bootstrap::state::{FailureState, Phase};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::board::{self, Board};
use crate::host::STATUS_PATH;

struct Served {
    _root: TempDir,
    host: Host,
    board: Board,
}

impl Served {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        Self { _root: root, host, board: Board::new(Role::Worker) }
    }

    fn start(&self) -> (oneshot::Sender<()>, JoinHandle<Result<(), Failure>>) {
        let (stop, stopped) = oneshot::channel();
        let (host, states) = (self.host.clone(), of_run(self.board.subscribe()));
        let serving = tokio::spawn(async move {
            serve(&host, states, None, async {
                let _ = stopped.await;
            })
            .await
        });
        (stop, serving)
    }

    async fn connect(&self) -> UnixStream {
        let path = self.host.path(SOCKET_PATH);
        for _ in 0..500 {
            if let Ok(stream) = UnixStream::connect(&path).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody listens at {}", path.display());
    }

    async fn ask(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = self.connect().await;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

#[tokio::test]
async fn the_state_the_metrics_and_nothing_else_are_answered() {
    let served = Served::new();
    let (stop, serving) = served.start();
    served.board.phase(Phase::Join);
    for (method, path, status, part) in [
        ("GET", "/v1/status", "200", "\"phase\":\"join\""),
        ("GET", "/metrics", "200", "# EOF"),
        ("GET", "/healthz", "200", "ok\n"),
        ("HEAD", "/healthz", "200", ""),
        ("HEAD", "/v1/status?watch", "200", ""),
        ("POST", "/v1/status", "405", "only GET"),
        ("DELETE", "/metrics", "405", "only GET"),
        ("GET", "/", "404", "/v1/status"),
        ("GET", "/v1/status/../../etc/passwd", "404", ""),
    ] {
        let (head, body) = served.ask(method, path).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")) && body.contains(part),
            "{method} {path}: {head}\n{body}"
        );
        assert!(!head.contains("405") || head.to_lowercase().contains("allow: get, head"), "{head}");
    }
    assert_eq!(std::fs::metadata(served.host.path(SOCKET_PATH)).unwrap().mode() & 0o777, 0o660);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert!(!served.host.path(SOCKET_PATH).exists());
}

#[tokio::test]
async fn a_follower_sees_each_change() {
    let served = Served::new();
    let (_stop, _serving) = served.start();
    let mut stream = served.connect().await;
    stream.write_all(b"GET /v1/status?watch HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut until = async |text: &str| {
        while !seen.contains(text) {
            let mut bytes = [0; 4096];
            let count = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(count > 0, "{text}: {seen}");
            seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    };
    until("\"phase\":\"locate\"").await;
    served.board.phase(Phase::Install);
    until("\"phase\":\"install\"").await;
    let failure = FailureState { code: Code::NoSpace, message: "x".to_owned(), remedy: "y".to_owned() };
    served.board.fail(&failure);
    until("\"NO_SPACE\"").await;
}

#[tokio::test]
async fn followers_leave_room_for_others() {
    let served = Served::new();
    let (_stop, _serving) = served.start();
    let mut streams = Vec::new();
    for place in 0..20 {
        let mut stream = served.connect().await;
        stream.write_all(b"GET /v1/status?watch HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        let status = if place < 16 { "200" } else { "503" };
        assert_eq!(std::str::from_utf8(&head).unwrap(), format!("HTTP/1.1 {status}"));
        streams.push(stream);
    }
    assert_eq!(served.ask("GET", "/healthz").await.1, "ok\n");
}

#[tokio::test]
async fn the_next_server_takes_the_place_of_the_one_before() {
    let served = Served::new();
    // What a killed one leaves.
    drop(std::os::unix::net::UnixListener::bind(served.host.prepare(SOCKET_PATH).unwrap()).unwrap());
    let (stop, first) = served.start();
    assert_eq!(served.ask("GET", "/healthz").await.1, "ok\n");
    let inode = || std::fs::metadata(served.host.path(SOCKET_PATH)).map(|meta| meta.ino()).ok();
    let before = inode();
    let (stop_second, second) = served.start();
    for _ in 0..5 {
        assert_eq!(served.ask("GET", "/healthz").await.1, "ok\n");
        assert_eq!(inode(), before, "the first one goes on");
    }
    stop.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(served.ask("GET", "/healthz").await.1, "ok\n");
    stop_second.send(()).unwrap();
    second.await.unwrap().unwrap();
    // One that waits for its turn ends, too.
    let (_stop, _first) = served.start();
    served.connect().await;
    let (stop, waiting) = served.start();
    stop.send(()).unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_another_process_writes_down_is_followed() {
    let served = Served::new();
    let mut states = follow(&served.host).unwrap();
    assert!(states.borrow_and_update().is_none());
    served.board.phase(Phase::Ready);
    board::write(&served.host.path(STATUS_PATH), &served.board.snapshot()).unwrap();
    let changed = tokio::time::timeout(Duration::from_secs(10), states.changed()).await;
    changed.unwrap().unwrap();
    assert_eq!(states.borrow().as_ref().map(|state| state.phase), Some(Phase::Ready));
}

#[tokio::test]
async fn a_path_that_is_no_socket_is_named() {
    let served = Served::new();
    std::fs::create_dir_all(served.host.path(SOCKET_PATH)).unwrap();
    let states = of_run(served.board.subscribe());
    let failure = serve(&served.host, states, None, std::future::pending()).await.unwrap_err();
    assert!(failure.code == Code::Io && failure.what.contains("status.sock"), "{failure}");
}
