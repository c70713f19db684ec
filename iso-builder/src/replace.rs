//! Texts that a spec or a profile has replaced in an upstream's manifest: a fault that the release still
//! has, or a tag that moves.

/// A text, and what takes its place.
pub type Replacement = (String, String);

/// `text` with every occurrence of the first of each pair replaced by the second, pair after pair; and
/// the pairs that occurred.
#[must_use]
pub fn apply(text: String, pairs: &[Replacement]) -> (String, Vec<Replacement>) {
    let (mut text, mut occurred) = (text, Vec::new());
    for (from, to) in pairs {
        if !from.is_empty() && text.contains(from.as_str()) {
            text = text.replace(from.as_str(), to);
            occurred.push((from.clone(), to.clone()));
        }
    }
    (text, occurred)
}

/// Accepts pairs that replace something.
///
/// # Errors
/// What is wrong with them.
pub fn check(pairs: &[Replacement]) -> Result<(), &'static str> {
    match pairs.iter().any(|(from, to)| from.is_empty() || from == to) {
        true => Err("replace: pairs of a text and what takes its place, which differ"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(from: &str, to: &str) -> Replacement {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn every_occurrence_is_replaced_pair_after_pair() {
        for (text, pairs, want, occurred) in [
            ("k8s.io---\na", vec![pair("k8s.io---", "k8s.io\n---")], "k8s.io\n---\na", 1),
            ("k8s.io\n---\na", vec![pair("k8s.io---", "k8s.io\n---")], "k8s.io\n---\na", 0),
            ("a b a", vec![pair("a", "b"), pair("b", "c")], "c c c", 2),
            ("a", vec![pair("", "b")], "a", 0),
            ("", vec![], "", 0),
        ] {
            let (replaced, found) = apply(text.to_owned(), &pairs);
            assert_eq!((replaced.as_str(), found.len()), (want, occurred), "{text}");
        }
        assert!(check(&[pair("a", "b")]).is_ok());
        assert!(check(&[pair("", "b")]).is_err() && check(&[pair("a", "a")]).is_err());
    }
}
