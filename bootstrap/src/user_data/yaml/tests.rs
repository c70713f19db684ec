use super::*;

fn root(text: &str) -> Node {
    document(text).unwrap().root.unwrap()
}

#[test]
fn every_node_knows_its_lines() {
    let root = root("a: 1\nb:\n  - x\n  - y\n    z\nc: |\n  one\n  two\nd: {e: f}\nblank: |\n\n  one\n");
    let lines = |path: &[&str]| root.at(path).map(|node| (node.line, node.end)).unwrap();
    assert_eq!(lines(&["a"]), (1, 1));
    let items = root.get("b").unwrap().list().unwrap();
    assert_eq!((items[0].line, items[1].line, items[1].end), (3, 4, 5));
    assert_eq!(items[1].text(), Some("y z"));
    assert_eq!(lines(&["c"]).0, 7);
    let blank = root.get("blank").unwrap();
    assert_eq!((blank.line, blank.first_line()), (12, 11));
    assert_eq!(root.at(&["d", "e"]).unwrap().text(), Some("f"));
}

#[test]
fn of_equal_keys_the_last_counts_and_both_are_told() {
    let document = document("runcmd: [a]\nother: 1\nruncmd: [b]\n").unwrap();
    assert_eq!(document.duplicates, [Duplicate { key: "runcmd".to_owned(), first: 1, second: 3 }]);
    assert_eq!(document.root.unwrap().get("runcmd").unwrap().list().unwrap()[0].text(), Some("b"));
}

#[test]
fn what_is_nothing_and_what_is_true_is_as_in_yaml_1_1() {
    let root = root("a:\nb: ~\nc: yes\nd: Off\ne: '~'\nf: 'null'\ng: 0755\n");
    assert!(root.get("a").unwrap().is_null() && root.get("b").unwrap().is_null());
    assert_eq!(root.get("c").unwrap().truth(), Some(true));
    assert_eq!(root.get("d").unwrap().truth(), Some(false));
    assert_eq!(root.get("e").unwrap().text(), Some("~"));
    assert_eq!(root.get("f").unwrap().text(), Some("null"));
    assert_eq!(root.get("g").unwrap().text(), Some("0755"));
}

#[test]
fn aliases_and_merges_are_read() {
    let root = root("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n");
    assert_eq!(root.at(&["b", "x"]).unwrap().text(), Some("1"));
    assert_eq!(root.at(&["b", "y"]).unwrap().text(), Some("3"));
    assert_eq!(root.at(&["c", "y"]).unwrap().text(), Some("2"));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))))
        .collect();
    for (text, line) in [
        ("a: b\n c: d\n", 2),
        ("a:\n\t- b\n", 2),
        ("a: [b\n", 2),
        ("a: *b\n", 1),
        ("a: &a [*a]\n", 1),
        (&bomb, 5),
        (&"[".repeat(MAX_DEPTH + 1), 1),
        (&"[".repeat(100_000), 1),
    ] {
        let fault = document(text).unwrap_err();
        assert_eq!(fault.line, line, "{text:.40}: {}", fault.what);
    }
    assert_eq!(document("a: 1\n---\nb: 2\n").unwrap_err().line, 3);
    assert_eq!(documents("a: 1\n---\nb: 2\n").unwrap().len(), 2);
    assert_eq!(document("# nothing\n").unwrap().root, None);
}
