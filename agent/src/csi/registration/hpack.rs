//! Header blocks of HTTP/2, as far as to find `:authority` in them (RFC 7541).
//!
//! Its value is replaced by one of a single character. A client that told the server to remember the field counts the
//! value's length in its table; the server's table then holds an entry that is never larger than the client's, so it
//! keeps whatever the client still refers to, at the same index, and entries that the client forgot stay behind all
//! others, where nobody refers to them. No table has to be kept here, and Huffman's code need not be read.

/// Stands for any authority: the name of the socket is all there is.
const AUTHORITY: u8 = b'k';
/// `:authority` in the static table (appendix A).
const AUTHORITY_INDEX: usize = 1;
/// No number of a header block is larger; one of more is refused by who reads the block, too.
const LARGEST: usize = 1 << 24;

/// One field of a header block, or a change of the table's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// Nothing to look at; so many bytes.
    Other(usize),
    /// `:authority` with a value: its name takes `name` bytes, and the value with its length `value`.
    Authority { name: usize, value: usize },
}

/// The header block with each literal value of `:authority` replaced; none where nothing is to be replaced or the
/// block is malformed, which its reader then says.
#[must_use]
pub(super) fn with_plain_authority(block: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut written, mut replaced) = (block, Vec::with_capacity(block.len()), false);
    while !rest.is_empty() {
        let (length, kept) = match field(rest)? {
            Field::Other(length) => (length, length),
            Field::Authority { name, value } => (name.checked_add(value)?, name),
        };
        written.extend_from_slice(rest.get(..kept)?);
        if kept < length {
            written.extend_from_slice(&[1, AUTHORITY]);
            replaced = true;
        }
        rest = rest.get(length..)?;
    }
    replaced.then_some(written)
}

/// The first field of `block` (section 6).
fn field(block: &[u8]) -> Option<Field> {
    let first = *block.first()?;
    // An index, or a new size of the table: a number and no more.
    if first & 0x80 != 0 {
        return integer(block, 7).map(|(_, length)| Field::Other(length));
    }
    if first & 0xe0 == 0x20 {
        return integer(block, 5).map(|(_, length)| Field::Other(length));
    }
    let (index, mut name) = integer(block, if first & 0x40 == 0 { 4 } else { 6 })?;
    if index == 0 {
        name = name.checked_add(string(block.get(name..)?)?)?;
    }
    let value = string(block.get(name..)?)?;
    // An empty value stays: a longer one would not fit the client's table.
    match index == AUTHORITY_INDEX && value > 1 {
        true => Some(Field::Authority { name, value }),
        false => Some(Field::Other(name.checked_add(value)?)),
    }
}

/// The length in bytes of the string at the start of `block`, its own length included (section 5.2).
fn string(block: &[u8]) -> Option<usize> {
    let (content, length) = integer(block, 7)?;
    let whole = length.checked_add(content)?;
    (whole <= block.len()).then_some(whole)
}

/// The number at the start of `block`, of which the first byte holds `prefix` bits, and its length in bytes
/// (section 5.1).
fn integer(block: &[u8], prefix: u32) -> Option<(usize, usize)> {
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.first()?) & most;
    if value < most {
        return Some((value, 1));
    }
    for (at, byte) in block.iter().enumerate().skip(1) {
        let shift = u32::try_from(at - 1).ok()?.checked_mul(7)?;
        value = value.checked_add(usize::from(byte & 0x7f).checked_mul(1_usize.checked_shl(shift)?)?)?;
        if value > LARGEST {
            return None;
        }
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A literal with its name by index.
    fn literal(first: u8, value: &[u8]) -> Vec<u8> {
        [&[first, u8::try_from(value.len()).unwrap()], value].concat()
    }

    #[test]
    fn the_value_of_authority_is_replaced_in_every_form() {
        let long = [vec![0x41, 0x7f, 0x80, 0x01], vec![b'x'; 255]].concat();
        let huffman = vec![0x41, 0x83, 0x12, 0x34, 0x56];
        let forms = [
            (literal(0x41, b"%2Fvar%2Flib"), vec![0x41, 1, b'k']),
            (literal(0x01, b"%2F"), vec![0x01, 1, b'k']),
            (literal(0x11, b"%2F"), vec![0x11, 1, b'k']),
            (long, vec![0x41, 1, b'k']),
            (huffman, vec![0x41, 1, b'k']),
        ];
        // :method POST; a size of the table; grpc's `te` with its own name; and an index of the dynamic table.
        let before = [&[0x83, 0x3f, 0xe1, 0x1f][..], &[0x40, 2], b"te", &[8], b"trailers"].concat();
        for (form, expected) in forms {
            let block = [&before[..], &form, &[0xbe]].concat();
            let replaced = with_plain_authority(&block);
            assert_eq!(replaced, Some([&before[..], &expected, &[0xbe]].concat()), "{form:x?}");
        }
    }

    #[test]
    fn other_fields_stay_as_they_are() {
        let named = [&[0x40, 10][..], b":authority", &[1, b'x']].concat();
        for block in [vec![], vec![0x81], vec![0xbe, 0xbf], literal(0x41, b""), literal(0x44, b"/a/b"), named] {
            assert_eq!(with_plain_authority(&block), None, "{block:x?}");
        }
    }

    #[test]
    fn a_malformed_block_is_left_to_who_reads_it() {
        let endless = [vec![0x41], vec![0xff; 64]].concat();
        let large = vec![0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let good = literal(0x41, b"%2F");
        let beyond = [&good[..], &[0x41, 9, b'x']].concat();
        for block in [vec![0x41], vec![0x41, 3, b'x'], vec![0xff], vec![0x40, 2, b'x'], endless, large, beyond] {
            assert_eq!(with_plain_authority(&block), None, "{block:x?}");
        }
    }

    #[test]
    fn no_block_panics_or_grows() {
        use rand::{Rng as _, SeedableRng as _};
        let mut random = rand::rngs::StdRng::seed_from_u64(6);
        let starts = [0x41, 0x01, 0x11, 0x40, 0x00, 0x10, 0x7f, 0xff, 0x3f, 0x80];
        for _ in 0..100_000 {
            let mut block: Vec<u8> = (0..random.random_range(0..24)).map(|_| random.random()).collect();
            if let Some(first) = block.first_mut() {
                *first = starts[random.random_range(0..starts.len())];
            }
            let replaced = with_plain_authority(&block);
            assert!(replaced.is_none_or(|replaced| replaced.len() <= block.len()), "{block:x?}");
        }
    }
}
