//! Lines of styled text that know how wide they are on a terminal.

use bootstrap::text::plain;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::LABEL;

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// What the eye shall find.
    Strong,
    /// What it may pass over.
    Dim,
    /// Goes well.
    Good,
    /// Needs a look.
    Warn,
    /// Went wrong.
    Bad,
}

impl Style {
    /// Select Graphic Rendition (ECMA-48).
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Dim => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// One line. Whatever text it is given, a terminal finds nothing to obey in it.
#[derive(Debug, Clone, Default)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// A line that begins with `label`, in its column.
    #[must_use]
    pub fn labelled(label: &str, style: Style) -> Self {
        Self::default().and(style, &pad(label, LABEL))
    }

    /// With `text` at its end.
    #[must_use]
    pub fn and(mut self, style: Style, text: &str) -> Self {
        self.0.push((style, plain(text)));
        self
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// Cut to `width` columns, with an ellipsis where something is missing.
    #[must_use]
    pub fn fit(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width;
        let mut fitted = Vec::new();
        for (style, text) in self.0 {
            let wide = text.width();
            // A part that fills the room goes on in the next one, which is cut: the ellipsis needs a column.
            if wide < left {
                left -= wide;
                fitted.push((style, text));
            } else {
                fitted.push((style, head(&text, left, true)));
                break;
            }
        }
        Self(fitted)
    }

    /// The text, with escapes for its styles where `colours` are wanted, and without blanks at its end.
    #[must_use]
    pub fn text(&self, colours: bool) -> String {
        let mut text = String::new();
        for (style, part) in &self.0 {
            match style.code().filter(|_| colours && !part.trim().is_empty()) {
                Some(code) => text += &format!("\x1b[{code}m{part}\x1b[0m"),
                None => text += part,
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// The first columns of `text`; with `cut`, an ellipsis is the last of them even where all would fit.
fn head(text: &str, width: usize, cut: bool) -> String {
    let room = if cut { width.saturating_sub(1) } else { width };
    let (mut used, mut kept) = (0, String::new());
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > room {
            break;
        }
        used += wide;
        kept.push(c);
    }
    if cut && width > 0 {
        kept.push('…');
    }
    kept
}

/// `text` cut at its end to `width` columns.
#[must_use]
pub fn cut_end(text: &str, width: usize) -> String {
    if text.width() <= width { text.to_owned() } else { head(text, width, true) }
}

/// `text` cut at its begin to `width` columns: of paths and references the end tells more.
#[must_use]
pub fn cut_begin(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut used, mut from) = (0, text.len());
    for (place, c) in text.char_indices().rev() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        from = place;
    }
    if width == 0 { String::new() } else { format!("…{}", &text[from..]) }
}

/// `text` with blanks up to `width` columns.
#[must_use]
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// `text` with blanks before it up to `width` columns.
#[must_use]
pub fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.width())))
}

/// The words of `text`; a number and its unit are one.
fn words(text: &str) -> Vec<String> {
    const UNITS: [&str; 9] = ["s", "min", "h", "B", "KiB", "MiB", "GiB", "TiB", "%"];
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_unit = UNITS.contains(&word.trim_end_matches([',', ':', ';', ')']));
        match words.last_mut() {
            Some(last) if is_unit && last.ends_with(|c: char| c.is_ascii_digit()) => *last = format!("{last} {word}"),
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// `text` as lines of at most `width` columns, broken at blanks where there are any.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for mut word in words(&plain(text)) {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        while line.width() + word.width() > width {
            let part = head(&word, width, false);
            word.drain(..part.len());
            lines.push(part);
        }
        line += &word;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_terminal() {
        assert_eq!(cut_end("größe", 5), "größe");
        assert_eq!(cut_end("größer", 5), "größ…");
        assert_eq!(cut_begin("registry/größer", 5), "…ößer");
        assert_eq!(cut_end("日本語", 5), "日本…", "a wide character is not cut in half");
        assert_eq!(cut_end("日本語", 4), "日…");
        assert_eq!(cut_begin("日本語", 4), "…語");
        assert_eq!(cut_end("abc", 0), "");
        assert_eq!(cut_begin("abc", 0), "");
        assert_eq!(pad("日", 4), "日  ");
    }

    #[test]
    fn a_line_is_cut_across_its_parts() {
        let line = || Line::default().and(Style::Strong, "one ").and(Style::Plain, "two ").and(Style::Bad, "three");
        for (width, text) in
            [(13, "one two three"), (12, "one two thr…"), (8, "one two…"), (4, "one…"), (1, "…"), (0, "")]
        {
            let cut = line().fit(width);
            assert!(cut.width() <= width);
            assert_eq!(cut.text(false), text);
        }
        assert_eq!(line().text(true), "\x1b[1mone \x1b[0mtwo \x1b[31mthree\x1b[0m");
    }

    #[test]
    fn words_are_wrapped_and_long_ones_broken() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a sha256:0123456789abcdef", 10), ["a", "sha256:012", "3456789abc", "def"]);
        assert_eq!(wrap("日本語日本語", 8), ["日本語日", "本語"]);
        assert_eq!(wrap("next try in 12 s, soon", 14), ["next try in", "12 s, soon"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("\x1b[2J\nx", 80), ["\\u{1b}[2J\\nx"]);
    }
}
