//! A shell script as the statements that it is made of: enough of the language to name each command that it may run.
//! What could hide one is refused.

mod document;

use self::document::Document;

/// What a script may nest: the server's nest two deep.
const MAX_DEPTH: usize = 8;
/// Words behind which a command begins.
const KEYWORDS: [&str; 10] = ["if", "then", "elif", "else", "while", "until", "do", "!", "time", "{"];
/// Words that stand for themselves.
const ENDS: [&str; 5] = ["fi", "done", "}", ";;", "esac"];

/// A command with its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The line that it begins on, from 1.
    pub(super) line: usize,
    /// Its words, without quotes; redirections are words, too.
    pub(super) words: Vec<String>,
}

/// The commands that `text` may run, those in command substitutions, too; an assignment of its own is one. In words what
/// can't be understood.
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, String> {
    let mut found = Vec::new();
    let text: String = text.lines().map(|line| one_word(line) + "\n").collect();
    scan(&text, 1, 0, &mut found)?;
    Ok(found)
}

/// The line with placeholders that the server left unfilled as one word each: `{{ etcd.node_name }}`.
fn one_word(line: &str) -> String {
    let (mut kept, mut rest) = (String::new(), line);
    while let Some((before, behind)) = rest.split_once("{{") {
        let Some((inside, after)) = behind.split_once("}}") else { break };
        kept += &format!("{before}{{{{{}}}}}", inside.trim());
        rest = after;
    }
    kept + rest
}

/// What a scan has gathered of the statement that it is in.
struct Scan<'a> {
    found: &'a mut Vec<Statement>,
    words: Vec<String>,
    word: Option<String>,
    line: usize,
    begins: usize,
    /// Here-documents that begin with the next line.
    documents: Vec<Document>,
}

impl Scan<'_> {
    fn push(&mut self, c: char) {
        if self.words.is_empty() && self.word.is_none() {
            self.begins = self.line;
        }
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    /// Ends the statement, and gives it without the words that only lead to it.
    fn end(&mut self) {
        self.end_word();
        let mut words = std::mem::take(&mut self.words);
        while words.first().is_some_and(|word| KEYWORDS.contains(&word.as_str()) || word == "sudo") {
            drop(words.remove(0));
        }
        if words.first().is_some_and(|word| ENDS.contains(&word.as_str())) {
            // What follows is where its input comes from; where its output goes matters.
            words.retain(|word| word.contains('>'));
        }
        let line = self.begins;
        if words.iter().all(|word| is_assignment(word)) {
            self.found.extend(words.into_iter().map(|word| Statement { line, words: vec![word] }));
        } else {
            self.found.push(Statement { line, words });
        }
    }

    /// Whether this is in a test, where `&&`, `||`, `<` and `>` are operators.
    fn tests(&self) -> bool {
        let first = self.words.iter().find(|word| !KEYWORDS.contains(&word.as_str()));
        let end = match first.map(String::as_str) {
            Some("[[") => "]]",
            Some("((") => "))",
            _ => return false,
        };
        !self.words.iter().chain(&self.word).any(|word| word == end)
    }

    /// Goes on behind a line, and behind the here-documents that began on it.
    fn end_line<'a>(&mut self, mut rest: &'a str, depth: usize) -> Result<&'a str, String> {
        self.line += 1;
        for document in std::mem::take(&mut self.documents) {
            let (inside, after) = document.split(rest)?;
            if document.expands() {
                substitutions(inside, self.line, depth, self.found)?;
            }
            self.line += inside.matches('\n').count() + 1;
            rest = after;
        }
        Ok(rest)
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '+')
    })
}

