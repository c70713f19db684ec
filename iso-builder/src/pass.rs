//! One reading of a file that gives its digest and those of the blobs in it.

use std::thread;

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::Failure;

use crate::content::{Content, failed};
use crate::progress::Bar;

/// Bytes read at once: enough that two threads share the hashing of each piece.
const PIECE: usize = 1 << 20;

/// A range of the file that is hashed on its own.
#[derive(Debug)]
struct Part {
    number: usize,
    begin: u64,
    end: u64,
    hasher: Hasher,
}

/// The digest of `content`, and of each of `ranges` (first byte, length) in it,
/// in their order. What reaches beyond the end counts up to the end.
pub(crate) fn digests(content: &Content, ranges: &[(u64, u64)], bar: &Bar) -> Result<(Digest, Vec<Digest>), Failure> {
    let part = |(number, (begin, length)): (usize, &(u64, u64))| Part {
        number,
        begin: *begin,
        end: begin.saturating_add(*length),
        hasher: Hasher::default(),
    };
    let mut waiting: Vec<Part> = ranges.iter().enumerate().map(part).collect();
    // The next one is the last of the list.
    waiting.sort_by_key(|part| std::cmp::Reverse(part.begin));
    let (mut open, mut done): (Vec<Part>, Vec<Part>) = (Vec::new(), Vec::new());
    let (mut whole, mut at, mut buf) = (Hasher::default(), 0, vec![0; PIECE]);
    loop {
        let count = fill(content, at, &mut buf).map_err(|e| failed("Reading", &content.path_at(at), e))?;
        let (piece, end) = (&buf[..count], at + count as u64);
        while let Some(next) = waiting.pop_if(|part| part.begin < end) {
            open.push(next);
        }
        if open.is_empty() {
            whole.update(piece);
        } else {
            thread::scope(|scope| {
                scope.spawn(|| whole.update(piece));
                for part in &mut open {
                    let (from, to) = (part.begin.max(at) - at, part.end.min(end) - at);
                    part.hasher.update(&piece[from as usize..to as usize]);
                }
            });
        }
        done.extend(open.extract_if(.., |part| part.end <= end));
        bar.add(count as u64);
        at = end;
        if count < PIECE {
            break;
        }
    }
    done.extend(open);
    done.extend(waiting);
    done.sort_by_key(|part| part.number);
    Ok((whole.finish(), done.into_iter().map(|part| part.hasher.finish()).collect()))
}

/// Reads until `buf` is full or `content` ends.
fn fill(content: &Content, at: u64, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match content.read_at(at + filled as u64, &mut buf[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_its_own_digest() {
        let bytes: Vec<u8> = (0..3 * PIECE + 77).map(|at| (at * 7 % 251) as u8).collect();
        let content = Content::bytes(bytes.clone());
        let all = bytes.len();
        let ranges = [(PIECE - 5, 10), (0, all), (3, 0), (all - 4, 100), (all + 9, 1), (2 * PIECE, PIECE), (5, 6)];
        let wanted: Vec<_> = ranges
            .iter()
            .map(|(begin, length)| Digest::of(&bytes[(*begin).min(all)..(begin + length).min(all)]))
            .collect();
        let ranges: Vec<_> = ranges.iter().map(|(begin, length)| (*begin as u64, *length as u64)).collect();
        let (whole, found) = digests(&content, &ranges, &Bar::none()).unwrap();
        assert_eq!((whole, found), (Digest::of(&bytes), wanted));
        let empty = digests(&Content::default(), &[(0, 0)], &Bar::none()).unwrap();
        assert_eq!(empty, (Digest::of(b""), vec![Digest::of(b"")]));
    }
}
