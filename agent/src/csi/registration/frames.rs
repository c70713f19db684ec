//! What a client sends on a connection of HTTP/2, frame by frame (RFC 9113): all of it goes on as it came, but header
//! blocks with another `:authority`.

use super::hpack;

/// What a client says first (section 3.4).
const PREFACE: usize = 24;
/// Length, type, flags, stream (section 4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// What the flag `PRIORITY` adds before the header block (section 6.2).
const PRIORITY_BYTES: usize = 5;
/// No frame is longer where the server does not allow more (section 6.5.2), and ours does not. A whole header block
/// may not be longer either: those of kubelet have two hundred bytes, and so it leaves again as one frame.
const LIMIT: usize = 16 << 10;

/// The client speaks no HTTP/2, or more of it than belongs here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// A frame's head.
#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

/// A header block under way: its first frame, without padding, and what the next ones added.
#[derive(Debug)]
struct Block {
    flags: u8,
    stream: [u8; 4],
    /// What stands before the block itself where the flag says so.
    priority: Vec<u8>,
    fields: Vec<u8>,
}

/// Reads what the client sends.
#[derive(Debug)]
pub(super) struct Frames {
    /// So many bytes go on as they are.
    passing: usize,
    /// What came of a frame's head; of a frame of headers, what came of the whole.
    held: Vec<u8>,
    block: Option<Block>,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { passing: PREFACE, held: Vec::new(), block: None }
    }

    /// Reads `bytes`; what the server shall read is added to `out`.
    pub(super) fn read(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            let wanted = match (self.passing, Head::of(&self.held)) {
                (0, None) => HEAD - self.held.len(),
                (0, Some((head, payload))) => head.length - payload.len(),
                (passing, _) => passing,
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.passing > 0 {
                self.passing -= now.len();
                out.extend_from_slice(now);
            } else {
                self.held.extend_from_slice(now);
                self.frame(out)?;
            }
        }
        Ok(())
    }

    /// Looks at what is held.
    fn frame(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let Some((head, payload)) = Head::of(&self.held) else { return Ok(()) };
        let belongs = match &self.block {
            None => head.kind != CONTINUATION,
            Some(block) => head.kind == CONTINUATION && head.stream == block.stream,
        };
        if !belongs {
            return Err(Malformed("a header block is cut in two, or goes on without a beginning"));
        }
        if !matches!(head.kind, HEADERS | CONTINUATION) {
            out.append(&mut self.held);
            self.passing = head.length;
            return Ok(());
        }
        if head.length > LIMIT {
            return Err(Malformed("a frame of headers is longer than 16 KiB"));
        }
        if payload.len() < head.length {
            return Ok(());
        }
        let block = match self.block.take() {
            None => Block::begun(head, payload)?,
            Some(block) => block.with(payload)?,
        };
        match head.flags & END_HEADERS {
            0 => self.block = Some(block),
            _ => block.write(out)?,
        }
        self.held.clear();
        Ok(())
    }
}

impl Head {
    /// The head at the start of a frame, and what follows it; none as long as it is not whole.
    fn of(frame: &[u8]) -> Option<(Self, &[u8])> {
        let ([high, middle, low, kind, flags, a, b, c, d], payload) = frame.split_first_chunk::<HEAD>()?;
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        Some((Self { length, kind: *kind, flags: *flags, stream: [*a, *b, *c, *d] }, payload))
    }
}

impl Block {
    /// Of a frame of the type `HEADERS` (section 6.2).
    fn begun(head: Head, payload: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed("a frame of headers is shorter than its flags say");
        let mut content = payload;
        if head.flags & PADDED != 0 {
            let Some((padding, rest)) = content.split_first() else { return Err(short) };
            let length = rest.len().checked_sub(usize::from(*padding));
            let Some(unpadded) = length.and_then(|length| rest.get(..length)) else { return Err(short) };
            content = unpadded;
        }
        let before = if head.flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
        let Some((priority, fields)) = content.split_at_checked(before) else { return Err(short) };
        let flags = head.flags & !PADDED;
        Ok(Self { flags, stream: head.stream, priority: priority.to_vec(), fields: fields.to_vec() })
    }

    fn with(mut self, more: &[u8]) -> Result<Self, Malformed> {
        self.fields.extend_from_slice(more);
        match self.fields.len() > LIMIT {
            true => Err(Malformed("a header block is longer than 16 KiB")),
            false => Ok(self),
        }
    }

