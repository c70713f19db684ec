//! What the walk, the rewrite and the checks do with texts that are rare or hostile. The corpus of whole
//! manifests is in `tests/manifests/`.

mod mutation;

use std::time::{Duration, Instant};

use super::document::{Document, Documents, Id, Value};
use super::{Origin, check_applyable, if_not_present, images, objects, survey};

/// A Deployment whose only container has `container`.
fn deployment(container: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d, namespace: n}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: c\n{container}\n"
    )
}

/// What `text` means, aliases and merge keys resolved, with the policies as `policy` tells them.
fn meaning(text: &str, policy: &dyn Fn(&str) -> String) -> String {
    fn tell(document: &Document<'_>, id: Id, policy: &dyn Fn(&str) -> String, told: &mut String) {
        match &document.node(id).value {
            Value::Scalar(text, _) => *told += &format!("{text:?} "),
            Value::Sequence(items) => {
                *told += "[";
                items.iter().for_each(|item| tell(document, *item, policy, told));
                *told += "]";
            }
            Value::Mapping(pairs) => {
                *told += "{";
                for (key, value) in pairs {
                    tell(document, *key, policy, told);
                    let is_key =
                        matches!(&document.node(*key).value, Value::Scalar(key, _) if key == "imagePullPolicy");
                    match &document.node(*value).value {
                        Value::Scalar(text, _) if is_key => *told += &policy(text),
                        _ => tell(document, *value, policy, told),
                    }
                }
                *told += "}";
            }
        }
    }
    let mut documents = Documents::new(text).unwrap();
    let mut told = String::new();
    while let Some(document) = documents.next().unwrap() {
        tell(&document, Document::ROOT, policy, &mut told);
        told += "\n";
    }
    told
}

/// A policy after the rewrite: what was written is `IfNotPresent`, in a block scalar with its line end.
fn rewritten(policy: &str) -> String {
    match policy.trim() {
        "" if policy.is_empty() => String::new(),
        word => policy.replacen(word, "IfNotPresent", 1).trim().to_owned(),
    }
}

/// Asserts that the rewrite of `text` changes the policies alone, and that a second one changes nothing.
fn assert_rewrite(text: &str) -> Option<String> {
    let once = if_not_present(text).ok()?;
    assert_eq!(if_not_present(&once).unwrap(), once, "{text:?}");
    // A quoted nothing becomes IfNotPresent, an unwritten one stays: both are nothing here.
    let before = meaning(text, &|policy| rewritten(policy).replace("IfNotPresent", ""));
    let after = meaning(&once, &|policy| {
        assert!(policy.trim().is_empty() || policy.trim() == "IfNotPresent", "{policy:?} in {once:?}");
        String::new()
    });
    assert_eq!(before, after, "{text:?}");
    Some(once)
}

