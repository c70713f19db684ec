//! Layers upon each other, and what only somebody with bad intentions would write.

use super::{Case, Differs, Expect, base, case, gone, same};
use crate::making::{Entry, dir, file, hard, soft};

/// [`base`], `above`, and a layer that comes last.
fn chain(name: &str, expect: Expect, above: &[Entry]) -> Case {
    case(name, expect, &[&base(), above, &[file("usr/lib/deep/third", ""), dir("usr/").mtime(4000)]])
}

pub(super) fn upon_each_other() -> Vec<Case> {
    vec![
        chain("a file replaced", Expect::Same, &[file("usr/lib/a", "from above").mode(0o600)]),
        chain(
            "a directory merged",
            Expect::Same,
            &[dir("usr/lib").mode(0o700).owner(9, 9).mtime(77), file("usr/lib/c", "")],
        ),
        chain("parents that are not told", Expect::Same, &[file("usr/lib/deep/new/x", ""), file("other/y", "")]),
        chain(
            "a directory becomes a file",
            Expect::SameOrRefused,
            &[file("usr/lib/deep", "now a file"), gone("usr/lib/a")],
        ),
        chain("a file becomes a directory", Expect::Same, &[dir("usr/lib/a"), file("usr/lib/a/x", "")]),
        chain("a link becomes a directory", Expect::Same, &[dir("lib"), file("lib/x", "")]),
        chain("a directory becomes a link", Expect::SameOrRefused, &[soft("usr/lib/deep", "../../absolute")]),
        chain(
            "through a link of the lower layer",
            Expect::SameOrRefused,
            &[file("lib/c", ""), file("absolute/d", ""), gone("lib/a")],
        ),
        chain("a hard link to a lower layer", Expect::SameOrRefused, &[hard("usr/hard", "usr/lib/a")]),
        chain("times of a removed directory", Expect::SameOrRefused, &[dir("x"), gone("x")]),
        chain("a parent that is no directory below", Expect::SameOrRefused, &[file("usr/lib/a/below", "")]),
        case(
            "three layers of whiteouts",
            Expect::SameOrRefused,
            &[
                &[dir("a"), file("a/1", ""), dir("a/b"), file("a/b/2", "")],
                &[gone("a"), gone("z")],
                &[dir("a").mode(0o700), file("a/3", ""), file("a/b/4", "")],
            ],
        ),
        case(
            "parents from the middle",
            Expect::Same,
            &[
                &[
                    dir("a").mode(0o750).owner(1, 1).mtime(10),
                    dir("a/b").mode(0o711).owner(2, 2).mtime(20).xattr("user.x", "low"),
                ],
                &[dir("a").mode(0o755).owner(3, 3).mtime(30).xattr("security.test", "x")],
                &[file("a/b/c/d", "")],
            ],
        ),
    ]
}

pub(super) fn whiteouts() -> Vec<Case> {
    vec![
        chain("a whiteout", Expect::Same, &[gone("usr/lib/a"), gone("usr/lib/deep/b"), gone("lib")]),
        chain("a whiteout of a directory", Expect::Same, &[gone("usr/lib/deep")]),
        chain("a whiteout of what is not there", Expect::Same, &[gone("nothing"), gone("no/where/at/all")]),
        chain("a whiteout, then the file", Expect::Same, &[gone("usr/lib/a"), file("usr/lib/a", "again")]),
        chain("the file, then a whiteout", Expect::SameOrRefused, &[file("usr/lib/a", "again"), gone("usr/lib/a")]),
        chain("a whiteout twice", Expect::SameOrRefused, &[gone("usr/lib/a"), gone("usr/lib/a")]),
        chain("an opaque directory", Expect::Same, &[dir("usr/lib"), gone("usr/lib/.wh..opq"), file("usr/lib/c", "")]),
        chain(
            "an opaque directory, late",
            Expect::Same,
            &[
                dir("usr/lib"),
                file("usr/lib/c", ""),
                dir("usr/lib/e"),
                file("usr/lib/e/f", ""),
                file("usr/lib/new/implied", ""),
                gone("usr/lib/.wh..opq"),
            ],
        ),
        chain(
            "an opaque directory, twice",
            Expect::Same,
            &[gone("usr/lib/.wh..opq"), file("usr/lib/c", ""), gone("usr/lib/.wh..opq")],
        ),
        chain("an opaque root", Expect::Same, &[file("kept", ""), gone(".wh..opq"), file("more", "")]),
        chain("an opaque directory through a link", Expect::Same, &[gone("lib/.wh..opq"), file("lib/c", "")]),
        chain("an opaque directory that is not there", Expect::Same, &[gone("new/.wh..opq")]),
        chain(
            "names of aufs",
            Expect::Same,
            &[dir("usr"), file("usr/.wh..wh.plnk", ""), file(".wh..wh.aufs", ""), file(".wh..wh.orph/x", "")],
        ),
        chain("a whiteout that is a directory", Expect::Same, &[dir("usr/lib/.wh.deep"), soft(".wh.lib", "x")]),
        chain("a whiteout with data", Expect::Same, &[file("usr/lib/.wh.a", "data"), file("after", "x")]),
        chain("below a whiteout's name", Expect::Same, &[file("usr/.wh.lib/x", "x")]),
    ]
}

pub(super) fn hostile() -> Vec<Case> {
    let hostile = Expect::Only(Differs::Hostile);
    vec![
        case("out of the root", hostile, &[&[file("../outside", "")]]),
        case("far out of the root", hostile, &[&[file("a/../../../../outside", "")]]),
        case("the directory above", hostile, &[&[dir("..")]]),
        case("a whiteout above", hostile, &[&[gone("../outside")]]),
        case("a hard link out of the root", Expect::Refused, &[&[hard("a", "../../../etc/passwd")]]),
        case(
            "a hard link out of the root, and back",
            hostile,
            &[&[dir("etc"), file("etc/x", ""), hard("a", "../etc/x")]],
        ),
        case("a whiteout of its directory", Expect::Refused, &[&[dir("a"), file("a/.wh..", "")]]),
        case("a whiteout of the directory above", Expect::Refused, &[&[dir("a"), file("a/.wh...", "")]]),
        case("a whiteout of nothing", Expect::Refused, &[&[dir("a"), file("a/.wh.", "")]]),
        same(
            "a link out of the root, used",
            &[&[
                soft("up", "../../.."),
                file("up/x", ""),
                soft("host", "/usr"),
                file("host/share", "ours"),
                gone("up/y"),
            ]],
        ),
        same("a link to the host, replaced", &[&[soft("a", "/etc/passwd"), file("a", "ours")]]),
        same(
            "a hard link to a link out of the root",
            &[&[soft("a", "/etc/passwd"), hard("b", "a").mode(0o777).owner(5, 5)]],
        ),
        same(
            "an opaque directory out of the root",
            &[&[dir("d"), file("d/x", ""), soft("up", "../.."), gone("up/.wh..opq")]],
        ),
        case(
            "a whiteout through a link, above",
            Expect::SameOrRefused,
            &[&base(), &[soft("usr/lib/deep", "/"), gone("usr/lib/deep/usr")]],
        ),
    ]
}
