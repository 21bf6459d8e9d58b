//! The shapes of Anthropic's messages: one block of text.

use std::fmt::{Result, Write};

use super::answer::Answer;

/// Writes a whole message.
pub(crate) fn whole(answer: &Answer, json: &mut String) -> Result {
    let number = answer.number;
    let (input, output) = (answer.prompt_tokens, answer.tokens);
    let model = &answer.model.name_json;
    let reason = answer.finish_reason.anthropic();
    write!(
        json,
        "{{\"id\":\"msg_{number:032x}\",\"type\":\"message\",\"role\":\"assistant\",\
         \"model\":{model},\"content\":[{{\"type\":\"text\",\"text\":\""
    )?;
    answer.model.write_text(output, json);
    write!(
        json,
        "\"}}],\"stop_reason\":\"{reason}\",\"stop_sequence\":null,\
         \"usage\":{{\"input_tokens\":{input},\"output_tokens\":{output}}}}}"
    )
}

/// Writes the first events: a message without content, with the size of the prompt, and the start of its block.
pub(crate) fn opening(answer: &Answer, event: &mut String) -> Result {
    let number = answer.number;
    let input = answer.prompt_tokens;
    let model = &answer.model.name_json;
    write!(
        event,
        "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\
         \"id\":\"msg_{number:032x}\",\"type\":\"message\",\"role\":\"assistant\",\
         \"model\":{model},\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\
         \"usage\":{{\"input_tokens\":{input},\"output_tokens\":0}}}}}}\n\n"
    )?;
    event.push_str(
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
         \"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    );
    Ok(())
}

/// Writes the event of one token.
pub(crate) fn token(answer: &Answer, position: u64, event: &mut String) {
    event.push_str(
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{\"type\":\"text_delta\",\"text\":\"",
    );
    event.push_str(answer.model.token(position));
    event.push_str("\"}}\n\n");
}

/// Writes the last events: the end of the block and of the message, with the size of the text.
pub(crate) fn closing(answer: &Answer, event: &mut String) -> Result {
    let reason = answer.finish_reason.anthropic();
    let (input, output) = (answer.prompt_tokens, answer.tokens);
    event.push_str("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
    write!(
        event,
        "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\
         \"stop_reason\":\"{reason}\",\"stop_sequence\":null}},\
         \"usage\":{{\"input_tokens\":{input},\"output_tokens\":{output}}}}}\n\n"
    )?;
    event.push_str("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    Ok(())
}