#[test]
fn policies_are_rewritten_and_nothing_else() {
    for (given, want) in [
        ("imagePullPolicy: Always\n", "imagePullPolicy: IfNotPresent\n"),
        ("imagePullPolicy:   Never  # why\r\nb: c\r\n", "imagePullPolicy:   IfNotPresent  # why\r\nb: c\r\n"),
        ("imagePullPolicy: 'Always' # '\n", "imagePullPolicy: 'IfNotPresent' # '\n"),
        ("imagePullPolicy: \"Al\\\"ways\" # \"\n", "imagePullPolicy: \"IfNotPresent\" # \"\n"),
        ("{\"imagePullPolicy\":\"Always\",\"a\":1}", "{\"imagePullPolicy\":\"IfNotPresent\",\"a\":1}"),
        ("a: [{imagePullPolicy: Always}]", "a: [{imagePullPolicy: IfNotPresent}]"),
        ("größe: é\nimagePullPolicy: Always", "größe: é\nimagePullPolicy: IfNotPresent"),
        ("\u{feff}imagePullPolicy: Always", "\u{feff}imagePullPolicy: IfNotPresent"),
        ("imagePullPolicy:\nb: c\n", "imagePullPolicy:\nb: c\n"),
        ("imagePullPolicy: &a !!str Always\n", "imagePullPolicy: &a !!str IfNotPresent\n"),
        ("imagePullPolicy: &a\n  Always\n", "imagePullPolicy: &a\n  IfNotPresent\n"),
        ("imagePullPolicy: &Always |\n  Always\n", "imagePullPolicy: &Always |\n  IfNotPresent\n"),
        ("imagePullPolicy: >-\n\n  Always\n\nb: c", "imagePullPolicy: >-\n\n  IfNotPresent\n\nb: c"),
        ("a: &a Always\nimagePullPolicy: *a\nb: *a\n", "a: &a Always\nimagePullPolicy: IfNotPresent\nb: *a\n"),
        ("imagePullPolicy: {type: string}\n", "imagePullPolicy: {type: string}\n"),
        ("imagePullPolicy: [Always]\n", "imagePullPolicy: [Always]\n"),
        ("a: imagePullPolicy\nb: [imagePullPolicy, Always]\n", "a: imagePullPolicy\nb: [imagePullPolicy, Always]\n"),
        ("# imagePullPolicy: Always\n", "# imagePullPolicy: Always\n"),
        ("a: |\n  imagePullPolicy: Always\n", "a: |\n  imagePullPolicy: Always\n"),
        ("imagePullPolicy: \"\"", "imagePullPolicy: \"IfNotPresent\""),
        ("", ""),
    ] {
        assert_eq!(assert_rewrite(given).as_deref(), Some(want), "{given:?}");
    }
    for (given, want) in [
        ("imagePullPolicy: &a Always\nrestartPolicy: *a\n", "line 2, column 16: the anchor of an imagePullPolicy"),
        ("imagePullPolicy: |\n  Al\n  ways\n", "several words"),
    ] {
        let failure = if_not_present(given).unwrap_err();
        assert!(failure.what.contains(want), "{}", failure.what);
    }
}

#[test]
fn a_workload_whose_image_is_none_is_refused_at_its_line() {
    for (image, why) in [
        (
            "{{ .Values.image }}",
            "line 9, column 16: Deployment n/d, spec.template.spec.containers[0].image: the image is no text",
        ),
        ("\"{{ .Values.image }}\"", "white space"),
        ("<image>", "`<image>` is no image reference"),
        ("Quay.io/Calico/node:v3", "upper-case"),
        ("${IMAGE}", "is no image reference"),
        ("\"busybox \"", "white space"),
        ("|\n          busybox", "white space"),
        ("[busybox]", "no text"),
        ("\"\"", "is empty"),
        ("\"a\\u001b[2J\"", "`a\\u{1b}[2J`"),
    ] {
        let failure = images(&deployment(&format!("        image: {image}"))).unwrap_err();
        assert_eq!(failure.code, bootstrap::failure::Code::ContentInvalid);
        assert!(failure.what.starts_with("line ") && failure.what.contains(why), "{image}: {}", failure.what);
    }
    let lacking = survey(&deployment("        args: []")).unwrap();
    assert_eq!((lacking.references.len(), lacking.unclear.len(), lacking.unclear[0].line), (0, 1, 8));
}

#[test]
fn texts_that_are_no_yaml_are_refused_at_their_line() {
    for (text, place) in [
        ("a: b\nc: d\n\te: f\n", "line 2"),
        ("a:\n\t- b\n", "line 2, column 2"),
        ("a: b: c\n", "line 1, column 5"),
        ("a: *nowhere\n", "line 1, column 4"),
        ("a: &a 1\n---\nb: *a\n", "line 3, column 4: an alias for an anchor of another document"),
        ("a: &a [*a]\n", "line 1, column 8: an alias inside what it stands for"),
        ("a: [b\n", "line 2"),
        ("a: \"b\n", "line 1, column 4"),
        ("a\0b", "line 1"),
    ] {
        let failure = images(text).unwrap_err();
        assert!(failure.what.starts_with(place), "{text:?}: {}", failure.what);
        assert!(if_not_present(text).is_err() && objects(text).is_err(), "{text:?}");
    }
}

