//! SCSI's vital product data (SPC-4, 7.8): what a disk says that it is.

/// The unit serial number of page 0x80.
#[must_use]
pub fn unit_serial(page: &[u8]) -> Option<String> {
    text(payload(page, 0x80)?)
}

/// The designators of page 0x83 that name the logical unit itself, as texts: T10 identifiers, EUI-64 and NAA in hexadecimal
/// digits behind their kind, SCSI names.
#[must_use]
pub fn designators(page: &[u8]) -> Vec<String> {
    let Some(mut rest) = payload(page, 0x83) else { return Vec::new() };
    let mut found = Vec::new();
    while let [_, association, _, length, after @ ..] = rest {
        let Some(value) = after.get(..usize::from(*length)) else { break };
        rest = after.get(usize::from(*length)..).unwrap_or_default();
        // Of a port or of the whole device.
        if (association >> 4) & 0x3 != 0 {
            continue;
        }
        let hexadecimal = || value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        found.extend(match association & 0xf {
            // What the vendor likes: QEMU puts the serial here.
            0 => text(value),
            // The vendor's name in eight bytes, then the same.
            1 => value.get(8..).and_then(text),
            2 => Some(format!("eui.{}", hexadecimal())),
            3 => Some(format!("naa.{}", hexadecimal())),
            8 => text(value),
            _ => None,
        });
    }
    found
}

/// What stands in the page `code`, as far as it says that it goes, and is there.
fn payload(page: &[u8], code: u8) -> Option<&[u8]> {
    match page {
        [_, found, high, low, rest @ ..] if *found == code => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            rest.get(..length.min(rest.len()))
        }
        _ => None,
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(code: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0, code], &length[..], payload].concat()
    }

    fn designator(kind: u8, association: u8, value: &[u8]) -> Vec<u8> {
        [&[2, association << 4 | kind, 0, u8::try_from(value.len()).unwrap()], value].concat()
    }

    #[test]
    fn the_unit_serial_is_what_the_hypervisor_set() {
        let told = page(0x80, b"0a1b2c3d4e5f60718293");
        assert_eq!(unit_serial(&told).as_deref(), Some("0a1b2c3d4e5f60718293"));
        assert_eq!(unit_serial(&page(0x80, b"  X1 \0\0")).as_deref(), Some("X1"));
        for bad in [page(0x83, b"x"), page(0x80, b""), page(0x80, b"   "), page(0x80, &[0xff, 1]), vec![0, 0x80, 0]] {
            assert_eq!(unit_serial(&bad), None, "{bad:?}");
        }
        // It says that it is longer than it is.
        assert_eq!(unit_serial(&[0, 0x80, 0, 200, b'a', b'b']).as_deref(), Some("ab"));
        // What stands behind its end is not its.
        assert_eq!(unit_serial(&[0, 0x80, 0, 1, b'a', b'b']).as_deref(), Some("a"));
    }

    #[test]
    fn each_designator_of_the_unit_is_told() {
        let all = [
            designator(0, 0, b"0a1b2c3d4e5f60718293"),
            designator(1, 0, b"QEMU    QEMU HARDDISK"),
            designator(3, 1, &[9; 8]),
            designator(3, 0, &[0x50, 1, 2, 3, 4, 5, 6, 7]),
            designator(2, 0, &[0xab, 0, 0, 0, 0, 0, 0, 1]),
            designator(8, 0, b"eui.01\0\0"),
            designator(4, 0, &[0, 0, 0, 1]),
        ];
        let told = designators(&page(0x83, &all.concat()));
        assert_eq!(
            told,
            ["0a1b2c3d4e5f60718293", "QEMU HARDDISK", "naa.5001020304050607", "eui.ab00000000000001", "eui.01"]
        );
    }

    #[test]
    fn a_designator_that_is_cut_off_is_none() {
        let whole = page(0x83, &designator(3, 0, &[1; 8]));
        for length in 0..whole.len() {
            assert_eq!(designators(whole.get(..length).unwrap()), [""; 0]);
        }
        assert_eq!(designators(&page(0x83, &[1, 3, 0, 0])), ["naa."]);
    }
}
