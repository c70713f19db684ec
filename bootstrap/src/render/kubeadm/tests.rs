use super::*;
use crate::bundle::Role;
use crate::failure::{Code, Failure};
use crate::node_spec::{Authority, CaTrust, Endpoint, ExternalEtcd, Init, Join, NodeSpec, Token};

fn init() -> Init {
    Init { token: Token::parse("abcdef.0123456789abcdef").ok(), ..Init::default() }
}

fn join() -> Join {
    Join {
        endpoint: Endpoint::parse("10.1.1.5").unwrap(),
        token: Token::parse("abcdef.0123456789abcdef").unwrap(),
        certificate_key: None,
        trust: CaTrust::TokenOnly,
    }
}

fn spec(role: Role) -> NodeSpec {
    NodeSpec::new(role, "n1", None, None).unwrap()
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn address() -> IpAddr {
    IpAddr::from([10, 1, 1, 2])
}

fn joined(join: &Join, hashes: &[String]) -> Result<String, Failure> {
    let version = version("v1.34.1");
    let context = Context { ca_hashes: hashes, ..Context::new(&version, address()) };
    join_config(&spec(Role::Worker), join, &context)
}

#[test]
fn the_authority_goes_unverified_only_where_nobody_can_pin_it() {
    let (told, found) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
    let pinned = |hashes: &[&String]| Join {
        trust: CaTrust::Pinned(hashes.iter().map(|hash| (*hash).clone()).collect()),
        ..join()
    };
    let text = joined(&join(), &[]).unwrap();
    assert!(text.contains("unsafeSkipCAVerification: true") && !text.contains("caCertHashes"), "{text}");
    for (join, found, want) in [(join(), vec![found.clone()], &found), (pinned(&[&told]), vec![found.clone()], &told)] {
        let text = joined(&join, &found).unwrap();
        assert!(text.contains(want.as_str()) && !text.contains("unsafe"), "{text}");
        assert_eq!(text.matches("sha256:").count(), 1, "{text}");
    }
    for hash in [String::new(), "sha256:".to_owned(), told.to_uppercase(), told.replace("sha256", "sha512")] {
        assert_eq!(joined(&pinned(&[&hash]), &[]).unwrap_err().code, Code::ConfigInvalid, "{hash}");
    }
    assert_eq!(joined(&pinned(&[]), &[]).unwrap_err().code, Code::ConfigInvalid);
}

#[test]
fn a_version_is_always_named() {
    let bundle = version("v1.34.1+build");
    for (wish, want) in [(None, "v1.34.1"), (Some("1.34.0"), "v1.34.0"), (Some("v1.33.2"), "v1.33.2")] {
        let init = Init { kubernetes_version: wish.map(str::to_owned), ..init() };
        let text = init_config(&spec(Role::ControlPlane), &init, &Context::new(&bundle, address())).unwrap();
        assert!(text.contains(&format!("kubernetesVersion: {want}\n")), "{text}");
    }
    let wrong = Init { kubernetes_version: Some("stable".to_owned()), ..init() };
    let failure = init_config(&spec(Role::ControlPlane), &wrong, &Context::new(&bundle, address())).unwrap_err();
    assert!(failure.what.contains("stable"), "{}", failure.what);
}

#[test]
fn the_wish_counts_more_than_the_bundle() {
    let version = version("v1.34.1");
    let arguments = ["--pod-network-cidr=10.244.0.0/16", "--service-cidr=10.97.0.0/16", "--skip-phases=a,b"];
    let arguments = arguments.map(str::to_owned);
    let context = Context { arguments: &arguments, ..Context::new(&version, address()) };
    let wish = Init { pod_cidr: "10.9.0.0/16".parse().ok(), skip_phases: vec!["b".to_owned()], ..init() };
    let text = init_config(&spec(Role::ControlPlane), &wish, &context).unwrap();
    assert!(
        text.contains("podSubnet: \"10.9.0.0/16\"\n") && text.contains("serviceSubnet: \"10.97.0.0/16\""),
        "{text}"
    );
    assert!(text.contains("skipPhases:\n  - b\n  - a\n"), "{text}");
}

#[test]
fn arguments_that_no_configuration_has_are_refused_by_name() {
    for argument in [
        "--token=abcdef.0123456789abcdef",
        "--kubernetes-version=v1.2.3",
        "--v=5",
        "--apiserver-extra-args=a=b",
        "--pod-network-cidr",
        "--pod-network-cidr=all",
        "--pod-network-cidr=10.0.0.0/8,10.0.0.0/9,10.0.0.0/10",
        "--skip-phases=",
        "--feature-gates=A",
        "--feature-gates=A=perhaps",
        "--image-repository=a\"b",
        "init",
    ] {
        let failure = Arguments::parse(&[argument.to_owned()]).unwrap_err();
        assert_eq!(failure.code, Code::ManifestInvalid);
        assert!(failure.what.contains(argument.split('=').next().unwrap()), "{}", failure.what);
    }
    let twice = ["--service-cidr=10.0.0.0/16", "--service-cidr=10.1.0.0/16"].map(str::to_owned);
    assert_eq!(Arguments::parse(&twice).unwrap().service_cidr.as_deref(), Some("10.1.0.0/16"), "the last one counts");
    let good = ["--feature-gates=A=true,B=false", "--pod-network-cidr=10.0.0.0/16,fd00::/48", "--upload-certs"];
    let good = Arguments::parse(&good.map(str::to_owned)).unwrap();
    assert_eq!(good.feature_gates, [("A".to_owned(), true), ("B".to_owned(), false)]);
}

#[test]
fn etcd_is_spoken_to_in_plain_only_where_it_has_no_authority() {
    let version = version("v1.34.1");
    let with = |endpoint: &str, tls: bool| {
        let authority = tls.then(|| Authority { certificate: String::new(), key: None });
        let etcd = Some(ExternalEtcd { endpoints: vec![endpoint.to_owned()], authority });
        init_config(&spec(Role::ControlPlane), &Init { etcd, ..init() }, &Context::new(&version, address()))
    };
    assert!(with("https://10.1.1.9:2379", true).unwrap().contains(&format!("caFile: {ETCD_CA}\n")));
    assert!(!with("http://10.1.1.9:2379", false).unwrap().contains("File"));
    assert_eq!(with("http://10.1.1.9:2379", true).unwrap_err().code, Code::ConfigInvalid);
    assert_eq!(with("ftp://10.1.1.9", false).unwrap_err().code, Code::ConfigInvalid);
}

#[test]
fn each_kubeadm_gets_the_version_that_it_reads() {
    for (text, api) in
        [("v1.29.0", "v1beta3"), ("v1.30.9", "v1beta3"), ("v1.31.0-rc.0", "v1beta4"), ("v1.37.0", "v1beta4")]
    {
        let version = version(text);
        let plain = Context::new(&version, address());
        let context = Context { allow_cgroup_v1: true, ..plain };
        let init = init_config(&spec(Role::ControlPlane), &init(), &context).unwrap();
        let join = join_config(&spec(Role::Worker), &join(), &context).unwrap();
        assert!(init.contains(&format!("apiVersion: kubeadm.k8s.io/{api}\nkind: InitConfiguration")), "{init}");
        assert!(join.contains(&format!("apiVersion: kubeadm.k8s.io/{api}\nkind: JoinConfiguration")), "{join}");
        assert_eq!(init.contains("failCgroupV1"), api == "v1beta4");
    }
}

#[test]
fn hostile_texts_stay_strings() {
    let version = version("v1.34.1");
    let evil = "x\"\n---\nkind: Secret\n# ";
    let wish = Init { certificate_sans: vec![evil.to_owned()], skip_phases: vec![evil.to_owned()], ..init() };
    let context = Context { patches: Some(evil), cri_socket: evil, ..Context::new(&version, address()) };
    let text = init_config(&spec(Role::ControlPlane), &wish, &context).unwrap();
    assert_eq!(text.matches("\n---\n").count(), 2, "{text}");
    assert!(!text.lines().any(|line| line.starts_with("kind: Secret")), "{text}");
}
