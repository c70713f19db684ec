//! Registries: real pulls by the CRI, through the rendered files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bootstrap::node_spec::{Proxy, Registry, Runtime};
use bootstrap::secret::Secret;
use cks_tests::images;
use cks_tests::netns::Netns;
use cks_tests::registry;
use cks_tests::tokens::FILLER;

use crate::VERSIONS;
use crate::bed::{Machine, pem};

const IMAGE: &str = "registry.k8s.io/pause:3.10";
const HOST: &str = "10.1.1.1:5000";

fn filled(registry: registry::Registry) -> registry::Registry {
    let directory = cks_tests::scratch("image").unwrap();
    let archive = images::pause(IMAGE).unwrap().archive(images::Format::DockerSave, directory.path()).unwrap();
    registry.fill_from_archive(&archive, IMAGE).unwrap();
    registry
}

fn runtime(registry: Registry) -> Runtime {
    Runtime { registries: vec![registry], proxy: None }
}

fn named(host: &str) -> Registry {
    Registry { host: host.to_owned(), ..Registry::default() }
}

fn at(host: &str, endpoints: &[&str]) -> Registry {
    Registry { endpoints: endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(), ..named(host) }
}

#[test]
fn a_mirror_is_asked_instead_of_the_registry() {
    let netns = Netns::new().unwrap();
    let _registry = filled(registry::Registry::plain(&netns).unwrap());
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        machine.planned();
        machine.apply(&Runtime::default()).unwrap();
        assert!(machine.pull(IMAGE).is_err(), "without a mirror nobody is reached");
        let restarts = machine.restarts();
        for mirror in [
            at("registry.k8s.io", &["http://10.1.1.1:5000/v2/registry.k8s.io"]),
            // The first one does not listen.
            at("registry.k8s.io", &["http://10.1.1.1:5999", "http://10.1.1.1:5000/v2/registry.k8s.io"]),
            at("_default", &["http://10.1.1.1:5000/v2/registry.k8s.io"]),
        ] {
            machine.apply(&runtime(mirror.clone())).unwrap();
            machine.pull(IMAGE).unwrap_or_else(|e| panic!("{version:?}, {mirror:?}: {e}"));
        }
        assert_eq!(machine.restarts(), restarts, "hosts are read at each pull");
        machine.apply(&Runtime::default()).unwrap();
        assert!(machine.pull(IMAGE).is_err(), "the mirror is gone with the wish");
        assert!(!machine.at("etc/containerd/certs.d/_default").exists());
    }
}

#[test]
fn a_private_authority_is_trusted_where_it_is_told() {
    let netns = Netns::new().unwrap();
    let registry = filled(registry::Registry::guarded(&netns).unwrap());
    let authority = pem(&registry.authority.as_ref().unwrap().certificate);
    let image = format!("{HOST}/{IMAGE}");
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        machine.planned();
        machine.apply(&Runtime::default()).unwrap();
        let refused = machine.pull(&image).unwrap_err();
        assert!(refused.contains("x509") || refused.contains("certificate"), "{refused}");
        for good in [
            Registry { authority: Some(authority.clone()), ..named(HOST) },
            Registry { insecure: true, ..named(HOST) },
            Registry { authority: Some(authority.clone()), ..at("other.example", &["https://10.1.1.1:5000"]) },
        ] {
            machine.apply(&runtime(good.clone())).unwrap();
            let image = image.replace(HOST, &good.host);
            machine.pull(&image).unwrap_or_else(|e| panic!("{version:?}, {good:?}: {e}"));
        }
    }
}

#[test]
fn passwords_and_client_certificates_open_a_private_registry() {
    let netns = Netns::new().unwrap();
    let registry = filled(registry::Registry::private(&netns).unwrap());
    let authority = &registry.authority.as_ref().unwrap().certificate;
    let beside = |name: &str| pem(&authority.with_file_name(name));
    let whole = Registry {
        authority: Some(pem(authority)),
        client_certificate: Some(beside("client.cert")),
        client_key: Some(Secret::new(beside("client.key"))),
        username: Some(FILLER.0.to_owned()),
        password: Some(Secret::new(FILLER.1)),
        ..named(HOST)
    };
    let image = format!("{HOST}/{IMAGE}");
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        machine.planned();
        machine.apply(&runtime(whole.clone())).unwrap();
        machine.pull(&image).unwrap_or_else(|e| panic!("{version:?}: {e}\n{}", machine.log()));
        for wrong in [
            Registry { password: Some(Secret::new("guessed")), ..whole.clone() },
            Registry { username: None, password: None, ..whole.clone() },
            Registry { client_certificate: None, client_key: None, ..whole.clone() },
        ] {
            machine.apply(&runtime(wrong.clone())).unwrap();
            assert!(machine.pull(&image).is_err(), "{version:?}, {wrong:?}");
        }
        let mirror = Registry {
            endpoints: vec![format!("https://{HOST}/v2/registry.k8s.io")],
            host: "registry.k8s.io".to_owned(),
            ..whole.clone()
        };
        machine.apply(&runtime(mirror)).unwrap();
        machine.pull(IMAGE).unwrap_or_else(|e| panic!("{version:?}, as mirror: {e}"));
        nothing_is_told(&machine);
    }
}

/// The password is in one file, for root alone, and in no log or status.
fn nothing_is_told(machine: &Machine) {
    let holding = |directory: &Path| {
        let found = cks_tests::process::Command::new("grep").args(["-rlF", FILLER.1]).arg(directory).output().unwrap();
        found.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let files = holding(&machine.at("etc"));
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600, "{files:?}");
    assert!(!machine.log().contains(FILLER.1) && holding(&machine.at("run")).is_empty());
    assert!(!format!("{:?}", machine.board.snapshot()).contains(FILLER.1));
}

/// No proxy listens, so a pull that needs one fails; the registry itself is reached without.
#[test]
fn a_proxy_is_asked_but_for_those_that_need_none() {
    let netns = Netns::new().unwrap();
    let _registry = filled(registry::Registry::plain(&netns).unwrap());
    for version in VERSIONS {
        let machine = Machine::new(version, &netns, None);
        machine.planned();
        let proxied = |no_proxy: &[&str]| Runtime {
            proxy: Some(Proxy {
                http: Some(Secret::new("http://u:hunter2@127.0.0.1:9")),
                https: None,
                no_proxy: no_proxy.iter().map(|&host| host.to_owned()).collect(),
            }),
            ..runtime(at("registry.k8s.io", &["http://10.1.1.1:5000/v2/registry.k8s.io"]))
        };
        machine.apply(&proxied(&[])).unwrap();
        let refused = machine.pull(IMAGE).unwrap_err();
        assert!(refused.contains("proxy"), "{refused}");
        let restarts = machine.restarts();
        machine.apply(&proxied(&["10.1.1.1"])).unwrap();
        assert_eq!(machine.restarts(), restarts + 1, "an environment is read at the start");
        machine.pull(IMAGE).unwrap_or_else(|e| panic!("{version:?}: {e}"));
        let place = machine.at("etc/containerd/cks-proxy.env");
        assert_eq!(fs::metadata(place).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
