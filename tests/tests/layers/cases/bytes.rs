//! Header blocks, and how a layer is compressed.

use super::{Case, DOCKER, Differs, Expect, FOREIGN, GZIP, PLAIN, ZSTD, case, gzip, raw, same};
use crate::making::{dir, entry, file, hard, open_tar, soft, tar};

/// Two files, and what `change` makes of their tar.
fn named(change: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut tar = tar(&[file("a", "abc"), file("b", "def")]);
    change(&mut tar);
    tar
}

/// The right checksum for the first header.
fn sums(tar: &mut [u8]) {
    let mut header = tar::Header::from_byte_slice(&tar[..512]).clone();
    header.set_cksum();
    tar[..512].copy_from_slice(header.as_bytes());
}

pub(super) fn headers() -> Vec<Case> {
    let left = Expect::Only(Differs::Left);
    vec![
        same(
            "formats",
            &[&[
                file("gnu", "g"),
                file("ustar", "u").magic(b"ustar\x0000"),
                file("old", "o").magic(b"\0\0\0\0\0\0\0\0"),
                file("posix", "p")
                    .magic(b"ustar\x0000")
                    .pax("uid", "77")
                    .pax("gid", "78")
                    .pax("comment", "x")
                    .pax("uname", "root"),
                file("zero", "z").kind(0),
                dir("zero directory/").kind(0),
            ]],
        ),
        same(
            "sizes of what has no data",
            &[&[
                dir("d").size(1000),
                soft("s", "x").size(7),
                entry(b'6', "p").size(9),
                file("after", "x"),
                hard("h", "after").size(1),
            ]],
        ),
        same("pax sizes", &[&[file("a", "abc").size(0).pax("size", "3"), file("b", "x")]]),
        same("empty pax values", &[&[file("a", "").pax("path", "").pax("mtime", "").pax("uid", "")]]),
        case("a pax path with a zero", Expect::Refused, &[&[file("a", "").pax("path", "x\0y")]]),
        case("a pax number that is none", Expect::Refused, &[&[file("a", "").pax("uid", "x")]]),
        case("a pax time that is none", Expect::Refused, &[&[file("a", "").pax("mtime", "1.x")]]),
        case("a negative pax size", Expect::Refused, &[&[file("a", "").pax("size", "-1")]]),
        case("large pax records", Expect::Refused, &[&[file("a", "").pax("comment", vec![b'x'; 2 << 20])]]),
        same("not so large pax records", &[&[file("a", "").pax("comment", vec![b'x'; 1 << 19])]]),
        case("large names", Expect::Refused, &[&[file(vec![b'x'; 2 << 20], "")]]),
        case("a kind that is not known", Expect::Refused, &[&[entry(b'V', "a")]]),
        case("a device out of range", left, &[&[entry(b'3', "a").device(5000, 3)]]),
        case("an owner that keeps the owner", left, &[&[file("a", "").owner(u64::from(u32::MAX), 0)]]),
        case("a global header", left, &[&[file("pax_global_header", "13 comment=x\n").kind(b'g'), file("a", "")]]),
        case(
            "a sparse file by pax",
            left,
            &[&[file("a", "0123")
                .pax("GNU.sparse.major", "0")
                .pax("GNU.sparse.minor", "1")
                .pax("GNU.sparse.numblocks", "1")
                .pax("GNU.sparse.map", "4096,4")
                .pax("GNU.sparse.size", "4100")]],
        ),
    ]
}

