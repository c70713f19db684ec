//! What files are, how they are called, and where links lead.

use super::{CAPABILITY, Case, Expect, base, case, same};
use crate::making::{dir, entry, file, hard, soft};

pub(super) fn ordinary() -> Vec<Case> {
    let large: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    vec![
        same("empty", &[&[]]),
        same("files and directories", &[&base()]),
        same("a large file", &[&[file("large", &large), file("odd", &large[..1_234_567]), file("none", "")]]),
        same("the root itself", &[&[dir("./").mode(0o700).owner(9, 9).mtime(5), dir("/"), file("./a", "a")]]),
        same(
            "modes",
            &[&(0..32)
                .map(|bit| file(format!("f{bit}"), "x").mode(0o7777 >> (bit % 12) << (bit / 12)))
                .collect::<Vec<_>>()],
        ),
        same(
            "directory modes",
            &[&[dir("a").mode(0o1777), dir("b").mode(0o2755), dir("c").mode(0), dir("d").mode(0o7777)]],
        ),
        same(
            "set-id bits of others",
            &[&[file("a", "").mode(0o6755).owner(12, 13), file("b", "").mode(0o2644).owner(0, 5)]],
        ),
        same(
            "owners",
            &[&[
                file("a", "").owner(65_534, 65_534),
                file("b", "").owner(100_000, 2_000_000),
                soft("c", "x").owner(7, 8),
            ]],
        ),
        same(
            "a group that is handed down",
            &[&[dir("d").mode(0o2775).owner(0, 44), file("d/f", ""), dir("d/e"), soft("d/s", "x")]],
        ),
        same(
            "devices",
            &[&[
                entry(b'3', "null").device(1, 3).mode(0o666),
                entry(b'4', "loop").device(7, 300).mode(0o660).owner(0, 6),
                entry(b'3', "hole").device(0, 0),
                entry(b'6', "pipe").mode(0o622).owner(3, 3),
            ]],
        ),
    ]
}

pub(super) fn times_and_attributes() -> Vec<Case> {
    vec![
        same(
            "times",
            &[&[
                file("pax", "").pax("mtime", "1234567890.123456789"),
                file("short", "").pax("mtime", "1234567890.5").pax("atime", "1500000000.25"),
                file("digits", "").pax("mtime", "1.0000000019999"),
                file("before", "").pax("mtime", "-1.5"),
                file("far", "").pax("mtime", "9223372036.854775807"),
                file("farther", "").pax("mtime", "9223372037"),
                file("late", "").mtime(8_589_934_591),
                dir("d").pax("mtime", "1600000000.000000001"),
                file("d/f", ""),
                soft("s", "x").pax("mtime", "1600000000.7"),
                entry(b'6', "p").pax("mtime", "1600000000.9"),
            ]],
        ),
        same(
            "attributes",
            &[&[
                file("f", "x").xattr("user.a", "1").xattr("user.b", b"\0\xff").xattr("user.none", ""),
                file("cap", "x").mode(0o755).owner(5, 5).xattr("security.capability", CAPABILITY),
                dir("d").xattr("user.a", "d").xattr("security.test", "s"),
                soft("s", "x").xattr("user.a", "left out").xattr("security.test", "kept"),
                entry(b'6', "p").xattr("user.a", "left out"),
                file("t", "").xattr("trusted.overlay.opaque", "y").xattr("trusted.x", "left out"),
                file("u", "").xattr("unknown.x", "left out"),
                file("acl", "").mode(0o640).xattr(
                    "system.posix_acl_access",
                    b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
                ),
                hard("h", "cap").mode(0o755).owner(5, 5),
            ]],
        ),
        case(
            "an attribute that is no such one",
            Expect::Refused,
            &[&[file("f", "").xattr("system.posix_acl_access", "x")]],
        ),
        case("a capability that is none", Expect::Refused, &[&[file("f", "").xattr("security.capability", "x")]]),
    ]
}

pub(super) fn long_names() -> Vec<Case> {
    vec![
        same(
            "long names",
            &[&[
                file("n".repeat(200), "gnu"),
                dir("d/".repeat(120)),
                file("short", "pax").pax("path", "p".repeat(180)),
                soft("link", "t".repeat(300)),
                file("utf8", "").pax("path", "größe/日本"),
                file(b"\xff\xfe", "bytes"),
                file(format!("deep/{}", "x/".repeat(300) + "f"), "deep"),
            ]],
        ),
        case("a name that is too long", Expect::Refused, &[&[file("n".repeat(256), "")]]),
        case("a path that is too long", Expect::Refused, &[&[file("d/".repeat(2100) + "f", "")]]),
    ]
}

