//! Mount options that a StorageClass or a PersistentVolume asks for.

use super::refusal::{Class, Refusal};
use crate::mountinfo::Mount;
use crate::text::plain;

/// No list of options is longer: the kernel takes a page (`mount(2)`).
const LONGEST: usize = 4000;

/// Options, as the kernel takes them: flags of the mount, and texts for the filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Device nodes are none.
    pub nodev: bool,
    /// Programs can't be run.
    pub noexec: bool,
    /// Times of reading are not written.
    pub noatime: bool,
    /// The same for directories.
    pub nodiratime: bool,
    /// They are written when they are older than those of writing.
    pub relatime: bool,
    /// They are written always.
    pub strictatime: bool,
    /// Times are kept in memory for as long as possible.
    pub lazytime: bool,
    /// Writes end when they are on the disk.
    pub sync: bool,
    /// The same for directories.
    pub dirsync: bool,
    /// The filesystem's own options, sorted.
    pub data: Vec<String>,
}

/// What would make another thing of a mount than a volume's filesystem, or is for `mount` and its fstab.
const REFUSED: [&str; 20] = [
    "bind",
    "rbind",
    "remount",
    "move",
    "shared",
    "rshared",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "unbindable",
    "loop",
    "user",
    "users",
    "owner",
    "group",
    "sb",
    "journal_dev",
    "logdev",
    "rtdev",
];
/// The same with a value.
const REFUSED_WITH_VALUE: [&str; 9] =
    ["loop=", "offset=", "sizelimit=", "sb=", "journal_dev=", "journal_path=", "logdev=", "rtdev=", "device="];
/// What is for whom mounts, not for the kernel; or says what is so anyhow.
const DROPPED: [&str; 9] = ["defaults", "rw", "_netdev", "nofail", "auto", "noauto", "suid", "dev", "exec"];

impl MountOptions {
    /// Reads a list of options, each of which may be several with commas in between.
    ///
    /// # Errors
    /// `REQUEST_INVALID` names the option.
    pub fn parse(asked: &[String]) -> Result<Self, Refusal> {
        if asked.iter().map(|option| option.len() + 1).sum::<usize>() > LONGEST {
            return Err(Refusal::new(Class::RequestInvalid, format!("mount_flags have more than {LONGEST} bytes")));
        }
        let mut options = Self::default();
        for option in
            asked.iter().flat_map(|option| option.split(',')).map(str::trim).filter(|option| !option.is_empty())
        {
            options.add(option)?;
        }
        options.data.sort();
        options.data.dedup();
        Ok(options)
    }

