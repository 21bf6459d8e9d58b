//! The order of the events of a streamed answer.
//!
//! An opening where the API has one, a chunk per token, a closing with the reason, then for completions and chat the
//! usage if the client asked for it and the `[DONE]` mark.

use std::fmt;

use actix_web::web::Bytes;

use super::{Api, answer::Answer, completions, messages, responses};

/// Room for the part of an event after its head.
const EVENT_BYTES: usize = 160;

/// A part of a streamed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What precedes the tokens.
    Opening,
    /// The token of a position.
    Token(u64),
    /// The end of the text.
    Closing,
    /// The usage, where it is an event of its own.
    Usage,
    /// The end mark.
    Done,
}

/// The events of one answer.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// What is answered.
    pub answer: Answer,
    api: Api,
    /// What all events begin with, up to the choices; empty for other APIs.
    head: String,
    includes_usage: bool,
}

impl Transcript {
    /// Prepares the events of an answer.
    pub(crate) fn new(api: Api, answer: Answer, includes_usage: bool) -> Self {
        let head = match api {
            Api::Completions => completions::completion_head(&answer),
            Api::Chat => completions::chat_head(&answer),
            _ => String::new(),
        };
        Self { api, answer, head, includes_usage }
    }

    /// Returns the part that the answer begins with.
    pub(crate) fn first(&self) -> Part {
        if self.api == Api::Completions { self.token_or_closing(0) } else { Part::Opening }
    }

    /// Returns the part that follows, or nothing after the last.
    pub(crate) fn following(&self, part: Part) -> Option<Part> {
        let is_openai = matches!(self.api, Api::Completions | Api::Chat);
        match part {
            Part::Opening => Some(self.token_or_closing(0)),
            Part::Token(position) => Some(self.token_or_closing(position + 1)),
            Part::Closing if !is_openai => None,
            Part::Closing if self.includes_usage => Some(Part::Usage),
            Part::Closing | Part::Usage => Some(Part::Done),
            Part::Done => None,
        }
    }

    fn token_or_closing(&self, position: u64) -> Part {
        if position < self.answer.tokens { Part::Token(position) } else { Part::Closing }
    }

    /// Writes one part as the bytes of one chunk.
    pub(crate) fn render(&self, part: Part) -> Bytes {
        if part == Part::Done {
            return Bytes::from_static(b"data: [DONE]\n\n");
        }
        let mut event = String::with_capacity(self.head.len() + EVENT_BYTES);
        event.push_str(&self.head);
        self.write(part, &mut event).expect("writing to a string does not fail");
        event.into()
    }

    fn write(&self, part: Part, event: &mut String) -> fmt::Result {
        let answer = &self.answer;
        match (self.api, part) {
            (Api::Completions | Api::Chat, Part::Usage) => return completions::usage(answer, event),
            (Api::Completions, Part::Token(position)) => {
                completions::completion_choice(answer, Some(position), event);
            }
            (Api::Completions, _) => completions::completion_choice(answer, None, event),
            (Api::Chat, Part::Opening) => completions::chat_role(event),
            (Api::Chat, Part::Token(position)) => {
                completions::chat_choice(answer, Some(position), event);
            }
            (Api::Chat, _) => completions::chat_choice(answer, None, event),
            (Api::Messages, Part::Opening) => return messages::opening(answer, event),
            (Api::Messages, Part::Token(position)) => messages::token(answer, position, event),
            (Api::Messages, _) => return messages::closing(answer, event),
            (_, Part::Opening) => return responses::opening(answer, event),
            (_, Part::Token(position)) => return responses::token(answer, position, event),
            (_, _) => return responses::closing(answer, event),
        }
        Ok(())
    }
}
