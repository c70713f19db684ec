//! The properties of what volumes are decided by: the mount table, what disks say of themselves, what is on them, requests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use agent::csi::proto::csi::{
    NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};
use agent::csi::{request, status};
use agent::volume::Access;
use bootstrap::mountinfo::{Mount, MountTable};
use bootstrap::secret::MASK;
use bootstrap::volume::encryption::{LUKS2, PARAMETER};
use bootstrap::volume::refusal::{Class, Refusal};
use bootstrap::volume::superblock::{self, Content};
use bootstrap::volume::{VolumeId, vpd};
use prost::Message;

/// `/proc/self/mountinfo`: what is read is written as the kernel writes it, and read again the same.
pub fn mountinfo(data: &[u8]) {
    let Ok(table) = MountTable::parse(data) else { return };
    let written: Vec<u8> = table.iter().flat_map(line).collect();
    assert_eq!(MountTable::parse(&written).as_ref(), Ok(&table), "{}", String::from_utf8_lossy(&written));
    assert!(table.iter().next().is_some(), "a table without mounts is refused");
    for mount in table.iter().take(64) {
        assert_eq!(table.top_at(&mount.path).map(|top| &top.path), Some(&mount.path));
        assert!(table.below(&mount.path).all(|below| below.path != mount.path && below.path.starts_with(&mount.path)));
        assert!(!mount.has("ro") || mount.is_read_only());
    }
}

fn line(mount: &Mount) -> Vec<u8> {
    let mut line = format!("1 1 {} ", mount.device).into_bytes();
    line.extend(escaped(mount.root.as_os_str()));
    line.push(b' ');
    line.extend(escaped(mount.path.as_os_str()));
    line.extend(format!(" {} shared:1 - {} ", mount.options, mount.kind).bytes());
    line.extend(escaped(OsStr::new(&mount.source)));
    line.extend(format!(" {}\n", mount.super_options).bytes());
    line
}

fn escaped(text: &OsStr) -> Vec<u8> {
    let one = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        _ => vec![*byte],
    };
    text.as_bytes().iter().flat_map(one).collect()
}

/// Pages of a SCSI disk: what is told stands in the page as far as it says that it goes, and told by another page it is the same.
pub fn vpd(data: &[u8]) {
    let said =
        data.first_chunk::<4>().map_or(0, |[_, _, high, low]| 4 + usize::from(u16::from_be_bytes([*high, *low])));
    let page = data.get(..said).unwrap_or(data);
    let serial = vpd::unit_serial(data);
    assert_eq!(serial, vpd::unit_serial(page), "nothing behind its end");
    if let Some(serial) = &serial {
        assert!(plain(serial) && data.get(1) == Some(&0x80));
        assert!(page.windows(serial.len()).skip(4).any(|there| there == serial.as_bytes()), "{serial:?}");
        assert_eq!(vpd::unit_serial(&whole(0x80, serial.as_bytes())).as_ref(), Some(serial));
    }
    let told = vpd::designators(data);
    assert_eq!(told, vpd::designators(page), "nothing behind its end");
    assert!(told.is_empty() || (serial.is_none() && data.get(1) == Some(&0x83)));
    for name in &told {
        assert!(plain(name) && name.len() <= 2 * page.len() + 4, "{name:?}");
        if let Ok(length) = u8::try_from(name.len()) {
            let designator = [&[2, 0, 0, length], name.as_bytes()].concat();
            assert_eq!(vpd::designators(&whole(0x83, &designator)), std::slice::from_ref(name));
        }
    }
}

fn plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains(char::is_control)
}

fn whole(code: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("no longer than the page that it came from").to_be_bytes();
    [&[0, code], &length[..], payload].concat()
}

/// The first bytes of a disk. What is taken for blank is blank; what owns a disk as a whole is never mounted by itself.
///
/// The input is pieces, as superblocks lie far apart: where (three bytes), how long (one), the bytes.
pub fn superblock(data: &[u8]) {
    const HEAD: usize = 128 << 10;
    let mut head = Vec::new();
    let mut rest = data;
    while let [low, middle, high, length, after @ ..] = rest {
        let at = u32::from_le_bytes([*low, *middle, *high, 0]) as usize % HEAD;
        let (piece, behind) = after.split_at(usize::from(*length).min(after.len()));
        head.resize(head.len().max(at + piece.len()), 0);
        head[at..at + piece.len()].copy_from_slice(piece);
        rest = behind;
    }
    let first = head.iter().position(|byte| *byte != 0);
    let found = superblock::content(&head);
    assert_eq!(found == Content::Zeroes, first.is_none(), "{found:?}");
    assert!(!found.to_string().is_empty());
    let (at_the_start, at_the_end) =
        (superblock::blank(&head, &[], 1 << 40), superblock::blank(&[0; 8], &head, 1 << 40));
    assert!(at_the_start.is_ok() == first.is_none() && at_the_end.is_ok() == first.is_none());
    if let Some(first) = first {
        assert!(at_the_start.is_err_and(|why| why.ends_with(&format!(" {first}"))));
    }
    let bcache = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca";
    let owned = [(0, &b"LUKS\xba\xbe"[..]), (512, b"LABELONE"), (4096, b"\xfc\x4e\x2b\xa9"), (4120, bcache)];
    assert!(!head.starts_with(b"LUKS\xba\xbe") || matches!(found, Content::Luks(_)), "{found:?}");
    if let Content::Filesystem(found) = &found {
        assert!(owned.iter().all(|(at, magic)| !head.get(*at..).unwrap_or_default().starts_with(magic)), "{found:?}");
    }
}

