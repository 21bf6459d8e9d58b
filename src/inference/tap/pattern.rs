//! Passes an event that differs from an earlier one in nothing but a text, without searching it again.
//!
//! Engines write all events of an answer alike, and only the text of a token differs. What precedes that text, and what
//! follows it, is looked at once. From then on it is enough that an event has the same beginning and the same end, and
//! between them no quote. Such an event passes with the beginning that was found then, for no search finds anything else:
//!
//! - A field's name, with its quotes, lies in the beginning or in the end, where it was found before; or it is the text
//!   itself. Then a comma or a bracket follows it, so that it is a value.
//! - What is read of a field in the beginning ends before the text, and what is read of one in the end begins after it.
//! - The last bytes are the same, so that as many events end with the piece.

use bytes::Bytes;
use memchr::{memchr, memrchr};

use crate::inference::model_names::ModelNames;
use crate::inference::usage;

/// The longest event that is learnt from, in bytes.
const MAX_LEARNT: usize = 1 << 10;

/// After this many events in a row from which nothing was learnt, they are not alike.
const MOST_MISSES: u8 = 8;

/// How the events of a stream are alike.
#[derive(Debug, Default)]
pub(super) struct Pattern {
    /// The event that was learnt from last.
    event: Vec<u8>,
    sides: Option<Sides>,
    /// How many events in a row did not fit.
    misses: u8,
}

/// What does not differ between events.
#[derive(Debug)]
struct Sides {
    /// How much of the event precedes the text, with the quote that begins it.
    begin: usize,
    /// Where the quote is that ends the text.
    end: usize,
    /// What takes the place of what precedes the text, if that changes.
    changed: Option<Bytes>,
}

impl Pattern {
    /// Passes a piece that begins an event, or gives it back, because it has to be read. Nothing may be held of what came
    /// before it.
    pub(super) fn pass(&mut self, piece: Bytes, names: Option<&mut ModelNames>) -> Result<Bytes, Bytes> {
        let Some((sides, text)) = self.fit(&piece) else {
            self.learn(&piece, names);
            return Err(piece);
        };
        if memchr(b'"', text).is_some() {
            return Err(piece);
        }
        let passed = sides.changed.as_ref().map(|begin| {
            let rest = &piece[sides.begin..];
            let mut passed = Vec::with_capacity(begin.len() + rest.len());
            passed.extend_from_slice(begin);
            passed.extend_from_slice(rest);
            passed
        });
        self.misses = 0;
        Ok(passed.map_or(piece, Bytes::from))
    }

    /// Returns what is between the known sides of a piece.
    fn fit<'p>(&self, piece: &'p [u8]) -> Option<(&Sides, &'p [u8])> {
        let sides = self.sides.as_ref()?;
        let text = piece.strip_prefix(&self.event[..sides.begin])?.strip_suffix(&self.event[sides.end..])?;
        Some((sides, text))
    }

    /// Compares an event with the one before it, unless many were compared in vain.
    fn learn(&mut self, event: &[u8], names: Option<&mut ModelNames>) {
        let is_event = event.first().is_some_and(u8::is_ascii_alphabetic) && event.ends_with(b"\n\n");
        if self.misses >= MOST_MISSES || !is_event || event.len() > MAX_LEARNT {
            return;
        }
        self.misses += 1;
        self.sides = differing(&self.event, event).and_then(|(begin, end)| Sides::of(event, begin, end, names));
        self.event.clear();
        self.event.extend_from_slice(event);
    }
}

impl Sides {
    /// Looks at what precedes and what follows a text; `None` if how these pass may depend on the text.
    fn of(event: &[u8], begin: usize, end: usize, names: Option<&mut ModelNames>) -> Option<Self> {
        let (before, after) = (&event[..begin], &event[end..]);
        let is_value = matches!(before, [.., b':' | b' ', b'"']) && matches!(after, [b'"', b',' | b'}' | b']', ..]);
        if !is_value || usage::may_be_in(before) || usage::may_be_in(after) {
            return None;
        }
        let changed = match names {
            None => None,
            Some(names) => Some(names.before_text(before, after)?).filter(|changed| changed != before),
        };
        Some(Self { begin, end, changed })
    }
}

/// Returns where the text begins and ends in `event`, without its quotes, that alone differs from an earlier event, if it
/// is so.
fn differing(earlier: &[u8], event: &[u8]) -> Option<(usize, usize)> {
    let alike = earlier.iter().zip(event).take_while(|(one, other)| one == other).count();
    let begin = memrchr(b'"', &event[..alike])? + 1;
    let ends = earlier[begin..].iter().rev().zip(event[begin..].iter().rev());
    let end = event.len() - ends.take_while(|(one, other)| one == other).count();
    Some((begin, end + memchr(b'"', &event[end..])?))
}

#[cfg(test)]
mod tests;
