use super::*;

const FULL: &str = r#"
[mirrors]
"https://dl.k8s.io/" = "http://10.0.0.1/dl/"
"https://dl.k8s.io/release/" = "http://10.0.0.2/"

[registries."registry.k8s.io"]
mirror = "https://host:5000/k8s"
ca = "mirror.pem"
user = "me"
password-file = "/secret/pw"

[registries."quay.io"]
mirror = "http://host:5001"
fallback = false

[registries."plain:5000"]
insecure = true

[http]
proxy = "http://me:hidden@proxy:3128"
no-proxy = "localhost"
ca = ["a.pem", "/b.pem"]
retries = 2
timeout-seconds = 7
parallel = 2
"#;

fn full() -> Access {
    Access::parse(FULL, Path::new("/etc/cks")).unwrap()
}

#[test]
fn the_longest_prefix_wins() {
    let access = full();
    for (url, want) in [
        ("https://dl.k8s.io/v1/kubelet?a=b", "http://10.0.0.1/dl/v1/kubelet?a=b"),
        ("https://dl.k8s.io/release/v1/kubelet", "http://10.0.0.2/v1/kubelet"),
        ("https://dl.k8s.io.evil.net/x", "https://dl.k8s.io.evil.net/x"),
        ("http://dl.k8s.io/x", "http://dl.k8s.io/x"),
    ] {
        assert_eq!(access.mirrored(&Url::parse(url).unwrap()).as_str(), want);
    }
}

#[test]
fn registries_have_their_endpoints_in_order() {
    let access = full();
    let bases = |host: &str| -> Vec<String> {
        access.endpoints(host, "a/b").iter().map(|e| format!("{}v2/{}", e.base, e.prefix)).collect()
    };
    assert_eq!(bases("registry.k8s.io"), ["https://host:5000/v2/k8s/", "https://registry.k8s.io/v2/"]);
    assert_eq!(bases("quay.io"), ["http://host:5001/v2/"]);
    assert_eq!(bases("plain:5000"), ["http://plain:5000/v2/"]);
    assert_eq!(bases("docker.io"), ["https://registry-1.docker.io/v2/"]);
    let endpoints = access.endpoints("registry.k8s.io", "pause");
    assert_eq!(endpoints[0].authority.as_deref(), Some(Path::new("/etc/cks/mirror.pem")));
    assert_eq!(endpoints[1].authority, None, "the mirror's CA is not the registry's");
    assert_eq!(access.authorities(), [PathBuf::from("/etc/cks/a.pem"), PathBuf::from("/b.pem")]);
    assert_eq!(access.patience().silence, Duration::from_secs(7));
}

#[test]
fn a_password_goes_to_the_mirror_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pw"), "hidden\n").unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, FULL.replace("/secret/pw", "pw")).unwrap();
    let access = Access::read(&config).unwrap();
    let endpoints = access.endpoints("registry.k8s.io", "pause");
    assert_eq!(endpoints[0].credentials, Some(Credentials::Basic("me".to_owned(), Secret::new("hidden"))));
    assert_eq!(endpoints[1].credentials, None);
    let shown = format!("{access:?} {endpoints:?}");
    assert!(!shown.contains("hidden") && shown.contains("proxy:3128"), "{shown}");
}

#[test]
fn wrong_settings_are_named() {
    for (text, want) in [
        ("x = 1", "unknown field `x`"),
        ("[http]\nprxy = 1", "unknown field `prxy`"),
        ("[http]\nproxy = \"proxy:3128\"", "http.proxy: is no"),
        ("[http]\nparallel = 0", "http.parallel: 0"),
        ("[http]\ntimeout-seconds = 0", "http.timeout-seconds"),
        ("[mirrors]\n\"https://a.org/x\" = \"http://b/\"", "mirrors: https://a.org/x does not end in /"),
        ("[mirrors]\n\"https://a.org/\" = \"ftp://u:hidden@b/\"", "mirrors.\"https://a.org/\": ftp://b/ is no http"),
        ("[registries.\"a b\"]", "registries.\"a b\": is no host"),
        ("[registries.a]\nmirror = \"b\"", "registries.\"a\".mirror: is no http"),
        ("[registries.a]\nmirror = \"http://u:hidden@b\"", "registries.\"a\".mirror: has a user"),
        ("[registries.a]\nfallback = true", "registries.\"a\".fallback"),
        ("[registries.a]\ninsecure = true\nmirror = \"http://b\"", "registries.\"a\".insecure"),
        ("[registries.a]\nuser = \"u\"", "registries.\"a\": user and password-file"),
        ("[registries.a]\npassword = \"hidden\"", "unknown field `password`"),
    ] {
        let failure = Access::parse(text, Path::new("")).unwrap_err();
        assert!(failure.what.contains(want), "{text}: {failure}");
        assert_eq!(failure.code, bootstrap::failure::Code::ConfigInvalid);
        assert!(!failure.what.contains("hidden"), "{failure}");
    }
    assert!(Access::read(Path::new("/nonexistent/config.toml")).unwrap_err().what.contains("/nonexistent"));
}
