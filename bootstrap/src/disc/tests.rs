use std::io::Cursor;

use hadris_fs::{Content, DateTime, Node, Permissions, SetAttr, Tree};
use hadris_iso::{IsoId, IsoLevel, IsoOptions, plan, sync};
use hadris_storage::{BlockSize, MemDevice};

use super::{Disc, Extent, created, joliet_volume_id, read, volume_id};
use crate::failure::Code;

const FILES: &[(&str, u32)] = &[
    ("cks-bundle.json", 0o644),
    ("docker/pause:3.10.tar", 0o600),
    ("k8s/kubelet", 0o755),
    ("k8s/a-name-of-exactly-64-characters-0123456789012345678901234567.bin", 0o644),
];

fn image(options: &IsoOptions) -> Vec<u8> {
    let mut tree = Tree::new();
    for (path, mode) in FILES {
        let attrs = SetAttr::new().with_permissions(Permissions::new(*mode));
        tree.insert(path, Node::file(Content::bytes(content(path))).with_attrs(attrs)).unwrap();
    }
    tree.insert("k8s/link", Node::symlink("kubelet")).unwrap();
    tree.insert("k8s/none/at/all", Node::dir()).unwrap();
    let size = plan(&tree, options).unwrap().size();
    let mut device = MemDevice::new(vec![0; size as usize], BlockSize::new(2048).unwrap());
    sync::write(&mut device, &tree, options).unwrap();
    device.into_inner()
}

fn content(path: &str) -> Vec<u8> {
    path.bytes().cycle().take(5000).collect()
}

fn options() -> IsoOptions {
    IsoOptions::new().with_id(IsoId::Volume, "CDROM").with_level(IsoLevel::L3)
}