fn scan(text: &str, line: usize, depth: usize, found: &mut Vec<Statement>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("nests too deep to be understood".to_owned());
    }
    let mut scan = Scan { found, words: Vec::new(), word: None, line, begins: line, documents: Vec::new() };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let behind = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = behind;
        match c {
            '\\' => {
                let Some(next) = behind.chars().next() else { break };
                rest = behind.get(next.len_utf8()..).unwrap_or_default();
                if next == '\n' { scan.line += 1 } else { scan.push(next) }
            }
            '\'' => {
                let (inside, after) = behind.split_once('\'').ok_or("has a quote without an end")?;
                scan.word.get_or_insert_default();
                inside.chars().for_each(|c| scan.push(c));
                scan.line += inside.matches('\n').count();
                rest = after;
            }
            '"' => {
                let (inside, after) = double(behind).ok_or("has a quote without an end")?;
                substitutions(inside, scan.line, depth, scan.found)?;
                scan.word.get_or_insert_default();
                inside.chars().for_each(|c| scan.push(c));
                scan.line += inside.matches('\n').count();
                rest = after;
            }
            // Within it a backslash hides the quote that would end another one.
            '$' if behind.starts_with('\'') => return Err("has a quote that is not understood ($')".to_owned()),
            '`' | '$' if c == '`' || behind.starts_with(['(', '{', '[']) => {
                let (inside, after) = nested(c, behind).ok_or("has a substitution without an end")?;
                if c == '`' || behind.starts_with('(') && !is_arithmetic(inside) {
                    self::scan(inside, scan.line, depth + 1, scan.found)?;
                } else {
                    substitutions(inside, scan.line, depth + 1, scan.found)?;
                }
                scan.push('$');
                inside.chars().for_each(|c| scan.push(c));
                rest = after;
            }
            '#' if scan.word.is_none() => {
                rest = behind.find('\n').and_then(|end| behind.get(end..)).unwrap_or_default();
            }
            '\n' => {
                scan.end();
                rest = scan.end_line(rest, depth)?;
            }
            ';' => scan.end(),
            '<' | '>' if behind.starts_with('(') => return Err("has a process substitution".to_owned()),
            '<' if behind.starts_with("<<") => {
                "<<<".chars().for_each(|c| scan.push(c));
                rest = behind.get(2..).unwrap_or_default();
            }
            '<' if behind.starts_with('<') && !scan.tests() => {
                scan.end_word();
                let (document, after) = Document::begin(behind.get(1..).unwrap_or_default())?;
                scan.words.extend(["<<".to_owned(), document.end().to_owned()]);
                scan.documents.push(document);
                rest = after;
            }
            ' ' | '\t' | '\r' => scan.end_word(),
            '&' | '|' if !scan.tests() => {
                let redirects =
                    c == '&' && (behind.starts_with('>') || scan.word.as_ref().is_some_and(|w| w.ends_with('>')));
                if redirects { scan.push(c) } else { scan.end() }
            }
            '(' if !scan.tests() && scan.word.is_none() && !behind.starts_with('(') => scan.end(),
            ')' if !scan.tests() => scan.end(),
            c => scan.push(c),
        }
    }
    scan.end();
    if scan.documents.is_empty() { Ok(()) } else { Err(document::WITHOUT_END.to_owned()) }
}

/// Whether what is in `$(…)` is arithmetic: one pair of parentheses around all of it.
fn is_arithmetic(inside: &str) -> bool {
    inside.starts_with('(') && nested('$', inside).is_some_and(|(_, behind)| behind.is_empty())
}

/// What is in double quotes that began just before `text`, and what is behind them.
fn double(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let mut skip_to = 0;
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((text.get(..at)?, text.get(at + 1..)?)),
            '$' if text.get(at + 1..)?.starts_with('(') => {
                let behind = text.get(at + 1..)?;
                let (_, after) = nested('$', behind)?;
                skip_to = text.len() - after.len();
            }
            _ => {}
        }
    }
    None
}

/// What is in the substitution whose sign stands before `text`, and what is behind it.
fn nested(sign: char, text: &str) -> Option<(&str, &str)> {
    if sign == '`' {
        let end = text.find('`')?;
        return Some((text.get(..end)?, text.get(end + 1..)?));
    }
    let open = text.chars().next()?;
    let close = match open {
        '(' => ')',
        '{' => '}',
        _ => ']',
    };
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        escaped = c == '\\' && quote != Some('\'');
        match quote {
            Some(mark) if c == mark => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == open => depth += 1,
            None if c == close => {
                depth -= 1;
                if depth == 0 {
                    return Some((text.get(1..at)?, text.get(at + 1..)?));
                }
            }
            None => {}
        }
    }
    None
}

