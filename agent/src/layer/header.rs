//! One header block of a tar, read as Go's archive/tar reads it, which is what containerd reads layers with. Pure.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// Nanoseconds since 1970.
pub(super) type Time = i128;

const SECOND: Time = 1_000_000_000;

/// The fields of a header block as they stand there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// With the ustar prefix.
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) size: i64,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) mtime: Time,
    pub(super) atime: Option<Time>,
    pub(super) device: (i64, i64),
}

/// The header in `block`.
///
/// # Errors
/// Says what is wrong with it, or unusual enough to be left to containerd.
pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Header, &'static str> {
    let told = octal(&block[148..156]).ok_or("a checksum that is no number")?;
    if !sums(block).contains(&told) {
        return Err("a wrong checksum");
    }
    let mut header = Header {
        name: text(&block[..100]).to_vec(),
        link: text(&block[157..257]).to_vec(),
        kind: block[156],
        size: number(&block[124..136]).ok_or("a size that is no number")?,
        mode: number(&block[100..108]).ok_or("a mode that is no number")?,
        uid: number(&block[108..116]).ok_or("an owner that is no number")?,
        gid: number(&block[116..124]).ok_or("a group that is no number")?,
        mtime: Time::from(number(&block[136..148]).ok_or("a time that is no number")?) * SECOND,
        atime: None,
        device: (0, 0),
    };
    let (ustar, gnu) = (&block[257..263] == b"ustar\0", &block[257..265] == b"ustar  \0");
    if ustar && &block[508..] == b"tar\0" {
        return Err("the format of star");
    }
    if ustar || gnu {
        let part = |range| number(range).ok_or("a device that is no number");
        header.device = (part(&block[329..337])?, part(&block[337..345])?);
    }
    if ustar {
        let prefix = text(&block[345..500]);
        if !prefix.is_empty() {
            header.name = [prefix, &header.name].join(&b'/');
        }
    }
    if gnu {
        // Old versions of Go wrote a prefix there; containerd's reader guesses which of the two it is.
        let time = |range: &[u8]| match range[0] {
            0 => Ok(None),
            _ => number(range).map(|seconds| Some(Time::from(seconds) * SECOND)).ok_or("GNU times that are no numbers"),
        };
        header.atime = time(&block[345..357])?;
        time(&block[357..369])?;
    }
    Ok(header)
}

/// The sums of all bytes, the checksum's own taken as blanks: unsigned, and signed as some old programs have it.
fn sums(block: &[u8; BLOCK]) -> [i64; 2] {
    let sum = |range: &[u8]| range.iter().fold(0_u32, |sum, &byte| sum + u32::from(byte));
    let high = |range: &[u8]| range.iter().filter(|&&byte| byte >= 0x80).count() as i64;
    let unsigned = i64::from(sum(&block[..148]) + sum(&block[156..]) + 8 * u32::from(b' '));
    [unsigned, unsigned - 256 * (high(&block[..148]) + high(&block[156..]))]
}

/// The bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

/// An octal number, or a binary one whose first bit says so.
fn number(field: &[u8]) -> Option<i64> {
    let Some(first) = field.first().filter(|byte| **byte & 0x80 != 0) else {
        return octal(field);
    };
    let inverted = if first & 0x40 == 0 { 0 } else { 0xff };
    let mut value: u64 = 0;
    for (at, byte) in field.iter().enumerate() {
        let byte = (byte ^ inverted) & if at == 0 { 0x7f } else { 0xff };
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if inverted == 0 { value } else { !value })
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().take_while(|byte| blank(byte)).count();
    let end = field.len() - field[start..].iter().rev().take_while(|byte| blank(byte)).count();
    let digits = text(&field[start..end]);
    if digits.is_empty() {
        return (start == end).then_some(0);
    }
    let mut value: u64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) || value >> 61 != 0 {
            return None;
        }
        value = value << 3 | u64::from(digit - b'0');
    }
    // More than 63 bits turn negative, as they do for Go.
    Some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(change: impl FnOnce(&mut tar::Header)) -> [u8; BLOCK] {
        let mut header = tar::Header::new_ustar();
        header.set_path("usr/bin/x").unwrap();
        header.set_size(3);
        header.set_mode(0o4755);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(5);
        change(&mut header);
        header.set_cksum();
        *header.as_bytes()
    }

    #[test]
    fn fields_stand_where_the_format_puts_them() {
        let header = parse(&block(|_| {})).unwrap();
        assert_eq!((header.name.as_slice(), header.size, header.mode), (&b"usr/bin/x"[..], 3, 0o4755));
        assert_eq!((header.uid, header.gid, header.mtime), (1, 2, 5 * SECOND));
        let long = "d/".repeat(60) + "file";
        let header = parse(&block(|header| header.set_path(&long).unwrap())).unwrap();
        assert_eq!(header.name, long.as_bytes());
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        let table: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"", Some(0)),
            (b"8", None),
            (b"+7", None),
            (b"7\x007", Some(7)),
            (b"1777777777777777777777", Some(-1)),
            (b"7777777777777777777777", None),
            (&[0x80, 0, 1, 0], Some(256)),
            (&[0xff, 0xff, 0xff, 0xfe], Some(-2)),
            (&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ];
        for (field, want) in table {
            assert_eq!(number(field), want, "{field:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut wrong = block(|_| {});
        wrong[0] ^= 1;
        assert_eq!(parse(&wrong), Err("a wrong checksum"));
        let star = block(|header| header.as_mut_bytes()[508..].copy_from_slice(b"tar\0"));
        assert_eq!(parse(&star), Err("the format of star"));
        let size = block(|header| header.as_mut_bytes()[124..136].copy_from_slice(b"zzzzzzzzzzz\0"));
        assert_eq!(parse(&size), Err("a size that is no number"));
    }
}
