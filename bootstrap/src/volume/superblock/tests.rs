use super::*;

const HEAD: usize = 128 << 10;

fn with(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    for (at, bytes) in parts {
        head[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    head
}

/// A superblock of ext: state, features (compatible, incompatible, read-only).
fn ext(state: u16, features: [u32; 3]) -> Vec<u8> {
    with(&[
        (EXT + 4, &1000_u32.to_le_bytes()),
        (EXT + 24, &2_u32.to_le_bytes()),
        (EXT + 56, &EXT_MAGIC.to_le_bytes()),
        (EXT + 58, &state.to_le_bytes()),
        (EXT + 92, &features[0].to_le_bytes()),
        (EXT + 96, &features[1].to_le_bytes()),
        (EXT + 100, &features[2].to_le_bytes()),
    ])
}

#[test]
fn ext_is_told_apart_by_its_features() {
    let of = |features| content(&ext(VALID, features)).kind();
    assert_eq!(of([0x4, 0x2, 0x3]), Some(Kind::Ext3));
    assert_eq!(of([0x4, 0x2c2, 0x47b]), Some(Kind::Ext4));
    assert_eq!(of([0x0, 0x2c2, 0x47b]), Some(Kind::Ext4));
    assert_eq!(content(&ext(VALID, [0, 0x2, 0x3])), Content::Other("ext2, or a journal of ext4"));
    assert_eq!(content(&ext(VALID, [0, 0x8, 0])), Content::Other("ext2, or a journal of ext4"));
}

#[test]
fn what_a_filesystem_says_of_itself_is_read() {
    for (state, journal, needs) in
        [(1, true, false), (0, true, false), (0, false, true), (3, true, true), (2, true, true)]
    {
        let features = [if journal { 0x4 } else { 0 }, 0x2c2, 0x47b];
        let Content::Filesystem(found) = content(&ext(state, features)) else { panic!("{state}") };
        assert_eq!((found.size, found.needs_check), (4_096_000, needs), "{state} {journal}");
    }
    let mut large = ext(VALID, [0x4, 0x2c2, 0x47b]);
    large[EXT + 0x150] = 1;
    let Content::Filesystem(found) = content(&large) else { panic!() };
    assert_eq!(found.size, ((1 << 32) + 1000) * 4096);
    let xfs = with(&[(0, b"XFSB"), (4, &4096_u32.to_be_bytes()), (8, &1000_u64.to_be_bytes())]);
    assert_eq!(content(&xfs), Content::Filesystem(Filesystem { kind: Kind::Xfs, size: 4_096_000, needs_check: false }));
    let making = with(&[(0, b"XFSB"), (4, &4096_u32.to_be_bytes()), (8, &1000_u64.to_be_bytes()), (126, &[1])]);
    assert_eq!(content(&making), Content::Unfinished(Kind::Xfs));
    let btrfs = with(&[(65_600, b"_BHRfS_M"), (65_536 + 0xc9 + 8, &(1_u64 << 40).to_le_bytes())]);
    assert_eq!(
        content(&btrfs),
        Content::Filesystem(Filesystem { kind: Kind::Btrfs, size: 1 << 40, needs_check: false })
    );
}

#[test]
fn an_xfs_that_was_never_finished_is_none() {
    let xfs = |in_progress: &[u8]| content(&with(&[(0, b"XFSB"), (4, &4096_u32.to_be_bytes()), (126, in_progress)]));
    assert_eq!(xfs(&[1]), Content::Unfinished(Kind::Xfs));
    assert_eq!((xfs(&[1]).kind(), xfs(&[0]).kind()), (None, Some(Kind::Xfs)));
}

#[test]
fn what_is_no_filesystem_is_named() {
    for (name, at, bytes) in SIGNATURES.iter().filter(|(_, at, _)| *at < HEAD) {
        assert_eq!(content(&with(&[(*at, bytes)])), Content::Other(name));
    }
    assert_eq!(content(&with(&[(70_000, b"x")])), Content::Data);
    assert_eq!(content(&[0; HEAD]), Content::Zeroes);
    assert_eq!(content(b""), Content::Zeroes);
}

#[test]
fn what_owns_the_disk_is_believed_before_a_filesystem_in_it() {
    let mut head = ext(VALID, [0x4, 0x2c2, 0x47b]);
    head[510..512].copy_from_slice(b"\x55\xaa");
    assert_eq!(content(&head).kind(), Some(Kind::Ext4));
    head[512..520].copy_from_slice(b"LABELONE");
    assert_eq!(content(&head), Content::Other("an LVM physical volume"));
    // However many old signatures lie around it.
    let mut head = ext(VALID, [0x4, 0x2c2, 0x47b]);
    for (at, bytes) in [(510, &b"\x55\xaa"[..]), (4086, b"SWAPSPACE2"), (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca")] {
        head[at..at + bytes.len()].copy_from_slice(bytes);
    }
    assert_eq!(content(&head), Content::Other("bcache"));
}

#[test]
fn a_superblock_that_is_cut_off_is_none() {
    for whole in
        [ext(VALID, [0x4, 0x2c2, 0x47b]), with(&[(0, b"XFSB"), (4, &[0xff; 16])]), with(&[(65_600, b"_BHRfS_M")])]
    {
        for length in (0..2048).chain(65_500..65_900) {
            // Whatever it says: it must not fail.
            let _ = content(&whole[..length]);
        }
    }
}

#[test]
fn a_blank_disk_is_zero_at_both_ends() {
    let zero = vec![0; 16];
    assert_eq!(blank(&zero, &zero, 100), Ok(()));
    let mut other = zero.clone();
    other[3] = 1;
    assert!(blank(&other, &zero, 100).unwrap_err().ends_with("byte 3"));
    assert!(blank(&zero, &other, 100).unwrap_err().ends_with("byte 87"));
}

#[test]
fn what_lies_in_an_array_is_no_filesystem_of_the_disk() {
    let size = (64_u64 << 20) + 5 * 512;
    let last = |at: u64, parts: &[(usize, &[u8])]| {
        let mut bytes = vec![0; 128 << 10];
        let at = usize::try_from(at - (size - bytes.len() as u64)).unwrap();
        for (from, part) in parts {
            bytes[at + from..at + from + part.len()].copy_from_slice(part);
        }
        bytes
    };
    let (old, new) = ((64_u64 << 20) - 0x1_0000, ((64_u64 << 20) + 5 * 512 - 8192) & !4095);
    let offset = (new / 512).to_le_bytes();
    let version1: &[(usize, &[u8])] = &[(0, b"\xfc\x4e\x2b\xa9\x01"), (128, &offset)];
    for (name, bytes, at) in [
        ("1.0", last(new, version1), new),
        ("0.90", last(old, &[(0, b"\xfc\x4e\x2b\xa9"), (8, b"\x5a")]), old),
        ("0.90 of another byte order", last(old, &[(0, b"\xa9\x2b\x4e\xfc"), (8, b"\0\0\0\x5a")]), old),
    ] {
        assert!(
            in_array(&bytes, size, at) && in_array(&bytes, size, 1 << 20) && in_array(&bytes, size, size + 1),
            "{name}"
        );
        // A filesystem over it.
        assert!(!in_array(&bytes, size, size) && !in_array(&bytes, size, at + 4096), "{name}");
    }
    for bytes in [
        last(new, &[(0, b"\xfc\x4e\x2b\xa9\x01")]),
        last(new, &[(0, b"\xfc\x4e\x2b\xa9\x02"), (128, &offset)]),
        last(new - 4096, version1),
        vec![0; 128 << 10],
        vec![0; 100],
        Vec::new(),
    ] {
        assert!(!in_array(&bytes, size, 1 << 20));
    }
    assert!(!in_array(&[0; 16], 8, 1));
}
