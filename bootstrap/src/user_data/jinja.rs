//! Jinja as far as user data has it: cloud-init renders a text that begins with `## template: jinja` by jinja2, with the
//! metadata as variables. Here minijinja does it, by jinja2's author: no files, bounded steps, bounded output.

use std::collections::BTreeMap;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, filters, tests};

use super::metadata::Metadata;
use super::placeholder::{self, enclosed};
use super::yaml::Fault;
use crate::text::plain;

/// Steps of one rendering.
const FUEL: u64 = 200_000;

/// The longest text that comes out.
const MAX_RENDERED: usize = super::yaml::MAX_TEXT;

/// Expressions and statements in one text.
const MOST_TAGS: usize = 2000;

/// Undefined variables that are named at once.
const MOST_UNDEFINED: usize = 20;

/// What may stand in `{% %}`. Nothing that keeps a value: a text that doubles itself has no bound.
const STATEMENTS: [&str; 8] = ["if", "elif", "else", "endif", "for", "endfor", "raw", "endraw"];

/// A rendered text and where its lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    /// The text.
    pub(super) text: String,
    /// The line of the source that each line of the text begins in, from 1.
    lines: Vec<usize>,
}

impl Rendered {
    /// A text that needs no rendering.
    pub(super) fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), lines: Vec::new() }
    }

    /// The line of the source that `line` comes from.
    pub(super) fn source_line(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or_else(|| match self.lines.last() {
            Some(last) => last + line.saturating_sub(self.lines.len()),
            None => line,
        })
    }
}

/// The variables that cloud-init has for a machine, with `-` in names as `_` besides.
pub(super) fn variables(metadata: &Metadata) -> Value {
    let mut data: BTreeMap<String, Value> = BTreeMap::new();
    for (key, value) in metadata.keys() {
        data.insert(key.replace('-', "_"), Value::from(value.clone()));
        data.insert(key.to_owned(), Value::from(value));
    }
    let standard: BTreeMap<String, Value> = ["instance_id", "local_hostname", "availability_zone"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), data.get(key)?.clone())))
        .chain([("cloud_name".to_owned(), Value::from("cloudstack"))])
        .collect();
    let mut all = standard.clone();
    // The server fills this one in itself, where the cluster has a number.
    all.extend(data.get("AS_NUMBER").map(|number| ("AS_NUMBER".to_owned(), number.clone())));
    all.insert("v1".to_owned(), Value::from(standard));
    all.insert("ds".to_owned(), Value::from(BTreeMap::from([("meta_data".to_owned(), Value::from(data))])));
    Value::from(all)
}

fn environment<'s>() -> Environment<'s> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // As cloud-init has it.
    let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build();
    // It fails for delimiters only, and these are jinja's own.
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("int", filters::int);
    environment.add_filter("string", filters::string);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment
}

/// Renders `text`.
///
/// # Errors
/// Each undefined variable, or what is wrong with the template, with its line.
pub(super) fn render(text: &str, variables: &Value) -> Result<Rendered, Vec<Fault>> {
    let (rendered, undefined) = attempt(&flush(text), variables, |_| String::new())?;
    if undefined.is_empty() { Ok(rendered) } else { Err(undefined) }
}