pub(super) fn damaged_headers() -> Vec<Case> {
    vec![
        raw(
            "a sparse file of old",
            Expect::Refused,
            PLAIN,
            named(&|tar| {
                tar[156] = b'S';
                // One piece of 3 bytes at 4096; the file has 4099.
                tar[386..398].copy_from_slice(b"00000010000\0");
                tar[398..410].copy_from_slice(b"00000000003\0");
                tar[483..495].copy_from_slice(b"00000010003\0");
                sums(tar);
            }),
        ),
        raw("a wrong checksum", Expect::Refused, PLAIN, named(&|tar| tar[1024 + 3] ^= 1)),
        raw("no checksum", Expect::Refused, PLAIN, named(&|tar| tar[148..156].fill(b'z'))),
        raw(
            "a size that is no number",
            Expect::Refused,
            PLAIN,
            named(&|tar| {
                tar[124..130].fill(b'9');
                sums(tar)
            }),
        ),
        raw(
            "a binary size",
            Expect::Same,
            PLAIN,
            named(&|tar| {
                tar[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
                sums(tar)
            }),
        ),
        raw(
            "a negative size",
            Expect::Refused,
            PLAIN,
            named(&|tar| {
                tar[124..136].fill(0xff);
                sums(tar)
            }),
        ),
    ]
}

pub(super) fn ends() -> Vec<Case> {
    vec![
        raw("cut in the data", Expect::Refused, PLAIN, named(&|tar| tar.truncate(514))),
        raw("cut in the padding", Expect::Same, PLAIN, named(&|tar| tar.truncate(515))),
        raw("cut in a header", Expect::Refused, PLAIN, named(&|tar| tar.truncate(1024 + 100))),
        raw("cut before a header", Expect::Same, PLAIN, named(&|tar| tar.truncate(1024))),
        raw("one empty block", Expect::Same, PLAIN, named(&|tar| tar.truncate(2048 + 512))),
        raw(
            "an empty block in the middle",
            Expect::Refused,
            PLAIN,
            named(&|tar| drop(tar.splice(1024..1024, [0; 512]))),
        ),
        raw("bytes behind the end", Expect::Same, PLAIN, named(&|tar| tar.extend_from_slice(&[7; 300_001]))),
        raw("nothing", Expect::Same, PLAIN, Vec::new()),
        raw("no tar", Expect::Refused, PLAIN, vec![b'x'; 4096]),
        raw("a last header of headers", Expect::Same, PLAIN, {
            let mut tar = open_tar(&[file("a", "")]);
            tar.extend_from_slice(&open_tar(&[file("b", "").pax("mtime", "5")])[..1024]);
            tar
        }),
    ]
}

pub(super) fn packing() -> Vec<Case> {
    let noise: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layer = tar(&[file("noise", &noise), file("zeros", vec![0; 1 << 20])]);
    let (front, back) = layer.split_at(1_000_000);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() - 9);
        bytes
    };
    vec![
        raw("gzip", Expect::Same, GZIP, gzip(&layer)),
        raw("gzip for docker", Expect::Same, DOCKER, gzip(&layer)),
        raw("gzip for docker, foreign", Expect::Same, FOREIGN, gzip(&layer)),
        raw("gzip in two members", Expect::Same, GZIP, [gzip(front), gzip(back)].concat()),
        raw("gzip, cut off", Expect::Refused, GZIP, cut(gzip(&layer))),
        raw("gzip, damaged", Expect::Refused, GZIP, {
            let mut bytes = gzip(&layer);
            let at = bytes.len() - 6;
            bytes[at] ^= 1;
            bytes
        }),
        raw("gzip that is none", Expect::Same, GZIP, layer.clone()),
        raw("gzip that is zstd", Expect::Same, GZIP, zstd(&layer)),
        raw("zstd", Expect::Same, ZSTD, zstd(&layer)),
        raw("zstd in two frames", Expect::Same, ZSTD, [zstd(front), zstd(back)].concat()),
        raw("zstd, cut off", Expect::Refused, ZSTD, cut(zstd(&layer))),
        raw("plain that is gzip", Expect::Refused, PLAIN, gzip(&layer)),
        raw("nothing, by gzip", Expect::Same, GZIP, Vec::new()),
        raw("a type that is not known", Expect::Refused, "application/x-something", layer),
    ]
}
