//! The registration with kubelet: by a client with kubelet's own libraries that dials as kubelet does, and by kubelet's
//! own plugin manager.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod bed;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use agent::csi::proto::csi::identity_server::{Identity, IdentityServer};
use agent::csi::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    ProbeRequest, ProbeResponse,
};
use agent::csi::proto::registration::registration_server::{Registration as Service, RegistrationServer};
use agent::csi::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use agent::csi::registration::{Standing, State, withdraw};
use agent::csi::socket;
use bootstrap::failure::Code;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use self::bed::{Bed, DRIVER, Manager, dial, keep, refusal, until};

/// A registration as tonic serves it by itself.
struct Bare;

#[tonic::async_trait]
impl Service for Bare {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo { name: DRIVER.to_owned(), ..PluginInfo::default() }))
    }

    async fn notify_registration_status(
        &self,
        _: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_s_call_needs_more_than_a_plain_server() {
    let directory = cks_tests::scratch("registration").unwrap();
    let path = directory.path().join("plain-reg.sock");
    let connections = socket::connections(socket::bind(&path).unwrap(), 8);
    let serving = Server::builder().add_service(RegistrationServer::new(Bare)).serve_with_incoming(connections);
    let serving = tokio::spawn(serving);
    let output = dial("register", &path, &["1"]);
    assert!(output.code == 1 && output.stderr.contains("PROTOCOL_ERROR"), "{output:?}");
    for how in ["localhost", "unix"] {
        assert_eq!(dial(how, &path, &["1"]).code, 0, "{how}");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_registers_the_driver() {
    let bed = Bed::begin();
    bed.until_offered().await;
    assert_eq!(fs::metadata(bed.socket()).unwrap().permissions().mode() & 0o7777, 0o600);
    let expected = serde_json::json!({
        "type": "CSIPlugin", "name": DRIVER, "endpoint": bed.registration.endpoint, "versions": ["1.0.0"],
    });
    // Ten rounds on one connection: from the second on, the client refers to fields that the first one told.
    for (how, times) in [("register", 10), ("localhost", 10), ("unix", 10), ("stress", 500)] {
        let output = dial(how, &bed.socket(), &[&times.to_string()]);
        assert_eq!(output.code, 0, "{how}: {output:?}");
        let lines: Vec<serde_json::Value> =
            output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines == vec![expected.clone(); times], "{how}: {lines:?}");
        assert_eq!(bed.until(|_| true).await, Standing::Registered, "{how}");
    }
    let names: Vec<_> = fs::read_dir(&bed.registration.registry).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [bed.socket().file_name().unwrap()]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_the_socket_comes_again() {
    let bed = Bed::begin();
    bed.until_offered().await;
    for round in ["one\u{1b}[2J", "two"] {
        // kubelet's answer arrives although the socket goes.
        let output = dial("register", &bed.socket(), &["1", round]);
        assert_eq!(output.code, 0, "{output:?}");
        let refused = bed.until(|state| matches!(state.standing, Standing::Refused { .. })).await;
        let Standing::Refused { error, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(error, round.replace('\u{1b}', "\\u{1b}"));
        bed.until_offered().await;
    }
    bed.register();
    bed.until(|state| state.standing == Standing::Registered).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_somebody_removes_comes_again() {
    let bed = Bed::begin();
    bed.until_offered().await;
    bed.register();
    bed.until(|state| state.standing == Standing::Registered).await;
    fs::remove_file(bed.socket()).unwrap();
    bed.until_offered().await;
    bed.register();
    bed.until(|state| state.standing == Standing::Registered).await;
    // With its directory, as for a node that is reset: kubelet makes it again.
    fs::remove_file(bed.socket()).unwrap();
    fs::remove_dir(&bed.registration.registry).unwrap();
    bed.until(|state| state.standing == Standing::Waiting("kubelet's directory")).await;
    assert!(!bed.registration.registry.exists());
    fs::create_dir(&bed.registration.registry).unwrap();
    bed.until_offered().await;
    bed.register();
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_offered_before_csi_is_served_and_kubelet_s_directory_is_there() {
    let bed = Bed::begin_with(|registry| fs::create_dir(registry).unwrap());
    bed.until(|state| state.standing == Standing::Waiting("the CSI service")).await;
    assert!(!bed.socket().exists());
    bed.ready();
    bed.until_offered().await;
    bed.stop().await;
    let bed = Bed::begin_with(|_| ());
    bed.ready();
    bed.until(|state| state.standing == Standing::Waiting("kubelet's directory")).await;
    assert!(!bed.registration.registry.exists());
    fs::create_dir(&bed.registration.registry).unwrap();
    bed.until_offered().await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_s_plugin_manager_follows_restarts_of_both() {
    let mut bed = Bed::begin();
    bed.until_offered().await;
    let mut manager = Manager::begin(&bed);
    let registered = |state: &State| state.standing == Standing::Registered;
    bed.until(registered).await;
    // The agent ends or is killed, and comes back: kubelet takes the new socket, and makes one change of it.
    for (round, kill) in [false, true, true, false].into_iter().enumerate() {
        bed.begin_again(kill).await;
        bed.until(registered).await;
        manager.until("registering", round + 2).await;
        manager.until("deregistering", round + 1).await;
    }
    // While the agent is away, kubelet keeps it.
    let count = 5;
    let (directory, registration) = bed.stop().await;
    assert!(registration.socket().exists());
    manager.until("deregistering", count - 1).await;
    let (states, keeping) = keep(&registration);
    let bed = Bed { directory, registration, states, keeping };
    bed.ready();
    bed.until(registered).await;
    manager.until("registering", count + 1).await;
    manager.restart();
    manager.until("registering", 1).await;
    // Removed for good.
    let (_directory, registration) = bed.stop().await;
    withdraw(&registration).unwrap();
    manager.until("deregistering", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_s_plugin_manager_refuses_and_is_offered_again() {
    let bed = Bed::begin_with(|registry| fs::create_dir(registry).unwrap());
    fs::write(refusal(&bed), "the node is not there yet").unwrap();
    let manager = Manager::begin(&bed);
    bed.ready();
    for count in 1..3 {
        let refused = bed.until(|state| matches!(state.standing, Standing::Refused { .. })).await;
        let Standing::Refused { error, .. } = refused else { panic!("{refused:?}") };
        assert!(error.contains("the node is not there yet"), "{error}");
        manager.until("refusing", count).await;
        bed.until_offered().await;
    }
    fs::remove_file(refusal(&bed)).unwrap();
    bed.until(|state| state.standing == Standing::Registered).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_socket_that_nobody_answers_on_is_replaced() {
    // A process that was killed left it.
    let bed = Bed::begin_with(|registry| {
        fs::create_dir(registry).unwrap();
        drop(UnixListener::bind(registry.join(format!("{DRIVER}-reg.sock"))).unwrap());
    });
    bed.ready();
    bed.until_offered().await;
    bed.register();
    bed.stop().await;

    let file = |path: &Path| fs::write(path, "precious").unwrap();
    let directory = |path: &Path| fs::create_dir(path).unwrap();
    let link = |path: &Path| std::os::unix::fs::symlink("/dev/null", path).unwrap();
    for (name, other) in [("file", file as fn(&Path)), ("directory", directory), ("link", link)] {
        let bed = Bed::begin_with(|registry| {
            fs::create_dir(registry).unwrap();
            other(&registry.join(format!("{DRIVER}-reg.sock")));
        });
        bed.ready();
        let before = fs::symlink_metadata(bed.socket()).unwrap();
        let failed = bed.until(|state| matches!(state.standing, Standing::Failed { .. })).await;
        let Standing::Failed { error, .. } = failed else { panic!("{failed:?}") };
        assert!(error.contains("is no socket") && error.contains("move it away"), "{name}: {error}");
        let after = fs::symlink_metadata(bed.socket()).unwrap();
        assert_eq!((before.file_type(), before.len()), (after.file_type(), after.len()), "{name}");
        withdraw(&bed.registration).unwrap_err();
        // When it has gone, the next try succeeds.
        fs::rename(bed.socket(), bed.directory.path().join("moved")).unwrap();
        bed.until_offered().await;
        bed.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_s_socket_is_not_taken() {
    let bed = Bed::begin_with(|registry| fs::create_dir(registry).unwrap());
    let other = UnixListener::bind(bed.socket()).unwrap();
    bed.ready();
    let failed = bed.until(|state| matches!(state.standing, Standing::Failed { .. })).await;
    let Standing::Failed { error, .. } = failed else { panic!("{failed:?}") };
    assert!(error.contains("another process answers") && error.contains("DaemonSet"), "{error}");
    assert_eq!(withdraw(&bed.registration).unwrap_err().code, Code::PortInUse);
    other.set_nonblocking(true).unwrap();
    other.accept().unwrap();
    drop(other);
    bed.until_offered().await;
    bed.register();
    bed.stop().await;
}

/// As much of Identity as the sidecars ask.
struct Driver;

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse { name: DRIVER.to_owned(), ..GetPluginInfoResponse::default() }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse::default()))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_of_the_sidecars_talks_to_the_csi_socket() {
    let directory = cks_tests::scratch("registration").unwrap();
    let path = directory.path().join("plugins").join(DRIVER).join("csi.sock");
    let listener = socket::listen(&path).unwrap();
    let made = fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(made.permissions().mode() & 0o7777, 0o750);
    let meta = fs::metadata(&path).unwrap();
    assert!(meta.file_type().is_socket() && meta.permissions().mode() & 0o7777 == 0o600);
    let connections = socket::connections(listener, 8);
    let serving =
        tokio::spawn(Server::builder().add_service(IdentityServer::new(Driver)).serve_with_incoming(connections));
    // More connections, one after the other, than there are places.
    for _ in 0..9 {
        let output = dial("csi", &path, &[]);
        assert_eq!((output.code, output.stdout.trim()), (0, &*format!("{DRIVER} ready=true")), "{output:?}");
    }
    let taken = socket::listen(&path).unwrap_err();
    assert_eq!(taken.code, Code::PortInUse);
    assert!(taken.what.contains(path.to_str().unwrap()), "{taken}");
    serving.abort();
    let _ = serving.await;
    assert!(until(|| socket::listen(&path).is_ok()).await, "nobody answers there any more");
}
