//! Texts that come from media which nobody vouches for.

/// `text` without what a terminal would obey: control characters, and those that turn the direction of
/// writing or show as nothing, are written as escapes.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_finds_nothing_to_obey() {
        assert_eq!(super::plain("größe\u{1b}[2J\n"), "größe\\u{1b}[2J\\n");
        assert_eq!(super::plain("a\u{202e}fdp.exe\u{200b}"), "a\\u{202e}fdp.exe\\u{200b}");
    }
}
