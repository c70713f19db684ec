//! The user that etcd runs as, where no `systemd-sysusers` makes it.

use crate::failure::{Code, Failure};

/// User and group.
pub const USER: &str = "etcd";

/// Text of `/usr/lib/sysusers.d/…` (sysusers.d(5)); the home directory is the data directory.
pub const SYSUSERS: &str = "# Written by cks-agent.\nu etcd - \"etcd\" /var/lib/etcd\n";

/// Ids of system users, the highest first, as distributions hand them out (systemd, Users, Groups, UIDs and GIDs).
const IDS: std::ops::RangeInclusive<u32> = 101..=999;

/// Ids of a user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// The ids of [`USER`] in the text of `/etc/passwd`.
#[must_use]
pub fn find(passwd: &str) -> Option<Ids> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(USER))?;
    let mut fields = line.split(':').skip(2);
    Some(Ids { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

/// The lines that add [`USER`] to `/etc/passwd` and `/etc/group`, the latter empty where the group is there.
///
/// # Errors
/// `HOST_UNFIT`: every id of a system user is taken.
pub fn lines(passwd: &str, group: &str) -> Result<(String, String), Failure> {
    let third = |line: &str| line.split(':').nth(2).and_then(|id| id.parse::<u32>().ok());
    let known = group.lines().find(|line| line.split(':').next() == Some(USER)).and_then(third);
    let taken = |id: &u32| passwd.lines().chain(group.lines()).filter_map(third).any(|other| other == *id);
    let free = IDS.rev().find(|id| !taken(id));
    let user = free.ok_or_else(|| Failure::new(Code::HostUnfit, "no id is free for the user etcd (101 to 999)"))?;
    let group = known.map_or_else(|| format!("{USER}:x:{user}:\n"), |_| String::new());
    let gid = known.unwrap_or(user);
    Ok((format!("{USER}:x:{user}:{gid}:etcd:/var/lib/etcd:/usr/sbin/nologin\n"), group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_id_is_taken_for_both() {
        let (passwd, group) = ("root:x:0:0::/root:/bin/sh\na:x:999:5::/:/x\n", "root:x:0:\nb:x:998:\n");
        let (line, group_line) = lines(passwd, group).unwrap();
        assert_eq!(line, "etcd:x:997:997:etcd:/var/lib/etcd:/usr/sbin/nologin\n");
        assert_eq!(group_line, "etcd:x:997:\n");
        assert_eq!(find(&format!("{passwd}{line}")), Some(Ids { user: 997, group: 997 }));
        assert_eq!(find(passwd), None);
    }

    #[test]
    fn a_group_that_is_there_is_used() {
        let (line, group) = lines("", "etcd:x:120:\n").unwrap();
        assert_eq!((line.as_str(), group.as_str()), ("etcd:x:999:120:etcd:/var/lib/etcd:/usr/sbin/nologin\n", ""));
    }
}