#[test]
fn of_equal_keys_and_merged_ones_the_last_counts() {
    for (container, want) in [
        ("{image: first:1, image: last:1}", "last:1"),
        ("{image: own:1, <<: {image: merged:1}}", "merged:1"),
        ("{<<: {image: merged:1}, image: own:1}", "own:1"),
        ("{<<: [{image: m1:1}, {image: m2:1}]}", "m1:1"),
        ("{<<: {<<: {image: deep:1}}}", "deep:1"),
        ("{\"<<\": {image: quoted:1}, image: own:1}", "own:1"),
    ] {
        let text = format!("apiVersion: v1\nkind: Pod\nspec: {{containers: [{container}]}}\n");
        let found: Vec<String> = images(&text).unwrap().into_iter().map(|found| found.image).collect();
        assert_eq!(found, [want], "{container}");
    }
}

#[test]
fn json_may_be_indented_by_tabs() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"spec\": {\n\t\t\"containers\": [\n\t\t\t{ \"image\": \"a/b:1\" }\n\t\t]\n\t}\n}\n";
    let found = images(text).unwrap();
    assert_eq!((found[0].image.as_str(), found[0].line), ("a/b:1", 6));
}

#[test]
fn always_pulling_is_told() {
    for (image, policy, want) in [
        ("busybox", "", true),
        ("localhost:5000/busybox", "", true),
        ("busybox:latest", "", true),
        ("busybox:latest", "imagePullPolicy: IfNotPresent", false),
        ("busybox:1", "", false),
        ("busybox:1", "imagePullPolicy: Always", true),
        ("busybox:1", "imagePullPolicy: Never", false),
        ("busybox:1", "imagePullPolicy: null", false),
    ] {
        let found = images(&deployment(&format!("        image: {image}\n        {policy}"))).unwrap();
        assert_eq!((found[0].pulls_always(), found[0].origin), (want, Origin::Container), "{image} {policy}");
    }
}

#[test]
fn objects_are_told_with_their_lines() {
    let text = "# Source: x\n---\n---\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: a, namespace: b}\n---\n\
        apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata: {name: c}\n- {kind: Pod, apiVersion: v1}\n--- 5\n";
    let found = objects(text).unwrap();
    let told: Vec<_> =
        found.iter().map(|o| (o.line, o.api_version.as_str(), o.kind.as_str(), o.name.as_str())).collect();
    assert_eq!(
        told,
        [(4, "v1", "ConfigMap", "a"), (11, "apps/v1", "Deployment", "c"), (12, "v1", "Pod", ""), (13, "", "", "")]
    );
    assert_eq!(found[0].namespace, "b");
}

#[test]
fn what_kubectl_does_not_apply_is_named() {
    let deployment = deployment("        image: busybox");
    for (text, why, remedy) in [
        (
            "apiVersion: v2\nname: kubernetes-dashboard\nversion: 7.0.0\n",
            "line 1, column 1: is the Chart.yaml of a Helm chart",
            "helm template",
        ),
        ("replicaCount: 1\nimage:\n  repository: a\n  tag: b\n", "values.yaml", "helm template"),
        ("apiVersion: v1\nentries: {}\n", "index of a Helm repository", "helm template"),
        (
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n",
            "is a kustomization",
            "kubectl kustomize",
        ),
        ("resources:\n- a.yaml\n", "is it a kustomization?", "kubectl kustomize"),
        ("services: {a: {image: b}}", "compose file", "helm"),
        ("404: Not Found", "error message", "URL"),
        ("{\"message\": \"Not Found\", \"status\": \"404\"}", "error message", "URL"),
        ("<!DOCTYPE html>\n<html></html>", "is an HTML page", "error page"),
        ("Not found.", "is no Kubernetes object", "kubectl apply"),
        ("# only\n---\n# comments\n", "holds no Kubernetes object", "kubectl apply"),
        ("\n", "is empty", "error page"),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Values.name }}-x\n", "line 4", "helm template"),
        ("{{- if .Values.on }}\napiVersion: v1\n{{- end }}\n", "line ", "helm template"),
        (
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n",
            "no object of the cluster",
            "kubectl apply",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: a}\n", "no metadata.name", "kubectl apply"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "has no kind", "helm"),
        ("kind: Pod\nmetadata: {name: a}\n", "has no apiVersion", "helm"),
    ] {
        let failure = check_applyable("dashboard.yaml", text).unwrap_err();
        assert!(failure.what.starts_with("dashboard.yaml"), "{}", failure.what);
        assert!(failure.what.contains(why) && failure.remedy().contains(remedy), "{text}: {failure:?}");
        // Behind a good document it is no better.
        if !why.contains("empty") && !why.contains("holds no") {
            check_applyable("dashboard.yaml", &format!("{deployment}---\n{text}")).unwrap_err();
        }
    }
    check_applyable("a", &deployment).unwrap();
    check_applyable(
        "a",
        "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Namespace, metadata: {name: n}}]\n",
    )
    .unwrap();
}

