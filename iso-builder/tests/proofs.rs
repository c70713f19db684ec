//! The rules of `cks-iso verify` about content, from an ISO, a directory and a URL alike.

use std::fs;
use std::path::Path;

use bootstrap::bundle::{Arch, Entry, MANIFEST_PATH, Manifest, layout};
use bootstrap::digest::Digest;
use serde_json::Value;

use crate::fixture::archives::{Image, docker_save, layer};
use crate::fixture::{Bed, Server, arch, by_xorriso, files_below, run};

const NETWORK: &str = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: calico, namespace: kube-system}\nspec:\n  \
    template:\n    spec:\n      containers:\n      - name: node\n        image: calico/node:v3\n        \
    imagePullPolicy: IfNotPresent\n";

/// The images that a stock cluster starts from.
pub(crate) const WHOLE: [&str; 8] = [
    "registry.k8s.io/pause:3.10",
    "registry.k8s.io/kube-apiserver:v1.33.1",
    "registry.k8s.io/kube-controller-manager:v1.33.1",
    "registry.k8s.io/kube-scheduler:v1.33.1",
    "registry.k8s.io/kube-proxy:v1.33.1",
    "registry.k8s.io/coredns/coredns:v1.12.0",
    "registry.k8s.io/etcd:3.5.21-0",
    "calico/node:v3",
];

/// A bed for `arch` whose ISO has all that a stock cluster needs; its programs are patched to be for it.
pub(crate) fn whole(of: Arch) -> Bed {
    let bed = Bed::new();
    for (path, (_, mut bytes)) in files_below(bed.dir()) {
        if bytes.starts_with(b"\x7fELF") {
            bytes[18..20].copy_from_slice(&of.elf_machine().to_le_bytes());
            bed.write(&path, bytes);
        }
    }
    let image = |reference| Image { reference, arch: of.as_str(), layers: vec![layer(reference, 9000)] };
    docker_save(&bed.path("a.tar"), &WHOLE.map(image));
    bed.write("calico.yaml", NETWORK);
    bed.write("dashboard.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: kubernetes-dashboard}\n");
    bed.edit("\n[[images]]\nfile = \"b.tar\"\n", "");
    bed.edit("[manifests]\n", "[manifests]\n\"dashboard.yaml\" = { file = \"dashboard.yaml\" }\n");
    bed.edit(&format!("arch = \"{}\"", arch()), &format!("arch = \"{of}\""));
    bed
}

/// Unpacks the bed's ISO into `tree`, changes it, and makes its manifest tell what is there then.
fn planted(bed: &Bed, change: &str) {
    if !bed.path("by-xorriso").exists() {
        by_xorriso(bed.dir(), "out.iso");
    }
    run(
        bed.dir(),
        "bash",
        &["-ec", &format!("rm -rf tree; cp -a by-xorriso tree; chmod -R u+w tree; cd tree; {change}")],
    );
    let tree = bed.path("tree");
    let mut manifest = Manifest::parse(&fs::read(tree.join(MANIFEST_PATH)).unwrap()).unwrap();
    let old = std::mem::take(&mut manifest.entries);
    for (path, (_, bytes)) in files_below(&tree).into_iter().filter(|(path, _)| path != MANIFEST_PATH) {
        let (digest, kind) = (Digest::of(&bytes), layout::kind_of(&path));
        let known =
            old.iter().find(|entry| entry.path == path || entry.sha256 == Some(digest) && !entry.members.is_empty());
        let members = known.map(|entry| entry.members.clone()).unwrap_or_default();
        let (size, roles) = (bytes.len() as u64, layout::roles_of(kind));
        manifest.entries.push(Entry { path, size, sha256: Some(digest), kind, roles, members });
    }
    fs::write(tree.join(MANIFEST_PATH), manifest.to_json().unwrap()).unwrap();
}

