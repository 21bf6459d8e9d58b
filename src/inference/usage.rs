//! Counts tokens from what engines answer, and takes the usage event that the
//! router asked for out of a stream again.
//!
//! An engine answers with one JSON body or with server-sent events (the WHATWG
//! HTML standard, section 9.2: lines up to a blank line are one event). OpenAI
//! chat and completion streams end with an event whose `choices` are empty and
//! whose `usage` holds the counts if `stream_options.include_usage` is set, and
//! vLLM then writes `"usage":null` into all events before it. A client that did
//! not ask must not see that last event. Lines end with LF or CRLF: the third
//! ending that the standard allows, a lone CR, is written by no engine.
//!
//! What a tap does never depends on how the answer is cut into chunks, and a
//! chunk of whole events without counts, which is nearly every chunk, costs one
//! search for the key.

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use self::report::Counts;

mod report;

#[cfg(test)]
mod tests;

/// The longest event that [`UsageTap::strip`] holds back, and the part of longer
/// events and of whole bodies that is kept to look for counts, in bytes.
pub const MAX_KEPT: usize = 64 * 1024;

/// How deep a body's `usage` lies: it is a field of the body.
const BODY_DEPTH: i64 = 1;

/// How deep an event's `usage` may lie: the Responses API reports it in
/// `response`, Anthropic's messages API first in `message`.
const EVENT_DEPTH: i64 = 2;

/// What a request consumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those found in or written to a prompt cache
    /// included.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub completion_tokens: u64,
}

/// Reads along with an answer, chunk by chunk: an answer of type
/// `text/event-stream` by [`observe`](Self::observe) or [`strip`](Self::strip),
/// one of type `application/json` by [`whole_body`](Self::whole_body). An encoded
/// (compressed) answer is passed, but nothing is found in it.
#[derive(Debug)]
pub struct UsageTap {
    mode: Mode,
    counts: Counts,
    line: Line,
    /// Bytes of the event that has begun, or of the body.
    length: usize,
    /// The end of those bytes, all of them up to [`MAX_KEPT`].
    kept: Tail,
    /// Whether the bytes kept were passed: always, except in an event that may
    /// have to be taken out.
    passed: bool,
}

/// What to pass to the client for a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// The chunk as it is.
    Unchanged,
    /// This part of the chunk, which is never empty.
    Slice(Range<usize>),
    /// These bytes, which are never empty, instead of the chunk.
    Replaced(Vec<u8>),
    /// No bytes for now.
    Nothing,
}

/// What is known at the end of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Bytes that were held back and now have to be passed.
    pub leftover: Option<Vec<u8>>,
    /// What was consumed, if the engine said so.
    pub usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Observe,
    Strip,
    WholeBody,
}

/// What the line at hand holds so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    CarriageReturn,
    Text,
}

/// The last [`MAX_KEPT`] bytes of what is pushed; a few more are in memory.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

/// Collects what to pass, and copies only if it is not one part of the chunk.
struct Output<'a> {
    chunk: &'a [u8],
    range: Range<usize>,
    owned: Vec<u8>,
}

impl UsageTap {
    /// Reads a stream and passes all of it.
    pub fn observe() -> Self {
        Self::new(Mode::Observe)
    }

    /// Reads a stream and takes out the events that have empty `choices` and a
    /// `usage` object, each with the blank line that ends it. An event that has
    /// not ended is held back, up to [`MAX_KEPT`] bytes; a longer one is passed
    /// and never taken out.
    pub fn strip() -> Self {
        Self::new(Mode::Strip)
    }

    /// Reads an answer that is one JSON object, and passes all of it. The
    /// `usage` is found if it begins in the last [`MAX_KEPT`] bytes.
    pub fn whole_body() -> Self {
        Self::new(Mode::WholeBody)
    }

    fn new(mode: Mode) -> Self {
        Self {
            mode,
            counts: Counts::default(),
            line: Line::Empty,
            length: 0,
            kept: Tail::default(),
            passed: mode != Mode::Strip,
        }
    }

    /// Takes the next chunk and says what of it to pass now.
    pub fn feed(&mut self, chunk: &[u8]) -> Fed {
        match self.mode {
            Mode::WholeBody => {
                self.kept.push(chunk);
                Fed::Unchanged
            }
            Mode::Observe | Mode::Strip => self.feed_events(chunk),
        }
    }

    /// Ends the answer. What follows is a new one.
    pub fn finish(&mut self) -> Finished {
        let mut leftover = None;
        if self.mode == Mode::WholeBody {
            self.counts.absorb(report::last_counts(self.kept.last(), BODY_DEPTH));
        } else if self.length > 0 {
            let event = mem::take(&mut self.kept.0);
            let removed = self.examine(&event, self.length);
            if !removed && !self.passed {
                leftover = Some(event);
            }
        }
        let usage = self.usage();
        *self = Self::new(self.mode);
        Finished { leftover, usage }
    }

    /// What is known of the usage so far, for an answer that breaks off.
    pub fn usage(&self) -> Option<Usage> {
        self.counts.usage()
    }

