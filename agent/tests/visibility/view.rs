//! The view, as it was looked at and found good: `agent/tests/goldens`. To renew one, delete it and run this
//! test: it writes what is missing, and fails that once.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use agent::view::{self, Look};
use bootstrap::state::NodeState;
use unicode_width::UnicodeWidthStr as _;

use crate::scenes;

fn look(width: Option<usize>, now: SystemTime) -> Look {
    Look { width, height: None, colours: false, now }
}

fn without_colours(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        text += before;
        rest = after.split_once('m').unwrap().1;
    }
    text + rest
}

#[test]
fn every_scene_looks_as_it_did() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut wrong = Vec::new();
    for (name, scene) in scenes::ALL {
        let (state, now) = scene();
        for (kind, width) in [("80", Some(80)), ("40", Some(40)), ("pipe", None)] {
            let text = view::render(&state, &look(width, now)).join("\n") + "\n";
            let path = goldens.join(format!("{name}-{kind}.txt"));
            match fs::read_to_string(&path) {
                Ok(golden) if golden == text => {}
                Ok(golden) => wrong.push(format!("{}:\n{golden}is now\n{text}", path.display())),
                Err(_) => {
                    fs::write(&path, &text).unwrap();
                    wrong.push(format!("{} was missing, written:\n{text}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_width_and_height_is_kept_and_no_line_says_anything_to_the_terminal() {
    for (name, scene) in scenes::ALL {
        let (state, now) = scene();
        for width in (1..=130).chain([500]) {
            for draw in [view::render, view::live] {
                let plain = draw(&state, &look(Some(width), now));
                let coloured = draw(&state, &Look { colours: true, ..look(Some(width), now) });
                for (plain, coloured) in plain.iter().zip(&coloured) {
                    assert!(plain.width() <= width, "{name} at {width}: {plain:?}");
                    assert!(!plain.chars().any(char::is_control), "{name} at {width}: {plain:?}");
                    assert_eq!(*plain, without_colours(coloured).trim_end(), "{name} at {width}");
                }
                assert_eq!(plain.len(), coloured.len());
            }
        }
        for height in 1..40 {
            for draw in [view::render, view::live] {
                let lines = draw(&state, &Look { height: Some(height), ..look(Some(80), now) });
                assert!(lines.len() <= (height - 1).max(1), "{name} at height {height}");
            }
        }
    }
}

#[test]
fn colours_are_used_only_where_they_are_welcome() {
    let (state, now) = scenes::fetching();
    let coloured = view::render(&state, &Look { colours: true, ..look(Some(80), now) });
    assert!(coloured.iter().any(|line| line.contains("\x1b[32m█")), "{coloured:#?}");
    assert!(view::render(&state, &look(Some(80), now)).iter().all(|line| !line.contains('\x1b')));
}

#[test]
fn a_frame_draws_over_the_one_before() {
    let lines = ["one".to_owned(), "two".to_owned()];
    assert_eq!(view::frame(&lines, false), "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J");
    assert_eq!(view::frame(&lines, true), "\x1b[H\x1b[2Jone\x1b[K\ntwo\x1b[K\n\x1b[J");
}

#[test]
fn a_log_tells_everything_once() {
    let mut news = view::news::News::default();
    let (fetching, _) = scenes::fetching();
    let told = news.of(&fetching);
    assert_eq!(
        told,
        [
            "phase locate",
            "phase preflight",
            "phase install",
            "bundle v1.33.1-calico from http://10.1.1.1/cks-iso/, for /opt/cks/v1.33.1-9be73ca26569",
            "warning[CONTAINERD_CONFIG_NOT_IMPORTED]: /etc/containerd/config.toml does not import conf.d",
            "done k8s/kubeadm: 58.0 MiB from http://10.1.1.1/cks-iso/ in 4.0 s",
        ]
    );
    assert_eq!(news.of(&fetching), [""; 0]);
    let waits = news.of(&scenes::stalled().0);
    assert_eq!(waits.len(), 2);
    assert!(waits[0].starts_with("waiting for containerd at /run/containerd/containerd.sock since 2026-"), "{waits:?}");
    let again = NodeState { started: "2026-02-02T03:04:05Z".to_owned(), ..fetching.clone() };
    assert_eq!(news.of(&again), told, "another run");
    let hostile = scenes::hostile().0;
    let lines = view::news::News::default().of(&hostile).into_iter().chain(view::news::summary(&hostile));
    for line in lines {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    assert_eq!(
        view::news::summary(&fetching).unwrap(),
        "install: 207.0 MiB of 339.0 MiB (61 %), 41.8 MiB/s, 4 s left; registry.k8s.io/kube-apiserver:v1.33.1, \
         docker.io/calico/node:v3.30.0, cni/cni-plugins-amd64.tgz"
    );
    assert_eq!(view::news::summary(&scenes::installed().0), None);
}
