//! Whole layers, from their compressed bytes to files. That the files are those that containerd makes is the
//! subject of the crate cks-tests (`tests/tests/layers/`).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

const OCI: &str = "application/vnd.oci.image.layer.v1.tar";

fn options(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}

fn target(directory: &std::path::Path) -> Target {
    Target { directory: directory.to_owned(), parents: Vec::new(), whiteouts: Whiteouts::Remove }
}

fn tar(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, link, data) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o750);
        header.set_mtime(1_000_000_000);
        // As they are: the crate itself refuses `..`.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        tar.append(&header, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn mounts_are_recognised_by_all_that_they_say() {
    let overlay = |given: &[&str]| {
        let given = options(given);
        Target::of(&[Mounted { kind: "overlay", source: "overlay", options: &given }])
    };
    let good = overlay(&["index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"]).unwrap();
    assert_eq!(good.directory, PathBuf::from("/s/3/fs"));
    assert_eq!(good.parents, [PathBuf::from("/s/2/fs"), PathBuf::from("/s/1/fs")]);
    assert_eq!(good.whiteouts, Whiteouts::Overlay);
    for other in [
        &["workdir=/w", "lowerdir=/l"][..],
        &["workdir=/w", "upperdir=/u"],
        &["workdir=/w", "upperdir=/u", "lowerdir=/l", "userxattr"],
        &["workdir=/w", "upperdir=/u", "lowerdir=/l", "uidmap=0:1000:1"],
        &["workdir=/w", "upperdir=/u", "lowerdir=/l\\:x"],
        &["workdir=/w", "upperdir=u", "lowerdir=/l"],
    ] {
        assert_eq!(overlay(other), None, "{other:?}");
    }
    let (rw, ro) = (options(&["rw", "rbind"]), options(&["ro", "rbind"]));
    let bind = |options| Mounted { kind: "bind", source: "/s/1/fs", options };
    assert_eq!(Target::of(&[bind(&rw)]), Some(target(std::path::Path::new("/s/1/fs"))));
    assert_eq!(Target::of(&[bind(&ro)]), None);
    assert_eq!(Target::of(&[bind(&rw), bind(&rw)]), None);
    assert_eq!(Target::of(&[]), None);
    assert_eq!(Target::of(&[Mounted { kind: "erofs", source: "/x", options: &rw }]), None);
}

