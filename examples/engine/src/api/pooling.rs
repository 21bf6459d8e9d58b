//! The shapes of embeddings, rerank and score: one small result per input, the same for every text.

use std::fmt::{Result, Write};

use super::answer::Answer;

/// Writes one vector of four numbers per input.
pub(crate) fn embeddings(answer: &Answer, json: &mut String) -> Result {
    let (number, tokens) = (answer.number, answer.prompt_tokens);
    let (created, model) = (answer.created, &answer.model.name_json);
    write!(
        json,
        "{{\"id\":\"embd-{number:032x}\",\"object\":\"list\",\"created\":{created},\
         \"model\":{model},\"data\":["
    )?;
    for index in 0..answer.items {
        let comma = separator(index);
        write!(
            json,
            "{comma}{{\"index\":{index},\"object\":\"embedding\",\
             \"embedding\":[0.5,-0.5,0.5,-0.5]}}"
        )?;
    }
    write!(
        json,
        "],\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens},\
         \"completion_tokens\":0}}}}"
    )
}

/// Writes one relevance per document, in the order of the documents.
pub(crate) fn rerank(answer: &Answer, json: &mut String) -> Result {
    let (number, tokens) = (answer.number, answer.prompt_tokens);
    let model = &answer.model.name_json;
    write!(
        json,
        "{{\"id\":\"rerank-{number:032x}\",\"model\":{model},\
         \"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}},\"results\":["
    )?;
    for index in 0..answer.items {
        let comma = separator(index);
        write!(json, "{comma}{{\"index\":{index},\"relevance_score\":0.5}}")?;
    }
    json.push_str("]}");
    Ok(())
}

/// Writes one score per pair of texts.
pub(crate) fn score(answer: &Answer, json: &mut String) -> Result {
    let (number, tokens) = (answer.number, answer.prompt_tokens);
    let (created, model) = (answer.created, &answer.model.name_json);
    write!(
        json,
        "{{\"id\":\"score-{number:032x}\",\"object\":\"list\",\"created\":{created},\
         \"model\":{model},\"data\":["
    )?;
    for index in 0..answer.items {
        let comma = separator(index);
        write!(json, "{comma}{{\"index\":{index},\"object\":\"score\",\"score\":0.5}}")?;
    }
    write!(
        json,
        "],\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens},\
         \"completion_tokens\":0}}}}"
    )
}

fn separator(index: u64) -> &'static str {
    if index == 0 { "" } else { "," }
}
