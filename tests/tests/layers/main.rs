//! Layers unpacked by `agent::layer` are those that containerd unpacks itself: a corpus and random tars, each given
//! to both, entry by entry, for each containerd and snapshotter.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod cases;
mod chance;
mod making;
mod peer;
mod view;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::SystemTime;

use agent::layer::{self, Refused};
use cks_tests::containerd::Containerd;
use cks_tests::programs;

use cases::{Case, Differs, Expect};
use peer::Peer;
use view::View;

const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];

/// How a chain ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Same,
    /// With containerd's reason.
    BothRefuse(String),
    OnlyWeRefuse(Differs, String),
    OnlyTheyRefuse(String),
    Different(String),
}

/// Unpacks the layers of `case` on top of each other, by containerd and by us.
fn compare(peer: &Peer, case: &Case, start: SystemTime) -> End {
    let mut parent: Option<[String; 2]> = None;
    for (at, (media_type, layer)) in case.layers.iter().enumerate() {
        let names = ["theirs", "ours"].map(|side| format!("{} {at} {side}", case.name));
        let key = |side: usize| format!("{} in work", names[side]);
        let below = |side: usize| parent.as_ref().map(|parent| parent[side].as_str());
        let theirs = peer.prepare(&key(0), below(0));
        let ours = peer.prepare(&key(1), below(1));
        let told = peer.apply(layer, media_type, &theirs);
        let applied = layer::apply(&layer[..], media_type, &ours.target, None);
        let applied = match (told, applied) {
            (Err(why), Err(_)) => return End::BothRefuse(why),
            (Err(why), Ok(_)) => return End::OnlyTheyRefuse(why),
            (Ok(_), Err(Refused::Hostile(failure))) => return End::OnlyWeRefuse(Differs::Hostile, failure.what),
            (Ok(_), Err(Refused::Unknown(what))) => return End::OnlyWeRefuse(Differs::Left, what),
            (Ok(_), Err(Refused::Failed(failure))) => return End::Different(format!("we fail: {failure:?}")),
            (Ok(told), Ok(applied)) => ((applied.diff_id.to_string(), applied.bytes), told),
        };
        if applied.0 != applied.1 {
            return End::Different(format!("digest or size: {applied:?}"));
        }
        let views = [&theirs, &ours].map(|side| View::read(&side.target.directory, start));
        let difference = views[0].difference(&views[1]);
        if !difference.is_empty() {
            return End::Different(format!("layer {at}, - containerd's, + ours:\n{difference}"));
        }
        if at + 1 < case.layers.len() {
            for (side, prepared) in [theirs, ours].iter().enumerate() {
                peer.commit(prepared, &names[side]);
            }
        }
        parent = Some(names);
    }
    End::Same
}

/// What is wrong with the end of `case`.
fn judge(case: &Case, end: End) -> Option<String> {
    match (end, case.expect) {
        (End::Same, Expect::Same | Expect::SameOrRefused) => None,
        (End::BothRefuse(_), Expect::Refused | Expect::SameOrRefused) => None,
        (End::OnlyWeRefuse(how, _), Expect::Only(expected)) if how == expected => None,
        (end, _) => Some(format!("{}: {end:?}", case.name)),
    }
}

fn corpus_and_chance(version: &str, directory: &std::path::Path) {
    // Times are compared by the second.
    let start = SystemTime::now();
    let containerd = Containerd::start(directory, None).unwrap();
    let mut wrong = Vec::new();
    // Other tars for each containerd and snapshotter.
    let mut seeds = (0..).skip(version.bytes().map(usize::from).sum::<usize>() * 1000);
    for snapshotter in SNAPSHOTTERS {
        let peer = Peer::new(&containerd.socket, snapshotter);
        for case in cases::all() {
            wrong.extend(judge(&case, compare(&peer, &case, start)).map(|what| format!("{snapshotter}: {what}")));
        }
        let mut ends = [0; 3];
        for seed in seeds.by_ref().take(chance::SEEDS as usize) {
            let case = chance::case(seed);
            match compare(&peer, &case, start) {
                End::Same => ends[0] += 1,
                End::BothRefuse(_) => ends[1] += 1,
                End::OnlyWeRefuse(Differs::Hostile, _) if chance::leads_out(seed) => ends[2] += 1,
                end => wrong.push(format!("{snapshotter}: seed {seed}: {end:?}")),
            }
        }
        let [same, refused, hostile] = ends;
        // Else the random tars say nothing.
        assert!(same > chance::SEEDS / 4 && refused > 3, "{same} same, {refused} refused, {hostile} hostile");
    }
    assert!(wrong.is_empty(), "containerd {version}: {} differ\n{}", wrong.len(), wrong.join("\n"));
}

fn pinned(major: &str, shown: &str) {
    match programs::built_before("containerd", major).unwrap() {
        Some(directory) => corpus_and_chance(shown, &directory),
        // Not by println, which is shown for failed tests only.
        None => {
            let mut always = std::io::stderr();
            writeln!(
                always,
                "NOT CHECKED: layers against containerd {shown}, which is not there; ./dev test builds it"
            )
            .unwrap();
        }
    }
}

#[test]
fn layers_are_those_of_containerd_1_6() {
    corpus_and_chance("1.6", &programs::containerd(None).unwrap());
}

#[test]
fn layers_are_those_of_containerd_1_7() {
    pinned("v1", "1.7");
}

#[test]
fn layers_are_those_of_containerd_2() {
    pinned("v2", "2.x");
}

#[test]
fn nothing_outside_of_the_directory_changes() {
    let start = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 40);
    let place = cks_tests::scratch("layers-outside").unwrap();
    let at = |path: &str| place.path().join(path);
    for directory in ["a", "b", "parents/a", "parents/b", "targets"] {
        std::fs::create_dir_all(at(directory)).unwrap();
    }
    for file in ["a/b", "b/c", "c", "parents/a/b", "parents/c"] {
        std::fs::write(at(file), file).unwrap();
    }
    let outside = || {
        let mut view: Vec<View> = ["a", "b", "parents"].map(|path| View::read(&at(path), start)).into();
        view.push(View::read(&at("c"), start));
        let names = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
        (view, names.collect::<BTreeSet<_>>())
    };
    let before = outside();
    let random = (0..chance::SEEDS * 2).map(chance::case);
    for (number, case) in cases::all().into_iter().chain(random).enumerate() {
        for whiteouts in [layer::Whiteouts::Overlay, layer::Whiteouts::Remove] {
            let directory = at(&format!("targets/{number}-{whiteouts:?}"));
            std::fs::create_dir(&directory).unwrap();
            let parents = if whiteouts == layer::Whiteouts::Overlay { vec![at("parents")] } else { Vec::new() };
            let target = layer::Target { directory, parents, whiteouts };
            for (media_type, layer) in &case.layers {
                // Refused or not, and on top of what is there.
                let _ = layer::apply(&layer[..], media_type, &target, None);
            }
        }
        assert_eq!(outside(), before, "{}", case.name);
    }
}