    /// The whole block as one frame.
    fn write(self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let fields = hpack::with_plain_authority(&self.fields).unwrap_or(self.fields);
        let length = self.priority.len() + fields.len();
        if length > LIMIT {
            return Err(Malformed("a header block is longer than 16 KiB"));
        }
        // Three bytes hold it: see above.
        let [.., high, middle, low] = length.to_be_bytes();
        out.extend_from_slice(&[high, middle, low, HEADERS, self.flags | END_HEADERS]);
        out.extend_from_slice(&self.stream);
        out.extend_from_slice(&self.priority);
        out.extend_from_slice(&fields);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_STREAM: u8 = 1;
    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = payload.len().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn preface(frames: &[Vec<u8>]) -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat()].concat()
    }

    /// `sent` in pieces of `size` bytes.
    fn read(sent: &[u8], size: usize) -> Result<Vec<u8>, Malformed> {
        let (mut frames, mut out) = (Frames::new(), Vec::new());
        for piece in sent.chunks(size) {
            frames.read(piece, &mut out)?;
        }
        Ok(out)
    }

    /// `:method POST`, `:authority` with a value, and one more field.
    const SENT: &[u8] = b"\x83\x41\x05%2Fva\xbe";
    const READ: &[u8] = b"\x83\x41\x01k\xbe";

    #[test]
    fn header_blocks_arrive_with_another_authority_and_all_else_as_it_came() {
        let padded = [&[3][..], SENT, &[0; 3]].concat();
        let both = [&[2][..], &[0, 0, 0, 1, 9], SENT, &[0; 2]].concat();
        let prior = [&[0, 0, 0, 1, 9][..], READ].concat();
        let data = frame(DATA, END_STREAM, 1, &[7; 70_000]);
        let whole = frame(HEADERS, END_HEADERS, 1, READ);
        let cases = [
            (vec![frame(HEADERS, END_HEADERS, 1, SENT)], vec![whole.clone()]),
            (vec![frame(HEADERS, END_HEADERS | PADDED, 1, &padded)], vec![whole.clone()]),
            (
                vec![frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &both)],
                vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &prior)],
            ),
            (
                vec![
                    frame(HEADERS, END_STREAM, 1, &SENT[..4]),
                    frame(CONTINUATION, 0, 1, &[]),
                    frame(CONTINUATION, END_HEADERS, 1, &SENT[4..]),
                ],
                vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, READ)],
            ),
            (vec![frame(HEADERS, END_HEADERS, 1, &[])], vec![frame(HEADERS, END_HEADERS, 1, &[])]),
            (vec![data.clone()], vec![data]),
        ];
        for (sent, expected) in cases {
            // Between others: where one frame ends, the next begins.
            let around = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9])];
            let sent = preface(&[&around[..], &sent, &around].concat());
            let expected = preface(&[&around[..], &expected, &around].concat());
            for size in [1, 7, 4096, usize::MAX] {
                assert!(read(&sent, size).unwrap() == expected, "{:x?}", &sent[..sent.len().min(100)]);
            }
        }
    }

    #[test]
    fn what_is_no_header_block_is_refused() {
        let cases = [
            vec![frame(CONTINUATION, END_HEADERS, 1, SENT)],
            vec![frame(HEADERS, 0, 1, SENT), frame(DATA, 0, 1, b"x")],
            vec![frame(HEADERS, 0, 1, SENT), frame(HEADERS, END_HEADERS, 3, SENT)],
            vec![frame(HEADERS, 0, 1, SENT), frame(CONTINUATION, END_HEADERS, 3, SENT)],
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[])],
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0])],
            vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4])],
            vec![frame(HEADERS, END_HEADERS, 1, &vec![0xbe; LIMIT + 1])],
            vec![frame(HEADERS, 0, 1, &vec![0xbe; LIMIT]), frame(CONTINUATION, END_HEADERS, 1, &[0xbe])],
            vec![frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &[0; 5])],
        ];
        for sent in cases {
            for size in [1, usize::MAX] {
                assert!(read(&preface(&sent), size).is_err(), "{:x?}", sent[0].get(..40));
            }
        }
    }

    #[test]
    fn no_bytes_panic_and_none_are_kept_beyond_a_block() {
        use rand::{Rng as _, SeedableRng as _};
        let mut random = rand::rngs::StdRng::seed_from_u64(6);
        for _ in 0..20_000 {
            let (mut frames, mut out) = (Frames::new(), Vec::new());
            frames.read(&preface(&[]), &mut out).unwrap();
            for _ in 0..random.random_range(1..6) {
                let kind = [HEADERS, CONTINUATION, DATA, SETTINGS][random.random_range(0..4)];
                let payload: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random()).collect();
                let mut sent = frame(kind, random.random(), random.random_range(0..2), &payload);
                sent.truncate(random.random_range(0..=sent.len() + 9).min(sent.len()));
                if frames.read(&sent, &mut out).is_err() {
                    break;
                }
                assert!(frames.held.len() <= HEAD + LIMIT);
            }
        }
    }
}
