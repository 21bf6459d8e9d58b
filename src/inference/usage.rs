//! Counts tokens from what engines answer, and takes the usage event that the router asked for out of a stream again.
//!
//! An engine answers with one JSON body or with server-sent events (WHATWG HTML, section 9.2: lines up to a blank line
//! are one event). OpenAI chat and completion streams end with an event without `choices` whose `usage` holds the
//! counts if `stream_options.include_usage` is set, and vLLM then writes `"usage":null` into all events before it. A
//! client that did not ask must not see that last event.
//!
//! What a tap does never depends on how the answer is cut into pieces, and a piece of whole events without counts,
//! which is nearly every piece, costs one search for the key.

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use self::boundary::Boundary;
use self::report::Counts;
use self::scanner::Scanner;

mod boundary;
mod report;
mod scanner;

#[cfg(test)]
mod tests;

/// The longest event that is held back and read as a whole, in bytes; a longer one is read as it passes.
pub const MAX_KEPT: usize = 64 * 1024;

/// A byte order mark, which a stream may begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How deep a body's `usage` lies: it is a field of the body.
const BODY_DEPTH: i64 = 1;

/// How deep an event's `usage` may lie: the Responses API reports it in `response`, Anthropic's messages API first in
/// `message`.
const EVENT_DEPTH: i64 = 2;

/// The tokens that a request consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those found in or written to a prompt cache included.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub completion_tokens: u64,
}

/// Reads along with an answer, piece by piece: a stream of events by [`observe`](Self::observe) or
/// [`strip`](Self::strip), one JSON object by [`whole_body`](Self::whole_body).
#[derive(Debug)]
pub struct UsageTap {
    mode: Mode,
    counts: Counts,
    boundary: Boundary,
    /// Bytes of the event that has begun.
    length: usize,
    /// Those bytes, while they are at most [`MAX_KEPT`].
    kept: Vec<u8>,
    /// Whether the bytes of the event were passed: always, except in an event that may have to be taken out.
    passed: bool,
    /// Whether the last event was taken out.
    removed: bool,
    /// Reads what is not kept: a body, or an event that is too long.
    scanner: Scanner,
}

/// What to pass to the client for a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// The piece as it is.
    Unchanged,
    /// This part of the piece, which is never empty.
    Slice(Range<usize>),
    /// These bytes, which are never empty, instead of the piece.
    Replaced(Vec<u8>),
    /// No bytes for now.
    Nothing,
}

/// The result of an answer that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Bytes that were held back and now have to be passed.
    pub leftover: Option<Vec<u8>>,
    /// What was consumed, if the engine said so.
    pub usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Observe,
    Strip,
    WholeBody,
}

/// Collects what to pass, and copies only if it is not one part of the piece.
struct Output<'a> {
    piece: &'a [u8],
    range: Range<usize>,
    owned: Vec<u8>,
}

impl UsageTap {
    /// Reads a stream and passes all of it.
    pub fn observe() -> Self {
        Self::new(Mode::Observe)
    }

    /// Reads a stream and takes out the events that have a `usage` object and no choices, each with the blank line that
    /// ends it. An event that has not ended is held back, up to [`MAX_KEPT`] bytes; a longer one is passed and never
    /// taken out.
    pub fn strip() -> Self {
        Self::new(Mode::Strip)
    }

    /// Reads an answer that is one JSON object, and passes all of it.
    pub fn whole_body() -> Self {
        Self::new(Mode::WholeBody)
    }

    fn new(mode: Mode) -> Self {
        Self {
            mode,
            counts: Counts::default(),
            boundary: Boundary::new(),
            length: 0,
            kept: Vec::new(),
            passed: mode != Mode::Strip,
            removed: false,
            scanner: Scanner::default(),
        }
    }

    /// Takes the next piece and says what of it to pass now.
    pub fn feed(&mut self, piece: &[u8]) -> Fed {
        match self.mode {
            Mode::WholeBody => {
                self.scanner.push(piece);
                Fed::Unchanged
            }
            Mode::Observe | Mode::Strip => self.feed_events(piece),
        }
    }

    /// Ends the answer. What follows is a new one.
    pub fn finish(&mut self) -> Finished {
        let mut leftover = None;
        if self.mode == Mode::WholeBody {
            self.counts.absorb(self.scanner.finish(BODY_DEPTH));
        } else if self.length > 0 {
            let event = mem::take(&mut self.kept);
            let removed = self.examine(&event);
            if !removed && !self.passed {
                leftover = Some(event);
            }
        }
        self.finished(leftover)
    }

    /// Ends an answer that broke off: what was held back is passed, because the client would have got it from the
    /// engine.
    pub fn break_off(&mut self) -> Finished {
        let held = (!self.passed && !self.kept.is_empty()).then(|| mem::take(&mut self.kept));
        self.finished(held)
    }

    /// Returns whether events are taken out.
    pub fn strips(&self) -> bool {
        self.mode == Mode::Strip
    }

    fn finished(&mut self, leftover: Option<Vec<u8>>) -> Finished {
        let usage = self.usage();
        *self = Self::new(self.mode);
        Finished { leftover, usage }
    }