    fn add(&mut self, option: &str) -> Result<(), Refusal> {
        let refuse = |why: &str| {
            let what = format!("mount_flags: {:?} {why}", plain(option));
            Err(Refusal::new(Class::RequestInvalid, what))
        };
        if !option.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("is no mount option");
        }
        if REFUSED.contains(&option) || REFUSED_WITH_VALUE.iter().any(|start| option.starts_with(start)) {
            return refuse("may not be asked for a volume");
        }
        if DROPPED.contains(&option) || option.starts_with("x-") || option.starts_with("comment=") {
            return Ok(());
        }
        match self.flag(option) {
            Some(flag) => *flag = true,
            None => self.data.push(option.to_owned()),
        }
        Ok(())
    }

    /// The flag that an option sets; those that say what is so anyhow are none.
    fn flag(&mut self, option: &str) -> Option<&mut bool> {
        Some(match option {
            "ro" => &mut self.read_only,
            "nosuid" => &mut self.nosuid,
            "nodev" => &mut self.nodev,
            "noexec" => &mut self.noexec,
            "noatime" => &mut self.noatime,
            "nodiratime" => &mut self.nodiratime,
            "relatime" => &mut self.relatime,
            "strictatime" => &mut self.strictatime,
            "lazytime" => &mut self.lazytime,
            "sync" => &mut self.sync,
            "dirsync" => &mut self.dirsync,
            _ => return None,
        })
    }

    /// Why the mount of a filesystem is not what these options ask for; of the filesystem's own options only those count that
    /// the kernel shows and that say something else.
    #[must_use]
    pub fn conflicts(&self, there: &Mount) -> Option<String> {
        let shown: Vec<&str> = there.super_options.split(',').collect();
        let other_value = self.data.iter().find_map(|wanted| {
            let (key, value) = wanted.split_once('=')?;
            let told = shown.iter().find_map(|told| told.strip_prefix(key)?.strip_prefix('='))?;
            (told != value).then(|| format!("{key}={} instead of {wanted}", plain(told)))
        });
        self.conflicts_of_mount(there).or(other_value)
    }

    /// The same for a mount of what is mounted elsewhere already: its own flags alone.
    #[must_use]
    pub fn conflicts_of_mount(&self, there: &Mount) -> Option<String> {
        if self.read_only != there.is_read_only() {
            let (is, wanted) = if self.read_only { ("read-write", "read-only") } else { ("read-only", "read-write") };
            return Some(format!("{is} instead of {wanted}"));
        }
        let flags =
            [("nosuid", self.nosuid), ("nodev", self.nodev), ("noexec", self.noexec), ("noatime", self.noatime)];
        let other = flags.into_iter().find(|(name, wanted)| *wanted != there.has(name));
        other.map(|(name, wanted)| format!("{} {name}", if wanted { "without" } else { "with" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::Device;

    fn parse(asked: &[&str]) -> Result<MountOptions, Refusal> {
        MountOptions::parse(&asked.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    fn there(options: &str, super_options: &str) -> Mount {
        Mount {
            device: Device { major: 254, minor: 16 },
            root: "/".into(),
            path: "/s".into(),
            options: options.to_owned(),
            kind: "ext4".to_owned(),
            source: "/dev/vdb".to_owned(),
            super_options: super_options.to_owned(),
        }
    }

    #[test]
    fn the_order_and_the_way_of_writing_do_not_matter() {
        let one = parse(&["noatime,discard", "data=ordered", "defaults", "_netdev", "x-systemd.automount"]).unwrap();
        let other = parse(&["data=ordered", " discard", "noatime", "rw", "discard"]).unwrap();
        assert_eq!(one, other);
        assert!(one.noatime && !one.read_only);
        assert_eq!(one.data, ["data=ordered", "discard"]);
        assert!(parse(&["ro"]).unwrap().read_only);
    }

    #[test]
    fn what_makes_something_else_of_a_mount_is_refused() {
        for option in [
            "bind",
            "remount",
            "rshared",
            "loop",
            "offset=4096",
            "user",
            "journal_path=/dev/vda",
            "sb=131072",
            "a b",
            "é",
            "a\nb",
        ] {
            let refusal = parse(&["noatime", option]).unwrap_err();
            assert_eq!(refusal.class, Class::RequestInvalid, "{option}");
        }
        assert!(parse(&["x".repeat(4001).as_str()]).is_err());
    }

    #[test]
    fn a_mount_is_what_is_asked_for_or_it_is_said_why_not() {
        for (asked, options, super_options, why) in [
            (&["noatime"][..], "rw,noatime", "rw", None),
            (&[], "rw,relatime", "rw,errors=remount-ro", None),
            (&["ro"], "ro,relatime", "rw", None),
            (&["ro"], "rw,relatime", "rw", Some("read-write")),
            (&[], "ro,relatime", "rw", Some("read-only")),
            // A filesystem with errors is read-only, whatever its mounts are.
            (&[], "rw,relatime", "ro", Some("read-only")),
            (&["noexec"], "rw,relatime", "rw", Some("without noexec")),
            (&[], "rw,noexec", "rw", Some("with noexec")),
            (&["commit=5"], "rw", "rw,commit=30", Some("commit=30")),
            (&["commit=5"], "rw", "rw,commit=5", None),
            (&["discard"], "rw", "rw", None),
        ] {
            let conflict = parse(asked).unwrap().conflicts(&there(options, super_options));
            assert_eq!(conflict.is_some(), why.is_some(), "{asked:?} {options}: {conflict:?}");
            assert!(conflict.unwrap_or_default().contains(why.unwrap_or_default()), "{asked:?}");
        }
    }
}
