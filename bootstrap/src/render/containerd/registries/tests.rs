use toml::Table;

use super::*;

fn registry(host: &str) -> Registry {
    Registry { host: host.to_owned(), ..Registry::default() }
}

fn rendered(registries: &[Registry]) -> Result<BTreeMap<String, (String, u32)>, Failure> {
    let runtime = Runtime { registries: registries.to_vec(), proxy: None };
    let files = files(Format::V2, Some("r/pause:3.10"), CgroupDriver::Systemd, &runtime)?;
    Ok(files.into_iter().map(|file| (file.path, (file.text.reveal().to_owned(), file.mode))).collect())
}

fn hosts(registry: &Registry) -> (String, Table) {
    let files = rendered(std::slice::from_ref(registry)).unwrap();
    let (text, mode) = &files[&format!("{CERTIFICATES}/{}/hosts.toml", registry.host)];
    assert_eq!(*mode, 0o644);
    (text.clone(), text.parse().unwrap())
}

#[test]
fn endpoints_stand_for_the_registry_in_their_order() {
    let endpoints = ["https://z.example:5000/", "http://a.example", "https://h.example/v2/proxy"].map(str::to_owned);
    let mirrored = Registry { endpoints: endpoints.to_vec(), insecure: true, ..registry("docker.io") };
    let (text, table) = hosts(&mirrored);
    let nobody_else = (table["server"].as_str(), table["capabilities"].as_array().unwrap().len());
    assert_eq!(nobody_else, (Some("https://z.example:5000"), 1), "{text}");
    let places = ["z.example:5000\"]", "a.example\"]", "h.example/v2/proxy\"]"].map(|host| text.find(host).unwrap());
    assert!(places.is_sorted(), "{text}");
    let host = &table["host"];
    assert_eq!(host["https://h.example/v2/proxy"]["override_path"].as_bool(), Some(true));
    assert_eq!(host["https://z.example:5000"]["skip_verify"].as_bool(), Some(true));
    assert!(host["http://a.example"].get("skip_verify").is_none(), "{text}");
    for (name, asked) in [("r.example:5000", "https://r.example:5000"), ("docker.io", "https://registry-1.docker.io")] {
        let (text, table) = hosts(&Registry { insecure: true, ..registry(name) });
        assert_eq!(table["server"].as_str(), Some(asked));
        assert_eq!(table["host"][asked]["skip_verify"].as_bool(), Some(true), "{text}");
    }
}

