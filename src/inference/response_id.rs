//! The ids of responses: which one an answer gives, which one a request goes on from, which one a path asks for.
//!
//! Sources: OpenAI API reference, "Responses"; vLLM, `vllm/entrypoints/openai/responses`, whose ids are `resp_` and a
//! number, and whose responses are kept by the engine that has made them.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;

/// What ids begin with.
const PREFIX: &[u8] = b"resp_";
/// The longest id, in bytes; what is longer is none.
pub const MAX_ID: usize = 128;
/// How much of an answer is searched for its id, which stands at its beginning.
const SEARCHED: usize = 4096;
/// The path that an id follows.
const PATH: &str = "/v1/responses/";
/// The field of a request that names the response which it goes on from.
const PREVIOUS: &[u8] = b"\"previous_response_id\"";

/// Searches an answer for the id of its response, as it arrives.
#[derive(Debug, Default)]
pub struct IdSearch {
    seen: Vec<u8>,
}

/// What a search has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Search {
    /// This is the id.
    Found(String),
    /// More must arrive.
    Open,
    /// There is none.
    Over,
}

/// The one field of a request that is read here.
#[derive(Deserialize)]
struct Previous<'b> {
    #[serde(borrow, default)]
    previous_response_id: Option<Cow<'b, str>>,
}

/// Returns the id that a call by id is about: a `GET` or a `DELETE` of a response, a `GET` of its `input_items`, or a `POST`
/// to its `cancel`; `None` for any other call.
pub fn asked_for<'p>(method: &str, path: &'p str) -> Option<&'p str> {
    let (id, rest) = match path.strip_prefix(PATH)?.split_once('/') {
        Some((id, rest)) => (id, Some(rest)),
        None => (path.strip_prefix(PATH)?, None),
    };
    let is_served =
        matches!((method, rest), ("GET" | "DELETE", None) | ("GET", Some("input_items")) | ("POST", Some("cancel")));
    Some(id).filter(|id| is_served && is_id(id))
}

/// Returns the id of the response that a request goes on from.
pub fn previous(body: &[u8]) -> Option<String> {
    memmem::find(body, PREVIOUS)?;
    let Previous { previous_response_id } = serde_json::from_slice(body).ok()?;
    previous_response_id.filter(|id| is_id(id)).map(Cow::into_owned)
}

fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.len() <= MAX_ID && text.bytes().all(is_plain)
}

impl IdSearch {
    /// Takes the next piece of the answer.
    pub fn feed(&mut self, piece: &[u8]) -> Search {
        if self.seen.is_empty()
            && let Some(id) = find(piece)
        {
            return Search::Found(id);
        }
        let room = SEARCHED - self.seen.len();
        self.seen.extend_from_slice(&piece[..room.min(piece.len())]);
        match find(&self.seen) {
            Some(id) => Search::Found(id),
            None if self.seen.len() < SEARCHED => Search::Open,
            None => Search::Over,
        }
    }
}

/// Returns the first id that a text gives, if all of it is there.
fn find(text: &[u8]) -> Option<String> {
    memmem::find_iter(text, b"\"id\"").find_map(|place| {
        let rest = text[place + 4..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
        let id = &rest[..memchr::memchr(b'"', rest)?];
        let id = str::from_utf8(id).ok().filter(|id| id.as_bytes().starts_with(PREFIX) && is_id(id))?;
        Some(id.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_by_id_are_told_from_others() {
        for (method, path, expected) in [
            ("GET", "/v1/responses/resp_1", Some("resp_1")),
            ("DELETE", "/v1/responses/resp_1", Some("resp_1")),
            ("POST", "/v1/responses/resp_1/cancel", Some("resp_1")),
            ("GET", "/v1/responses/resp_1/input_items", Some("resp_1")),
            ("POST", "/v1/responses/resp_1", None),
            ("GET", "/v1/responses/resp_1/cancel", None),
            ("GET", "/v1/responses/resp_1/", None),
            ("GET", "/v1/responses/", None),
            ("GET", "/v1/responses", None),
            ("GET", "/v1/responses/..", None),
            ("GET", "/v1/responses/resp%2f1", None),
            ("GET", "/v1/responses/resp_1/input_items/x", None),
        ] {
            assert_eq!(asked_for(method, path), expected, "{method} {path}");
        }
        assert_eq!(asked_for("GET", &format!("/v1/responses/{}", "x".repeat(MAX_ID + 1))), None);
    }

    #[test]
    fn a_request_names_what_it_goes_on_from() {
        for (body, expected) in [
            (r#"{"model":"m","previous_response_id":"resp_1","input":"x"}"#, Some("resp_1")),
            (r#"{"previous_response_id" : "resp_\u0031"}"#, Some("resp_1")),
            (r#"{"previous_response_id":null}"#, None),
            (r#"{"previous_response_id":7}"#, None),
            (r#"{"input":"\"previous_response_id\":\"resp_1\""}"#, None),
            (r#"{"metadata":{"previous_response_id":"resp_1"}}"#, None),
            (r#"{"previous_response_id":"../x"}"#, None),
            ("{", None),
        ] {
            assert_eq!(previous(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn an_answer_gives_its_id_however_it_is_cut() {
        let whole = r#"{"id": "resp_ab-1", "output":[{"id":"msg_1"}]}"#;
        let stream =
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_ab-1\"}}\n\n";
        let later = r#"{"output":[{"id":"msg_1"}],"previous_response_id":"resp_0","id":"resp_ab-1"}"#;
        for text in [whole, stream, later] {
            for cut in 0..text.len() {
                let mut search = IdSearch::default();
                let first = search.feed(&text.as_bytes()[..cut]);
                let found = if first == Search::Open { search.feed(&text.as_bytes()[cut..]) } else { first };
                assert_eq!(found, Search::Found("resp_ab-1".to_owned()), "{text}, cut at {cut}");
            }
        }
        assert_eq!(IdSearch::default().feed(br#"{"error":{"code":404}}"#), Search::Open);
        assert_eq!(IdSearch::default().feed(&[b'x'; SEARCHED]), Search::Over);
    }
}
