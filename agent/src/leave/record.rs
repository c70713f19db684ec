//! What a leave writes down before it changes anything; it goes last.

use std::fs;
use std::time::SystemTime;

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::Begun;
use bootstrap::leaving::paths::{BEGUN, LEFT};
use bootstrap::leaving::traces::KUBELET_CONF;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::host::{Host, io_failure};

/// What an interrupted leave wrote down. A file that can't be read counts as one that says nothing: it tells that a
/// leave began, and that is what matters most.
pub(super) fn read(host: &Host) -> Option<Begun> {
    let text = fs::read(host.path(BEGUN)).ok()?;
    Some(serde_json::from_slice(&text).unwrap_or_default())
}

/// Whether a leave has begun and not ended.
#[must_use]
pub fn is_under_way(host: &Host) -> bool {
    read(host).is_some_and(|begun| !is_joined_since(host, &begun))
}

/// Whether the node was added again after the leave that wrote `begun`, which left something then and was not run again.
pub(super) fn is_joined_since(host: &Host, begun: &Begun) -> bool {
    let joined = fs::metadata(host.path(KUBELET_CONF)).and_then(|meta| meta.modified()).ok();
    let left = humantime::parse_rfc3339(&begun.at).ok();
    joined.zip(left).is_some_and(|(joined, left)| joined > left)
}

/// Forgets a leave that did not end, before the node is made a member again: what that one found and did would count for
/// the new membership.
///
/// # Errors
/// `IO` names the file.
pub fn forget_unfinished(host: &Host) -> Result<(), Failure> {
    let path = host.path(BEGUN);
    match fs::remove_file(&path) {
        Ok(()) => tracing::warn!("a leave of this node did not end before it joins again"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io_failure("Removing", &path, e)),
    }
    Ok(())
}

/// Keeps it.
///
/// # Errors
/// `NO_SPACE` and `IO` name the file.
pub(super) fn write(host: &Host, begun: &Begun) -> Result<(), Failure> {
    if read(host).as_ref() == Some(begun) {
        return Ok(());
    }
    files::write_json(&host.prepare(BEGUN)?, begun, 0o600)
}

/// Changes it.
///
/// # Errors
/// As [`write`].
pub(super) fn change(host: &Host, change: impl FnOnce(&mut Begun)) -> Result<(), Failure> {
    let mut begun = read(host).ok_or_else(|| Failure::new(Code::StateInvalid, format!("{BEGUN} is gone")))?;
    change(&mut begun);
    write(host, &begun)
}

/// The document `/var/lib/cks-agent/left.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Departure {
    /// When (RFC 3339, UTC).
    at: String,
    /// The node's name in the cluster that it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

/// When the node left its cluster; none where it never did. A document that can't be read tells that it did, long ago.
#[must_use]
pub fn left_at(host: &Host) -> Option<SystemTime> {
    let text = fs::read(host.path(LEFT)).ok()?;
    let departure = serde_json::from_slice::<Departure>(&text).ok();
    let at = departure.and_then(|departure| humantime::parse_rfc3339(&departure.at).ok());
    Some(at.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Keeps when the node left: that is when it began to.
///
/// # Errors
/// `NO_SPACE` and `IO` name the file.
pub(super) fn leave_behind(host: &Host, begun: &Begun) -> Result<(), Failure> {
    let departure = Departure { at: begun.at.clone(), node: begun.node.clone() };
    files::write_json(&host.prepare(LEFT)?, &departure, 0o600)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bootstrap::leaving::facts::Facts;

    use super::super::local;
    use super::*;

    #[test]
    fn a_torn_record_still_tells_that_a_leave_began() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert_eq!(read(&host), None);
        write(&host, &Begun { node: Some("w1".to_owned()), ..Begun::default() }).unwrap();
        change(&host, |begun| begun.reset = true).unwrap();
        assert!(read(&host).is_some_and(|begun| begun.reset && begun.node.as_deref() == Some("w1")));
        let begun = Begun { at: "2026-01-02T03:04:05Z".to_owned(), ..Begun::default() };
        assert_eq!(left_at(&host), None);
        leave_behind(&host, &begun).unwrap();
        assert_eq!(left_at(&host), Some(humantime::parse_rfc3339(&begun.at).unwrap()));
        fs::write(host.path(LEFT), "{").unwrap();
        assert_eq!(left_at(&host), Some(SystemTime::UNIX_EPOCH));
        fs::write(host.path(BEGUN), "{\"at\":").unwrap();
        assert_eq!(read(&host), Some(Begun::default()));
    }

    #[test]
    fn a_leave_is_over_when_the_node_has_joined_again() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert!(!is_under_way(&host));
        write(&host, &Begun { at: "2026-01-02T03:04:05Z".to_owned(), ..Begun::default() }).unwrap();
        assert!(is_under_way(&host));
        let conf = host.prepare(KUBELET_CONF).unwrap();
        fs::write(&conf, "").unwrap();
        for (joined, under_way) in [("2026-01-02T03:04:04Z", true), ("2026-01-02T03:04:06Z", false)] {
            let file = fs::File::options().write(true).open(&conf).unwrap();
            file.set_modified(humantime::parse_rfc3339(joined).unwrap()).unwrap();
            assert_eq!(is_under_way(&host), under_way, "{joined}");
        }
        // In the same second, too.
        let now = SystemTime::now();
        fs::File::options().write(true).open(&conf).unwrap().set_modified(now).unwrap();
        for (later, under_way) in [(1, true), (0, false)] {
            forget_unfinished(&host).unwrap();
            let left = now + Duration::from_millis(10) * later;
            local::note(&host, &Facts::default(), left - Duration::from_millis(5)).unwrap();
            assert_eq!(is_under_way(&host), under_way, "{later}");
        }
        forget_unfinished(&host).unwrap();
        assert_eq!(read(&host), None);
        forget_unfinished(&host).unwrap();
    }
}
