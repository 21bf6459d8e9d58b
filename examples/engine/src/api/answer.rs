//! What an answer says, whatever its API: which model, how long, and why it ends.
//!
//! The shapes are in the sibling modules, one per API. They write JSON as text, with names that are escaped already, so
//! that an answer costs one buffer.

use std::sync::Arc;

use super::{Api, completions, messages, pooling, responses};
use crate::{models::Model, state::seconds_since_epoch};

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model has nothing more to say.
    Stop,
    /// The client wants no more.
    Length,
}

impl FinishReason {
    /// Returns the name in OpenAI's APIs.
    pub(crate) fn openai(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }

    /// Returns the name in Anthropic's API.
    pub(crate) fn anthropic(self) -> &'static str {
        match self {
            Self::Stop => "end_turn",
            Self::Length => "max_tokens",
        }
    }
}

/// All that an answer says, whatever its API.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Model that answers.
    pub model: Arc<Model>,
    /// Number of the request, for identifiers.
    pub number: u64,
    /// Which life of which engine it is, for identifiers that must not be those of another one.
    pub life: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the prompt that were cached; `None` of an engine without a cache.
    pub cached_tokens: Option<u64>,
    /// Whether another engine has computed the prompt.
    pub prefilled: bool,
    /// Inputs to embed, rank or score.
    pub items: u64,
    /// Tokens of the text.
    pub tokens: u64,
    /// Why the text ends.
    pub finish_reason: FinishReason,
    /// Seconds since the epoch.
    pub created: u64,
}

impl Answer {
    /// Makes the answer of a model to a prompt, as a whole sentence.
    pub(crate) fn new(model: Arc<Model>, prompt_tokens: u64, items: u64) -> Self {
        Self {
            number: 0,
            life: 0,
            prompt_tokens,
            cached_tokens: None,
            prefilled: false,
            items,
            tokens: model.sentence_tokens(),
            finish_reason: FinishReason::Length,
            created: seconds_since_epoch(),
            model,
        }
    }

    /// Returns the id by which a response is asked for.
    pub(crate) fn response_id(&self) -> String {
        format!("resp_{:016x}{:016x}", self.life, self.number)
    }

    /// Sets the length, when one is configured: the client's limit ends the text earlier.
    /// Without a configured length the sentence is whole and ends as if the
    /// limit were met, which is what the quickstart of the router shows.
    pub(crate) fn limit(&mut self, output_tokens: Option<u64>, max_tokens: Option<u64>) {
        let Some(output_tokens) = output_tokens else {
            return;
        };
        let max_tokens = max_tokens.unwrap_or(u64::MAX);
        self.tokens = output_tokens.min(max_tokens);
        self.finish_reason = if max_tokens < output_tokens { FinishReason::Length } else { FinishReason::Stop };
    }

    /// Writes the whole answer as JSON.
    pub(crate) fn render(&self, api: Api) -> String {
        let mut json = String::with_capacity(640);
        let written = match api {
            Api::Completions => completions::completion(self, &mut json),
            Api::Chat => completions::chat(self, &mut json),
            Api::Responses => responses::whole(self, &mut json),
            Api::Messages => messages::whole(self, &mut json),
            Api::Embeddings => pooling::embeddings(self, &mut json),
            Api::Rerank => pooling::rerank(self, &mut json),
            Api::Score => pooling::score(self, &mut json),
        };
        written.expect("writing to a string does not fail");
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer() {
        let cases = [
            ("whole sentence", None, Some(2), (6, FinishReason::Length)),
            ("no limit", Some(9), None, (9, FinishReason::Stop)),
            ("limit reached", Some(9), Some(4), (4, FinishReason::Length)),
            ("limit met exactly", Some(9), Some(9), (9, FinishReason::Stop)),
            ("limit not reached", Some(9), Some(10), (9, FinishReason::Stop)),
        ];
        for (case, output_tokens, max_tokens, expected) in cases {
            let model = Arc::new(Model::new("m", "m", None, 0));
            let mut answer = Answer::new(model, 0, 0);
            answer.limit(output_tokens, max_tokens);
            assert_eq!((answer.tokens, answer.finish_reason), expected, "{case}");
        }
    }
}
