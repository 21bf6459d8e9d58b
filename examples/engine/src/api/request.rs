//! What the engine looks at in the body of an inference request.
//!
//! One struct serves all endpoints: the model, the length, whether to stream, and the size of every field that holds a
//! prompt. Texts are measured where they stand in the body and never copied; a token is taken to be four characters.

use std::{borrow::Cow, fmt};

use actix_web::web::{Bytes, BytesMut, Payload};
use futures::StreamExt;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::ApiError;

/// Largest body that is taken.
pub(crate) const MAX_BODY_BYTES: usize = 256 << 20;

/// Characters that count as one token.
const CHARACTERS_PER_TOKEN: u64 = 4;

/// The fields of a request that decide the answer.
#[derive(Debug, Deserialize)]
pub(crate) struct InferenceRequest<'body> {
    /// Model that shall answer.
    #[serde(borrow)]
    pub model: Cow<'body, str>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    prompt: Option<Prompt>,
    messages: Option<Prompt>,
    system: Option<Prompt>,
    instructions: Option<Prompt>,
    input: Option<Prompt>,
    query: Option<Prompt>,
    documents: Option<Prompt>,
    text_1: Option<Prompt>,
    text_2: Option<Prompt>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl<'body> InferenceRequest<'body> {
    /// Reads a complete body.
    pub(crate) fn parse(body: &'body [u8]) -> Result<Self, ApiError> {
        Ok(serde_json::from_slice(body)?)
    }

    /// Says whether the answer shall be streamed.
    pub(crate) fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    /// Says whether a stream shall end with its usage.
    pub(crate) fn includes_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.is_some_and(|options| options.include_usage == Some(true))
    }

    /// Returns the longest answer that the client wants, in tokens.
    pub(crate) fn max_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens)
    }

    /// Estimates the tokens of all prompts together.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        let prompts = self.prompts().into_iter().flatten();
        prompts.map(|prompt| prompt.characters).sum::<u64>().div_ceil(CHARACTERS_PER_TOKEN)
    }

    /// Counts the inputs that are embedded, ranked or scored one by one.
    pub(crate) fn items(&self) -> u64 {
        let lists = [&self.input, &self.documents, &self.text_2];
        let items = lists.into_iter().flatten().map(|prompt| prompt.items);
        items.max().unwrap_or(0)
    }

    fn prompts(&self) -> [&Option<Prompt>; 9] {
        [
            &self.prompt,
            &self.messages,
            &self.system,
            &self.instructions,
            &self.input,
            &self.query,
            &self.documents,
            &self.text_1,
            &self.text_2,
        ]
    }
}

/// The size of a text, of a list of token ids, of messages, or of a list of any of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Prompt {
    characters: u64,
    items: u64,
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<Source: Deserializer<'de>>(source: Source) -> Result<Self, Source::Error> {
        source.deserialize_any(PromptVisitor)
    }
}

struct PromptVisitor;

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = Prompt;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a message, or a list of these or of token ids")
    }

    fn visit_str<Failure>(self, text: &str) -> Result<Prompt, Failure> {
        Ok(Prompt { characters: text.chars().count() as u64, items: 1 })
    }

    /// Takes a token id: worth one token, but not an item of its own.
    fn visit_u64<Failure>(self, _token: u64) -> Result<Prompt, Failure> {
        Ok(Prompt { characters: CHARACTERS_PER_TOKEN, items: 0 })
    }

    fn visit_unit<Failure>(self) -> Result<Prompt, Failure> {
        Ok(Prompt::default())
    }

    fn visit_seq<List: SeqAccess<'de>>(self, mut list: List) -> Result<Prompt, List::Error> {
        let mut total = Prompt::default();
        while let Some(element) = list.next_element::<Prompt>()? {
            total.characters += element.characters;
            total.items += element.items;
        }
        // A bare list of token ids is one input.
        if total.characters > 0 {
            total.items = total.items.max(1);
        }
        Ok(total)
    }

    fn visit_map<Map: MapAccess<'de>>(self, mut map: Map) -> Result<Prompt, Map::Error> {
        let mut characters = 0;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if matches!(&*key, "content" | "text") {
                characters += map.next_value::<Prompt>()?.characters;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Prompt { characters, items: 1 })
    }
}