    /// Returns whether the next byte begins an event.
    pub(super) fn is_between_events(&self) -> bool {
        self.mode != Mode::WholeBody && self.length == 0 && !self.boundary.is_after_return()
    }

    /// Returns what is known of the usage so far.
    pub fn usage(&self) -> Option<Usage> {
        self.counts.usage()
    }

    fn feed_events(&mut self, piece: &[u8]) -> Fed {
        // No event that ends before this place has counts, unless it began in an earlier piece.
        let suspect = report::first_suspect(piece).unwrap_or(usize::MAX);
        let between = self.length == 0;
        let mut start = usize::from(between && self.boundary.owns_line_feed(piece));
        if suspect == usize::MAX && between && start == 0 && self.boundary.pass_whole_events(piece) {
            return Fed::Unchanged;
        }
        let mut output = Output { piece, range: 0..0, owned: Vec::new() };
        if !self.removed && start > 0 {
            output.push(0..start);
        }
        while let Some(length) = self.boundary.event_end(&piece[start..]) {
            self.removed = self.end_event(start..start + length, suspect, &mut output);
            start += length;
        }
        if start < piece.len() {
            self.keep(start..piece.len(), &mut output);
        }
        output.finish()
    }

    /// Handles an event that ends with `part`, or is that part, and returns whether it was taken out. One that lies wholly
    /// in the piece, before the place that is `suspect`, has no counts.
    fn end_event(&mut self, part: Range<usize>, suspect: usize, output: &mut Output<'_>) -> bool {
        if self.length == 0 {
            self.length = part.len();
            let removed = suspect < part.end && self.examine(&output.piece[part.clone()]);
            if !removed {
                output.push(part);
            }
            self.length = 0;
            return removed;
        }
        self.keep(part, output);
        let mut event = mem::take(&mut self.kept);
        let removed = self.examine(&event);
        if !removed && !self.passed {
            output.push_kept(&event);
        }
        event.clear();
        self.kept = event;
        self.length = 0;
        self.passed = self.mode != Mode::Strip;
        removed
    }

    /// Keeps a part of an event that lies in several pieces; stops to hold the event back when it gets too long.
    fn keep(&mut self, part: Range<usize>, output: &mut Output<'_>) {
        let bytes = &output.piece[part.clone()];
        self.length += bytes.len();
        if self.length > MAX_KEPT {
            self.scanner.push(&self.kept);
            self.scanner.push(bytes);
            if !self.passed {
                output.push_kept(&self.kept);
                self.passed = true;
            }
            self.kept.clear();
        } else {
            self.kept.extend_from_slice(bytes);
        }
        if self.passed {
            output.push(part);
        }
    }

    /// Counts the usage of an event that has ended, and says whether to take it out.
    fn examine(&mut self, event: &[u8]) -> bool {
        if self.length > MAX_KEPT {
            self.scanner.push(event);
            self.counts.absorb(self.scanner.finish(EVENT_DEPTH));
            return false;
        }
        if report::first_suspect(event).is_none() {
            return false;
        }
        let data = event_data(event);
        self.counts.absorb(report::last_counts(&data, EVENT_DEPTH));
        self.mode == Mode::Strip && report::is_usage_only(&data)
    }
}

impl Output<'_> {
    /// Passes a part of the piece, which lies after all parts passed before.
    fn push(&mut self, part: Range<usize>) {
        if !self.owned.is_empty() {
            self.owned.extend_from_slice(&self.piece[part]);
        } else if self.range.is_empty() {
            self.range = part;
        } else if self.range.end == part.start {
            self.range.end = part.end;
        } else {
            self.owned.reserve(self.piece.len());
            self.owned.extend_from_slice(&self.piece[self.range.clone()]);
            self.owned.extend_from_slice(&self.piece[part]);
        }
    }

    /// Passes bytes of earlier pieces, before any part of this one.
    fn push_kept(&mut self, bytes: &[u8]) {
        self.owned.reserve(bytes.len() + self.piece.len());
        self.owned.extend_from_slice(bytes);
    }

    fn finish(self) -> Fed {
        if !self.owned.is_empty() {
            Fed::Replaced(self.owned)
        } else if self.range.is_empty() {
            Fed::Nothing
        } else if self.range.len() == self.piece.len() {
            Fed::Unchanged
        } else {
            Fed::Slice(self.range)
        }
    }
}

/// Returns whether there may be a `usage` object in a part of an event; that there is none is certain.
pub(super) fn may_be_in(part: &[u8]) -> bool {
    report::first_suspect(part).is_some()
}

/// Returns the `data` of an event: its data lines, joined. White space is left where the standard removes it, for it
/// means nothing to JSON.
fn event_data(event: &[u8]) -> Cow<'_, [u8]> {
    let event = event.strip_prefix(BYTE_ORDER_MARK).unwrap_or(event);
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    let mut lines = lines.filter_map(|line| line.strip_prefix(b"data:"));
    let mut data = Cow::Borrowed(lines.next().unwrap_or_default());
    for line in lines {
        let joined = data.to_mut();
        joined.push(b'\n');
        joined.extend_from_slice(line);
    }
    data
}