    fn feed_events(&mut self, chunk: &[u8]) -> Fed {
        let suspect = report::may_hold_counts(chunk);
        if !suspect && self.length == 0 && (chunk.ends_with(b"\n\n") || chunk.ends_with(b"\n\r\n")) {
            return Fed::Unchanged;
        }
        let mut output = Output { chunk, range: 0..0, owned: Vec::new() };
        let mut start = 0;
        while let Some(length) = self.line.event_end(&chunk[start..]) {
            self.end_event(start..start + length, suspect, &mut output);
            start += length;
        }
        if start < chunk.len() {
            self.keep(start..chunk.len(), &mut output);
        }
        output.finish()
    }

    /// Handles an event of which `part` is the end, or the whole. If the chunk
    /// is not suspect, an event that lies wholly in it has no counts.
    fn end_event(&mut self, part: Range<usize>, suspect: bool, output: &mut Output<'_>) {
        if self.length == 0 {
            let event = &output.chunk[part.clone()];
            let removed = suspect && self.examine(event, event.len());
            if !removed {
                output.push(part);
            }
            return;
        }
        self.keep(part, output);
        let mut event = mem::take(&mut self.kept);
        let removed = self.examine(&event.0, self.length);
        if !removed && !self.passed {
            output.push_kept(&event.0);
        }
        event.0.clear();
        self.kept = event;
        self.length = 0;
        self.passed = self.mode != Mode::Strip;
    }

    /// Keeps a part of an event that lies in several chunks, and stops to hold
    /// the event back when it gets too long.
    fn keep(&mut self, part: Range<usize>, output: &mut Output<'_>) {
        let bytes = &output.chunk[part.clone()];
        self.length += bytes.len();
        if self.length > MAX_KEPT && !self.passed {
            output.push_kept(&self.kept.0);
            self.passed = true;
        }
        if self.passed {
            output.push(part);
        }
        self.kept.push(bytes);
    }

    /// Counts the usage of an event, and says whether to take the event out.
    /// `length` is that of the whole event, `event` its end if that is too long.
    fn examine(&mut self, event: &[u8], length: usize) -> bool {
        if length > MAX_KEPT {
            self.counts.absorb(report::last_counts(last_kept(event), EVENT_DEPTH));
            return false;
        }
        if !report::may_hold_counts(event) {
            return false;
        }
        let data = event_data(event);
        self.counts.absorb(report::last_counts(&data, EVENT_DEPTH));
        self.mode == Mode::Strip && report::is_usage_only(&data)
    }
}

impl Line {
    /// The line after more bytes of it, without its line feed.
    fn after(self, part: &[u8]) -> Self {
        match (self, part) {
            (line, []) => line,
            (Self::Empty, b"\r") => Self::CarriageReturn,
            _ => Self::Text,
        }
    }

    /// Goes through `bytes` up to the end of an event and returns the length, or
    /// `None` if no event ends in them.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut start = 0;
        for line_feed in memchr::memchr_iter(b'\n', bytes) {
            let line = self.after(&bytes[start..line_feed]);
            *self = Self::Empty;
            start = line_feed + 1;
            if line != Self::Text {
                return Some(start);
            }
        }
        *self = self.after(&bytes[start..]);
        None
    }
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = last_kept(bytes);
        if self.0.len() + bytes.len() > 2 * MAX_KEPT {
            // What is moved was paid for by as many bytes pushed since.
            self.0.drain(..self.0.len() - MAX_KEPT);
        }
        self.0.extend_from_slice(bytes);
    }

    fn last(&self) -> &[u8] {
        last_kept(&self.0)
    }
}

impl Output<'_> {
    /// Passes a part of the chunk, which lies after all parts passed before.
    fn push(&mut self, part: Range<usize>) {
        if !self.owned.is_empty() {
            self.owned.extend_from_slice(&self.chunk[part]);
        } else if self.range.is_empty() {
            self.range = part;
        } else if self.range.end == part.start {
            self.range.end = part.end;
        } else {
            self.owned.reserve(self.chunk.len());
            self.owned.extend_from_slice(&self.chunk[self.range.clone()]);
            self.owned.extend_from_slice(&self.chunk[part]);
        }
    }

    /// Passes bytes of earlier chunks, before any part of this one.
    fn push_kept(&mut self, bytes: &[u8]) {
        self.owned.reserve(bytes.len() + self.chunk.len());
        self.owned.extend_from_slice(bytes);
    }

    fn finish(self) -> Fed {
        if !self.owned.is_empty() {
            Fed::Replaced(self.owned)
        } else if self.range.is_empty() {
            Fed::Nothing
        } else if self.range.len() == self.chunk.len() {
            Fed::Unchanged
        } else {
            Fed::Slice(self.range)
        }
    }
}

fn last_kept(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(MAX_KEPT)..]
}

/// The `data` of an event: its data lines, joined. White space is left where the
/// standard removes it, for it means nothing to JSON.
fn event_data(event: &[u8]) -> Cow<'_, [u8]> {
    let mut lines = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let mut data = Cow::Borrowed(lines.next().unwrap_or_default());
    for line in lines {
        let joined = data.to_mut();
        joined.push(b'\n');
        joined.extend_from_slice(line);
    }
    data
}