/// Reads a body to its end. One that arrived in one piece, as small ones do, is not copied.
pub(crate) async fn read_body(mut payload: Payload) -> Result<Bytes, ApiError> {
    let Some(first) = payload.next().await.transpose()? else {
        return Ok(Bytes::new());
    };
    let Some(second) = payload.next().await.transpose()? else {
        return Ok(first);
    };
    let mut body = BytesMut::with_capacity(2 * (first.len() + second.len()));
    body.extend_from_slice(&first);
    body.extend_from_slice(&second);
    while let Some(chunk) = payload.next().await.transpose()? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(ApiError::TooLarge(MAX_BODY_BYTES));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(body: &str) -> (u64, u64) {
        let request = InferenceRequest::parse(body.as_bytes()).unwrap();
        (request.prompt_tokens(), request.items())
    }

    #[test]
    fn prompts_of_every_api_are_measured() {
        let cases = [
            ("text", r#"{"model":"m","prompt":"12345"}"#, (2, 0)),
            ("texts", r#"{"model":"m","prompt":["1234","1234"]}"#, (2, 0)),
            ("escaped", r#"{"model":"m","prompt":"\n\u00e4\"\\"}"#, (1, 0)),
            ("token ids", r#"{"model":"m","prompt":[1,2,3]}"#, (3, 0)),
            (
                "chat",
                r#"{"model":"m","messages":[{"role":"user","content":"1234"},{"role":"user","content":null}]}"#,
                (1, 0),
            ),
            (
                "content parts",
                r#"{"model":"m","messages":[{"content":[{"type":"text","text":"12345678"},{"type":"image_url","image_url":{"url":"x"}}]}]}"#,
                (2, 0),
            ),
            ("anthropic", r#"{"model":"m","system":"1234","messages":[{"role":"user","content":"1234"}]}"#, (2, 0)),
            ("one input", r#"{"model":"m","input":"1234"}"#, (1, 1)),
            ("inputs", r#"{"model":"m","input":["a","b","c"]}"#, (1, 3)),
            ("token input", r#"{"model":"m","input":[7,8]}"#, (2, 1)),
            ("token inputs", r#"{"model":"m","input":[[7],[8]]}"#, (2, 2)),
            ("rerank", r#"{"model":"m","query":"1234","documents":["1234",{"text":"1234"}]}"#, (3, 2)),
            ("score", r#"{"model":"m","text_1":"1234","text_2":["a","b","c","d"]}"#, (2, 4)),
            ("no prompt", r#"{"model":"m"}"#, (0, 0)),
        ];
        for (case, body, expected) in cases {
            assert_eq!(sizes(body), expected, "{case}");
        }
    }

    #[test]
    fn the_newer_name_of_the_length_wins() {
        let body = br#"{"model":"m","max_tokens":1,"max_completion_tokens":2}"#;
        let request = InferenceRequest::parse(body).unwrap();
        assert_eq!(request.max_tokens(), Some(2));
    }

    #[test]
    fn a_plain_model_name_is_not_copied() {
        let request = InferenceRequest::parse(br#"{"model":"m"}"#).unwrap();
        assert!(matches!(request.model, Cow::Borrowed("m")));
    }

    #[test]
    fn what_is_wrong_with_a_body_is_named() {
        let cases = [
            ("missing model", r#"{"prompt":"x"}"#, "missing field `model`"),
            ("no json", "hello", "expected value at line 1"),
            ("cut off", r#"{"model":"m""#, "EOF while parsing an object"),
            ("prompt", r#"{"model":"m","prompt":true}"#, "expected a text"),
        ];
        for (case, body, expected) in cases {
            let error = InferenceRequest::parse(body.as_bytes()).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(expected), "{case}: {message}");
        }
    }
}
