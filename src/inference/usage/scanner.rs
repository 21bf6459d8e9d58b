//! Finds `usage` objects in JSON that arrives in pieces and is not kept.
//!
//! JSON of up to [`MAX_KEPT`] bytes is kept, and read from its end. In what is longer the first `"usage"` is searched
//! by vector instructions, and from there on brackets are counted as it passes. How deep an object lies is known only
//! at the end of the JSON: what is closed after it was open around it. So every object that may count is remembered
//! until then.

use super::MAX_KEPT;
use super::report::{Counts, KEY, counts_of, find_key, last_counts};

/// The longest `usage` object that is read, in bytes.
const MAX_OBJECT: usize = 16 * 1024;

/// The most objects that are remembered, each at another depth.
const MAX_FOUND: usize = 8;

/// The rest of a key, after its first quote.
const NAME: &[u8] = b"usage\"";

/// Reads along with one JSON value.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// All of it, until it gets too long.
    kept: Vec<u8>,
    /// Reads what is too long.
    long: Option<Box<Long>>,
}

/// Reads along with one JSON value that is not kept.
#[derive(Debug, Default)]
struct Long {
    /// The last bytes before the first key, which may be its beginning.
    carried: Vec<u8>,
    /// Set once the first key was found.
    walk: Option<Walk>,
}

/// What is read from the first key on.
#[derive(Debug)]
struct Walk {
    place: Place,
    next: Next,
    /// By how many the brackets that closed outnumber those that opened.
    net: i64,
    /// The object that is being read, and the count of brackets before it.
    object: Option<(i64, Vec<u8>)>,
    /// The objects that were read, each with the count of brackets before it; the last one of each count.
    found: Vec<(i64, Counts)>,
}

/// Where in a JSON value a byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Outside of strings.
    Outside,
    /// In a string that so far agrees with this many bytes of [`NAME`].
    Name(usize),
    /// In another string.
    Text,
    /// In another string, after a backslash.
    Escape,
}

/// What has to follow for a string to be the key of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Colon,
    Object,
    Anything,
}

impl Scanner {
    /// Takes in the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        if let Some(long) = &mut self.long {
            long.push(piece);
        } else if self.kept.len() + piece.len() <= MAX_KEPT {
            self.kept.extend_from_slice(piece);
        } else {
            let long = self.long.insert(Box::default());
            long.push(&std::mem::take(&mut self.kept));
            long.push(piece);
        }
    }

    /// Ends the value, and returns the last `usage` object that is a field of an object within at most `max_depth`
    /// objects or arrays, itself included.
    pub(super) fn finish(&mut self, max_depth: i64) -> Option<Counts> {
        match self.long.take() {
            Some(long) => long.walk?.last_counts(max_depth),
            None => last_counts(&std::mem::take(&mut self.kept), max_depth),
        }
    }
}

impl Long {
    fn push(&mut self, piece: &[u8]) {
        if let Some(walk) = &mut self.walk {
            walk.push(piece);
        } else if let Some(after) = self.first_key(piece) {
            self.walk.insert(Walk::new()).push(&piece[after..]);
        }
    }

    /// Returns where in the piece the first key ends, which may have begun in an earlier piece.
    fn first_key(&mut self, piece: &[u8]) -> Option<usize> {
        let before = self.carried.len();
        let preceding = self.carried.last().copied();
        let straddling = if before == 0 { None } else { self.straddling_key(piece) };
        let found = straddling.or_else(|| find_key(piece, preceding));
        if found.is_none() {
            self.carried.truncate(before);
            self.carried.extend_from_slice(&piece[piece.len().saturating_sub(KEY.len())..]);
            self.carried.drain(..self.carried.len().saturating_sub(KEY.len()));
        }
        found
    }

    /// Returns where in the piece a key ends that began in an earlier one.
    fn straddling_key(&mut self, piece: &[u8]) -> Option<usize> {
        let before = self.carried.len();
        self.carried.extend_from_slice(&piece[..piece.len().min(KEY.len() - 1)]);
        find_key(&self.carried, None).filter(|end| *end > before).map(|end| end - before)
    }
}

impl Walk {
    fn new() -> Self {
        Self { place: Place::Outside, next: Next::Colon, net: 0, object: None, found: Vec::new() }
    }

    fn last_counts(&self, max_depth: i64) -> Option<Counts> {
        let found = self.found.iter().rev().find(|(before, _)| (1..=max_depth).contains(&(self.net - before)));
        found.map(|(_, counts)| *counts)
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            let length = match self.place {
                Place::Text => memchr::memchr2(b'"', b'\\', bytes).map_or(bytes.len(), |at| at + 1),
                Place::Outside | Place::Name(_) | Place::Escape => 1,
            };
            let (part, after) = bytes.split_at(length);
            if let Some((_, object)) = &mut self.object
                && object.len() <= MAX_OBJECT
            {
                object.extend_from_slice(part);
            }
            match self.place {
                Place::Outside => self.outside(*byte),
                Place::Text => self.text(part[length - 1]),
                Place::Escape => self.place = Place::Text,
                Place::Name(read) if *byte == NAME[read] => self.name(read + 1),
                // The byte is looked at again, as one of another string.
                Place::Name(_) => {
                    self.place = Place::Text;
                    self.unread();
                    continue;
                }
            }
            bytes = if length == 1 { rest } else { after };
        }
    }

    /// Forgets that the last byte was added to the object, because it is going to be read again.
    fn unread(&mut self) {
        if let Some((_, object)) = &mut self.object {
            object.pop();
        }
    }

    fn text(&mut self, last: u8) {
        match last {
            b'"' => self.place = Place::Outside,
            b'\\' => self.place = Place::Escape,
            _ => {}
        }
    }

    fn name(&mut self, read: usize) {
        let is_key = read == NAME.len();
        self.place = if is_key { Place::Outside } else { Place::Name(read) };
        if is_key {
            self.next = Next::Colon;
        }
    }

    fn outside(&mut self, byte: u8) {
        let next = std::mem::replace(&mut self.next, Next::Anything);
        match (byte, next) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => self.next = next,
            (b':', Next::Colon) => self.next = Next::Object,
            (b'"', _) => self.place = Place::Name(0),
            (b'{', Next::Object) if self.object.is_none() => {
                self.object = Some((self.net, vec![byte]));
                self.net -= 1;
            }
            (b'{' | b'[', _) => self.net -= 1,
            (b'}' | b']', _) => {
                self.net += 1;
                self.end_object();
            }
            _ => {}
        }
    }

    /// Reads the object whose end this is, if it is one.
    fn end_object(&mut self) {
        let Some((before, object)) =
            self.object.take_if(|(before, object)| *before <= self.net || object.len() > MAX_OBJECT)
        else {
            return;
        };
        let Some(counts) = counts_of(&object).filter(|_| object.len() <= MAX_OBJECT) else { return };
        self.found.retain(|(known, _)| *known != before);
        if self.found.len() == MAX_FOUND {
            self.found.remove(0);
        }
        self.found.push((before, counts));
    }
}