#[test]
fn a_large_layer_comes_through_two_threads_whole() {
    let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut layer = tar(&[
        ("./", tar::EntryType::Directory, "", b""),
        ("d/", tar::EntryType::Directory, "", b""),
        ("d/large", tar::EntryType::Regular, "", &data),
        ("d/empty", tar::EntryType::Regular, "", b""),
        ("d/hard", tar::EntryType::Link, "d/large", b""),
    ]);
    layer.extend_from_slice(&[9; 100_000]);
    let place = tempfile::tempdir().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).unwrap();
    let applied = apply(&gzip.finish().unwrap()[..], &format!("{OCI}+gzip"), &target(place.path()), None).unwrap();
    assert_eq!(applied, Applied { diff_id: Digest::of(&layer), bytes: layer.len() as u64 });
    assert!(fs::read(place.path().join("d/large")).unwrap() == data);
    let there = fs::metadata(place.path().join("d/hard")).unwrap();
    assert_eq!((there.nlink(), there.mode() & 0o7777, there.mtime()), (2, 0o750, 1_000_000_000));
    assert_eq!(fs::metadata(place.path().join("d")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn more_than_the_limit_is_refused_small_or_large() {
    for size in [100, 5 << 20] {
        let layer = tar(&[("f", tar::EntryType::Regular, "", &vec![1; size])]);
        let place = tempfile::tempdir().unwrap();
        let limited = |limit| apply(&layer[..], OCI, &target(place.path()), Some(limit));
        assert!(
            matches!(limited(layer.len() as u64 - 1), Err(Refused::Failed(failure)) if failure.code == Code::ContentInvalid)
        );
        limited(layer.len() as u64).unwrap();
    }
}

#[test]
fn what_reaches_outside_is_hostile() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(place.path().join("secret"), "kept").unwrap();
    for (name, kind, link) in [
        ("../secret", tar::EntryType::Regular, ""),
        ("a/../../secret", tar::EntryType::Regular, ""),
        ("..", tar::EntryType::Directory, ""),
        ("../.wh.secret", tar::EntryType::Regular, ""),
        (".wh...", tar::EntryType::Regular, ""),
        ("a/.wh..", tar::EntryType::Regular, ""),
        ("a/.wh.", tar::EntryType::Regular, ""),
        ("hard", tar::EntryType::Link, "../secret"),
        ("hard", tar::EntryType::Link, "a/../../secret"),
    ] {
        let refused = apply(&tar(&[(name, kind, link, b"")])[..], OCI, &target(&root), None).unwrap_err();
        assert!(
            matches!(&refused, Refused::Hostile(failure) if failure.code == Code::ArchiveUnsafe),
            "{name}: {refused:?}"
        );
    }
    let through = tar(&[
        ("up", tar::EntryType::Symlink, "../../..", b""),
        ("up/secret", tar::EntryType::Regular, "", b"new"),
        ("up/.wh.secret", tar::EntryType::Regular, "", b""),
    ]);
    apply(&through[..], OCI, &target(&root), None).unwrap();
    assert_eq!(fs::read_to_string(place.path().join("secret")).unwrap(), "kept");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn what_containerd_refuses_is_left_to_it() {
    let place = tempfile::tempdir().unwrap();
    symlink("loop", place.path().join("loop")).unwrap();
    for entries in [
        &[("f", tar::EntryType::Regular, "", &b"x"[..]), ("f/below", tar::EntryType::Regular, "", b"")][..],
        &[("loop/x", tar::EntryType::Regular, "", b"")],
        &[("hard", tar::EntryType::Link, "missing", b"")],
        &[("d", tar::EntryType::Directory, "", b""), (".wh.d", tar::EntryType::Regular, "", b"")],
        &[("g", tar::EntryType::XGlobalHeader, "", b"")],
    ] {
        let refused = apply(&tar(entries)[..], OCI, &target(place.path()), None).unwrap_err();
        assert!(matches!(refused, Refused::Unknown(_)), "{refused:?}");
    }
    let other = apply(&b""[..], "application/vnd.erofs.layer.v1", &target(place.path()), None);
    assert!(matches!(other, Err(Refused::Unknown(_))));
}

/// Gives zeros without end, behind what it begins with.
fn endless(begin: Vec<u8>) -> impl Read {
    std::io::Cursor::new(begin).chain(std::io::repeat(0))
}

#[test]
fn what_is_left_to_containerd_is_measured_before() {
    let place = tempfile::tempdir().unwrap();
    // A global header, which only containerd reads; then more than may be.
    let left =
        tar(&[("g", tar::EntryType::XGlobalHeader, "", b"13 comment=x\n"), ("a", tar::EntryType::Regular, "", b"x")]);
    let size = left.len() as u64;
    let refused = |limit| apply(&left[..], OCI, &target(place.path()), limit).unwrap_err();
    assert!(matches!(refused(None), Refused::Unknown(_)));
    assert!(matches!(refused(Some(size)), Refused::Unknown(_)));
    assert!(matches!(refused(Some(size - 1)), Refused::Failed(failure) if failure.code == Code::ContentInvalid));
    let bomb = apply(endless(left), OCI, &target(place.path()), Some(8 << 20)).unwrap_err();
    assert!(matches!(bomb, Refused::Failed(failure) if failure.code == Code::ContentInvalid));
}

#[test]
fn a_window_that_is_too_large_is_left_to_containerd_wherever_it_comes() {
    let place = tempfile::tempdir().unwrap();
    let whole = tar(&[("a", tar::EntryType::Regular, "", &vec![7; 4 * PIECE])]);
    let (front, back) = whole.split_at(2 * PIECE);
    let mut large = zstd::Encoder::new(Vec::new(), 1).unwrap();
    large.window_log(25).unwrap();
    large.include_contentsize(false).unwrap();
    large.write_all(back).unwrap();
    let layer = [zstd::encode_all(front, 1).unwrap(), large.finish().unwrap()].concat();
    let refused = apply(&layer[..], &format!("{OCI}+zstd"), &target(place.path()), None).unwrap_err();
    assert!(matches!(refused, Refused::Unknown(_)), "{refused:?}");
}

#[test]
fn a_disk_is_not_filled() {
    let place = tempfile::tempdir().unwrap();
    let Refused::Failed(failure) = room::leave(place.path(), u64::MAX >> 1).unwrap_err() else { panic!() };
    assert_eq!(failure.code, Code::NoSpace);
    room::leave(place.path(), 0).unwrap();
    room::leave(&place.path().join("gone"), u64::MAX).unwrap();
}
