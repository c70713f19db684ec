//! Names of snapshots, and which are kept.

/// Where scheduled snapshots go unless the settings say otherwise.
pub const DIRECTORY: &str = "/var/lib/cks-agent/etcd-snapshots";

/// The name of a snapshot taken at `time` (RFC 3339, UTC): `etcd-e1-20261130T184933Z.db`.
#[must_use]
pub fn name(node: &str, time: &str) -> String {
    let time: String = time.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("etcd-{node}-{time}.db")
}

/// Whether the file `name` is a snapshot of `node` that is being written, or was by a run that was killed.
#[must_use]
pub fn is_unfinished(node: &str, name: &str) -> bool {
    let own = name.strip_prefix('.').and_then(|name| name.split_once(".cks-new"));
    own.is_some_and(|(name, _)| time(node, name).is_some())
}

/// When the snapshot `name` of `node` was taken. The rest of the name has to be a time: a file of somebody else, or of the
/// node `e1-b`, is none of ours.
fn time<'a>(node: &str, name: &'a str) -> Option<&'a str> {
    let time = name.strip_prefix("etcd-")?.strip_prefix(node)?.strip_prefix('-')?.strip_suffix("Z.db")?;
    let (day, clock) = time.split_once('T')?;
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(day, 8) && digits(clock, 6)).then_some(time)
}

/// Which of the files `names` are snapshots of `node` beyond the newest `keep`: those may be removed.
#[must_use]
pub fn superfluous<'a>(node: &str, names: &[&'a str], keep: usize) -> Vec<&'a str> {
    let mut dated: Vec<_> = names.iter().filter_map(|name| Some((time(node, name)?, *name))).collect();
    dated.sort();
    dated.reverse();
    dated.into_iter().skip(keep).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_of_this_node_writes_is_known() {
        for (name, own) in [
            (".etcd-e1-20251201T000000Z.db.cks-new", true),
            (".etcd-e1-20251201T000000Z.db.cks-new.part", true),
            (".etcd-e1-b-20251201T000000Z.db.cks-new", false),
            (".etcd-e2-20251201T000000Z.db.cks-new", false),
            (".etcd-e1-mine.db.cks-new", false),
            ("etcd-e1-20251201T000000Z.db", false),
        ] {
            assert_eq!(is_unfinished("e1", name), own, "{name}");
        }
    }

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
