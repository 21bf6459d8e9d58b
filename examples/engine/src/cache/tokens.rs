//! The tokens of a prompt: one for each word, and two around each message of a chat.

use serde_json::Value;

/// Tokens that the simulated model knows.
const VOCABULARY: u32 = 150_000;
/// What a chat's messages begin and end with.
const BEGIN: u32 = VOCABULARY;
const END: u32 = VOCABULARY + 1;

/// What a cache needs to know of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    pub(crate) adapter: Option<String>,
    pub(crate) salt: Option<String>,
}

/// Returns the tokens of a body's prompt; `None` if it has none that can be computed.
pub(crate) fn tokenize(body: &Value) -> Option<Vec<u32>> {
    let mut tokens = Vec::new();
    if let Some(messages) = body.get("messages") {
        for message in messages.as_array()? {
            tokens.push(BEGIN);
            add(&mut tokens, message.get("role")?);
            add(&mut tokens, message.get("content").unwrap_or(&Value::Null));
            tokens.push(END);
        }
        return Some(tokens);
    }
    let prompt = body.get("prompt")?;
    match prompt.as_array() {
        Some(ids) => ids.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect(),
        None => {
            add(&mut tokens, prompt);
            Some(tokens)
        }
    }
}

/// Adds the words of a text, or of the texts of content parts.
fn add(tokens: &mut Vec<u32>, value: &Value) {
    match value {
        Value::String(text) => tokens.extend(text.split_whitespace().map(token)),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")).for_each(|text| add(tokens, text)),
        _ => {}
    }
}

/// Returns the token of a word, by the hash FNV-1a.
fn token(word: &str) -> u32 {
    let hash = word.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % VOCABULARY
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_messages_become_tokens() {
        let count = |body: Value| tokenize(&body).map(|tokens| tokens.len());
        assert_eq!(count(json!({"prompt": "one two  three"})), Some(3));
        assert_eq!(count(json!({"prompt": [1, 2]})), Some(2));
        assert_eq!(count(json!({"messages": [{"role": "user", "content": "a b"}]})), Some(5));
        let parts = json!([{"type": "text", "text": "a b"}, {"type": "image_url"}]);
        assert_eq!(count(json!({"messages": [{"role": "user", "content": parts}]})), Some(5));
        assert_eq!(count(json!({"prompt": ["a", "b"]})), None);
        assert_eq!(count(json!({"input": "a"})), None);
    }
}
