//! Texts that come from media which nobody vouches for.

/// `text` without what a terminal would obey: control characters are written as escapes.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_finds_nothing_to_obey() {
        assert_eq!(super::plain("größe\u{1b}[2J\n"), "größe\\u{1b}[2J\\n");
    }
}
