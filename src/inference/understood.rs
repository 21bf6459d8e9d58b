//! What the router knows of an inference call once it has read its body.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::api::Api;
use super::request::{Edit, InferenceRequest, ParseError, parse};
use super::tap::Reading;

/// The longest name of a model, in bytes: names are written to logs, labels and answers.
pub const MAX_MODEL_NAME: usize = 256;

/// What some editors write before a text; JSON has none (RFC 8259, section 8.1, which allows to pass it over).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An inference call whose body was read.
#[derive(Clone, Debug)]
pub struct Understood {
    /// The API that is called.
    pub api: Api,
    /// The model or adapter that the client names.
    pub model: Arc<str>,
    request: InferenceRequest<'static>,
}

/// Why a call is not understood; the text is what the API user reads.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotUnderstood {
    /// Its body is encoded.
    #[error("the request body has the encoding `{encoding}`, and only bodies without encoding are read here")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// Its body is of another type.
    #[error("the request body has the type `{content_type}`, and only JSON is read here")]
    NotJson {
        /// The type.
        content_type: String,
    },
    /// Its body is not what an inference API takes.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The name of the model is too long.
    #[error("field `model` is longer than {MAX_MODEL_NAME} bytes")]
    LongModel,
}

/// Checks the headers of a body that is to be read; both are as the client wrote them.
///
/// # Errors
///
/// Returns an error for a body that is encoded, or of a type that cannot be JSON.
pub fn check_type(content_type: Option<&str>, encoding: Option<&str>) -> Result<(), NotUnderstood> {
    let shown = |text: &str| text.chars().take(64).collect::<String>();
    if let Some(encoding) = encoding.map(str::trim)
        && !encoding.is_empty()
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(NotUnderstood::Encoded { encoding: shown(encoding) });
    }
    let Some(content_type) = content_type else { return Ok(()) };
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Clients that do not set a type have libraries that do: only what is something else for certain is refused.
    let is_other = ["multipart/", "audio/", "image/", "video/"].iter().any(|family| media.starts_with(family));
    if is_other { Err(NotUnderstood::NotJson { content_type: shown(&media) }) } else { Ok(()) }
}

/// Returns a body without the byte order mark that it may begin with.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

impl Understood {
    /// Reads the body of a call, which has no byte order mark.
    ///
    /// # Errors
    ///
    /// Returns why the call cannot be routed by its model.
    pub fn read(api: Api, body: &[u8]) -> Result<Self, NotUnderstood> {
        let request = parse(body)?;
        if request.model.len() > MAX_MODEL_NAME {
            return Err(NotUnderstood::LongModel);
        }
        Ok(Self { api, model: Arc::from(&*request.model), request: request.into_owned() })
    }

    /// Returns whether the client asks for a stream.
    pub fn is_streamed(&self) -> bool {
        self.request.stream
    }

    /// Returns how the answer is read.
    pub fn reading(&self) -> Reading {
        match (self.request.stream, self.adds_usage()) {
            (true, true) => Reading::StreamWithAddedUsage,
            (true, false) => Reading::Stream,
            (false, _) => Reading::Whole,
        }
    }

    /// Returns the body as an engine gets it, which knows the model by another name if one is given. `body` is the one
    /// that was read.
    pub fn shape(&self, body: Bytes, model: Option<&str>) -> Bytes {
        self.request.apply(body, &Edit { model, include_usage: self.adds_usage() })
    }

    /// Returns whether the engine has to be asked to report usage at the end of its stream.
    fn adds_usage(&self) -> bool {
        self.request.stream && self.api.has_stream_options() && self.request.lacks_usage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_once_for_all_that_follows() {
        let body = br#"{"model":"m","stream":true}"#;
        let call = Understood::read(Api::ChatCompletions, body).unwrap();
        assert_eq!((&*call.model, call.reading()), ("m", Reading::StreamWithAddedUsage));
        let shaped = String::from_utf8(call.shape(Bytes::from_static(body), Some("served")).into()).unwrap();
        assert!(shaped.contains(r#""model":"served""#) && shaped.contains("include_usage"), "{shaped}");
        let whole = Understood::read(Api::Embeddings, br#"{"model":"m"}"#).unwrap();
        let plain = Bytes::from_static(br#"{"model":"m"}"#);
        assert_eq!((whole.reading(), whole.shape(plain.clone(), None)), (Reading::Whole, plain));
        let messages = Understood::read(Api::Messages, body).unwrap();
        assert_eq!(messages.reading(), Reading::Stream, "this API reports usage unasked");
    }

    #[test]
    fn a_name_that_would_fill_the_log_is_refused() {
        let body = |length: usize| format!(r#"{{"model":"{}"}}"#, "m".repeat(length)).into_bytes();
        assert!(Understood::read(Api::Completions, &body(MAX_MODEL_NAME)).is_ok());
        let refused = Understood::read(Api::Completions, &body(MAX_MODEL_NAME + 1)).unwrap_err();
        assert_eq!(refused, NotUnderstood::LongModel);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(without_mark(b"\xef\xbb\xbf{}"), b"{}");
        assert_eq!(without_mark(b"{}"), b"{}");
    }

    #[test]
    fn what_cannot_be_json_is_said_so_in_plain_words() {
        for (content_type, encoding, expected) in [
            (None, None, None),
            (Some("application/json; charset=utf-8"), Some("identity"), None),
            (Some("text/plain"), Some(""), None),
            (Some("application/x-www-form-urlencoded"), None, None),
            (Some("application/json"), Some("gzip"), Some("has the encoding `gzip`")),
            (Some("Multipart/Form-Data; boundary=x"), None, Some("has the type `multipart/form-data`")),
        ] {
            let found = check_type(content_type, encoding).err().map(|error| error.to_string());
            let is_as_expected = match (&found, expected) {
                (Some(found), Some(expected)) => found.contains(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(is_as_expected, "{content_type:?} {encoding:?}: {found:?}");
        }
    }
}
