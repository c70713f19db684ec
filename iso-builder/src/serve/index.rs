//! Index pages, with the links that Apache's mod_autoindex writes on a virtual router.

use bootstrap::bundle::autoindex::percent_encode_path;

use super::date::Moment;

/// One line of a page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    /// The name, with a `/` behind that of a directory.
    pub(super) name: String,
    /// Bytes of a file.
    pub(super) size: Option<u64>,
}

/// The page of the directory `path` (`/cks-iso/`), whose `lines` are sorted. Without a link to the
/// `parent`, the stock script's `wget -r` does not climb out of the content and fetch the ISO too.
pub(super) fn page(path: &str, lines: &[Line], modified: Moment, parent: bool) -> String {
    let title = format!("Index of {}", escape(path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or("/")));
    let mut html = format!(
        "<!DOCTYPE html>\n<html>\n <head>\n  <title>{title}</title>\n </head>\n <body>\n<h1>{title}</h1>\n  <table>\n"
    );
    if let Some((above, _)) = path.trim_end_matches('/').rsplit_once('/').filter(|_| parent) {
        html += &format!("<tr><td><a href=\"{}/\">Parent Directory</a></td></tr>\n", percent_encode_path(above));
    }
    let date = modified.iso().replace('T', " ");
    let date = date.get(..16).unwrap_or_default();
    for Line { name, size } in lines {
        let size = size.map_or_else(|| "-".to_owned(), |size| size.to_string());
        html += &format!(
            "<tr><td><a href=\"{}\">{}</a></td><td align=\"right\">{date}</td><td align=\"right\">{size}</td></tr>\n",
            href(name),
            escape(name)
        );
    }
    html + "  </table>\n</body></html>\n"
}

/// Behind `./` where a colon would make what stands before it a scheme.
fn href(name: &str) -> String {
    let encoded = percent_encode_path(name).replace("%3A", ":");
    if encoded.contains(':') { format!("./{encoded}") } else { encoded }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use bootstrap::bundle::autoindex::{Link, parse};

    use super::*;

    #[test]
    fn a_page_gives_its_names_and_nothing_else() {
        let names = ["a & b<c>\"d'.txt", "docker/", "pause:3.10.tar", "x%41?#é.tar"];
        let lines: Vec<Line> = names.map(|name| Line { name: name.to_owned(), size: Some(7) }).to_vec();
        let html = page("/cks-iso/docker/", &lines, Moment(0), true);
        let link = |name: &str| Link { name: name.trim_end_matches('/').to_owned(), directory: name.ends_with('/') };
        assert_eq!(parse(&html), names.map(link));
        assert!(html.contains(r#"href="./pause:3.10.tar""#) && html.contains(r#"href="/cks-iso/">Parent"#), "{html}");
        assert!(!page("/cks-iso/", &lines, Moment(0), false).contains("Parent"));
        assert!(page("/", &lines, Moment(0), false).contains("<title>Index of /</title>"));
    }
}
