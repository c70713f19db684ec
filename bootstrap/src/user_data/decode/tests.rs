use std::io::Write as _;

use super::*;
use crate::failure::Code;

const CONFIG: &str = "#cloud-config\nruncmd:\n  - a\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn wrapped(text: &[u8], width: usize) -> String {
    let encoded = STANDARD.encode(text);
    encoded.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line) + "\r\n").collect()
}

#[test]
fn each_encoding_is_taken_off() {
    let zipped = gzip(CONFIG.as_bytes());
    for (bytes, layers) in [
        (CONFIG.as_bytes().to_vec(), vec![]),
        (format!("\u{feff}{}", CONFIG.replace('\n', "\r\n")).into_bytes(), vec![]),
        (wrapped(CONFIG.as_bytes(), 76).into_bytes(), vec![Layer::Base64]),
        (wrapped(CONFIG.as_bytes(), 7).into_bytes(), vec![Layer::Base64]),
        (STANDARD.encode(CONFIG).trim_end_matches('=').as_bytes().to_vec(), vec![Layer::Base64]),
        (zipped.clone(), vec![Layer::Gzip]),
        (wrapped(&zipped, 64).into_bytes(), vec![Layer::Base64, Layer::Gzip]),
        (wrapped(wrapped(CONFIG.as_bytes(), 76).as_bytes(), 76).into_bytes(), vec![Layer::Base64, Layer::Base64]),
        (gzip(wrapped(CONFIG.as_bytes(), 76).as_bytes()), vec![Layer::Gzip, Layer::Base64]),
    ] {
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.layers, layers);
        assert_eq!(decoded.parts.len(), 1);
        assert_eq!((decoded.parts[0].kind, decoded.parts[0].text.as_str()), (Kind::CloudConfig, CONFIG));
    }
}

#[test]
fn multiparts_are_taken_apart() {
    let nested = format!(
        "From nobody\nContent-Type: multipart/mixed;\n boundary=\"=out=\"\nMIME-Version: 1.0\n\npreamble\n--=out=\n\
         Content-Type: text/cloud-config; charset=\"us-ascii\"\nContent-Transfer-Encoding: base64\n\n{}\n--=out=\n\
         Content-Type: multipart/mixed; boundary=in\n\n--in\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho\n--in--\n\
         --=out=\nContent-Type: text/jinja2\nContent-Transfer-Encoding: quoted-printable\n\n## template: jinja\n\
         #cloud-config\na: =C3=A4=\nb\n--=out=\nContent-Type: text/plain\n\n#cloud-config\nc: d\n--=out=--\nepilogue",
        wrapped(CONFIG.as_bytes(), 40),
    );
    for bytes in [nested.clone(), nested.replace('\n', "\r\n").replace("\r\r", "\r")] {
        let decoded = decode(bytes.as_bytes()).unwrap();
        let parts: Vec<_> = decoded.parts.iter().map(|part| (part.kind, part.jinja, part.text.trim_end())).collect();
        assert_eq!(
            parts,
            [
                (Kind::CloudConfig, false, CONFIG.trim_end()),
                (Kind::ShellScript, false, "#!/bin/sh\necho"),
                (Kind::CloudConfig, true, "## template: jinja\n#cloud-config\na: äb"),
                (Kind::CloudConfig, false, "#cloud-config\nc: d"),
            ]
        );
    }
}

#[test]
fn what_is_no_user_data_is_no_failure() {
    for (bytes, kinds) in [
        (&b""[..], vec![]),
        (b" \r\n", vec![]),
        (b"hello", vec![Kind::Other]),
        (b"aGVsbG8gd29ybGQ=", vec![Kind::Other]),
        (b"\xff\xfe\x00", vec![Kind::Binary]),
        (b"#!/bin/sh\n", vec![Kind::ShellScript]),
        (b"\n#cloud-config\n", vec![Kind::CloudConfig]),
        (b"#cloud-config-archive\n", vec![Kind::Other]),
        (b"#include\nhttp://h/\n", vec![Kind::Include]),
        (b"## template: jinja\n#!/bin/sh\n", vec![Kind::ShellScript]),
        (b"Content-Type: text/plain\n\n#cloud-config\n", vec![Kind::Other]),
    ] {
        let decoded = decode(bytes).unwrap();
        let found: Vec<_> = decoded.parts.iter().map(|part| part.kind).collect();
        assert_eq!(found, kinds, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn bombs_and_damage_are_refused() {
    let bomb = gzip(&vec![b'#'; MAX_DECODED + 1]);
    assert!(bomb.len() < 20_000);
    let deep = (0..=MAX_LAYERS).fold(CONFIG.as_bytes().to_vec(), |bytes, _| gzip(&bytes));
    // Each below the bound of a part, and nothing is left of any.
    let zipped = wrapped(&gzip(&vec![b' '; MAX_DECODED - 1]), 76);
    let part = format!("--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n{zipped}\n");
    let blank = gzip(format!("Content-Type: multipart/mixed; boundary=b\n\n{}", part.repeat(MAX_PARTS)).as_bytes());
    assert!(blank.len() < 20_000, "{}", blank.len());
    let mut damaged = gzip(CONFIG.as_bytes());
    damaged.truncate(damaged.len() - 4);
    let many = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(MAX_PARTS + 2));
    for (bytes, part) in [
        (bomb, "more than 8 MiB"),
        (deep, "inside each other"),
        (blank, "more than 32 MiB"),
        (damaged, "damaged"),
        (vec![b'a'; MAX_ENCODED + 1], "more than 4 MiB"),
        (many.into_bytes(), "parts"),
        (b"Content-Type: multipart/mixed\n\nx".to_vec(), "boundary"),
    ] {
        let failure = decode(&bytes).unwrap_err();
        assert_eq!(failure.code, Code::UserDataInvalid);
        assert!(failure.what.contains(part), "{}", failure.what);
    }
}