/// The commands in the substitutions of a double-quoted text.
fn substitutions(text: &str, line: usize, depth: usize, found: &mut Vec<Statement>) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find(['`', '$', '\\']) {
        let sign = rest.get(at..).and_then(|rest| rest.chars().next()).unwrap_or('\\');
        let behind = rest.get(at + 1..).unwrap_or_default();
        rest = behind;
        if sign == '\\' {
            rest = behind.chars().next().and_then(|c| behind.get(c.len_utf8()..)).unwrap_or_default();
        } else if sign == '`' || behind.starts_with('(') {
            let (inside, after) = nested(sign, behind).ok_or("has a substitution without an end")?;
            if sign == '$' && is_arithmetic(inside) {
                continue;
            }
            scan(inside, line, depth + 1, found)?;
            rest = after;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<String> {
        statements(text).unwrap().iter().map(|statement| statement.words.join(" ")).collect()
    }

    #[test]
    fn every_command_is_found() {
        for (text, found) in [
            ("a b; c && d || e | f\ng & h", vec!["a b", "c", "d", "e", "f", "g", "h"]),
            ("if [ -f x ]; then a; else b; fi", vec!["[ -f x ]", "a", "b"]),
            ("X=1 Y=\"$(a b)\" c", vec!["a b", "X=1 Y=$(a b) c"]),
            ("X=`a | b -n 1`", vec!["a", "b -n 1", "X=$a | b -n 1"]),
            ("X=1 Y=2; sudo Z=3", vec!["X=1", "Y=2", "Z=3"]),
            ("X=$(a \"$(b)\" c)", vec!["b", "a $(b) c", "X=$a \"$(b)\" c"]),
            ("while read -r l; do a \"$l\"; done <<< \"$x\"", vec!["read -r l", "a $l"]),
            ("if (( \"$a\" > \"$b\" )); then c; fi", vec!["(( $a > $b ))", "c"]),
            ("if [[ -z $a || $b -eq 0 ]]; then c; fi", vec!["[[ -z $a || $b -eq 0 ]]", "c"]),
            ("[[ $(a) != \"b\" ]] && c", vec!["a", "[[ $a != b ]]", "c"]),
            ("n=$[$n + 1]\nm=$((n + 1))", vec!["n=$$n + 1", "m=$(n + 1)"]),
            // What stands behind a test, in arithmetic, in a default value, in a document that is expanded.
            ("(( 1 )) && a", vec!["(( 1 ))", "a"]),
            ("[[ b ]]&&a", vec!["[[ b ]]", "a"]),
            (": $(( $(a) + 1 )) ${b:-$(c)} $[ `d` ]", vec!["a", "c", "d", ": $( $(a) + 1 ) $b:-$(c) $ `d` "]),
            (": $((a); (b)) \"$((c);d)\"", vec!["a", "b", "c", "d", ": $(a); (b) $((c);d)"]),
            (": ${b:-\\\"}; a; : \"}\"", vec![": $b:-\\\"", "a", ": }"]),
            ("while b; do c; done << E\n$(a)\nE\nwhile b; do c; done << 'E'\n$(a)\nE", vec!["b", "c", "a", "b", "c"]),
            ("if b; then c; fi > d", vec!["b", "c", ">"]),
            ("echo a > b 2>&1 # c; d\n# e\nf#g", vec!["echo a > b 2>&1", "f#g"]),
            ("cat > x << 'EOF'\nrm -rf /\nEOF\na", vec!["cat > x << EOF", "a"]),
            ("a \\\n  --b \\\n  c", vec!["a --b c"]),
            ("sed 's;a|b;c;' x", vec!["sed s;a|b;c; x"]),
            ("sudo rm x", vec!["rm x"]),
            ("cp ${d}/k8s/{a,b} .", vec!["cp $d/k8s/{a,b} ."]),
            ("(a; b)", vec!["a", "b"]),
            ("X={{ a.b }}\nc {{ d }}:1 {{ e", vec!["X={{a.b}}", "c {{d}}:1 {{ e"]),
            // What only looks like a here-document.
            ("# <<EOF\na", vec!["a"]),
            ("X=$((1 << n))\na", vec!["X=$(1 << n)", "a"]),
            ("(( 1 << n )) && b\na", vec!["(( 1 << n ))", "b", "a"]),
            ("echo \"a << b\" '<< c'\na", vec!["echo a << b << c", "a"]),
            ("a <<< $b\nc", vec!["a <<< $b", "c"]),
            ("a <<- \\E; b\n\tc\n\tE\nd", vec!["a << E", "b", "d"]),
            ("a << E << 'F'; b\nc\nE\nE\nF\nd", vec!["a << E << F", "b", "d"]),
        ] {
            assert_eq!(commands(text), found, "{text}");
        }
    }

    #[test]
    fn lines_are_told() {
        let found = statements("#!/bin/sh\n\nX=1\ncat <<E\nz\nE\na \\\n b\nc\n").unwrap();
        let lines: Vec<_> = found.iter().map(|statement| (statement.line, statement.words[0].as_str())).collect();
        assert_eq!(lines, [(3, "X=1"), (4, "cat"), (7, "a"), (9, "c")]);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        for text in ["a << E\nb\n", "a << E\nb\n E\n", "a <<\nb\n", "a << E", "a < <(b)", "a $'\\''; b; c $'\\''"] {
            assert!(statements(text).is_err(), "{text}");
        }
        for text in ["echo 'a", "echo \"a", "echo `a", "echo $(a", &format!("{}a{}", "$(".repeat(20), ")".repeat(20))] {
            assert!(statements(text).is_err(), "{text}");
        }
    }
}
