use super::*;
use crate::volume::filesystem::Kind;
use crate::volume::superblock::Filesystem;

fn id() -> VolumeId {
    VolumeId::parse("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9").unwrap()
}

fn luks(version: u16, uuid: &str, label: &str, state: State) -> Content {
    Content::Luks(Header { version, uuid: uuid.to_owned(), label: label.to_owned(), state })
}

/// Everything that a disk may hold.
fn contents() -> Vec<Content> {
    let filesystem = Filesystem { kind: Kind::Ext4, size: 1 << 30, needs_check: false };
    let mut all = vec![
        Content::Zeroes,
        Content::Data,
        Content::Unfinished(Kind::Xfs),
        Content::Filesystem(filesystem),
        Content::Other("an LVM physical volume"),
    ];
    for version in [1, 2] {
        for uuid in [&*id().luks_uuid(), &*id().filesystem_uuid()] {
            for label in [NEW, DONE, "", "data"] {
                all.extend(
                    [State::Whole, State::Second, State::Damaged].map(|state| luks(version, uuid, label, state)),
                );
            }
        }
    }
    all
}

/// All combinations: 53 contents, and five questions.
fn situations(check: impl Fn(&Situation<'_>, Result<Step, Refusal>)) {
    let id = id();
    for found in &contents() {
        for bits in 0..32 {
            let bit = |at: u32| bits & (1 << at) != 0;
            let situation = Situation {
                id: &id,
                disk: "vdb",
                asked: bit(0),
                block: bit(1),
                read_only: bit(2),
                found,
                begun: bit(3),
                open: bit(4),
            };
            check(&situation, decide(&situation));
        }
    }
}

/// The table, row by row: the first that fits holds. None is a refusal.
fn expected(situation: &Situation<'_>) -> Option<Step> {
    let Situation { asked, block, read_only, found, begun, open, .. } = *situation;
    let ours = id().luks_uuid();
    let header = |label: &str, states: &[State]| {
        // A copy has another UUID, and what was stored in its source.
        matches!(found, Content::Luks(found) if found.version == 2 && found.label == label
            && (label == DONE || found.uuid == ours) && states.contains(&found.state))
    };
    let any = [State::Whole, State::Second, State::Damaged];
    let of_ours = matches!(found, Content::Luks(found) if found.uuid == ours || [NEW, DONE].contains(&&*found.label));
    let half = matches!(found, Content::Data | Content::Unfinished(_));
    let rows = [
        (!asked && open, None),
        (!asked && of_ours, None),
        (!asked && matches!(found, Content::Luks(_)) && !block, None),
        (!asked, Some(Step::Plain)),
        // What was handed out is used, never anything else.
        (header(DONE, &[State::Whole, State::Second]), Some(Step::Use)),
        (read_only, None),
        (header(NEW, &any) && begun && !open, Some(Step::Format { clear: true })),
        (header(NEW, &[State::Whole]), Some(Step::Fill)),
        (open, None),
        (*found == Content::Zeroes, Some(Step::Format { clear: begun })),
        (half && begun, Some(Step::Format { clear: true })),
        (true, None),
    ];
    rows.into_iter().find(|(fits, _)| *fits).and_then(|(_, step)| step)
}

#[test]
fn each_situation_has_its_row() {
    situations(|situation, decided| {
        assert_eq!(decided.ok(), expected(situation), "{situation:?}");
    });
}

#[test]
fn what_may_hold_data_is_never_written_over() {
    situations(|situation, decided| {
        let Ok(Step::Format { .. } | Step::Fill) = decided else { return };
        assert!(situation.asked && !situation.read_only, "{situation:?}");
        match situation.found {
            Content::Zeroes => {}
            Content::Data | Content::Unfinished(_) => assert!(situation.begun, "{situation:?}"),
            Content::Luks(header) => {
                assert!(header.uuid == id().luks_uuid() && header.label == NEW && header.version == 2, "{situation:?}");
            }
            Content::Filesystem(_) | Content::Other(_) => panic!("{situation:?}"),
        }
    });
}

#[test]
fn a_refusal_says_what_is_there_and_what_is_missing() {
    situations(|situation, decided| {
        let Err(refusal) = decided else { return };
        assert!(matches!(refusal.class, Class::DiskNotBlank | Class::VolumeIncompatible), "{refusal}");
        assert!(refusal.what.starts_with("vdb "), "{refusal}");
        assert!(situation.asked || refusal.what.contains(PARAMETER), "{refusal}");
        assert!(!situation.asked || refusal.what.contains(&situation.found.to_string()), "{refusal}");
    });
}
