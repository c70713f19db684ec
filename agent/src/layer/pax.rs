//! PAX records (POSIX pax, "Extended Header"), read as Go's archive/tar reads them. Pure.

use std::collections::BTreeMap;

use super::header::Time;

/// The records of one extended header; of two with one key the later counts.
pub(super) type Records<'a> = BTreeMap<&'a [u8], &'a [u8]>;

/// Splits `bytes` into records.
///
/// # Errors
/// Says what is wrong, or unusual enough to be left to containerd.
pub(super) fn records(mut bytes: &[u8]) -> Result<Records<'_>, &'static str> {
    let mut records = Records::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&byte| byte == b' ').ok_or("a PAX record without a length")?;
        let length = integer(&bytes[..space]).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length >= 5 && *length <= bytes.len() && *length > space + 1);
        let (record, rest) = bytes.split_at(length.ok_or("a PAX record with a wrong length")?);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or("a PAX record without an end")?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or("a PAX record without a value")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.starts_with(b"GNU.sparse.") {
            return Err("a sparse file of GNU tar");
        }
        let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if key.is_empty() || if is_text { value } else { key }.contains(&0) {
            return Err("a PAX record with an unusable key or value");
        }
        records.insert(key, value);
        bytes = rest;
    }
    Ok(records)
}

/// A decimal number with an optional sign.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `seconds[.fraction]`; digits beyond nanoseconds are cut off.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let point = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
    let seconds = Time::from(integer(&text[..point])?) * 1_000_000_000;
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at| fraction.get(at).map_or(0, |digit: &u8| Time::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, at| sum * 10 + digit(at));
    Some(if text[0] == b'-' { seconds - nanoseconds } else { seconds + nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_their_length_before_them() {
        let read = records(b"12 path=a/b\n22 SCHILY.xattr.a=\x00\x01b\n12 path=c/d\n").unwrap();
        assert_eq!(read.get(&b"path"[..]), Some(&&b"c/d"[..]));
        assert_eq!(read.get(&b"SCHILY.xattr.a"[..]), Some(&&b"\x00\x01b"[..]));
        for wrong in [
            &b"x"[..],
            b"3 a\n",
            b"99 a=b\n",
            b"-6 a=b\n",
            b"6 a=bc",
            b"6 abc\n",
            b"6 =bc\n",
            b"11 path=a\0\n",
            b"24 GNU.sparse.major=1234\n",
        ] {
            assert!(records(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_have_nine_digits() {
        let table: [(&str, Option<Time>); 8] = [
            ("1", Some(1_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("1.0000000019", Some(1_000_000_001)),
            ("-1.5", Some(-1_500_000_000)),
            ("-0.5", Some(-500_000_000)),
            ("1.", Some(1_000_000_000)),
            ("", None),
            ("1.x", None),
        ];
        for (text, want) in table {
            assert_eq!(time(text.as_bytes()), want, "{text}");
        }
    }
}
