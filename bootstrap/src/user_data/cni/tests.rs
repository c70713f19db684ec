use super::*;
use crate::node_spec::cni::CniAction;

/// Reads `text` as the server appends it: without its first line.
fn appended(text: &str) -> (Cni, Findings) {
    let (_, rest) = text.split_once('\n').unwrap();
    let user = UserText { text: format!("\n{rest}"), before: 0, cut: true };
    let variables = jinja::variables(&crate::datasource::from_keys([("CIDR".to_owned(), "10.9.0.0/16".to_owned())]));
    let mut findings = Findings::default();
    (read(&user, Origin::Cni, Some(&variables), &mut findings), findings)
}

fn shells(cni: &Cni) -> Vec<(usize, &str)> {
    let text = |step| match step {
        &CniStep { line, action: CniAction::Shell { ref command } } => Some((line, command.as_str())),
        _ => None,
    };
    cni.steps.iter().filter_map(text).collect()
}

#[test]
fn commands_are_read_however_they_are_indented() {
    for (indent, warned) in [(2, false), (0, true), (4, true), (6, true)] {
        let pad = " ".repeat(indent);
        let (cni, findings) =
            appended(&format!("#cloud-config\n{pad}- one\n\n# why\n{pad}- two {{{{ ds.meta_data.CIDR }}}}\n"));
        assert_eq!(cni.faults, [], "{indent}");
        assert_eq!(shells(&cni), [(2, "one"), (5, "two 10.9.0.0/16")], "{indent}");
        assert_eq!(!findings.warnings.is_empty(), warned, "{indent}");
    }
}

#[test]
fn keys_files_words_and_objects_are_read() {
    let (cni, findings) = appended(
        "#cloud-config\nruncmd:\n  - [kubectl, get, 1]\n  - |\n    a\n    b\nwrite_files:\n  - path: /root/x\n    content: y\n    \
         permissions: '0600'\napt: {}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: n\n",
    );
    assert_eq!(cni.faults, []);
    let file = CniAction::File { path: "/root/x".to_owned(), mode: 0o600, content: "y".to_owned() };
    let words = CniAction::Program { words: ["kubectl", "get", "1"].map(str::to_owned).to_vec() };
    let block = CniAction::Shell { command: "a\nb\n".to_owned() };
    let objects = CniAction::Objects { text: "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: n\n".to_owned() };
    let steps: Vec<_> = cni.steps.iter().map(|step| (step.line, step.action.clone())).collect();
    assert_eq!(steps, [(8, file), (3, words), (5, block), (13, objects)]);
    assert_eq!(findings.ignored.iter().map(|one| (one.at.line, one.what.as_str())).collect::<Vec<_>>(), [(11, "apt:")]);
    assert!(findings.warnings.iter().any(|one| one.at.line == 2 && one.text.contains("a second runcmd")));
}

#[test]
fn what_is_wrong_is_named_by_the_line_of_the_users_text() {
    for (text, line, part) in [
        ("#cloud-config\n  - one\n    - two\n", 3, "continues the command of line 2"),
        ("#cloud-config\n  - one\n  - two\n   - three\n", 4, "indent it by 2"),
        ("#cloud-config\n  - echo a: b\n", 2, "in quotes"),
        ("#cloud-config\n  - one\n\t- two\n", 3, "tabs"),
        ("#cloud-config\n  - 'echo a\n", 2, "quote"),
        ("#cloud-config\nruncmd: one\n", 2, "a list"),
        ("#cloud-config\nruncmd:\n  - [a, [b]]\n", 3, "as a list"),
        ("#cloud-config\nruncmd:\n  -\n", 3, "without a command"),
        ("#cloud-config\nwrite_files:\n  - path: x\n", 3, "no absolute path"),
        ("#cloud-config\nwrite_files:\n  - path: /x\n    append: true\n", 3, "append"),
        ("#cloud-config\nwrite_files:\n  - path: /x\n    source: {uri: u}\n", 3, "source"),
        ("apiVersion: v1\nkind: Namespace\n", 1, "cuts off the first line"),
        ("---\napiVersion: v1\nkind: Namespace\n", 2, "metadata.name"),
        ("#cloud-config\n  - a {{ ds.meta_data.NO }}\n", 2, "no NO"),
        ("#cloud-config\n  - echo ${#a[@]}\n", 2, "comment"),
        ("#cloud-config\njust words\n", 2, "neither a command"),
    ] {
        let (cni, _) = appended(text);
        let told: Vec<_> = cni.faults.iter().map(|(at, what)| (at.line, what.as_str())).collect();
        assert!(told.iter().any(|(at, what)| *at == line && what.contains(part)), "{text}: {told:?}");
    }
}
