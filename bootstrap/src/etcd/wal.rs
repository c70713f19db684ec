//! Whose data a data directory holds: the first records of a write-ahead log tell (etcd, `server/storage/wal`).

use serde::{Deserialize, Serialize};

use super::members::Id;

/// As much of a log's beginning is enough: two small records.
pub const HEAD_BYTES: usize = 4096;

/// The type of the record that tells ids (`walpb.Record`).
const METADATA: u64 = 1;

/// Which member of which cluster wrote the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: Id,
    /// The member.
    pub member: Id,
}

/// The identity in the `head` of a log; none where it holds none (yet).
#[must_use]
pub fn identity(head: &[u8]) -> Option<Identity> {
    let mut rest = head;
    while let Some((frame, behind)) = rest.split_first_chunk::<8>() {
        // The highest byte tells how many zeros follow the record, so that the next one begins at 8 bytes.
        let [length @ .., padding] = *frame;
        let length = length
            .iter()
            .rev()
            .try_fold(0_usize, |sum, byte| sum.checked_mul(256).and_then(|sum| sum.checked_add(usize::from(*byte))))?;
        let padding = if padding & 0x80 == 0 { 0 } else { usize::from(padding & 0x7) };
        if length == 0 {
            return None;
        }
        let record = behind.get(..length)?;
        if field(record, 1).and_then(Field::number) == Some(METADATA) {
            let metadata = field(record, 3).and_then(Field::bytes)?;
            let id = |number| field(metadata, number).and_then(Field::number).filter(|id| *id != 0).map(Id);
            return Some(Identity { member: id(1)?, cluster: id(2)? });
        }
        rest = behind.get(length.checked_add(padding)?..)?;
    }
    None
}

/// A field of a message (protobuf encoding).
#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(self) -> Option<u64> {
        if let Field::Number(number) = self { Some(number) } else { None }
    }

    fn bytes(self) -> Option<&'a [u8]> {
        if let Field::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(value);
        }
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a log that etcd 3.4.23 wrote.
    const HEAD: [u8; 56] = *include_bytes!("testdata/0-0.wal");

    #[test]
    fn a_real_log_tells_its_ids() {
        let identity = identity(&HEAD).unwrap();
        assert_eq!(identity.cluster, Id(532_490_870_631_812_654));
        assert_eq!(identity.member, Id(15_384_607_655_018_781_953));
    }

    #[test]
    fn a_log_that_is_cut_or_damaged_tells_nothing() {
        for length in 0..HEAD.len() - 1 {
            assert_eq!(identity(&HEAD[..length]), None, "{length}");
        }
        assert_eq!(identity(&[0; HEAD_BYTES]), None);
        assert_eq!(identity(&[0xff; HEAD_BYTES]), None);
        // Whatever a byte becomes, it is an answer and no panic.
        for at in 0..HEAD.len() {
            let mut damaged = HEAD;
            damaged[at] ^= 0xff;
            let _ = identity(&damaged);
        }
    }
}