/// Rules and texts of what is found in `source`.
fn found(bed: &Bed, source: &str) -> Vec<(String, String)> {
    let output = bed.cks_iso(&["verify", source, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap();
    let is_error = findings.iter().any(|finding| finding["level"] == "error");
    assert_eq!(output.status.code(), Some(if is_error { 65 } else { 0 }));
    assert_eq!(report["clean"], !is_error);
    let strict = bed.cks_iso(&["verify", source, "--strict"]);
    assert_eq!(strict.status.code(), Some(if findings.is_empty() { 0 } else { 65 }));
    let lines = String::from_utf8(strict.stdout).unwrap();
    let text = |finding: &Value| finding["rule"].as_str().unwrap().to_owned();
    findings.iter().zip(lines.lines()).map(|(finding, line)| (text(finding), line.to_owned())).collect()
}

#[test]
fn each_planted_defect_is_found_by_its_rule_alone() {
    let bed = whole(arch());
    bed.build();
    assert_eq!(found(&bed, "out.iso"), []);
    let other = if arch() == Arch::Amd64 { "\\xb7\\x00" } else { "\\x3e\\x00" };
    let elf = format!("printf '{other}' | dd of=k8s/kubectl bs=1 seek=18 conv=notrunc status=none");
    for (change, rule, said) in [
        ("true", "", ""),
        ("sed -i s/node:v3/node:v4/ network.yaml", "image-missing", "network.yaml:9: DaemonSet kube-system/calico"),
        ("sed -i 's/^kind/\\tkind/' network.yaml", "manifest-yaml", "network.yaml:"),
        ("echo 'replicas: 1' > network.yaml", "manifest-yaml", "network.yaml:1: "),
        ("echo '<html>' > dashboard.yaml", "manifest-yaml", "dashboard.yaml: is an HTML page"),
        ("sed -i s/IfNotPresent/Always/ network.yaml", "pull-policy", "network.yaml:9: "),
        (
            "sed -i 's|        imageP.*|        env: [{name: X_IMAGE, value: quay.io/x}]|' network.yaml",
            "image-unclear",
            ":10: ",
        ),
        ("rm dashboard.yaml", "dashboard", "headlamp.yaml"),
        ("cp dashboard.yaml snapshot-crds.yaml", "csi-pair", "manifest.yaml"),
        ("mv etcd/*.gz etcd/etcd-linux-arm64.tar.gz", "etcd-name", "etcd/etcd-linux-amd64.tar.gz is not there"),
        ("sed -i s:/usr/bin:/usr/local/bin: kubelet.service", "unit", "kubelet.service:2: "),
        ("rm network.yaml", "stock-lacks", "network.yaml"),
        ("cp dashboard.yaml 'a b.yaml'", "name-characters", "a b.yaml"),
        ("cp dashboard.yaml .b.yaml", "name-hidden", ".b.yaml"),
        (&elf, "elf-arch", "k8s/kubectl is a program for"),
    ] {
        planted(&bed, change);
        let all = found(&bed, "tree");
        let rules: Vec<_> = all.iter().map(|(rule, _)| rule.as_str()).collect();
        assert_eq!(rules, if rule.is_empty() { vec![] } else { vec![rule] }, "{change}: {all:?}");
        assert!(all.iter().all(|(_, line)| line.starts_with(rule) && line.contains(said)), "{change}: {all:?}");
    }
}

#[test]
fn an_iso_for_the_other_architecture_is_proved() {
    let of = if arch() == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
    let bed = whole(of);
    bed.build();
    assert_eq!(found(&bed, "out.iso"), []);
    planted(&bed, "cp /usr/bin/true k8s/kubelet");
    let all = found(&bed, "tree");
    assert!(
        all.len() == 1 && all[0].1.starts_with(&format!("elf-arch: k8s/kubelet is a program for {}", arch())),
        "{all:?}"
    );
    let image = Image { reference: "quay.io/planted:1", arch: arch().as_str(), layers: vec![layer("planted", 10)] };
    docker_save(&bed.path("planted.tar"), &[image]);
    planted(&bed, "cp ../planted.tar docker/");
    let all = found(&bed, "tree");
    assert!(all.iter().any(|(rule, line)| rule == "image-arch" && line.contains("quay.io/planted:1")), "{all:?}");
}

/// Answers for all files below `root`, and for index pages as Apache writes them.
fn served(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut answers = Vec::new();
    let mut pages = std::collections::BTreeMap::<String, std::collections::BTreeSet<String>>::new();
    for (path, (_, bytes)) in files_below(root) {
        let (directory, name) =
            path.rsplit_once('/').map_or(("", path.as_str()), |(directory, name)| (directory, name));
        let page = if directory.is_empty() { "/cks-iso/".to_owned() } else { format!("/cks-iso/{directory}/") };
        pages.entry(page).or_default().insert(name.to_owned());
        if !directory.is_empty() {
            pages.entry("/cks-iso/".to_owned()).or_default().insert(format!("{directory}/"));
        }
        answers.push((format!("/cks-iso/{path}"), bytes));
    }
    for (page, names) in pages {
        let links: String = names.iter().map(|name| format!("<a href=\"{name}\">{name}</a>\n")).collect();
        let top =
            "<a href=\"?C=N;O=D\">Name</a><a href=\"/\">Parent Directory</a><a href=\"http://127.0.0.1:9/x\">x</a>";
        answers.push((page, format!("<html>{top}\n{links}").into_bytes()));
    }
    answers
}

#[test]
fn an_iso_a_directory_and_a_url_have_the_same_findings() {
    let bed = whole(arch());
    bed.build();
    let change = "sed -i s/node:v3/node:v4/ network.yaml; rm dashboard.yaml; cp cni/*.tgz cni/cni-plugins-x64.tgz";
    planted(&bed, change);
    run(
        bed.dir(),
        "bash",
        &["-ec", "echo x > tree/extra.txt; printf x >> tree/10-kubeadm.conf; rm tree/kubelet.service"],
    );
    run(bed.dir(), "genisoimage", &["-quiet", "-V", "CDROM", "-J", "-R", "-l", "-o", "tree.iso", "tree"]);
    let mut answers = served(&bed.path("tree"));
    answers.push(("/tree.iso".to_owned(), fs::read(bed.path("tree.iso")).unwrap()));
    let answers: Vec<_> = answers.iter().map(|(path, body)| (path.as_str(), "200 OK", body.clone())).collect();
    let server = Server::start(&answers);
    let of_tree = found(&bed, "tree");
    let rules: Vec<_> = of_tree.iter().map(|(rule, _)| rule.as_str()).collect();
    for rule in
        ["image-missing", "dashboard", "one-match", "file-unlisted", "entry-size", "entry-digest", "entry-missing"]
    {
        assert!(rules.contains(&rule), "{rule} in {rules:?}");
    }
    // The volume tells another manifest's digest: of an ISO alone.
    let without = |all: Vec<(String, String)>| -> Vec<_> {
        all.into_iter().filter(|(rule, _)| rule != "manifest-digest").collect()
    };
    for source in ["tree.iso", &server.url("/tree.iso"), &server.url("/cks-iso/"), &server.url("/cks-iso")] {
        assert_eq!(without(found(&bed, source)), of_tree, "{source}");
    }
    let output = bed.cks_iso(&["verify", &server.url("/nothing/")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("error[MEDIA_NOT_FOUND]: http://127.0.0.1"), "{said}");
}
