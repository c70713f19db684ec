use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::mountinfo::Device;

const ID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// The first 32 KiB of what cryptsetup 2.6.1 made: `luksFormat --type luks2 --label cks-new`, then `config --label cks`; and
/// of LUKS1.
fn made(text: &str) -> Vec<u8> {
    let packed = STANDARD.decode(text.replace('\n', "")).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes).unwrap();
    bytes
}

fn new() -> Vec<u8> {
    made(include_str!("new.b64"))
}

fn done() -> Vec<u8> {
    made(include_str!("done.b64"))
}

fn id() -> VolumeId {
    VolumeId::parse(ID).unwrap()
}

fn told(head: &[u8]) -> (u16, String, State) {
    let header = header(head).unwrap();
    assert_eq!(header.uuid, id().luks_uuid());
    (header.version, header.label, header.state)
}

#[test]
fn a_header_of_cryptsetups_says_whose_it_is_and_how_far_it_came() {
    assert_eq!(told(&new()), (2, NEW.to_owned(), State::Whole));
    assert_eq!(told(&done()), (2, DONE.to_owned(), State::Whole));
    assert_eq!(told(&made(include_str!("luks1.b64"))), (1, String::new(), State::Whole));
    let shown = header(&done()).unwrap().to_string();
    assert_eq!(shown, format!("a LUKS2 container (UUID {}, label cks)", id().luks_uuid()));
    assert_eq!(header(&[0; 1 << 17]), None);
    assert_eq!(header(b""), None);
}

#[test]
fn a_byte_that_is_another_one_is_seen() {
    for at in [9, 30, 110, 170, 460, 4096, 5000, 16383] {
        let mut head = done();
        head[at] ^= 1;
        // The second copy is right still.
        assert_eq!(told(&head), (2, DONE.to_owned(), State::Second), "{at}");
        head[16384 + 4096] ^= 1;
        assert_eq!(header(&head).unwrap().state, State::Damaged, "{at}");
    }
    // What the checksum is not of.
    let mut head = done();
    head[32767] ^= 1;
    assert_eq!(told(&head).2, State::Whole);
}

#[test]
fn of_two_copies_the_later_one_holds() {
    let (new, done) = (new(), done());
    for (first, second, label, state) in
        [(&done, &new, DONE, State::Whole), (&new, &done, DONE, State::Whole), (&new, &new, NEW, State::Whole)]
    {
        let head = [&first[..16384], &second[16384..]].concat();
        assert_eq!(told(&head), (2, label.to_owned(), state));
    }
    // Without its first copy it is a header still, and cryptsetup opens it.
    let lost = [&[0; 16384], &done[16384..]].concat();
    assert_eq!((told(&lost), begins(&lost)), ((2, DONE.to_owned(), State::Second), false));
}

#[test]
fn a_header_that_is_cut_off_or_of_another_version_is_damaged() {
    let done = done();
    for length in 6..4096 {
        assert_eq!(header(&done[..length]).unwrap().state, State::Damaged, "{length}");
    }
    for (version, state) in [(0, State::Damaged), (1, State::Whole), (3, State::Damaged)] {
        let mut head = done.clone();
        head[7] = version;
        assert_eq!(header(&head).unwrap().state, state);
    }
    let mut head = done;
    head[72..78].copy_from_slice(b"crc32\0");
    assert_eq!(header(&head[..16384]).unwrap().state, State::Damaged);
}

fn disk(serial: &str) -> Option<Evidence> {
    let device = Device { major: 254, minor: 16 };
    Some(Evidence { name: "vdb".to_owned(), device, serials: vec![("serial", serial.to_owned())] })
}

#[test]
fn a_mapping_is_the_volumes_by_name_uuid_and_its_one_disk() {
    let serial = id().serial().unwrap();
    let other = "0a1b2c3d4e5f60718294";
    let good = Mapping {
        name: format!("cks-{ID}"),
        uuid: format!("CRYPT-LUKS2-{}-cks-{ID}", id().luks_uuid().replace('-', "")),
        disks: vec![disk(serial.as_str())],
    };
    assert!(good.is_on(&serial) && good.volume().unwrap().as_str() == ID && !good.is_orphan());
    let with = |disks: &[Option<Evidence>]| Mapping { disks: disks.to_vec(), ..good.clone() };
    for disks in
        [&[][..], &[None], &[disk(other)], &[disk(serial.as_str()), None], &[disk(serial.as_str()), disk(other)]]
    {
        assert!(!with(disks).is_on(&serial), "{disks:?}");
    }
    // One that was made of a snapshot has its source's header.
    assert!(
        Mapping { uuid: format!("CRYPT-LUKS2-00000000000080008000000000000000-cks-{ID}"), ..good.clone() }
            .is_on(&serial)
    );
    assert!(with(&[None]).is_orphan() && with(&[]).is_orphan() && !with(&[None, disk(other)]).is_orphan());
    assert!(!good.is_on(&VolumeId::parse("0a1b2c3d-4e5f-6071-8294-a4b5c6d7e8f9").unwrap().serial().unwrap()));
    for (name, uuid) in [
        (good.name.clone(), good.uuid.replace("LUKS2", "LUKS1")),
        (good.name.clone(), good.uuid.replace("LUKS2", "PLAIN")),
        (good.name.clone(), format!("CRYPT-LUKS2-0000000000008000800000000000000-cks-{ID}")),
        (good.name.clone(), format!("CRYPT-LUKS2-00000000000080008000000000000000-cks-{}", ID.replace('0', "1"))),
        (good.name.clone(), format!("CRYPT-LUKS2-0000000000008000800000000000000g-cks-{ID}")),
        (good.name.clone(), String::new()),
        ("cks-other".to_owned(), good.uuid.clone()),
        (good.name.to_uppercase(), good.uuid.clone()),
    ] {
        let bad = Mapping { name, uuid, ..good.clone() };
        assert!(!bad.is_on(&serial) && bad.volume().is_none(), "{bad}");
    }
}
