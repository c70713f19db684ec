use super::*;
use crate::profile;
use crate::recipe::Recipe;
use crate::spec::{Origin, Spec};

const WEAVE: &str =
    "https://raw.githubusercontent.com/weaveworks/weave/master/prog/weave-kube/weave-daemonset-k8s-1.11.yaml";
const CALICO: &str = "https://raw.githubusercontent.com/projectcalico/calico/v3.30.0/manifests/calico.yaml";
const DASHBOARD: &str = "https://raw.githubusercontent.com/kubernetes/dashboard/v2.7.0/aio/deploy/recommended.yaml";

fn called(line: &str, release: (u32, u32)) -> Result<Translated, Failure> {
    let line = line.replace("WEAVE", WEAVE).replace("CALICO", CALICO).replace("DASH", DASHBOARD);
    let args: Vec<String> = line.split(' ').map(|arg| arg.trim_matches('\'').to_owned()).collect();
    translate(&args, release, Path::new("/here"))
}

fn recipe(translated: &Translated) -> Recipe {
    let spec = Spec::parse(&translated.spec).unwrap_or_else(|failure| panic!("{failure}\n{}", translated.spec));
    Recipe::of(&spec, &profile::load(&spec, |_| panic!("no file")).unwrap()).unwrap()
}

/// A call, its release, the ISO's name, the versions of the recipe, and a part of each warning.
type Case = (&'static str, (u32, u32), &'static str, &'static str, &'static [&'static str]);

#[test]
fn documented_calls_mean_what_their_authors_meant() {
    let cases: [Case; 17] = [
        // The usage line of every script, 4.14 on.
        (
            "./ 1.11.4 0.7.1 1.11.1 https://github.com/weaveworks/weave/releases/download/latest_release/weave-daemonset-k8s-1.11.yaml \
          https://raw.githubusercontent.com/kubernetes/dashboard/v1.10.0/src/deploy/recommended/kubernetes-dashboard.yaml setup-v1.11.4",
            (4, 14),
            "setup-v1.11.4.iso",
            "amd64 v1.11.4 0.7.1 1.11.1",
            &["changes with time", "Weave"],
        ),
        (
            "./ 1.11.4 0.7.1 1.11.1 https://github.com/weaveworks/weave/releases/download/latest_release/weave-daemonset-k8s-1.11.yaml \
          https://raw.githubusercontent.com/kubernetes/dashboard/v1.10.0/src/deploy/recommended/kubernetes-dashboard.yaml setup-v1.11.4 amd64",
            (4, 22),
            "setup-v1.11.4-x86_64.iso",
            "amd64 v1.11.4 0.7.1 1.11.1",
            &["changes with time", "Weave"],
        ),
        // The documentation's first example, and its one for etcd (which stops with "ARCH must be").
        (
            "./ 1.27.2 1.3.0 1.27.0 WEAVE DASH setup-v1.27.2",
            (4, 20),
            "setup-v1.27.2.iso",
            "amd64 v1.27.2 1.3.0 1.27.0",
            &["changes with time", "Weave"],
        ),
        (
            "./ 1.27.2 1.3.0 1.27.0 WEAVE DASH setup-v1.27.2 3.5.1",
            (4, 21),
            "setup-v1.27.2-x86_64.iso",
            "amd64 v1.27.2 1.3.0 1.27.0 3.5.1",
            &["changes with time", "Weave", "3.5.1 is taken for ETCD_VERSION"],
        ),
        // An architecture where the name belongs.
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH aarch64 setup-v1.33.1-calico-arm64",
            (4, 22),
            "setup-v1.33.1-calico-arm64-aarch64.iso",
            "arm64 v1.33.1 1.7.1 1.33.0",
            &["aarch64 is taken for ARCH"],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH setup-v1.33.1-calico-etcd 3.5.1",
            (4, 22),
            "setup-v1.33.1-calico-etcd-x86_64.iso",
            "amd64 v1.33.1 1.7.1 1.33.0 3.5.1",
            &["3.5.1 is taken for ETCD"],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH setup-v1.33.1-calico arm64 3.5.21",
            (4, 22),
            "setup-v1.33.1-calico-aarch64.iso",
            "arm64 v1.33.1 1.7.1 1.33.0 3.5.21",
            &[],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH name 3.5.21 arm64",
            (4, 22),
            "name-aarch64.iso",
            "arm64 v1.33.1 1.7.1 1.33.0 3.5.21",
            &["3.5.21 is taken for ETCD", "arm64 is taken for ARCH"],
        ),
        // 4.23: a version of Headlamp, or the URL of before.
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO 0.40.1 name x86_64",
            (4, 23),
            "name-x86_64.iso",
            "amd64 v1.33.1 1.7.1 1.33.0",
            &[],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH name x86_64",
            (4, 23),
            "name-x86_64.iso",
            "amd64 v1.33.1 1.7.1 1.33.0",
            &["wants a version of Headlamp"],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO 0.40.1 name",
            (4, 22),
            "name-x86_64.iso",
            "amd64 v1.33.1 1.7.1 1.33.0",
            &["wants a URL here"],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO 2.7.0 name",
            (4, 23),
            "name-x86_64.iso",
            "amd64 v1.33.1 1.7.1 1.33.0",
            &["Kubernetes Dashboard 2.7.0"],
        ),
        // Names and versions with what the script adds itself, and without a name.
        (
            ". v1.33.1 v1.7.1 1.33.0 CALICO DASH setup-x86_64.iso",
            (4, 22),
            "setup-x86_64.iso",
            "amd64 v1.33.1 1.7.1 1.33.0",
            &["looked for vv1.33.1", "CNI_VERSION", "adds the ending itself"],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH",
            (4, 22),
            "setup-v1.33.1-x86_64.iso",
            "amd64 v1.33.1 1.7.1 1.33.0",
            &["BUILD_NAME is missing"],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH '' arm64",
            (4, 22),
            "setup-v1.33.1-aarch64.iso",
            "arm64 v1.33.1 1.7.1 1.33.0",
            &["BUILD_NAME is missing"],
        ),
        (
            ". 1.33.1 1.7.1 1.33.0 CALICO DASH name arm64",
            (4, 20),
            "name.iso",
            "arm64 v1.33.1 1.7.1 1.33.0",
            &["knows amd64 only"],
        ),
        // The script with Cilium.
        (
            "./ 1.35.0 1.9.0 1.35.0 cks-v1.35.0 amd64 3.6.7 1.19.0",
            (4, 23),
            "cks-v1.35.0-x86_64.iso",
            "amd64 v1.35.0 1.9.0 1.35.0 3.6.7",
            &[],
        ),
    ];
    for (line, release, iso, versions, warnings) in cases {
        let translated = called(line, release).unwrap_or_else(|failure| panic!("{line}: {failure}"));
        let recipe = recipe(&translated);
        let found = recipe.components.iter().map(|component| format!(" {}", component.version)).collect::<String>();
        assert_eq!(format!("{}{found}", recipe.arch), versions, "{line}");
        assert_eq!(translated.iso, iso, "{line}");
        assert_eq!(translated.warnings.len(), warnings.len(), "{line}: {:?}", translated.warnings);
        for (said, want) in translated.warnings.iter().zip(warnings) {
            assert!(said.contains(want), "{line}: {said:?} lacks {want:?}");
        }
    }
}

