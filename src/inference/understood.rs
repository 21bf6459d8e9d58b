//! What the router knows of an inference call once it has read its body.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::api::{Answer, Api, Body};
use super::coding::ACCEPTED;
use super::form::{Form, FormFault, FormModel};
use super::prompt::PromptFields;
use super::query::{self, QueryFault};
use super::request::{Edit, InferenceRequest, ParseError, parse};
use super::tap::Reading;

/// The longest name of a model, in bytes: names are written to logs, labels and answers.
pub const MAX_MODEL_NAME: usize = 256;

/// The header by which a client says ahead of a large body which model it names.
pub const MODEL_HEADER: &str = "x-model";

/// What nearly every client calls the type of its body.
const JSON: &str = "application/json";

/// What some editors write before a text; JSON has none (RFC 8259, section 8.1, which allows to pass it over).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An inference call of which is known what it asks for.
#[derive(Clone, Debug)]
pub struct Understood {
    /// The API that is called.
    pub api: Api,
    /// The model or adapter that the client names.
    pub model: Arc<str>,
    named: Named,
}

/// Where the model is named.
#[derive(Clone, Debug)]
enum Named {
    /// In a JSON body.
    Json(InferenceRequest<'static>),
    /// In a form, at this place; the form may ask for a stream, as far as it was read.
    Form { at: Range<usize>, streams: bool },
    /// In the query.
    Query,
    /// In a header; the body has to say the same.
    Header,
}

/// How a call is to be read, by its API and the type of its body.
#[derive(Clone, Debug)]
pub enum Shape {
    /// The body is JSON.
    Json,
    /// The body is a form.
    Form(Box<Form>),
    /// The query says all.
    Query,
}

/// Why a call is not understood; the text is what the API user reads.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotUnderstood {
    /// Its body has a content coding that is not known here, or more of them than are decoded.
    #[error(
        "the request body has the encoding `{encoding}`, which is not decoded here: {ACCEPTED} are, three of them at most"
    )]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// Its body is not what its content coding says.
    #[error("the request body is no valid `{encoding}`: {fault}")]
    Undecodable {
        /// The encoding, or several.
        encoding: String,
        /// What is wrong.
        fault: String,
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
    /// Its body is a form, and not such as the API takes.
    #[error(transparent)]
    Form(#[from] FormFault),
    /// Its query names no model.
    #[error(transparent)]
    Query(#[from] QueryFault),
    /// Its header and its body name different models.
    #[error("the header `{MODEL_HEADER}` names the model `{header}`, and the request body another one")]
    OtherModel {
        /// The model that the header names.
        header: Arc<str>,
    },
    /// Its body was looked through while it passed, and is no JSON object.
    #[error("the request body is not a valid JSON object: {0}")]
    Malformed(&'static str),
    /// The name of the model is too long.
    #[error("field `model` is longer than {MAX_MODEL_NAME} bytes")]
    LongModel,
}

/// Says how a call is to be read; `content_type` is as the client wrote it.
///
/// # Errors
///
/// Returns an error for a type that the API cannot take.
pub fn shape(api: Api, content_type: Option<&str>) -> Result<Shape, NotUnderstood> {
    let body = api.traits().body;
    if body == Body::Query {
        return Ok(Shape::Query);
    }
    let Some(content_type) = content_type else { return Ok(Shape::Json) };
    if content_type.len() >= JSON.len() && content_type[..JSON.len()].eq_ignore_ascii_case(JSON) {
        return Ok(Shape::Json);
    }
    if body == Body::Form
        && let Some(form) = Form::of(content_type)?
    {
        return Ok(Shape::Form(Box::new(form)));
    }
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Clients that do not set a type have libraries that do: only what is something else for certain is refused.
    let is_other = ["multipart/", "audio/", "image/", "video/"].iter().any(|family| media.starts_with(family));
    let shown = || media.chars().take(64).collect();
    if is_other { Err(NotUnderstood::NotJson { content_type: shown() }) } else { Ok(Shape::Json) }
}

/// Returns a body without the byte order mark that it may begin with.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

impl Understood {
    /// Reads a call of which all is there; a JSON body has no byte order mark.
    ///
    /// # Errors
    ///
    /// Returns why the call cannot be routed by its model.
    pub fn of(api: Api, shape: Shape, query: &str, body: &[u8]) -> Result<Self, NotUnderstood> {
        match shape {
            Shape::Json => Self::read(api, body),
            Shape::Query => Self::of_query(api, query),
            Shape::Form(mut form) => {
                form.feed(body)?;
                form.end()?;
                Self::of_form(api, &form)
            }
        }
    }

    /// Reads the JSON body of a call, which has no byte order mark.
    ///
    /// # Errors
    ///
    /// Returns why the call cannot be routed by its model.
    pub fn read(api: Api, body: &[u8]) -> Result<Self, NotUnderstood> {
        let request = parse(body)?;
        if request.model.len() > MAX_MODEL_NAME {
            return Err(NotUnderstood::LongModel);
        }
        Ok(Self { api, model: Arc::from(&*request.model), named: Named::Json(request.into_owned()) })
    }

    /// Reads a call by a form that has arrived up to its model, or further.
    ///
    /// # Errors
    ///
    /// Returns an error for a form without model.
    pub fn of_form(api: Api, form: &Form) -> Result<Self, NotUnderstood> {
        let FormModel { name, at } = form.model().ok_or(FormFault::MissingModel)?;
        Ok(Self { api, model: Arc::from(&**name), named: Named::Form { at: at.clone(), streams: form.streams() } })
    }

    /// Reads a call by its query.
    ///
    /// # Errors
    ///
    /// Returns an error for a query that does not name one model.
    pub fn of_query(api: Api, query: &str) -> Result<Self, NotUnderstood> {
        let model = query::model(query)?;
        if model.len() > MAX_MODEL_NAME {
            return Err(NotUnderstood::LongModel);
        }
        Ok(Self { api, model: Arc::from(model), named: Named::Query })
    }

    /// Takes the word of a header for a JSON body that is not read.
    ///
    /// # Errors
    ///
    /// Returns an error for a name that is blank or too long.
    pub fn of_header(api: Api, model: &str) -> Result<Self, NotUnderstood> {
        if model.trim().is_empty() {
            return Err(ParseError::BlankModel.into());
        }
        if model.len() > MAX_MODEL_NAME {
            return Err(NotUnderstood::LongModel);
        }
        Ok(Self { api, model: Arc::from(model), named: Named::Header })
    }

    /// Checks what a header says against the body that was read.
    ///
    /// # Errors
    ///
    /// Returns an error if it names another model.
    pub fn agrees_with(&self, header: &[u8]) -> Result<(), NotUnderstood> {
        if header == self.model.as_bytes() {
            return Ok(());
        }
        let header = String::from_utf8_lossy(header).chars().take(MAX_MODEL_NAME).collect::<String>();
        Err(NotUnderstood::OtherModel { header: header.into() })
    }

    /// Returns whether nothing of the body was read.
    pub fn is_unread(&self) -> bool {
        matches!(self.named, Named::Header)
    }

    /// Returns whether the client asks for a stream.
    pub fn is_streamed(&self) -> bool {
        match &self.named {
            Named::Json(request) => request.stream,
            Named::Form { streams, .. } => *streams,
            Named::Query | Named::Header => false,
        }
    }

    /// Returns how the answer is read.
    pub fn reading(&self) -> Reading {
        match &self.named {
            Named::Json(_) if self.adds_usage() => Reading::StreamWithAddedUsage,
            Named::Json(request) if request.stream => Reading::Stream,
            Named::Json(_) if self.api.traits().answer == Answer::Json => Reading::Whole,
            // A form says whether it asks for a stream in a part that may be still to come, and a body that is not read does so, too.
            Named::Form { .. } | Named::Header => Reading::Stream,
            Named::Json(_) | Named::Query => Reading::Unread,
        }
    }

    /// Returns what the body, from which this was read, says of the call's prompt; nothing of one that is no JSON.
    pub fn prompt<'b>(&self, body: &'b [u8]) -> PromptFields<&'b [u8]> {
        if let Named::Json(request) = &self.named { request.prompt(body) } else { PromptFields::default() }
    }

    /// Returns the body as an engine gets it, which knows the model by another name if one is given. `body` is the one
    /// that was read.
    pub fn shape(&self, body: Bytes, model: Option<&str>) -> Bytes {
        match (&self.named, model) {
            (Named::Json(request), _) => request.apply(body, &Edit { model, include_usage: self.adds_usage() }),
            (Named::Form { at, .. }, Some(model)) => {
                [&body[..at.start], model.as_bytes(), &body[at.end..]].concat().into()
            }
            (Named::Form { .. } | Named::Query | Named::Header, _) => body,
        }
    }

    /// Returns the place in the body of what an engine's name for the model is written over, if it is in a form.
    pub fn place(&self) -> Option<Range<usize>> {
        if let Named::Form { at, .. } = &self.named { Some(at.clone()) } else { None }
    }

    /// Returns the query with an engine's name for the model, where it is named there.
    pub fn query(&self, query: &str, model: &str) -> Option<String> {
        matches!(self.named, Named::Query).then(|| query::with_model(query, model))
    }

    /// Returns whether the engine has to be asked to report usage at the end of its stream.
    fn adds_usage(&self) -> bool {
        let Named::Json(request) = &self.named else { return false };
        request.stream && self.api.has_stream_options() && request.lacks_usage()
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
    fn a_form_and_a_query_change_where_they_name_the_model() {
        let body = Bytes::from_static(b"--x\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--x--");
        let mut form = Form::of("multipart/form-data; boundary=x").unwrap().unwrap();
        form.feed(&body).unwrap();
        let call = Understood::of_form(Api::Transcriptions, &form).unwrap();
        let shaped = String::from_utf8(call.shape(body.clone(), Some("org/whisper")).into()).unwrap();
        assert_eq!(shaped, str::from_utf8(&body).unwrap().replace("\r\nm\r\n", "\r\norg/whisper\r\n"));
        assert_eq!((call.prompt(&body), call.query("a", "b")), (PromptFields::default(), None));
        assert_eq!(call.shape(body.clone(), None), body);
        let call = Understood::of_query(Api::Realtime, "model=m&x=1").unwrap();
        assert_eq!((&*call.model, call.reading()), ("m", Reading::Unread));
        assert_eq!(call.query("model=m&x=1", "a/b").as_deref(), Some("model=a%2Fb&x=1"));
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
        for content_type in [
            None,
            Some("application/json; charset=utf-8"),
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
        ] {
            assert!(matches!(shape(Api::Transcriptions, content_type), Ok(Shape::Json)), "{content_type:?}");
        }
        let form = Some("Multipart/Form-Data; boundary=x");
        assert!(matches!(shape(Api::ImageEdits, form), Ok(Shape::Form(_))));
        let refused = shape(Api::Completions, form).unwrap_err().to_string();
        assert!(refused.contains("has the type `multipart/form-data`"), "{refused}");
        assert!(matches!(shape(Api::Realtime, form), Ok(Shape::Query)));
    }
}