#[test]
fn hostile_texts_end_soon() {
    let bomb = |depth: usize, wide: usize, leaf: &str| {
        let mut text = format!("a0: &a0 {leaf}\n");
        for level in 1..depth {
            let below = vec![format!("*a{}", level - 1); wide].join(",");
            text += &format!("a{level}: &a{level} [{below}]\n");
        }
        text
    };
    let object = |spec: &str| format!("apiVersion: example.org/v1\nkind: X\n{spec}\n");
    let chain: String = (1..3000).map(|level| format!("a{level}: &a{level} {{b: *a{}}}\n", level - 1)).collect();
    let merges: String = (1..40).map(|n| format!("a{n}: &a{n} {{<<: [*a{0}, *a{0}]}}\n", n - 1)).collect();
    let chained: String = (1..3000).map(|n| format!("a{n}: &a{n} {{<<: *a{}}}\n", n - 1)).collect();
    let lists: String = (1..9)
        .map(|n| format!("a{n}: &a{n} {{kind: List, items: [{}]}}\n", vec![format!("*a{}", n - 1); 10].join(",")))
        .collect();
    for (name, text, refused) in [
        ("alias bomb", object(&bomb(12, 10, "[x]")), true),
        ("image bomb", object(&bomb(9, 10, "{image: 'a/b:c'}")), true),
        ("alias chain", object(&format!("a0: &a0 {{}}\n{chain}")), true),
        ("merge bomb", object(&format!("a0: &a0 {{x: y}}\n{merges}")), true),
        ("merge chain", object(&format!("a0: &a0 {{x: y}}\n{chained}")), true),
        ("list bomb", format!("kind: List\na0: &a0 {{kind: Pod}}\n{lists}items: [*a8]\n"), true),
        ("flow depth", "[".repeat(100_000), true),
        ("map depth", "{a: ".repeat(100_000), true),
        ("block depth", "- ".repeat(100_000), true),
        ("key depth", "? ".repeat(100_000), true),
        ("indentation", (0..1000).map(|n| " ".repeat(n) + "a:\n").collect(), true),
        ("too long", " ".repeat(super::MAX_TEXT + 1), true),
        ("too many marks", ",".repeat(super::MAX_MARKS + 1), true),
        ("flow entries", object(&format!("a: [{}]", "a,".repeat(50_000))), false),
        ("long key", object(&format!("{}: {{image: 'a/b:c'}}", "k".repeat(900))), false),
        ("long line", object(&format!("a: {}", "x".repeat(500_000))), false),
        ("many documents", "---\n".repeat(20_000), false),
        ("many lines", object(&"# x\n".repeat(50_000)), false),
        ("quotes", object(&format!("a: '{}'", "''".repeat(100_000))), false),
        ("block text", object(&format!("a: |\n{}", "  x\n".repeat(30_000))), false),
        ("spaces", object(&format!("a: {}b", " ".repeat(300_000))), false),
        ("plain lines", object(&format!("a: x\n{}", "  y\n".repeat(30_000))), false),
    ] {
        let start = Instant::now();
        let found = survey(&text).map(|found| found.references.len());
        assert_eq!(found.is_err(), refused, "{name}: {found:?}");
        if let (Ok(_), Err(failure)) = (objects(&text), if_not_present(&text)) {
            panic!("{name}: {}", failure.what);
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{name} took {:?}", start.elapsed());
    }
}