/// Requests of a client: what is made of one is safe to be done, and made again of what was made, the same.
pub fn volume_request(data: &[u8]) {
    if let Ok(asked) = NodeStageVolumeRequest::decode(data)
        && let Some(stage) = accepted(&asked, request::stage(&asked), &[])
    {
        check_id(&stage.id);
        check_path(&stage.staging);
        check_access(&stage.access);
        let luks2 = asked.volume_context.get(PARAMETER).is_some_and(|asked| asked == LUKS2);
        assert_eq!(stage.passphrase.is_some(), luks2);
        if let Some(passphrase) = &stage.passphrase {
            assert!((1..=4096).contains(&passphrase.reveal().len()) && format!("{passphrase:?}") == MASK);
        }
        assert!(stage.mkfs.len() % 2 == 0, "each flag has its value");
        for pair in stage.mkfs.chunks(2) {
            assert!(pair[0].len() == 2 && pair[0].starts_with('-') && pair[0] != "-F" && pair[0] != "-f", "{pair:?}");
            assert!(!pair[1].is_empty() && !pair[1].starts_with('-'), "{pair:?}");
        }
        let again = NodeStageVolumeRequest { staging_target_path: text(&stage.staging), ..asked };
        assert_eq!(request::stage(&again), Ok(stage));
    }
    if let Ok(asked) = NodePublishVolumeRequest::decode(data)
        && let Some(publish) = accepted(&asked, request::publish(&asked), &[Class::VolumeNotStaged])
    {
        check_id(&publish.id);
        check_path(&publish.staging);
        check_path(&publish.target);
        check_access(&publish.access);
        assert!(!publish.target.starts_with(&publish.staging) && !publish.staging.starts_with(&publish.target));
        let (staging_target_path, target_path) = (text(&publish.staging), text(&publish.target));
        let again = NodePublishVolumeRequest { staging_target_path, target_path, ..asked };
        assert_eq!(request::publish(&again), Ok(publish));
    }
    for withdraw in [
        NodeUnstageVolumeRequest::decode(data).ok().and_then(|asked| accepted(&asked, request::unstage(&asked), &[])),
        NodeUnpublishVolumeRequest::decode(data)
            .ok()
            .and_then(|asked| accepted(&asked, request::unpublish(&asked), &[])),
    ]
    .into_iter()
    .flatten()
    {
        check_id(&withdraw.id);
        check_path(&withdraw.path);
    }
    if let Ok(asked) = NodeGetVolumeStatsRequest::decode(data)
        && let Some(stats) = accepted(&asked, request::stats(&asked), &[Class::VolumeNotFound])
    {
        check_id(&stats.id);
        check_path(&stats.path);
    }
    if let Ok(asked) = NodeExpandVolumeRequest::decode(data)
        && let Some(expand) = accepted(&asked, request::expand(&asked), &[Class::VolumeNotFound])
    {
        check_id(&expand.id);
        check_path(&expand.path);
        let limit = asked.capacity_range.map_or(0, |range| range.limit_bytes);
        assert!(limit == 0 || i64::try_from(expand.required).is_ok_and(|required| required <= limit), "{expand:?}");
    }
}

/// What was made of a request; nothing where it was refused, in words that fit into an answer.
fn accepted<T, M: Message + Default + PartialEq>(asked: &M, made: Result<T, Refusal>, classes: &[Class]) -> Option<T> {
    const CLASSES: [Class; 3] = [Class::RequestInvalid, Class::CapabilityUnsupported, Class::FilesystemUnsupported];
    assert!(M::decode(&*asked.encode_to_vec()).is_ok_and(|again| again == *asked));
    made.map_err(|refusal| {
        assert!(classes.contains(&refusal.class) || CLASSES.contains(&refusal.class), "{refusal}");
        let status = status::status(&refusal);
        let (told, longest) = (status.message(), 2200);
        assert!(told.starts_with(refusal.class.as_str()) && told.ends_with(refusal.class.remedy()), "{told}");
        assert!(told.len() <= longest, "{} bytes", told.len());
        assert_eq!(told, bootstrap::text::plain(told), "a terminal finds something to obey");
    })
    .ok()
}

fn check_id(id: &VolumeId) {
    assert!((1..=128).contains(&id.as_str().len()) && !id.as_str().contains(char::is_control), "{id:?}");
    if let Some(serial) = id.serial() {
        let digits = id.as_str().replace('-', "").to_ascii_lowercase();
        assert!(serial.as_str().len() == 20 && digits.starts_with(serial.as_str()), "{id:?} {serial:?}");
        assert!(serial.is(serial.as_str()));
    }
    assert_eq!(id.filesystem_uuid().len(), 36);
}

fn check_path(path: &Path) {
    let mut parts = path.components();
    assert_eq!(parts.next(), Some(Component::RootDir), "{}", path.display());
    assert!(parts.clone().count() > 0 && parts.all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
    assert!(path.as_os_str().len() <= 4095 && !text(path).contains(char::is_control), "{}", path.display());
}

fn check_access(access: &Access) {
    let Access::Filesystem { options, .. } = access else { return };
    assert!(options.data.is_sorted_by(|a, b| a < b), "sorted, each once: {options:?}");
    for option in &options.data {
        assert!(option.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','), "{option:?}");
        assert!(!["bind", "remount", "move", "loop"].contains(&option.as_str()), "{option:?}");
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("it came as text").to_owned()
}
