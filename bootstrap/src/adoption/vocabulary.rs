//! What the management server's scripts say, in all releases from 4.14 on.

use super::script::{Statement, statements};
use super::shown;

/// A script of the server has some ten thousand characters.
const MAX_BYTES: usize = 128 << 10;

/// Commands that do nothing by themselves, or nothing that lasts.
const HARMLESS: [&str; 14] =
    ["[", "[[", "((", ":", "break", "continue", "echo", "exit", "false", "for", "read", "set", "sleep", "true"];

/// Whole statements, with slots.
const KNOWN: &str = include_str!("data/vocabulary");
/// What stands for any letters but blanks in one of them, twice for anything.
const SLOT: char = '%';

/// What kubeadm is told by the server, or by templates that say more of what the agent does, too.
const FLAGS: [&str; 15] = [
    "--apiserver-cert-extra-sans",
    "--certificate-key",
    "--config",
    "--control-plane",
    "--control-plane-endpoint",
    "--cri-socket",
    "--discovery-token-ca-cert-hash",
    "--discovery-token-unsafe-skip-ca-verification",
    "--kubernetes-version",
    "--pod-network-cidr",
    "--service-cidr",
    "--skip-phases",
    "--token",
    "--token-ttl",
    "--upload-certs",
];

/// The lines of the server's unit.
const UNIT: [&str; 12] = [
    "[Unit]",
    "[Service]",
    "Requires=containerd.service",
    "After=containerd.service",
    "After=setup-kube-system.service",
    "Requires=docker.service",
    "After=docker.service",
    "Type=simple",
    "StartLimitInterval=0",
    "Restart=on-failure",
    "ExecStart=/opt/bin/deploy-kube-system",
    "",
];

/// Refuses a script that says anything else than the server's; in words, with the line.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes, more than any script of the management server", text.len()));
    }
    let statements = statements(text)?;
    let Some(first) = statements.first() else { return Err("says nothing".to_owned()) };
    if !text.starts_with("#!") || first.line == 1 {
        return Err("is no script of the management server".to_owned());
    }
    let known = self::statements(KNOWN)?;
    match statements.iter().find(|statement| !is_known(statement, &known)) {
        None => Ok(()),
        // The rest of the line may be secret.
        Some(Statement { line, words }) => {
            let word = words.first().map_or("", String::as_str);
            let word = word.split_once('=').map_or(word, |(name, _)| name);
            Err(format!("line {line}: {:?} is not what the management server's script says there", shown(word)))
        }
    }
}

/// Whether the unit is the server's.
pub(super) fn is_unit(text: &str) -> bool {
    let known = |line: &str| {
        let line = line.trim();
        let asks = line.strip_prefix("ExecStartPre=/usr/bin/curl -k https://");
        UNIT.contains(&line) || asks.is_some_and(|rest| rest.ends_with("/version") && !rest.contains(' '))
    };
    text.lines().all(known) && text.contains("ExecStart=/opt/bin/deploy-kube-system")
}

fn is_known(statement: &Statement, known: &[Statement]) -> bool {
    let words: Vec<String> = statement.words.iter().map(|word| plain_names(word)).collect();
    let (word, behind) = words.split_first().map_or(("", &[][..]), |(word, behind)| (word.as_str(), behind));
    let word = word.strip_prefix("/opt/bin/").unwrap_or(word);
    let end = match word {
        "[[" => behind.iter().position(|word| word == "]]"),
        "((" => behind.iter().position(|word| word == "))"),
        _ => None,
    };
    // In a test `>` compares, behind it and in all else something is written.
    let writes = behind.get(end.unwrap_or(0)..).unwrap_or_default().iter().any(|word| word.contains('>'));
    if HARMLESS.contains(&word) && !writes {
        return true;
    }
    let asks = match (word, behind.first().map(String::as_str)) {
        ("kubeadm", Some("init")) => behind.get(1..),
        // A configuration of its own is read for an init only.
        ("kubeadm", Some("join")) => {
            behind.get(2..).filter(|flags| !flags.iter().any(|flag| flag.starts_with("--config")))
        }
        _ => None,
    };
    if let Some(flags) = asks {
        return flags.first().is_none_or(|word| word.starts_with('-')) && flags.iter().all(|word| is_flag(word));
    }
    known.iter().any(|Statement { words: known, .. }| {
        let pairs = || known.iter().skip(1).zip(behind);
        known.len() == words.len()
            && known.first().is_some_and(|known| fits(&plain_names(known), word))
            && pairs().all(|(known, word)| fits(&plain_names(known), word))
    })
}

/// Whether `word` is what `known` says, with something in each of its slots.
fn fits(known: &str, word: &str) -> bool {
    let Some((before, behind)) = known.split_once(SLOT) else { return known == word };
    let Some(rest) = word.strip_prefix(before) else { return false };
    let (anything, behind) = behind.strip_prefix(SLOT).map_or((false, behind), |behind| (true, behind));
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    let mut ends =
        ends.take_while(|end| anything || !rest.get(..*end).unwrap_or_default().contains(char::is_whitespace));
    ends.any(|end| fits(behind, rest.get(end..).unwrap_or_default()))
}

/// The word with `$NAME` for each `${NAME}`.
fn plain_names(word: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(word.len()), word);
    while let Some((before, behind)) = rest.split_once("${") {
        let name = behind
            .split_once('}')
            .filter(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        plain = plain + before + if name.is_some() { "$" } else { "${" };
        rest = name.map_or(behind, |(name, after)| {
            plain += name;
            after
        });
    }
    plain + rest
}

/// Whether kubeadm is told nothing else by this word than the server tells it.
fn is_flag(word: &str) -> bool {
    let flag = word.split('=').next().unwrap_or(word);
    !word.contains(['<', '>']) && (!word.starts_with('-') || FLAGS.contains(&flag))
}
