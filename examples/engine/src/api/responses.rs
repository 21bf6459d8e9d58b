//! The shapes of OpenAI's responses: one message of one text.

use std::fmt::{Result, Write};

use super::answer::Answer;

/// Writes a whole response.
pub(crate) fn whole(answer: &Answer, json: &mut String) -> Result {
    let (id, number, created) = (answer.response_id(), answer.number, answer.created);
    let (input, output) = (answer.prompt_tokens, answer.tokens);
    let model = &answer.model.name_json;
    let total = input + output;
    write!(
        json,
        "{{\"id\":\"{id}\",\"object\":\"response\",\"created_at\":{created},\
         \"status\":\"completed\",\"model\":{model},\"output\":[{{\"type\":\"message\",\
         \"id\":\"msg_{number:032x}\",\"status\":\"completed\",\"role\":\"assistant\",\
         \"content\":[{{\"type\":\"output_text\",\"annotations\":[],\"text\":\""
    )?;
    answer.model.write_text(output, json);
    write!(
        json,
        "\"}}]}}],\"usage\":{{\"input_tokens\":{input},\"output_tokens\":{output},\
         \"total_tokens\":{total}}}}}"
    )
}

/// Writes the first event: a response without output.
pub(crate) fn opening(answer: &Answer, event: &mut String) -> Result {
    let (id, created) = (answer.response_id(), answer.created);
    let model = &answer.model.name_json;
    write!(
        event,
        "event: response.created\ndata: {{\"type\":\"response.created\",\"sequence_number\":0,\
         \"response\":{{\"id\":\"{id}\",\"object\":\"response\",\
         \"created_at\":{created},\"status\":\"in_progress\",\"model\":{model},\
         \"output\":[],\"usage\":null}}}}\n\n"
    )
}

/// Writes the event of one token.
pub(crate) fn token(answer: &Answer, position: u64, event: &mut String) -> Result {
    let number = answer.number;
    let sequence = position + 1;
    let token = answer.model.token(position);
    write!(
        event,
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\
         \"sequence_number\":{sequence},\"item_id\":\"msg_{number:032x}\",\"output_index\":0,\
         \"content_index\":0,\"delta\":\"{token}\"}}\n\n"
    )
}

/// Writes the last event: the whole response, with its usage.
pub(crate) fn closing(answer: &Answer, event: &mut String) -> Result {
    let sequence = answer.tokens + 1;
    write!(
        event,
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\
         \"sequence_number\":{sequence},\"response\":"
    )?;
    whole(answer, event)?;
    event.push_str("}\n\n");
    Ok(())
}
