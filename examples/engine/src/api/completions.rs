//! The shapes of OpenAI's completions and chat completions.
//!
//! Whole answers have their keys in alphabetical order, so that they begin with the choices. Events have the keys and
//! the order of vLLM: those of completions say `"usage":null` each, those of chat do not.

use std::fmt::{self, Result, Write};

use super::answer::Answer;

/// What is said of a prompt's tokens, where there is a cache.
struct Details(Option<u64>);

impl fmt::Display for Details {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> Result {
        match self.0 {
            Some(cached) => write!(formatter, ",\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}}"),
            None => Ok(()),
        }
    }
}

/// Writes a whole completion.
pub(crate) fn completion(answer: &Answer, json: &mut String) -> Result {
    json.push_str("{\"choices\":[{\"finish_reason\":\"");
    json.push_str(answer.finish_reason.openai());
    json.push_str("\",\"index\":0,\"logprobs\":null,\"text\":\"");
    answer.model.write_text(answer.tokens, json);
    json.push_str("\"}],");
    tail(answer, json, "cmpl", "text_completion")
}

/// Writes a whole chat completion.
pub(crate) fn chat(answer: &Answer, json: &mut String) -> Result {
    json.push_str("{\"choices\":[{\"finish_reason\":\"");
    json.push_str(answer.finish_reason.openai());
    json.push_str("\",\"index\":0,\"logprobs\":null,\"message\":{\"content\":\"");
    answer.model.write_text(answer.tokens, json);
    json.push_str("\",\"role\":\"assistant\"}}],");
    tail(answer, json, "chatcmpl", "chat.completion")
}

fn tail(answer: &Answer, json: &mut String, prefix: &str, object: &str) -> Result {
    let (number, created) = (answer.number, answer.created);
    let (prompt_tokens, tokens) = (answer.prompt_tokens, answer.tokens);
    let model = &answer.model.name_json;
    let total = prompt_tokens + tokens;
    write!(
        json,
        "\"created\":{created},\"id\":\"{prefix}-{number:032x}\",\"model\":{model},\
         \"object\":\"{object}\",\"usage\":{{\"completion_tokens\":{tokens},\
         \"prompt_tokens\":{prompt_tokens}{details},\"total_tokens\":{total}}}}}",
        details = Details(answer.cached_tokens)
    )
}

/// Returns what all events of a completion begin with, up to the choices.
pub(crate) fn completion_head(answer: &Answer) -> String {
    head(answer, "cmpl", "text_completion")
}

/// Returns what all events of a chat completion begin with, up to the choices.
pub(crate) fn chat_head(answer: &Answer) -> String {
    head(answer, "chatcmpl", "chat.completion.chunk")
}

fn head(answer: &Answer, prefix: &str, object: &str) -> String {
    let (number, created) = (answer.number, answer.created);
    let model = &answer.model.name_json;
    format!(
        "data: {{\"id\":\"{prefix}-{number:032x}\",\"object\":\"{object}\",\
         \"created\":{created},\"model\":{model},\"choices\":["
    )
}

/// Writes the choice of one token of a completion, or of its end without a token.
pub(crate) fn completion_choice(answer: &Answer, token: Option<u64>, event: &mut String) {
    event.push_str("{\"index\":0,\"text\":\"");
    if let Some(position) = token {
        event.push_str(answer.model.token(position));
        event.push_str("\",\"logprobs\":null,\"finish_reason\":null");
    } else {
        event.push_str("\",\"logprobs\":null,\"finish_reason\":\"");
        event.push_str(answer.finish_reason.openai());
        event.push('"');
    }
    event.push_str(",\"stop_reason\":null}],\"usage\":null}\n\n");
}

/// Writes the first event of a chat completion: the role, with no content.
pub(crate) fn chat_role(event: &mut String) {
    event.push_str(
        "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\
         \"logprobs\":null,\"finish_reason\":null}]}\n\n",
    );
}

/// Writes the choice of one token of a chat completion, or of its end without a token.
pub(crate) fn chat_choice(answer: &Answer, token: Option<u64>, event: &mut String) {
    if let Some(position) = token {
        event.push_str("{\"index\":0,\"delta\":{\"content\":\"");
        event.push_str(answer.model.token(position));
        event.push_str("\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    } else {
        event.push_str("{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"");
        event.push_str(answer.finish_reason.openai());
        event.push_str("\",\"stop_reason\":null}]}\n\n");
    }
}

/// Writes the event that carries the usage and no choice.
pub(crate) fn usage(answer: &Answer, event: &mut String) -> Result {
    let (prompt_tokens, tokens) = (answer.prompt_tokens, answer.tokens);
    let total = prompt_tokens + tokens;
    write!(
        event,
        "],\"usage\":{{\"prompt_tokens\":{prompt_tokens},\"total_tokens\":{total},\
         \"completion_tokens\":{tokens}{details}}}}}\n\n",
        details = Details(answer.cached_tokens)
    )
}
