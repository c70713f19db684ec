use bootstrap::bundle::Role;
use rcgen::{BasicConstraints, IsCa};

use super::*;

const IDS: Ids = Ids { user: 0, group: 0 };

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    Authority { certificate, key: Some(Secret::new(key.serialize_pem())) }
}

fn spec(address: &str, authority: &Authority) -> NodeSpec {
    let mut spec = NodeSpec::new(Role::Etcd, "e1", address.parse().ok(), None).unwrap();
    spec.etcd_authority = Some(authority.clone());
    spec
}

fn host() -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path()).unwrap();
    (root, host)
}

fn file(host: &Host, name: &str) -> Vec<u8> {
    fs::read(host.path(&format!("{DIRECTORY}/{name}"))).unwrap()
}

#[test]
fn they_are_made_once_and_again_when_they_say_something_else() {
    let (_root, host) = host();
    let authority = authority("one");
    let first = spec("10.1.1.2", &authority);
    let make = |spec: &NodeSpec| of_member(&host, spec, IDS, Renew::WhenDue).unwrap();
    assert_eq!(make(&first), Purpose::OF_A_MEMBER);
    assert_eq!(make(&first), []);
    let key = file(&host, "server.key");
    // Another address: those that servers show, with the same keys.
    assert_eq!(make(&spec("10.1.1.3", &authority)), [Purpose::Server, Purpose::Peer]);
    assert_eq!(file(&host, "server.key"), key);
    let made = Certificate::of(&file(&host, "server.crt")).unwrap();
    assert!(made.addresses.contains(&"10.1.1.3".parse().unwrap()) && made.names == ["e1", "localhost"]);
    // A pair that does not fit, as a kill leaves it.
    fs::copy(host.path(&format!("{DIRECTORY}/peer.key")), host.path(&format!("{DIRECTORY}/client.key"))).unwrap();
    assert_eq!(make(&spec("10.1.1.3", &authority)), [Purpose::Client]);
    assert_eq!(of_member(&host, &first, IDS, Renew::All).unwrap(), Purpose::OF_A_MEMBER);
    assert_ne!(file(&host, "server.key"), key);
}

#[test]
fn one_in_its_last_third_is_renewed_and_keeps_its_key() {
    let (_root, host) = host();
    let authority = authority("one");
    let spec = spec("10.1.1.2", &authority);
    of_member(&host, &spec, IDS, Renew::WhenDue).unwrap();
    let key = file(&host, "peer.key");
    let aged = |left: u64| {
        let wanted = wanted(&spec, Purpose::Peer);
        let mut params = CertificateParams::new(wanted.names.clone()).unwrap();
        params.subject_alt_names.extend(wanted.addresses.iter().copied().map(SanType::IpAddress));
        let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now()).unwrap());
        params.not_before = now - Duration::from_secs(300 - left);
        params.not_after = now + Duration::from_secs(left);
        let pair = key_of(&key).unwrap();
        params.signed_by(&pair, &issuer(&authority).unwrap()).unwrap().pem()
    };
    for (left, renewed) in [(200, false), (90, true), (0, true)] {
        fs::write(host.path(&format!("{DIRECTORY}/peer.crt")), aged(left)).unwrap();
        let made = of_member(&host, &spec, IDS, Renew::WhenDue).unwrap();
        assert_eq!(made == [Purpose::Peer], renewed, "{left} s left");
        assert_eq!(file(&host, "peer.key"), key);
    }
}

#[test]
fn an_authority_is_changed_by_way_of_both() {
    let (_root, host) = host();
    let (old, new) = (authority("etcd"), authority("etcd"));
    let both = format!("{}{}", old.certificate, new.certificate);
    let with = |certificate: &str, key: &Authority| {
        let authority = Authority { certificate: certificate.to_owned(), key: key.key.clone() };
        of_member(&host, &spec("10.1.1.2", &authority), IDS, Renew::WhenDue).unwrap().len()
    };
    let steps = [with(&old.certificate, &old), with(&both, &old), with(&both, &new), with(&new.certificate, &new)];
    assert_eq!(steps, [3, 0, 3, 0]);
    assert_eq!(file(&host, "ca.crt"), new.certificate.as_bytes());
}

#[test]
fn keys_are_read_in_every_form_that_is_in_use() {
    for (algorithm, arguments) in [
        ("EC PARAMETERS before the key", "ecparam -genkey -name prime256v1"),
        ("SEC 1", "ecparam -genkey -noout -name secp384r1"),
        ("PKCS #1", "genrsa -traditional 2048"),
        ("PKCS #8", "genpkey -algorithm ed25519"),
    ] {
        // Keys of these kinds, made once by openssl with the arguments told.
        let text = KEYS.split("# ").find(|text| text.starts_with(arguments)).unwrap();
        key_of(text.as_bytes()).unwrap_or_else(|e| panic!("{algorithm}: {e}"));
    }
}

#[test]
fn a_control_plane_gets_a_certificate_without_names() {
    let (_root, host) = host();
    let authority = authority("one");
    tend_client(&host).unwrap();
    assert!(!host.path(ETCD_CA).exists());
    assert!(of_client(&host, &authority).unwrap());
    assert!(!of_client(&host, &authority).unwrap());
    assert_eq!(fs::read_to_string(host.path(ETCD_CA)).unwrap(), authority.certificate);
    let made = Certificate::of(&fs::read(host.path(ETCD_CLIENT_CERTIFICATE)).unwrap()).unwrap();
    assert!(made.names.is_empty() && made.addresses.is_empty() && made.is_of(&authority));
    let (_, mode) = files::Fingerprint::of(&host.path(ETCD_CLIENT_KEY)).unwrap();
    assert_eq!(mode, 0o600);
    // Renewed by the authority that was kept.
    fs::write(host.path(ETCD_CLIENT_CERTIFICATE), "").unwrap();
    tend_client(&host).unwrap();
    assert!(!of_client(&host, &authority).unwrap());
}

const KEYS: &str = include_str!("keys.txt");
