//! What a leave writes down before it changes anything; it goes last.

use std::fs;

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::Begun;
use bootstrap::leaving::paths::BEGUN;

use crate::files;
use crate::host::{Host, io_failure};

/// What an interrupted leave wrote down. A file that can't be read counts as one that says nothing: it tells that a
/// leave began, and that is what matters most.
pub(super) fn read(host: &Host) -> Option<Begun> {
    let text = fs::read(host.path(BEGUN)).ok()?;
    Some(serde_json::from_slice(&text).unwrap_or_default())
}

/// Keeps it.
///
/// # Errors
/// `NO_SPACE` and `IO` name the file.
pub(super) fn write(host: &Host, begun: &Begun) -> Result<(), Failure> {
    if read(host).as_ref() == Some(begun) {
        return Ok(());
    }
    let path = host.prepare(BEGUN)?;
    let text = serde_json::to_vec_pretty(begun).map_err(|e| io_failure("Writing", &path, e.into()))?;
    files::write(&path, &text, 0o600)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_still_tells_that_a_leave_began() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert_eq!(read(&host), None);
        write(&host, &Begun { node: Some("w1".to_owned()), ..Begun::default() }).unwrap();
        change(&host, |begun| begun.reset = true).unwrap();
        assert!(read(&host).is_some_and(|begun| begun.reset && begun.node.as_deref() == Some("w1")));
        fs::write(host.path(BEGUN), "{\"at\":").unwrap();
        assert_eq!(read(&host), Some(Begun::default()));
    }
}
