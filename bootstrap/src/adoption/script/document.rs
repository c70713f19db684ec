//! Here-documents: lines that are data, not commands.

/// Why a script is refused whose here-document hides all that is behind it.
pub(super) const WITHOUT_END: &str = "has a here-document without an end";

/// A here-document, by how it was announced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    end: String,
    indented: bool,
    quoted: bool,
}

impl Document {
    /// The one that is announced behind `<<`, and what follows its word.
    pub(super) fn begin(text: &str) -> Result<(Self, &str), String> {
        let (indented, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let text = text.trim_start_matches([' ', '\t']);
        let ends = |c: char| c.is_whitespace() || ";|&()<>".contains(c);
        let (word, behind) = text.split_at(text.find(ends).unwrap_or(text.len()));
        let quotes = ['\'', '"', '\\'];
        let end = word.replace(quotes, "");
        if end.is_empty() || end.contains(['$', '`']) {
            return Err(WITHOUT_END.to_owned());
        }
        Ok((Self { end, indented, quoted: word.contains(quotes) }, behind))
    }

    /// The word that ends it.
    pub(super) fn end(&self) -> &str {
        &self.end
    }

    /// Whether a shell carries out the substitutions in it.
    pub(super) fn expands(&self) -> bool {
        !self.quoted
    }

    /// Its text, and what is behind the line that ends it.
    pub(super) fn split<'a>(&self, text: &'a str) -> Result<(&'a str, &'a str), String> {
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let behind = at + line.len();
            let line = line.trim_end_matches(['\n', '\r']);
            let line = if self.indented { line.trim_start_matches('\t') } else { line };
            if line == self.end {
                return Ok((text.get(..at).unwrap_or_default(), text.get(behind..).unwrap_or_default()));
            }
            at = behind;
        }
        Err(WITHOUT_END.to_owned())
    }
}
