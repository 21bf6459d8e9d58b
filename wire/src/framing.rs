//! Takes the pieces of a body off what has arrived.
//!
//! Source: RFC 9112, sections 6.3 and 7.1.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// The longest line that begins a chunk, with its extensions, in bytes.
const MAX_SIZE_LINE: usize = 1 << 10;
/// The longest trailer, in bytes.
const MAX_TRAILER: usize = 16 << 10;

/// Where a body ends, and what of it is still to come.
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing more comes.
    Ended,
    /// This many bytes are still to come, at least one.
    Length(u64),
    /// Chunks are still to come.
    Chunked(Chunks),
    /// Everything belongs to it until the connection ends.
    UntilClose,
}

/// A body in chunks.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunks {
    next: Next,
    /// A chunk of up to this length is given out whole, in bytes; a longer one as it arrives.
    most_held: u64,
}

/// Where in a body in chunks the next byte belongs.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The line with a chunk's size.
    Size,
    /// All of a chunk of this many bytes, which is taken once it is there.
    Whole(usize),
    /// This many bytes of a longer chunk, which is taken as it arrives.
    Part(u64),
    /// The line break after a chunk.
    LineBreak,
    /// The trailer, of which this much was read.
    Trailer(usize),
}

/// What was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A piece of the body, not empty.
    Piece(Bytes),
    /// Nothing; more has to arrive first.
    Nothing,
    /// The end.
    End,
}

impl Framing {
    /// Returns the framing of a body in chunks, of which those of up to `most_held` bytes are given out whole.
    #[must_use]
    pub fn chunked(most_held: u64) -> Self {
        Self::Chunked(Chunks { next: Next::Size, most_held })
    }

    /// Returns whether the end of the connection is the end of the body.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        *self == Self::UntilClose
    }

    /// Takes the next piece off `input`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the framing; then nothing that follows can be understood.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, &'static str> {
        match self {
            Self::Ended => Ok(Decoded::End),
            _ if input.is_empty() => Ok(Decoded::Nothing),
            Self::UntilClose => Ok(Decoded::Piece(input.split().freeze())),
            Self::Length(left) => {
                let piece = take(input, left);
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Decoded::Piece(piece))
            }
            Self::Chunked(chunks) => {
                let decoded = chunks.decode(input)?;
                if decoded == Decoded::End {
                    *self = Self::Ended;
                }
                Ok(decoded)
            }
        }
    }

    /// Takes off `input` what is there of a chunk that will not come to its end.
    pub fn give_up(&mut self, input: &mut BytesMut) -> Option<Bytes> {
        let Self::Chunked(Chunks { next: next @ Next::Whole(_), .. }) = self else { return None };
        *next = Next::Part(u64::MAX);
        Some(input.split().freeze()).filter(|piece| !piece.is_empty())
    }
}

/// Returns where the content of the chunk is that stands behind the end of another one, if it is there as a whole and
/// written as plainly as nearly all are. Everything else is for [`Framing::decode`].
fn plain_chunk(input: &[u8]) -> Option<Range<usize>> {
    /// Digits of a size whose chunk could be there as a whole.
    const MOST_DIGITS: usize = 5;
    let rest = input.strip_prefix(b"\r\n")?;
    let values = rest.iter().take(MOST_DIGITS).map_while(|digit| char::from(*digit).to_digit(16));
    let (digits, size) = values.fold((0, 0), |(digits, size), value| (digits + 1, size << 4 | value as usize));
    let begin = 2 + digits + 2;
    let is_there = rest[digits..].starts_with(b"\r\n") && size > 0 && input.len() - begin >= size;
    is_there.then_some(begin..begin + size)
}

impl Chunks {
    /// Returns what comes after the line with a chunk's size.
    fn after(&self, size: u64) -> Next {
        match usize::try_from(size) {
            Ok(whole) if size <= self.most_held => Next::Whole(whole),
            _ => Next::Part(size),
        }
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, &'static str> {
        if self.next == Next::LineBreak
            && let Some(content) = plain_chunk(input)
        {
            let mut piece = input.split_to(content.end).freeze();
            piece.advance(content.start);
            return Ok(Decoded::Piece(piece));
        }
        loop {
            match &mut self.next {
                Next::Size => match size_line(input)? {
                    None => return Ok(Decoded::Nothing),
                    Some(0) => self.next = Next::Trailer(0),
                    Some(size) => self.next = self.after(size),
                },
                Next::Whole(size) if input.len() < *size => return Ok(Decoded::Nothing),
                Next::Whole(size) => {
                    let piece = input.split_to(*size).freeze();
                    self.next = Next::LineBreak;
                    return Ok(Decoded::Piece(piece));
                }
                Next::Part(_) if input.is_empty() => return Ok(Decoded::Nothing),
                Next::Part(left) => {
                    let piece = take(input, left);
                    if *left == 0 {
                        self.next = Next::LineBreak;
                    }
                    return Ok(Decoded::Piece(piece));
                }
                Next::LineBreak => match input.first_chunk() {
                    Some(b"\r\n") => {
                        input.advance(2);
                        self.next = Next::Size;
                    }
                    None if input.first().is_none_or(|first| *first == b'\r') => return Ok(Decoded::Nothing),
                    _ => return Err("a chunk does not end where its size says"),
                },
                Next::Trailer(read) => match line(input, MAX_TRAILER - *read)? {
                    None => return Ok(Decoded::Nothing),
                    Some(0) => return Ok(Decoded::End),
                    Some(length) => *read = MAX_TRAILER.min(*read + length),
                },
            }
        }
    }
}

/// Takes the line off `input` that begins a chunk, and returns the chunk's size.
fn size_line(input: &mut BytesMut) -> Result<Option<u64>, &'static str> {
    let digits = input.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let size = str::from_utf8(&input[..digits]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let behind = input[digits..].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    let is_size = match behind {
        Some(behind) => size.is_some() && matches!(behind, b'\r' | b';'),
        // More may be on its way.
        None => size.is_some() || input.is_empty(),
    };
    if !is_size {
        return Err("a chunk has no size");
    }
    Ok(line(input, MAX_SIZE_LINE)?.and(size))
}

/// Takes a line off `input`, and returns its length without the line break.
fn line(input: &mut BytesMut, limit: usize) -> Result<Option<usize>, &'static str> {
    let seen = &input[..input.len().min(limit + 2)];
    match memchr::memchr2(b'\r', b'\n', seen) {
        Some(end) if seen[end] == b'\n' => Err("a line in its body has a bare line feed"),
        Some(end) if end <= limit => match seen.get(end + 1) {
            Some(b'\n') => {
                input.advance(end + 2);
                Ok(Some(end))
            }
            Some(_) => Err("a line in its body has a bare carriage return"),
            None => Ok(None),
        },
        None if seen.len() <= limit => Ok(None),
        _ => Err("a line in its body is too long"),
    }
}

/// Takes what is there of `left` bytes off `input`.
fn take(input: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= length as u64;
    input.split_to(length).freeze()
}

#[cfg(test)]
mod tests;