fn paths(disc: &Disc) -> Vec<&str> {
    disc.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn rock_ridge_names_come_first_then_joliet_then_plain_ones() {
    let rock_ridge = image(&options().with_joliet().with_rock_ridge());
    let disc = read(Cursor::new(&rock_ridge)).unwrap();
    assert_eq!(disc.volume_id, "CDROM");
    let mut want: Vec<_> = FILES.iter().map(|(path, _)| *path).collect();
    want.sort_unstable();
    assert_eq!(paths(&disc), want);
    assert_eq!(disc.others, ["k8s/link", "k8s/none/at/all/"]);
    assert_eq!(disc.volume_bytes, rock_ridge.len() as u64);
    for (path, mode) in FILES {
        let file = disc.file(path).unwrap();
        assert_eq!((file.size, file.mode, file.extents.len()), (5000, *mode, 1), "{path}");
        let at = file.extents[0].offset as usize;
        assert_eq!(rock_ridge[at..at + 5000], content(path));
    }

    let joliet = read(Cursor::new(image(&options().with_joliet()))).unwrap();
    assert!(paths(&joliet).contains(&"docker/pause_3.10.tar"), "{joliet:?}");
    assert_eq!(joliet.file("k8s/kubelet").unwrap().mode, 0o444);

    let plain = read(Cursor::new(image(&options()))).unwrap();
    assert!(paths(&plain).contains(&"k8s/kubelet"), "{plain:?}");
    assert!(paths(&plain).contains(&"docker/pause_3_10.tar"), "{plain:?}");
}

#[test]
fn both_volume_ids_are_read() {
    let joliet = image(&options().with_joliet());
    assert_eq!(volume_id(Cursor::new(&joliet)).unwrap(), "CDROM");
    assert_eq!(joliet_volume_id(Cursor::new(&joliet)).unwrap().as_deref(), Some("CDROM"));
    assert_eq!(joliet_volume_id(Cursor::new(image(&options()))).unwrap(), None);
}

#[test]
fn ranges_cross_extents() {
    let extents = vec![Extent { offset: 1000, length: 10 }, Extent { offset: 5000, length: 5 }];
    let file = super::DiscFile { path: "a".into(), size: 15, mode: 0, extents };
    let range = |offset, length| Extent { offset, length };
    for (offset, length, want) in [
        (0, 15, Some(vec![range(1000, 10), range(5000, 5)])),
        (8, 4, Some(vec![range(1008, 2), range(5000, 2)])),
        (10, 5, Some(vec![range(5000, 5)])),
        (3, 0, Some(vec![])),
        (15, 0, Some(vec![])),
        (14, 2, None),
        (16, 0, None),
        (u64::MAX, 2, None),
    ] {
        assert_eq!(file.ranges(offset, length), want, "{offset}+{length}");
    }
}

#[test]
fn other_files_are_no_disc() {
    for bytes in [vec![], vec![0; 100], vec![0; 40_000], b"<html>".repeat(10_000)] {
        assert_eq!(read(Cursor::new(&bytes)).unwrap_err().code, Code::SourceInvalid);
        assert_eq!(volume_id(Cursor::new(&bytes)).unwrap_err().code, Code::SourceInvalid);
    }
}

#[test]
fn a_truncated_disc_is_told_at_every_length() {
    let whole = image(&options().with_joliet().with_rock_ridge());
    let end = read(Cursor::new(&whole)).unwrap().files.iter().map(|f| f.extents[0].offset + f.size).max().unwrap();
    for length in (0..end as usize).step_by(512) {
        let failure = read(Cursor::new(&whole[..length])).unwrap_err();
        let want =
            if length < 38_912 { [Code::SourceInvalid, Code::SourceTruncated] } else { [Code::SourceTruncated; 2] };
        assert!(want.contains(&failure.code), "{length}: {failure}");
    }
}

#[test]
fn a_directory_inside_itself_is_refused() {
    let mut bytes = image(&options().with_rock_ridge());
    let root = u32::from_le_bytes(bytes[32_768 + 158..32_768 + 162].try_into().unwrap());
    let name = bytes.windows(7).position(|w| w == b"\x06DOCKER").expect("the record of docker/");
    let record = name - 32;
    bytes[record + 2..record + 6].copy_from_slice(&root.to_le_bytes());
    bytes[record + 6..record + 10].copy_from_slice(&root.to_be_bytes());
    let failure = read(Cursor::new(&bytes)).unwrap_err();
    assert_eq!(failure.code, Code::SourceInvalid);
    assert!(failure.what.contains("\"docker\""), "{failure}");
}

/// Three thousand discs with a few bytes changed in their descriptors and directories: each is read or
/// refused, and none takes long.
#[test]
fn damaged_discs_are_read_or_refused() {
    let whole = image(&options().with_joliet().with_rock_ridge());
    let first_file = read(Cursor::new(&whole)).unwrap().files.iter().map(|f| f.extents[0].offset).min().unwrap();
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut read_well, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..=next(8) {
            let at = 32_768 + next(first_file - 32_768);
            bytes[at as usize] = next(256) as u8;
        }
        match read(Cursor::new(&bytes)) {
            Ok(_) => read_well += 1,
            Err(failure) if matches!(failure.code, Code::SourceInvalid | Code::SourceTruncated) => refused += 1,
            Err(failure) => panic!("{failure:?}"),
        }
    }
    assert!(read_well > 100 && refused > 100, "{read_well} read, {refused} refused");
}

#[test]
fn the_time_is_told_wherever_it_was_written() {
    let time = DateTime::from_unix_seconds(1_700_000_000).unwrap();
    let mut bytes = image(&options().with_time(time));
    assert_eq!(created(Cursor::new(&bytes)).unwrap(), 1_700_000_000);
    // Two hours west of Greenwich, and no time at all.
    bytes[32_768 + 829] = (-8_i8).cast_unsigned();
    assert_eq!(created(Cursor::new(&bytes)).unwrap(), 1_700_007_200);
    for byte in &mut bytes[32_768 + 813..32_768 + 829] {
        *byte = b'0';
    }
    assert_eq!(created(Cursor::new(&bytes)).unwrap_err().code, Code::SourceInvalid);
}
