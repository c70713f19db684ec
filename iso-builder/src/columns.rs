//! Tables for people: cells that keep their width, sizes, bars. No line is wider than [`WIDTH`].

use bootstrap::text::plain;
use indicatif::HumanBytes;

/// Characters of the widest line.
pub const WIDTH: usize = 110;

/// Characters of the longest bar.
const BAR: u64 = 24;

/// `text` in exactly `width` characters; of one that is longer the middle is left out.
#[must_use]
pub fn cell(text: &str, width: usize) -> String {
    let text = cut(text, width);
    format!("{text:width$}")
}

/// `text` in at most `width` characters; of one that is longer the middle is left out.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    let shown = plain(text);
    let all: Vec<char> = shown.chars().collect();
    if all.len() <= width {
        return shown;
    }
    let end = width.saturating_sub(1) / 2;
    let begin = width.saturating_sub(1 + end);
    let mut short: String = all[..begin].iter().collect();
    short.push('…');
    short.extend(&all[all.len() - end..]);
    short
}

/// `1.50 MiB`, right-aligned in 11 characters, which the widest needs.
#[must_use]
pub fn bytes(size: u64) -> String {
    format!("{:>11}", HumanBytes(size).to_string())
}

/// `size` as a share of `total`, at least one character for what is not empty.
#[must_use]
pub fn bar(size: u64, total: u64) -> String {
    let share = u128::from(size) * u128::from(BAR) / u128::from(total.max(1));
    let length = usize::try_from(share).unwrap_or_default().max(usize::from(size > 0));
    "█".repeat(length)
}

/// `1 file`, `2 files`.
#[must_use]
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_their_width() {
        for (text, want) in [("abc", "abc  "), ("abcde", "abcde"), ("abcdefgh", "ab…gh"), ("", "     ")] {
            assert_eq!(cell(text, 5), want);
        }
        assert_eq!(cut("abcdefgh", 4), "ab…h");
        assert_eq!(bytes(1023 << 20).chars().count(), 11);
        assert_eq!((bar(0, 10), bar(1, 1000), bar(10, 10).chars().count()), (String::new(), "█".to_owned(), 24));
    }
}
