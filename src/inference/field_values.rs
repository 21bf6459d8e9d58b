//! Changes the values of a field in an answer that arrives in pieces.
//!
//! The field is looked for at any depth. Text that an engine generates cannot be taken for one, because quotes within it
//! are escaped. All other bytes stay as they are.

use bytes::Bytes;
use memchr::memchr2;
use memchr::memmem::Finder;

/// The longest piece that is held back, from the field to the end of its value, in bytes.
pub(super) const MAX_HELD: usize = 4 << 10;

/// Changes the values of one field.
#[derive(Debug)]
pub(super) struct FieldValues {
    /// Finds the field, by its name in quotes.
    field: &'static Finder<'static>,
    change: Change,
    /// The end of what arrived, while it may be the beginning of the field.
    held: Vec<u8>,
    /// The last byte that was passed on.
    last: u8,
}

/// Which values are changed.
#[derive(Debug)]
pub(super) enum Change {
    /// One text to another one.
    Text {
        /// A colon and the text as JSON: what follows the field, as nearly all engines write it.
        from: Vec<u8>,
        /// What takes its place, as JSON.
        to: Vec<u8>,
    },
    /// Every number without sign, fraction and exponent, to one.
    Count {
        /// Its digits.
        to: Vec<u8>,
    },
}

/// The value that follows the name of a field.
enum Value {
    /// A text with its quotes; it begins and ends at these places.
    Text(usize, usize),
    /// A number of digits only.
    Count(usize, usize),
    /// Anything else.
    Other,
    /// It has not arrived yet.
    Incomplete,
}

impl FieldValues {
    /// Makes what changes the values of the field that `field` finds by its name in quotes.
    pub(super) fn new(field: &'static Finder<'static>, change: Change) -> Self {
        Self { field, change, held: Vec::new(), last: 0 }
    }

    /// Takes in a piece, and returns what is to be passed on by now; a piece in which nothing changes is not copied.
    pub(super) fn feed(&mut self, piece: Bytes) -> Bytes {
        let input = if self.held.is_empty() {
            piece
        } else {
            let mut input = std::mem::take(&mut self.held);
            input.extend_from_slice(&piece);
            input.into()
        };
        let name = self.field.needle();
        let mut output = Vec::new();
        let (mut passed, mut next) = (0, 0);
        let mut end = None;
        while let Some(found) = self.field.find(&input[next..]) {
            let begin = next + found;
            next = begin + name.len();
            let before = if begin == 0 { self.last } else { input[begin - 1] };
            // A quote that is escaped belongs to a text.
            if before == b'\\' {
                continue;
            }
            let usual = self.change.usual(&input[next..]).map(|length| Value::Text(next + 1, next + length));
            match usual.unwrap_or_else(|| value(&input, next)) {
                Value::Text(from, to) | Value::Count(from, to) => {
                    next = to;
                    if let Some(changed) = self.change.of(&input[from..to]) {
                        if output.is_empty() {
                            // As much as one change needs, which is all of them in most pieces.
                            output = Vec::with_capacity(input.len() - (to - from) + changed.len());
                        }
                        output.extend_from_slice(&input[passed..from]);
                        output.extend_from_slice(changed);
                        passed = to;
                    }
                }
                Value::Incomplete if input.len() - begin < MAX_HELD => {
                    end = Some(begin);
                    break;
                }
                Value::Incomplete | Value::Other => {}
            }
        }
        let end = end.unwrap_or_else(|| input.len() - begun(&input[next.max(passed)..], name));
        self.last = end.checked_sub(1).map_or(self.last, |last| input[last]);
        self.held.extend_from_slice(&input[end..]);
        if output.is_empty() {
            return input.slice(..end);
        }
        output.extend_from_slice(&input[passed..end]);
        output.into()
    }

    /// Returns whether nothing is held back.
    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns what is passed on for what precedes a text, quotes included, if that and what follows the text do not depend
    /// on the text, and what follows does not change. Nothing may be held back before, and nothing is after.
    pub(super) fn before_text(&mut self, before: &[u8], after: &[u8]) -> Option<Bytes> {
        let passed = self.feed(Bytes::copy_from_slice(before));
        // The quote may begin the field. If more is held, it is a field whose value is, or goes on with, the text.
        let is_read = std::mem::take(&mut self.held) == b"\"";
        let rest = self.feed(Bytes::copy_from_slice(after));
        let is_whole = std::mem::take(&mut self.held).is_empty();
        (is_read && is_whole && rest == after).then(|| [&passed, &b"\""[..]].concat().into())
    }

    /// Returns what was held back, at the end of the answer.
    pub(super) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

impl Change {
    /// Makes the change of a text to another one.
    pub(super) fn text(from: &str, to: &str) -> Self {
        let json = |before: &[u8], text: &str| {
            let mut json = Vec::with_capacity(before.len() + text.len() + 2);
            json.extend_from_slice(before);
            serde_json::to_writer(&mut json, text).expect("a text can be written to memory");
            json
        };
        Self::Text { from: json(b":", from), to: json(b"", to) }
    }

    /// Returns how much of what follows a field's name is the text that is changed, in its usual form.
    fn usual(&self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Text { from, .. } => rest.starts_with(from).then_some(from.len()),
            Self::Count { .. } => None,
        }
    }

    /// Returns what takes the place of a value, if it is one that is changed; a text has its quotes.
    fn of(&self, value: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Text { from, to } => {
                let (from, read) = (&from[1..], serde_json::from_slice::<String>);
                // Another engine may write it with other escapes.
                let is_same = || read(value).is_ok_and(|text| read(from).is_ok_and(|from| text == from));
                (value == from || (value.contains(&b'\\') && is_same())).then_some(to)
            }
            Self::Count { to } => value.first().is_some_and(u8::is_ascii_digit).then_some(to),
        }
    }
}

/// Returns how many bytes at the end of a text may be the beginning of a field's name.
fn begun(text: &[u8], name: &[u8]) -> usize {
    if text.last().is_none_or(|last| !name.contains(last)) {
        return 0;
    }
    (1..name.len()).rev().find(|length| text.ends_with(&name[..*length])).unwrap_or_default()
}

/// Reads what follows the name of a field that ends at `place`.
fn value(input: &[u8], place: usize) -> Value {
    let skip =
        |from: usize| input[from..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|blanks| from + blanks);
    let Some(colon) = skip(place) else { return Value::Incomplete };
    if input[colon] != b':' {
        return Value::Other;
    }
    let Some(begin) = skip(colon + 1) else { return Value::Incomplete };
    if input[begin].is_ascii_digit() {
        return match input[begin..].iter().position(|byte| !byte.is_ascii_digit()).map(|length| begin + length) {
            None => Value::Incomplete,
            Some(end) if matches!(input[end], b'.' | b'e' | b'E') => Value::Other,
            Some(end) => Value::Count(begin, end),
        };
    }
    if input[begin] != b'"' {
        return Value::Other;
    }
    let mut place = begin + 1;
    while let Some(found) = input.get(place..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        if input[place + found] == b'"' {
            return Value::Text(begin, place + found + 1);
        }
        // A backslash, and what it stands before.
        place += found + 2;
    }
    Value::Incomplete
}
