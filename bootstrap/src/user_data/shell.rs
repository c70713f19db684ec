//! Scripts as lines of words: enough to find a command in them, its arguments and what is assigned. Nothing is run.

/// A command line: continued lines are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The line of the script that it begins in, from 1.
    pub(super) number: usize,
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
}

/// The lines of `script` that are more than a comment.
pub(super) fn lines(script: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in script.lines().enumerate() {
        let (number, mut text) = open.take().unwrap_or((at + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(part) => {
                text.push_str(part);
                text.push(' ');
                open = Some((number, text));
            }
            None => {
                text.push_str(line);
                found.push((number, text));
            }
        }
    }
    found.extend(open);
    let line = |(number, text): (usize, String)| Line { number, words: words(&text) };
    found.into_iter().map(line).filter(|line| !line.words.is_empty()).collect()
}

/// The words of a line, as a shell splits them as far as quotes go; what begins with `#` is a comment.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (Some(mark), c) if c == mark => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(rest.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, ';') => {
                words.extend(word.take());
                words.push(c.to_string());
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The arguments behind `program` `verb`, up to the end of that command; the program may be a path.
pub(super) fn arguments_of<'a>(line: &'a Line, program: &str, verb: Option<&str>) -> Option<&'a [String]> {
    let is_program =
        |word: &String| word == program || word.strip_suffix(program).is_some_and(|dir| dir.ends_with('/'));
    let mut at = line.words.iter().position(is_program)? + 1;
    if let Some(verb) = verb {
        if line.words.get(at).map(String::as_str) != Some(verb) {
            return None;
        }
        at += 1;
    }
    let arguments = line.words.get(at..).unwrap_or_default();
    let ends = |word: &String| matches!(word.as_str(), ";" | "&&" | "||" | "|" | "&") || word.starts_with('>');
    let end = arguments.iter().position(ends).unwrap_or(arguments.len());
    arguments.get(..end)
}

/// What `name` is assigned, in the order of the script, with the line of each.
pub(super) fn assignments(lines: &[Line], name: &str) -> Vec<(usize, String)> {
    let value = |line: &Line| {
        let word = line.words.iter().find(|word| *word != "export" && *word != "local")?;
        Some((line.number, word.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    };
    lines.iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (line, expected) in [
            ("a  'b c' \"d\\\"e\" f\\ g # h", vec!["a", "b c", "d\"e", "f g"]),
            ("a; b", vec!["a", ";", "b"]),
            ("''", vec![""]),
            ("# only", vec![]),
            ("a#b", vec!["a#b"]),
            ("trailing\\", vec!["trailing"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn a_command_is_found_in_its_line_and_nowhere_else() {
        let script =
            "echo \"kubeadm init failed\"\n  /opt/bin/kubeadm init --a \\\n   b c || true\nkubeadm config images\n";
        let lines = lines(script);
        let found: Vec<_> =
            lines.iter().filter_map(|line| Some((line.number, arguments_of(line, "kubeadm", Some("init"))?))).collect();
        assert_eq!(found, [(2, &["--a".to_owned(), "b".to_owned(), "c".to_owned()][..])]);
    }

    #[test]
    fn assignments_are_told_in_their_order() {
        let lines = lines("A=\nif x; then\n  A=15\nfi\nexport A=\"z y\"\nAB=1\n");
        assert_eq!(assignments(&lines, "A"), [(1, String::new()), (3, "15".to_owned()), (5, "z y".to_owned())]);
    }
}
