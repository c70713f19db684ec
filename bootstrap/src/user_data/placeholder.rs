//! Placeholders that are still there: `{{ k8s_control_node.join_ip }}`, which the management server fills in by literal
//! replacement, and jinja's. To YAML and to a shell they would be something else, so they are guarded first.

/// What a guarded placeholder begins and ends with: characters that nobody writes.
pub(super) const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// `text` with each `{{ name }}` as one word that YAML takes for a text.
pub(super) fn guard(text: &str) -> String {
    let mut guarded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        guarded.push_str(before);
        match enclosed(after).filter(|(name, _)| !name.contains(['{', '}'])) {
            Some((name, after)) => {
                guarded.push(OPEN);
                guarded.push_str(name.trim());
                guarded.push(CLOSE);
                rest = after;
            }
            None => {
                guarded.push_str("{{");
                rest = after;
            }
        }
    }
    guarded.push_str(rest);
    guarded
}

/// What stands before the next `}}` in the same line, and what behind it. Nothing that is longer than an expression
/// is looked through.
pub(super) fn enclosed(after: &str) -> Option<(&str, &str)> {
    const LONGEST: usize = 200;
    let end = after.bytes().take(LONGEST).take_while(|byte| *byte != b'\n').count();
    // The end may lie within a character; what closes is ASCII.
    let at = after.as_bytes().get(..end)?.windows(2).position(|two| two == b"}}")?;
    Some((after.get(..at)?, after.get(at + 2..)?))
}

/// The first placeholder of a guarded `text`, without braces.
pub(super) fn first(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(OPEN)?;
    rest.split_once(CLOSE).map(|(name, _)| name)
}

/// All placeholders of a guarded `text`, with the line of each, from 1.
pub(super) fn all(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once(OPEN) {
            let Some((name, after)) = after.split_once(CLOSE) else { break };
            found.push((at + 1, name));
            rest = after;
        }
    }
    found
}

/// A guarded `text` as it was written.
pub(super) fn written(text: &str) -> String {
    text.replace(OPEN, "{{ ").replace(CLOSE, " }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_with_their_lines() {
        assert_eq!(first(&guard("a {{ b.c }}:6443")), Some("b.c"));
        assert_eq!(first(&guard("a {{ b")), None);
        assert_eq!(all(&guard("x\n{{a}} {{ b }}\n}} {{ c")), [(2, "a"), (2, "b")]);
    }

    #[test]
    fn nothing_but_placeholders_is_guarded() {
        for text in ["{a: {b: c}}", "{{a: {b: c}}}", "{\"x\":{\"y\":1}}", "{{\n}}", "${#a[@]}"] {
            assert_eq!(guard(text), text);
        }
        assert_eq!(written(&guard("a {{b}} c")), "a {{ b }} c");
    }
}