#[test]
fn keys_and_passwords_are_for_root_alone() {
    let pem = "-----BEGIN CERTIFICATE-----\n";
    let whole = Registry {
        authority: Some(pem.to_owned()),
        client_certificate: Some(pem.to_owned()),
        client_key: Some(Secret::new("-----BEGIN PRIVATE KEY-----\n")),
        username: Some("us\"er".to_owned()),
        password: Some(Secret::new("pass\n[x]")),
        ..registry("r.example:5000")
    };
    let files = rendered(std::slice::from_ref(&whole)).unwrap();
    let modes: Vec<_> = files.iter().map(|(path, (_, mode))| (path.rsplit('/').next().unwrap(), *mode)).collect();
    let expected = [
        ("cks-ca.pem", 0o644),
        ("cks-client-key.pem", 0o600),
        ("cks-client.pem", 0o644),
        ("hosts.toml", 0o644),
        ("51-cks-registries.toml", 0o600),
    ];
    assert_eq!(modes, expected);
    let table: Table = files[CREDENTIALS].0.parse().unwrap();
    let cri = &table["plugins"]["io.containerd.grpc.v1.cri"];
    let auth = &cri["registry"]["configs"]["r.example:5000"]["auth"];
    assert_eq!((auth["username"].as_str(), auth["password"].as_str()), (Some("us\"er"), Some("pass\n[x]")));
    assert_eq!(cri["sandbox_image"].as_str(), Some("r/pause:3.10"), "the section is whole");
    let runtime = Runtime { registries: vec![whole], proxy: None };
    let cgroupfs = super::files(Format::V2, None, CgroupDriver::Cgroupfs, &runtime).unwrap();
    let text = cgroupfs.iter().find(|file| file.path == CREDENTIALS).unwrap().text.reveal();
    assert!(text.contains("SystemdCgroup = false\n"), "{text}");
    let shown = format!("{:?}", super::files(Format::V3, None, CgroupDriver::Systemd, &runtime));
    assert!(!shown.contains("pass") && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn a_password_goes_to_the_host_that_is_asked() {
    let with = |host: &str, endpoints: &[&str]| Registry {
        endpoints: endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(),
        username: Some("u".to_owned()),
        password: Some(Secret::new("p")),
        ..registry(host)
    };
    for (registry, asked) in [
        (with("docker.io", &[]), vec!["registry-1.docker.io"]),
        (with("docker.io", &["https://m.example:5000/v2/x", "http://N.example"]), vec!["m.example:5000", "n.example"]),
        (with("_default", &["https://m.example"]), vec!["m.example"]),
    ] {
        let files = rendered(&[registry]).unwrap();
        let table: Table = files[CREDENTIALS].0.parse().unwrap();
        let configs = table["plugins"]["io.containerd.grpc.v1.cri"]["registry"]["configs"].as_table().unwrap();
        assert_eq!(configs.keys().collect::<Vec<_>>(), asked);
    }
    let other = Registry { password: Some(Secret::new("q")), ..with("b.example", &["https://m.example"]) };
    assert!(rendered(&[with("a.example", &["https://m.example"]), other]).is_err());
}

#[test]
fn what_containerd_would_stumble_over_is_refused_by_name() {
    let secret = || Some(Secret::new("hunter2"));
    for (registry, named) in [
        (registry(""), "no HOST"),
        (registry("../x"), "no HOST"),
        (registry("a/b"), "no HOST"),
        (registry(".."), "no HOST"),
        (registry("a:99999"), "no HOST"),
        (registry("https://a"), "no HOST"),
        (registry("[x]:5000"), "no HOST"),
        (Registry { endpoints: vec!["m.example".to_owned()], ..registry("a") }, "endpoint"),
        (Registry { endpoints: vec!["https://u:p@m.example".to_owned()], ..registry("a") }, "endpoint"),
        (Registry { endpoints: vec!["https://m.example/\"x".to_owned()], ..registry("a") }, "endpoint"),
        (Registry { username: Some("u".to_owned()), ..registry("a") }, "without password"),
        (Registry { password: secret(), ..registry("a") }, "without user"),
        (registry("_default"), "all registries"),
        (Registry { client_key: secret(), ..registry("a") }, "without certificate"),
        (Registry { authority: Some("/etc/ca.pem".to_owned()), ..registry("a") }, "PEM"),
    ] {
        let failure = rendered(&[registry]).unwrap_err();
        assert!(failure.what.contains(named) && !failure.what.contains("hunter2"), "{}", failure.what);
    }
    for good in ["docker.io", "harbor.example:5000", "10.1.1.1:5000", "[fd00::1]:5000", "localhost"] {
        rendered(&[registry(good)]).unwrap();
    }
    assert!(rendered(&[registry("a.example"), registry("A.example")]).is_err());
}

#[test]
fn a_proxy_is_an_environment_that_nothing_breaks_out_of() {
    let with = |http: &str| {
        let no_proxy = vec![".example.org".to_owned(), "10.0.0.0/8".to_owned()];
        let proxy = Proxy { http: Some(Secret::new(http)), https: None, no_proxy };
        files(Format::V3, None, CgroupDriver::Systemd, &Runtime { registries: Vec::new(), proxy: Some(proxy) })
    };
    let files = with("http://u:p\"$x\\@p.example:3128").unwrap();
    assert_eq!((files[0].path.as_str(), files[0].mode), (PROXY, 0o600));
    let text = files[0].text.reveal();
    assert!(
        text.ends_with("HTTP_PROXY=\"http://u:p\\\"\\$x\\\\@p.example:3128\"\nNO_PROXY=\".example.org,10.0.0.0/8\"\n"),
        "{text}"
    );
    let failure = with("http://hunter2\nLD_PRELOAD=/x").unwrap_err();
    assert!(failure.what.contains("HTTP_PROXY") && !failure.what.contains("hunter2"), "{}", failure.what);
    let nothing = Runtime { registries: Vec::new(), proxy: Some(Proxy::default()) };
    assert_eq!(super::files(Format::V3, None, CgroupDriver::Systemd, &nothing).unwrap(), []);
}
