//! What is kept of a membership: `/var/lib/cks-agent/cluster.json`.

use bootstrap::cluster::{Record, Stage, kind_of};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;

use crate::files;
use crate::host::{Host, STATE_DIR, io_failure};

/// The file's path.
#[must_use]
pub fn path() -> String {
    format!("{STATE_DIR}/cluster.json")
}

/// What an earlier run wrote down; none before the first, and after the node has left.
///
/// # Errors
/// `STATE_INVALID` and `IO` name the file.
pub fn read(host: &Host) -> Result<Option<Record>, Failure> {
    files::read_json(&host.path(&path())).map_err(|failure| match failure.code {
        Code::StateInvalid => {
            failure.with_remedy("move the file aside if this machine is in no cluster; cks-agent leave otherwise")
        }
        _ => failure,
    })
}

/// Keeps it, whole and on the disk.
///
/// # Errors
/// `NO_SPACE` and `IO` name the file.
pub fn write(host: &Host, record: &Record) -> Result<(), Failure> {
    files::write_json(&host.prepare(&path())?, record, 0o600)
}

/// Forgets a try that never became a member, before other user data is carried out: the cluster that it met, and as what, says
/// nothing of another one.
///
/// # Errors
/// As [`read`]; `IO` names the file.
pub fn forget_try(host: &Host) -> Result<(), Failure> {
    let Some(record) = read(host)?.filter(|record| !record.outlives_user_data()) else { return Ok(()) };
    let path = host.path(&path());
    std::fs::remove_file(&path).map_err(|e| io_failure("Removing", &path, e))?;
    tracing::info!("forgotten: a try to become {} of a cluster, by other user data", record.membership);
    Ok(())
}

/// Writes down that something irreversible is begun now; a stage that was reached stays.
///
/// # Errors
/// As [`read`] and [`write`].
pub fn begin(host: &Host, spec: &NodeSpec) -> Result<(), Failure> {
    change(host, spec, |_| {})
}

/// Writes down that a join with a cluster of this `authority` is begun now. What the machine was in an earlier membership, of
/// which nothing is left then, says nothing of this one.
///
/// # Errors
/// As [`read`] and [`write`].
pub fn begin_join(host: &Host, spec: &NodeSpec, authority: Vec<String>) -> Result<(), Failure> {
    change(host, spec, |record| {
        record.authority = authority;
        record.stage = Stage::Begun;
    })
}

/// Writes down that `stage` is reached; a later one stays.
///
/// # Errors
/// As [`read`] and [`write`].
pub fn reach(host: &Host, spec: &NodeSpec, stage: Stage) -> Result<(), Failure> {
    change(host, spec, |record| record.stage = record.stage.max(stage))
}

/// Changes what is kept; nothing is written where it stays as it is.
///
/// # Errors
/// As [`read`] and [`write`].
pub fn change(host: &Host, spec: &NodeSpec, how: impl FnOnce(&mut Record)) -> Result<(), Failure> {
    let there = read(host)?;
    let mut record = there.clone().unwrap_or_else(|| fresh(spec));
    how(&mut record);
    if there.as_ref() == Some(&record) { Ok(()) } else { write(host, &record) }
}

fn fresh(spec: &NodeSpec) -> Record {
    Record {
        membership: spec.membership.as_ref().map_or("installed only", kind_of).to_owned(),
        authority: Vec::new(),
        stage: Stage::Begun,
        applied: std::collections::BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use bootstrap::bundle::Role;
    use bootstrap::node_spec::Membership;

    use super::*;

    #[test]
    fn a_stage_is_reached_once_and_kept() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let mut spec = NodeSpec::new(Role::Etcd, "e1", None, None).unwrap();
        spec.membership = Some(Membership::Etcd);
        assert_eq!(read(&host).unwrap(), None);
        begin_join(&host, &spec, vec!["sha256:a".to_owned()]).unwrap();
        reach(&host, &spec, Stage::Ready).unwrap();
        reach(&host, &spec, Stage::Member).unwrap();
        begin(&host, &spec).unwrap();
        let record = read(&host).unwrap().unwrap();
        assert_eq!((record.stage, record.membership.as_str()), (Stage::Ready, "an etcd member"));
        assert_eq!(record.authority, ["sha256:a"]);
        // An earlier membership is over where a join begins.
        begin_join(&host, &spec, vec!["sha256:b".to_owned()]).unwrap();
        let record = read(&host).unwrap().unwrap();
        assert_eq!((record.stage, &record.authority[..]), (Stage::Begun, &["sha256:b".to_owned()][..]));
        std::fs::write(host.path(&path()), "{").unwrap();
        assert_eq!(read(&host).unwrap_err().code, Code::StateInvalid);
    }
}