#[test]
fn each_release_adds_what_its_script_adds() {
    let manifests = |line: &str, release| {
        let recipe = recipe(&called(line, release).unwrap());
        let names = recipe.parts.iter().filter_map(|part| part.key.strip_prefix("manifests."));
        names.map(|name| name.trim_matches('"').trim_end_matches(".yaml").to_owned()).collect::<Vec<_>>().join(" ")
    };
    let line = ". 1.33.1 1.7.1 1.33.0 CALICO DASH name";
    assert_eq!(manifests(line, (4, 14)), "dashboard network");
    assert_eq!(manifests(line, (4, 19)), "autoscaler dashboard network provider");
    assert_eq!(manifests(line, (4, 22)), "autoscaler dashboard manifest network provider snapshot-crds");
    let line = line.replace("DASH", "0.40.1");
    assert_eq!(manifests(&line, (4, 23)), "autoscaler headlamp manifest network provider snapshot-crds");
}

#[test]
fn ciliums_script_renders_with_its_own_values() {
    let translated = called("./ 1.35.0 1.9.0 1.35.0 cks arm64 3.6.7 v1.19.0", NEWEST).unwrap();
    let recipe = recipe(&translated);
    let Origin::Chart(_, chart) = &recipe.part("manifests.\"network.yaml\"").unwrap().from else { panic!("no chart") };
    assert!(chart.url.as_ref().unwrap().ends_with("/cilium-1.19.0.tgz"));
    assert_eq!(chart.values["encryption"]["type"], "wireguard");
    assert_eq!(chart.values["hubble"]["tls"]["auto"]["method"], "cronJob");
}

#[test]
fn files_are_taken_from_where_the_script_was_called() {
    for (given, want) in [("file:///tmp/n.yaml", "/tmp/n.yaml"), ("n.yaml", "/here/n.yaml"), ("/n.yaml", "/n.yaml")] {
        let recipe = recipe(&called(&format!(". 1.30.9 1.6.2 1.30.1 {given} DASH a+b"), (4, 20)).unwrap());
        let from = &recipe.part("manifests.\"network.yaml\"").unwrap().from;
        assert_eq!(*from, Origin::File(want.into(), None));
    }
}

#[test]
fn calls_without_a_meaning_are_refused() {
    for (line, want) in [
        ("./ 1.33.1 1.7.1 1.33.0 CALICO", "5 arguments"),
        ("./ latest 1.7.1 1.33.0 CALICO DASH a", "KUBERNETES_VERSION"),
        ("./ 1.33.1 1.7.1 CALICO DASH 1.33.0 a", "CRICTL_VERSION"),
        ("./ 1.33.1 1.7.1 1.33.0 CALICO DASH a sparc", "argument 8: \"sparc\""),
        ("./ 1.33.1 1.7.1 1.33.0 CALICO DASH a amd64 latest", "argument 9"),
        ("./ 1.33.1 1.7.1 1.33.0 CALICO DASH a amd64 3.5.1 more", "argument 10"),
        ("./ 1.33.1 1.7.1 1.33.0 CALICO https://example.org/dashboard-7.0.tgz a", "perhaps a Helm chart"),
        ("./ 1.33.1 1.7.1 1.33.0 ftp://a/b DASH a", "neither http"),
        ("./ 1.33.1 1.7.1 1.33.0 '' DASH a", "NETWORK_YAML"),
        ("./ 1.35.0 1.9.0 1.35.0 cks amd64 3.6.7 1.19.0 more", "too many"),
    ] {
        let failure = called(line, NEWEST).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        assert!(failure.what.contains(want), "{line}: {failure}");
    }
    for (text, want) in [("4.22", Some((4, 22))), ("4.19.2", Some((4, 19))), ("4.13", None), ("5", None), ("x.y", None)]
    {
        assert_eq!(release(text), want);
    }
}
