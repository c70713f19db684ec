use super::*;

fn machine() -> Value {
    let keys = [("local-hostname", "C1-control-1"), ("POD_CIDR", "10.244.0.0/16"), ("instance-id", "uuid")];
    variables(&crate::datasource::from_keys(keys.map(|(key, value)| (key.to_owned(), value.to_owned()))))
}

#[test]
fn variables_of_the_metadata_are_filled_in() {
    for (text, expected) in [
        ("{{ ds.meta_data.POD_CIDR }}", "10.244.0.0/16"),
        ("{{ ds.meta_data.local_hostname | lower }} {{ v1.instance_id }} {{instance_id}}", "c1-control-1 uuid uuid"),
        ("{{ ds['meta_data']['local-hostname'] }}", "C1-control-1"),
        ("{{ ds.meta_data.X | default('y') }}", "y"),
        ("{% if ds.meta_data.X is defined %}\na\n{% else %}\nb\n{% endif %}\nc\n", "b\nc\n"),
        ("  {% if v1.cloud_name == 'cloudstack' %}\n  - a\n  {% endif %}\n", "  - a\n"),
        ("{% raw %}${#a[@]} {{ x }}{% endraw %}", "${#a[@]} {{ x }}"),
        ("{{ '{#' }}", "{#"),
        ("a\n", "a\n"),
    ] {
        assert_eq!(render(text, &machine()).map(|rendered| rendered.text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn lines_are_those_of_the_source() {
    let text = "one\n{% if v1.instance_id is defined %}\nthree {{ ds.meta_data.POD_CIDR }} x\nfour\n{% endif %}\n{% for a in [1, 2] %}\nseven\n{% endfor %}\nnine\nten\n";
    let rendered = render(text, &machine()).unwrap();
    let lines: Vec<_> =
        rendered.text.lines().enumerate().map(|(at, line)| (line.to_owned(), rendered.source_line(at + 1))).collect();
    let expected =
        [("one", 1), ("three 10.244.0.0/16 x", 3), ("four", 4), ("seven", 7), ("seven", 7), ("nine", 9), ("ten", 10)];
    assert_eq!(lines, expected.map(|(line, at)| (line.to_owned(), at)));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, expected) in [
        (
            "a\n{{ ds.meta_data.NO }} {{ ds.meta_data.NEVER }}\n{{ AS_NUMBER }}\n",
            vec![(2, "no NO"), (2, "no NEVER"), (3, "asnumber")],
        ),
        ("a\n  - echo ${#list[@]}\n", vec![(2, "begins a comment")]),
        ("a\n{% if x %}\n", vec![(2, "jinja")]),
        ("a\n{% set x = 1 %}\n", vec![(2, "{% set %}")]),
        ("{{ a b }}", vec![(1, "jinja")]),
        ("{% for a in b %}{% endfor %}", vec![(1, "jinja")]),
        ("{{ no.such.thing }}", vec![(1, "no.such.thing is undefined")]),
    ] {
        let faults = render(text, &machine()).unwrap_err();
        assert_eq!(
            faults.iter().map(|fault| fault.line).collect::<Vec<_>>(),
            expected.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            "{text}: {faults:?}"
        );
        for (fault, (_, part)) in faults.iter().zip(expected) {
            assert!(fault.what.contains(part), "{text}: {}", fault.what);
        }
    }
}

#[test]
fn hostile_templates_end() {
    let list = "[1,1,1,1,1,1,1,1,1,1]";
    let deep = (0..9).fold("x".to_owned(), |inner, at| format!("{{% for v{at} in {list} %}}{inner}{{% endfor %}}"));
    let long = format!("{{% for a in {list} %}}{}{{% endfor %}}", "x".repeat(MAX_RENDERED / 5));
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    for text in [deep, long, nested, "{{ 'x' * 99999999999 }}".to_owned()] {
        assert!(render(&text, &machine()).is_err(), "{text:.60}");
    }
}

#[test]
fn only_what_is_defined_is_substituted() {
    let text = "a {{ ds.meta_data.POD_CIDR }} {{ k8s_control_node.join_ip }} {{registry.url}} {{ x\n}} {{";
    assert_eq!(substitute(text, &machine()), text.replace("{{ ds.meta_data.POD_CIDR }}", "10.244.0.0/16"));
}
