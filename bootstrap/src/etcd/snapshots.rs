//! Names of snapshots, and which are kept.

/// Where scheduled snapshots go unless the settings say otherwise.
pub const DIRECTORY: &str = "/var/lib/cks-agent/etcd-snapshots";

/// The name of a snapshot taken at `time` (RFC 3339, UTC): `etcd-e1-20261130T184933Z.db`.
#[must_use]
pub fn name(node: &str, time: &str) -> String {
    let time: String = time.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("etcd-{node}-{time}.db")
}

/// Which of the files `names` are snapshots of `node` beyond the newest `keep`: those may be removed.
#[must_use]
pub fn superfluous<'a>(node: &str, names: &[&'a str], keep: usize) -> Vec<&'a str> {
    let prefix = format!("etcd-{node}-");
    // The rest of the name has to be a time: a file of somebody else, or of the node `e1-b`, is none of ours.
    let time = |name: &str| {
        let time = name.strip_prefix(&prefix)?.strip_suffix("Z.db")?;
        let (day, clock) = time.split_once('T')?;
        let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(day, 8) && digits(clock, 6)).then(|| time.to_owned())
    };
    let mut dated: Vec<_> = names.iter().filter_map(|name| Some((time(name)?, *name))).collect();
    dated.sort();
    dated.reverse();
    dated.into_iter().skip(keep).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_nothing_of_others() {
        assert_eq!(name("e1", "2026-11-30T18:49:33Z"), "etcd-e1-20261130T184933Z.db");
        let names = [
            "etcd-e1-20261130T184933Z.db",
            "etcd-e1-20261201T000000Z.db",
            "etcd-e1-20251201T000000Z.db",
            "etcd-e1-b-20251201T000000Z.db",
            "etcd-e1-before-upgrade.db",
            ".etcd-e1-20251201T000000Z.db.part",
            "notes",
        ];
        let old = ["etcd-e1-20261130T184933Z.db", "etcd-e1-20251201T000000Z.db"];
        assert_eq!(superfluous("e1", &names, 1), old);
        assert!(superfluous("e1", &names, 3).is_empty());
    }
}