pub(super) fn names() -> Vec<Case> {
    vec![
        same("one file twice", &[&[file("a", "1").mode(0o600), file("a", "22").mode(0o644), file("./a", "333")]]),
        same(
            "one directory twice",
            &[&[dir("d").mode(0o700).mtime(1), file("d/x", ""), dir("d").mode(0o755).mtime(2), file("d/y", "")]],
        ),
        same("a file, a directory, a file", &[&[file("a", ""), dir("a"), file("a/b", ""), file("a", "end")]]),
        same(
            "all kinds by turns",
            &[&[
                soft("a", "b"),
                file("a", "1"),
                entry(b'6', "a"),
                dir("a"),
                dir("a/b"),
                file("a/b/c", ""),
                entry(b'3', "a").device(1, 5),
                soft("a", "c"),
                dir("a"),
                dir("a/b"),
            ]],
        ),
        same(
            "slashes and dots",
            &[&[
                file("//a", ""),
                file("./././b", ""),
                file("c//d/./e", ""),
                file("f/../g", ""),
                dir("h/./"),
                file("i/", "a file"),
            ]],
        ),
        same("absolute names", &[&[dir("/etc"), file("/etc/passwd", "ours"), soft("/etc/link", "/etc/passwd")]]),
        same("names of nothing", &[&[file("", "x"), file(".", "x"), file("/", ""), dir("//./"), file("a/..", "")]]),
        same("no order", &[&[file("x/y/z", ""), dir("x/y").mode(0o700).mtime(3), dir("x").mode(0o711).mtime(4)]]),
        same(
            "below a file that was a directory",
            &[&[dir("a"), file("a/b", ""), file("a", ""), dir("a"), file("a/c", "")]],
        ),
        case("below a file", Expect::Refused, &[&[file("a", ""), file("a/b", "")]]),
        case("deep below a file", Expect::Refused, &[&[file("a", ""), file("a/b/c/d", "")]]),
        case("times of a directory that is gone", Expect::SameOrRefused, &[&[dir("a/b").mtime(9), file("a", "")]]),
        same("times through a link", &[&[dir("a").mtime(9), dir("b").mtime(10), soft("a", "b")]]),
    ]
}

pub(super) fn hard_links() -> Vec<Case> {
    vec![
        same(
            "hard links",
            &[&[
                file("a", "x").mode(0o600),
                hard("b", "a").mode(0o644).owner(3, 4).mtime(9),
                hard("d/c", "/b"),
                hard("e", "./d/../a"),
            ]],
        ),
        same(
            "a hard link to a link",
            &[&[soft("s", "/etc"), hard("h", "s").owner(1, 1), file("f", ""), soft("d", "."), hard("i", "d/f")]],
        ),
        same("a hard link replaces", &[&[file("a", "1"), file("b", "2"), hard("b", "a"), dir("c"), hard("c", "b")]]),
        same(
            "a hard link to a device",
            &[&[entry(b'3', "n").device(1, 3), hard("m", "n").mode(0o600), entry(b'6', "p"), hard("q", "p")]],
        ),
        same("a hard link with a slash", &[&[file("a", "x"), hard("b", "a/")]]),
        case("a hard link to a directory", Expect::Refused, &[&[dir("a"), hard("b", "a")]]),
        case("a hard link to nothing", Expect::Refused, &[&[hard("b", "a")]]),
        case("a hard link to itself", Expect::Refused, &[&[file("a", ""), hard("a", "a")]]),
        case("a hard link without a target", Expect::Refused, &[&[hard("a", "")]]),
        case("a hard link through a file", Expect::Refused, &[&[file("a", ""), hard("b", "a/b/c")]]),
        case("a hard link to the root", Expect::Refused, &[&[hard("a", "/")]]),
    ]
}

pub(super) fn links() -> Vec<Case> {
    vec![
        same(
            "links are kept as they are",
            &[&[
                soft("a", "../../../../etc/passwd"),
                soft("b", "/"),
                soft("c", "does//not/./exist/../x"),
                soft("d", "d"),
                soft("e", "é\u{1}"),
            ]],
        ),
        case("a link without a target", Expect::Refused, &[&[soft("a", "")]]),
        same(
            "through links",
            &[&[
                dir("r"),
                dir("r/s"),
                soft("l", "r"),
                file("l/1", ""),
                soft("m", "/r/s"),
                file("m/2", ""),
                soft("r/u", ".."),
                file("r/u/3", ""),
                soft("n", "l/s"),
                file("n/4", ""),
                soft("gone", "not/there"),
                file("gone/5", ""),
                soft("o", "gone/../r"),
                file("o/6", ""),
                soft("dot", "."),
                file("dot/dot/7", ""),
                soft("twice", "m"),
                file("twice/8", ""),
                dir("l/s/9").mtime(3),
                hard("m/10", "n/4"),
            ]],
        ),
        case("links in a circle", Expect::Refused, &[&[soft("a", "b"), soft("b", "a"), file("a/x", "")]]),
        same(
            "a link is replaced, not followed",
            &[&[
                dir("d"),
                file("d/f", "kept"),
                soft("l", "d/f"),
                file("l", "new"),
                soft("k", "d"),
                dir("k"),
                file("k/x", ""),
            ]],
        ),
    ]
}