/// `text` with tags that have a line to themselves at its beginning: cloud-init would put the spaces before a tag in
/// front of the next line, which nobody means.
fn flush(text: &str) -> String {
    let is_tag = |line: &str| line.starts_with("{%") && line.ends_with("%}") && line.matches("{%").count() == 1;
    let line = |line: &'_ str| match is_tag(line.trim()) {
        true => line.trim_start().to_owned(),
        false => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

/// Renders `text` with undefined variables kept, as guarded placeholders.
///
/// # Errors
/// What is wrong with the template, with its line.
pub(super) fn render_keeping(text: &str, variables: &Value) -> Result<Rendered, Vec<Fault>> {
    // One after the other would take a rendering for each.
    let guarded = placeholder::guard(&substitute(&flush(text), variables));
    attempt(&guarded, variables, |expression| placeholder::guard(&format!("{{{{{expression}}}}}")))
        .map(|(rendered, _)| rendered)
}

/// Renders `text` as cloud-init does, to which an undefined variable is no failure: it writes a name in its place.
pub(super) fn render_anyway(text: &str, variables: &Value) -> Option<String> {
    let name = |expression: &str| format!("CI_MISSING_JINJA_VAR/{expression}");
    attempt(text, variables, name).ok().map(|(rendered, _)| rendered.text)
}

/// Renders `text`, with what `instead` says for each undefined variable.
fn attempt(
    text: &str,
    variables: &Value,
    instead: impl Fn(&str) -> String,
) -> Result<(Rendered, Vec<Fault>), Vec<Fault>> {
    if text.matches("{{").nth(MOST_TAGS).or_else(|| text.matches("{%").nth(MOST_TAGS)).is_some() {
        let what = format!("jinja: the text has more than {MOST_TAGS} expressions");
        return Err(vec![Fault { line: 1, what }]);
    }
    statements(text).map_err(|fault| vec![fault])?;
    let environment = environment();
    let mut source = text.to_owned();
    let mut undefined = Vec::new();
    loop {
        let error = match rendered(&environment, &source, variables) {
            Ok(rendered) => return Ok((rendered, undefined)),
            Err(error) => error,
        };
        let line = error.line().unwrap_or(1);
        let is_undefined = error.kind() == ErrorKind::UndefinedError && undefined.len() < MOST_UNDEFINED;
        let Some((expression, range)) = error.range().filter(|_| is_undefined).and_then(|at| hole(&source, at)) else {
            let what = format!("jinja: {}", plain(error.detail().unwrap_or("it can't be rendered")));
            undefined.push(Fault { line, what });
            return Err(undefined);
        };
        undefined.push(Fault { line, what: missing(&expression) });
        // Without it, the next one is found. Lines stay where they are.
        let breaks = source.get(range.clone()).unwrap_or_default().matches('\n').count();
        source.replace_range(range, &(instead(&expression) + &"\n".repeat(breaks)));
    }
}

fn missing(expression: &str) -> String {
    let expression = plain(expression.trim());
    match expression.strip_prefix("ds.meta_data.") {
        Some(key) => format!(
            "the metadata has no {key}: give it as a variable of the CNI configuration (cniconfigdetails[0].{key})"
        ),
        None if expression == "AS_NUMBER" => {
            "AS_NUMBER is not filled in: the cluster was created without asnumber".to_owned()
        }
        None => format!("{expression} is undefined: variables are written {{{{ ds.meta_data.NAME }}}}"),
    }
}

/// The expression around an undefined variable, and the bytes from `{{` to `}}`.
fn hole(source: &str, at: std::ops::Range<usize>) -> Option<(String, std::ops::Range<usize>)> {
    let start = source.get(..at.end)?.rfind("{{")?;
    let end = start + source.get(start..)?.find("}}")? + 2;
    if end < at.end || source.get(start..at.start.max(start))?.contains("{%") {
        return None;
    }
    let inner = source.get(start + 2..end - 2)?.trim_matches('-').trim().to_owned();
    Some((inner, start..end))
}

fn rendered(environment: &Environment<'_>, source: &str, variables: &Value) -> Result<Rendered, minijinja::Error> {
    let template = environment.template_from_str(source)?;
    // Once into something bounded: what `render_with_spans` builds is not.
    template.render_captured_to(variables.clone(), Bounded(MAX_RENDERED))?;
    let (text, spans) = template.render_with_spans(variables.clone())?;
    let breaks: Vec<usize> = source.match_indices('\n').map(|(at, _)| at).collect();
    let mut lines = Vec::new();
    let mut spans = spans.iter().peekable();
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        while spans.next_if(|span| span.output_range().end <= begin).is_some() {}
        let from = spans.peek().map_or(source.len(), |span| {
            // Text that is no expression is as long as it is in the source.
            let literal = span.output_range().len() == span.source_range().len();
            let inside = begin.saturating_sub(span.output_range().start);
            span.source_range().start + if literal { inside } else { 0 }
        });
        lines.push(1 + breaks.partition_point(|at| *at < from));
        begin += line.len();
    }
    Ok(Rendered { text, lines })
}

/// A writer that takes so many bytes.
struct Bounded(usize);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(io::Error::other("the text becomes too long")),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks that nothing but [`STATEMENTS`] stands in `{% %}`, and that each comment ends.
fn statements(text: &str) -> Result<(), Fault> {
    let rest = |at: usize| text.get(at..).unwrap_or_default();
    let fault = |at: usize, what: String| Fault {
        line: 1 + text.get(..at).unwrap_or_default().matches('\n').count(),
        what: format!("jinja: {what}"),
    };
    let mut at = 0;
    let tag = |two: &[u8]| two == b"{%" || two == b"{#";
    while let Some(next) = rest(at).as_bytes().windows(2).position(tag) {
        at += next;
        // A text within an expression: {{ '{#' }}.
        if text.get(..at).is_some_and(|before| before.ends_with(['\'', '"'])) {
            at += 2;
            continue;
        }
        if rest(at).starts_with("{#") {
            let end = rest(at).find("#}").ok_or_else(|| {
                fault(
                    at,
                    "{# begins a comment, also in ${#name[@]}; write {% raw %} before, {% endraw %} behind it"
                        .to_owned(),
                )
            })?;
            at += end + 2;
            continue;
        }
        let inner = rest(at + 2).trim_start_matches(['-', '+']).trim_start();
        let word: String = inner.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if !STATEMENTS.contains(&word.as_str()) {
            let what = format!("{{% {word} %}} is not understood; write {{% raw %}} before, {{% endraw %}} behind it");
            return Err(fault(at, what));
        }
        at += 2;
        if word == "raw" {
            at = rest(at).find("endraw").map_or(text.len(), |end| at + end);
        }
    }
    Ok(())
}

/// `text` with those expressions filled in that are defined; everything else stays as it is. For the server's own text,
/// where a placeholder that nobody filled in has to be named and not lost.
pub(super) fn substitute(text: &str, variables: &Value) -> String {
    let environment = environment();
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((inner, behind)) = enclosed(after) else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        let evaluated =
            environment.compile_expression(inner.trim()).ok().and_then(|it| it.eval(variables.clone()).ok());
        match evaluated.filter(|value| value.as_str().is_some()) {
            Some(value) => filled.push_str(value.as_str().unwrap_or_default()),
            None => {
                filled.push_str("{{");
                filled.push_str(inner);
                filled.push_str("}}");
            }
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod rendering;
