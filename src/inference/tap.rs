//! Learns from an answer, and changes it, while it is passed on.
//!
//! | stage | where | what it does |
//! |---|---|---|
//! | usage | every inference | counts tokens; takes the usage event out where only the router asked for it |
//! | prompt counts | where another engine has computed the prompt | says what that engine found in its cache |
//! | names | where the engine knows the model by another name | gives the model the name back that the client asked for |
//! | error event | streams of events | tells the client that the answer broke off |
//!
//! An event that differs from the one before it in its text alone passes without being read (`pattern`).
//!
//! Only what can be read is held back. An answer with a content coding passes as it comes: its usage is not known, and
//! where usage was asked for, or names change, the engine is asked for an answer without a coding.
//!
//! Source for streams: WHATWG HTML, section 9.2, whose media type is compared without case and without its parameters.

use bytes::Bytes;

use self::pattern::Pattern;
use super::api::Api;
use super::disaggregation::PromptCounts;
use super::error_body::ApiError;
use super::heartbeat::heartbeat;
use super::model_names::ModelNames;
use super::usage::{Fed, Finished, Usage, UsageTap};
use crate::kinds::model_server::HeartbeatForm;

mod pattern;

/// How an answer is read, if it can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Not at all.
    #[default]
    Unread,
    /// As one JSON object.
    Whole,
    /// As a stream of events.
    Stream,
    /// As a stream of events, one of which exists only because the router asked for it, and is taken out.
    StreamWithAddedUsage,
}

/// The fields of an answer's head that describe its body, as the engine wrote them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerHead<'h> {
    /// The value of `Content-Type`.
    pub content_type: Option<&'h str>,
    /// The value of `Content-Encoding`.
    pub content_encoding: Option<&'h str>,
}

/// Reads along with an answer; what it does not change passes as it is, without a copy.
#[derive(Debug, Default)]
pub struct Tap {
    usage: UsageStage,
    /// Boxed, because few answers have it.
    prompt: Option<Box<PromptCounts>>,
    names: Option<ModelNames>,
    /// The API whose error events the answer may have; `None` if it is not a stream of events.
    events_of: Option<Api>,
    /// Whether an event was begun and is not at its end, so that no other one may follow.
    within_event: bool,
    /// The number of the next event, in an API whose events are numbered.
    sequence: u64,
    /// How the events are alike, where that is looked for. Boxed, because whole answers do not have it.
    pattern: Option<Box<Pattern>>,
}

/// What comes before the number of an event of the Responses API.
const SEQUENCE: &[u8] = b"\"sequence_number\":";

#[derive(Debug, Default)]
enum UsageStage {
    /// The answer is not read.
    #[default]
    Off,
    /// The head does not say what the body is: its first piece does.
    Unknown { strip: bool },
    /// The answer is read.
    On(UsageTap),
}

/// The result of an answer that has ended, or broken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Bytes that have to be passed before the end.
    pub leftover: Option<Bytes>,
    /// What was consumed, if the engine said so.
    pub usage: Option<Usage>,
}

/// The form of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Events,
    Whole,
    Unknown,
}

impl AnswerHead<'_> {
    /// Returns whether the body is a stream of events.
    pub fn is_event_stream(&self) -> bool {
        self.shape() == Shape::Events
    }

    fn shape(&self) -> Shape {
        let media = self
            .content_type
            .map(|value| value[..memchr::memchr(b';', value.as_bytes()).unwrap_or(value.len())].trim_ascii());
        match media {
            None | Some("") => Shape::Unknown,
            Some(media) if media.eq_ignore_ascii_case("text/event-stream") => Shape::Events,
            Some(_) => Shape::Whole,
        }
    }

    /// Returns whether the body cannot be read because of a content coding.
    fn is_coded(&self) -> bool {
        self.content_encoding.is_some_and(|codings| {
            codings
                .split(',')
                .any(|coding| !matches!(coding.trim(), "") && !coding.trim().eq_ignore_ascii_case("identity"))
        })
    }
}

impl Tap {
    /// Makes a tap for an answer to a call of `api`, if it is one.
    pub fn new(reading: Reading, names: Option<ModelNames>, api: Option<Api>, head: AnswerHead<'_>) -> Self {
        if head.is_coded() {
            return Self::default();
        }
        let (strip, shape) = (reading == Reading::StreamWithAddedUsage, head.shape());
        let usage = match (reading, shape) {
            (Reading::Unread, _) => UsageStage::Off,
            (Reading::Stream | Reading::StreamWithAddedUsage, Shape::Unknown) => UsageStage::Unknown { strip },
            (Reading::Stream | Reading::StreamWithAddedUsage, Shape::Events) => UsageStage::of_events(strip),
            // Errors, and answers of engines that do not stream, are whole bodies whatever was asked for.
            (Reading::Whole, _) | (_, Shape::Whole) => UsageStage::On(UsageTap::whole_body()),
        };
        let events_of = api.filter(|_| shape == Shape::Events);
        Self { usage, names, events_of, ..Self::default() }
    }

    /// Has the answer say of its prompt what another engine has said that computed it. An answer that cannot be read
    /// stays as it is.
    #[must_use]
    pub fn with_prompt(self, prompt: Option<PromptCounts>) -> Self {
        let prompt = prompt.filter(|_| !matches!(self.usage, UsageStage::Off)).map(Box::new);
        Self { prompt, ..self }
    }

