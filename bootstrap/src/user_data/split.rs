//! Where the management server's text ends and the user's begins.
//!
//! CloudStack (4.21 and later) appends a CNI configuration to the first control plane node's user data as text: the
//! server's file, two line ends, and the user's text without its first line. The server's file ends with its list of
//! commands, so what stands behind its last command is the user's, however it is indented.

use super::cloud_config::{indent_of, is_item, is_key};

/// The user's text behind the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserText {
    /// The text; its first line, which the server cut off, is empty here. So a line's number is the one in the text
    /// that the user registered.
    pub(super) text: String,
    /// Lines of the user data before the first line of `text`, which overlaps the last of these.
    pub(super) before: usize,
    /// Whether a first line was cut off.
    pub(super) cut: bool,
}

/// The server's text, and the user's behind it; none where nothing but comments follows.
pub(super) fn split(text: &str) -> (&str, Option<UserText>) {
    let Some((line, end)) = last_command(text) else { return (text, None) };
    let (server, rest) = text.split_at(end);
    let said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if !rest.lines().any(said) {
        return (text, None);
    }
    let blank = rest.lines().take(2).take_while(|line| line.trim().is_empty()).count();
    let own: String = rest.split_inclusive('\n').skip(blank).collect();
    (server, Some(UserText { text: format!("\n{own}"), before: line + blank - 1, cut: true }))
}

/// The last command of the server's list: its line, from 1, and where that ends.
fn last_command(text: &str) -> Option<(usize, usize)> {
    let mut end = 0;
    let mut inside = false;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        end += line.len();
        let line = line.trim_end();
        if is_key(line) {
            inside = line.starts_with("runcmd:");
        } else if inside && is_item(line) && indent_of(line) <= 4 && starts_the_node(line) {
            return Some((at + 1, end));
        }
    }
    None
}

/// Whether a command starts what the server's file is for. `systemctl start deploy-kube-system`, also as a list;
/// `systemctl enable --now etcd`; of our own templates, `systemctl start cks-bootstrap`.
pub(super) fn starts_the_node(line: &str) -> bool {
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || "[],'\"".contains(c))
        .filter(|word| !word.is_empty() && *word != "-")
        .map(|word| word.trim_end_matches(".service"))
        .collect();
    let starts = words.iter().any(|word| matches!(*word, "start" | "restart" | "enable"));
    let unit = words.iter().any(|word| matches!(*word, "deploy-kube-system" | "etcd" | "cks-bootstrap"));
    words.first() == Some(&"systemctl") && starts && unit
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "#cloud-config\nruncmd:\n  - one\n  - systemctl start deploy-kube-system\n";

    #[test]
    fn what_follows_the_last_command_is_the_users() {
        for own in ["  - mine\n", "    - mine\n", "- mine\n", "runcmd:\n  - mine\n", "apiVersion: v1\n"] {
            let text = format!("{SERVER}\n\n{own}");
            let (server, user) = split(&text);
            assert_eq!(server, SERVER);
            let user = user.unwrap();
            assert_eq!(user.text, format!("\n{own}"));
            // Line 2 of the user's text is line `before + 2` of all.
            assert_eq!(text.lines().nth(user.before + 1), own.lines().next());
        }
    }

    #[test]
    fn nothing_is_made_up() {
        for text in
            [SERVER, &format!("{SERVER}\n\n# a comment\n\n"), "#cloud-config\nruncmd:\n  - mine\n  - more\n", ""]
        {
            assert_eq!(split(text).1, None, "{text}");
        }
    }

    #[test]
    fn each_form_of_the_last_command_is_known() {
        for line in [
            "  - systemctl start deploy-kube-system",
            "  - [ systemctl, start, deploy-kube-system ]",
            "  - ['systemctl', \"start\", 'deploy-kube-system.service']",
            "  - systemctl enable --now etcd",
            "- systemctl start --no-block cks-bootstrap.service",
        ] {
            assert!(starts_the_node(line), "{line}");
        }
        for line in
            ["  - systemctl start docker", "  - echo systemctl start deploy-kube-system", "  - systemctl stop etcd"]
        {
            assert!(!starts_the_node(line), "{line}");
        }
    }
}
