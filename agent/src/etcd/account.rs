//! The user `etcd`: made by systemd-sysusers, which knows the distribution's ways, or by hand where there is none.

use std::fs;

use bootstrap::etcd::account::{self, Ids};
use bootstrap::failure::{Code, Failure};

use crate::files;
use crate::host::{Host, io_failure};
use crate::tool::Tool;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const SYSUSERS_PATH: &str = "/etc/sysusers.d/cks-etcd.conf";

/// The ids of the user, which is made where it is missing.
///
/// # Errors
/// `HOST_UNFIT` when it can't be made; `IO`.
pub async fn user(host: &Host) -> Result<Ids, Failure> {
    if let Some(ids) = account::find(&read(host, PASSWD)?) {
        return Ok(ids);
    }
    let path = host.prepare(SYSUSERS_PATH)?;
    files::write(&path, account::SYSUSERS.as_bytes(), 0o644)?;
    if Tool::SystemdSysusers.find(host).is_some() {
        let call = Tool::SystemdSysusers.call(host).arg(format!("--root={}", host.root().display()));
        call.arg(SYSUSERS_PATH).ok(Code::HostUnfit).await?;
    } else {
        by_hand(host)?;
    }
    account::find(&read(host, PASSWD)?)
        .ok_or_else(|| Failure::new(Code::HostUnfit, "the user etcd was made and is not in /etc/passwd"))
}

/// The group first: a user whose group is missing would be found, and never completed.
fn by_hand(host: &Host) -> Result<(), Failure> {
    let (passwd, group) = (read(host, PASSWD)?, read(host, GROUP)?);
    let (user_line, group_line) = account::lines(&passwd, &group)?;
    for (path, before, line) in [(GROUP, group, group_line), (PASSWD, passwd, user_line)] {
        if !line.is_empty() {
            let between = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
            files::write(&host.prepare(path)?, format!("{before}{between}{line}").as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

fn read(host: &Host, path: &str) -> Result<String, Failure> {
    let path = host.path(path);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(io_failure("Reading", &path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_user_is_made_once_where_nothing_makes_users() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        fs::write(host.prepare(PASSWD).unwrap(), "root:x:0:0::/root:/bin/sh").unwrap();
        let ids = user(&host).await.unwrap();
        assert_eq!(user(&host).await.unwrap(), ids);
        let passwd = read(&host, PASSWD).unwrap();
        assert!(passwd.starts_with("root:x:0:0::/root:/bin/sh\netcd:x:"), "{passwd}");
        assert_eq!(passwd.lines().count(), 2);
        assert_eq!(read(&host, GROUP).unwrap(), format!("etcd:x:{}:\n", ids.group));
    }
}