    /// Returns whether the answer may get another length than the engine announced.
    pub fn changes_length(&self) -> bool {
        let strips = match &self.usage {
            UsageStage::Off => false,
            UsageStage::Unknown { strip } => *strip,
            UsageStage::On(tap) => tap.strips(),
        };
        strips || self.prompt.is_some() || self.names.is_some()
    }

    /// Takes in a piece of the answer, and returns what of it is passed on now.
    pub fn feed(&mut self, piece: Bytes) -> Option<Bytes> {
        if self.reads_nothing() {
            return Some(piece).filter(|piece| !piece.is_empty());
        }
        if !self.is_before_event() {
            return self.read(piece);
        }
        match self.pattern.get_or_insert_default().pass(piece, self.names.as_mut()) {
            Ok(passed) => {
                self.within_event = false;
                Some(passed)
            }
            Err(piece) => self.read(piece),
        }
    }

    /// Returns whether every piece passes as it is, and nobody wants to know anything of it.
    fn reads_nothing(&self) -> bool {
        matches!(self.usage, UsageStage::Off) && self.names.is_none() && self.events_of.is_none()
    }

    /// Returns whether an event begins with the next piece, of which nobody wants to know more than its names and its usage.
    fn is_before_event(&self) -> bool {
        let UsageStage::On(usage) = &self.usage else { return false };
        usage.is_between_events()
            && self.names.as_ref().is_none_or(ModelNames::holds_nothing)
            && self.prompt.is_none()
            // Its events are numbered, so that no two of them are alike.
            && self.events_of != Some(Api::Responses)
    }

    fn read(&mut self, piece: Bytes) -> Option<Bytes> {
        if let UsageStage::Unknown { strip } = self.usage {
            self.usage = UsageStage::of_first_piece(&piece, strip);
        }
        let piece = match &mut self.usage {
            UsageStage::Off | UsageStage::Unknown { .. } => piece,
            UsageStage::On(usage) => match usage.feed(&piece) {
                Fed::Unchanged => piece,
                Fed::Slice(range) => piece.slice(range),
                Fed::Replaced(bytes) => bytes.into(),
                Fed::Nothing => return None,
            },
        };
        let piece = match &mut self.prompt {
            None => piece,
            Some(prompt) => prompt.feed(piece),
        };
        let piece = match &mut self.names {
            None => piece,
            Some(names) => names.feed(piece),
        };
        if piece.is_empty() {
            return None;
        }
        if let Some(api) = self.events_of {
            if api == Api::Responses
                && let Some(number) = last_number(&piece)
            {
                self.sequence = number.saturating_add(1);
            }
            self.within_event = ![&b"\n\n"[..], b"\n\r\n", b"\r\r"].iter().any(|end| piece.ends_with(end));
        }
        Some(piece)
    }

    /// Ends the answer.
    pub fn end(&mut self) -> Ended {
        let Finished { leftover, usage } = match &mut self.usage {
            UsageStage::On(tap) => tap.finish(),
            UsageStage::Off | UsageStage::Unknown { .. } => Finished::default(),
        };
        Ended { leftover: self.last(leftover), usage }
    }

    /// Ends an answer that broke off: what was held back is passed, and where another event may follow, the last one
    /// tells the client `why`, in a sentence and by a `code`. Within an event, only the broken connection can tell.
    pub fn broken(&mut self, code: &str, why: &str) -> Ended {
        let Finished { leftover, usage } = match &mut self.usage {
            UsageStage::On(tap) => tap.break_off(),
            UsageStage::Off | UsageStage::Unknown { .. } => Finished::default(),
        };
        let leftover = self.last(leftover);
        let event = self.events_of.filter(|_| leftover.is_none() && !self.within_event).map(|api| {
            let message = format!("the answer broke off: {why}");
            let error = ApiError { status: 502, code, param: None, message: &message };
            Bytes::from(error.event(api, self.sequence))
        });
        Ended { leftover: leftover.or(event), usage }
    }

    /// Returns what may be sent to the client while the engine is silent: `None` within an event, and where the answer is no
    /// stream of events that can be read.
    pub fn heartbeat(&self, form: HeartbeatForm) -> Option<&'static str> {
        Some(heartbeat(form, self.events_of.filter(|_| !self.within_event)?))
    }

    /// Returns what all stages held back; `held` is from the first one.
    fn last(&mut self, held: Option<Vec<u8>>) -> Option<Bytes> {
        let mut held = Bytes::from(held.unwrap_or_default());
        if let Some(prompt) = &mut self.prompt {
            held = [prompt.feed(held), prompt.finish()].concat().into();
        }
        let Some(names) = &mut self.names else { return Some(held).filter(|held| !held.is_empty()) };
        let all = [names.feed(held), names.finish()].concat();
        Some(Bytes::from(all)).filter(|held| !held.is_empty())
    }
}

impl UsageStage {
    fn of_events(strip: bool) -> Self {
        Self::On(if strip { UsageTap::strip() } else { UsageTap::observe() })
    }

    /// Finds out what a body is: an object is one, whatever was asked for, and everything else is events.
    fn of_first_piece(piece: &[u8], strip: bool) -> Self {
        match piece.trim_ascii_start().first() {
            None => Self::Unknown { strip },
            Some(b'{') => Self::On(UsageTap::whole_body()),
            Some(_) => Self::of_events(strip),
        }
    }
}

/// Returns the number of the last event of a piece that has one.
fn last_number(piece: &[u8]) -> Option<u64> {
    let digits = piece[memchr::memmem::rfind(piece, SEQUENCE)? + SEQUENCE.len()..].trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
