//! The messages that are exchanged with an endpoint picker, as far as they are used.
//!
//! Source: Envoy, `envoy.service.ext_proc.v3` and what it refers to of `envoy.config.core.v3` and `envoy.type.v3`.
//! Fields that are not here are skipped when they arrive, as Protocol Buffers want it.

#![expect(missing_docs, reason = "the fields are those of the protocol")]

use std::collections::HashMap;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// What the picker is told.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessingRequest {
    #[prost(oneof = "Told", tags = "2, 3, 4")]
    pub told: Option<Told>,
    #[prost(message, optional, tag = "8")]
    pub metadata_context: Option<Metadata>,
    /// Only in the first message.
    #[prost(message, optional, tag = "11")]
    pub protocol: Option<ProtocolConfiguration>,
}

/// The part of an exchange that the picker is told.
#[derive(Clone, PartialEq, Oneof)]
pub enum Told {
    #[prost(message, tag = "2")]
    RequestHeaders(HttpHeaders),
    #[prost(message, tag = "3")]
    ResponseHeaders(HttpHeaders),
    #[prost(message, tag = "4")]
    RequestBody(HttpBody),
}

/// How bodies are exchanged with the picker.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ProtocolConfiguration {
    #[prost(enumeration = "BodyMode", tag = "1")]
    pub request_body_mode: i32,
    #[prost(enumeration = "BodyMode", tag = "2")]
    pub response_body_mode: i32,
    #[prost(bool, tag = "3")]
    pub send_body_without_waiting_for_header_response: bool,
}

/// How a body is exchanged with the picker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum BodyMode {
    None = 0,
    Streamed = 1,
    Buffered = 2,
    BufferedPartial = 3,
    FullDuplexStreamed = 4,
}

/// Facts by the name of who they are for.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(map = "string, message", tag = "1")]
    pub filter_metadata: HashMap<String, Struct>,
}

/// The headers of a request or of an answer, with the names of HTTP/2 for what its first line says.
#[derive(Clone, PartialEq, Message)]
pub struct HttpHeaders {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<HeaderMap>,
    #[prost(bool, tag = "3")]
    pub end_of_stream: bool,
}

/// A list of headers.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<HeaderValue>,
}

/// A header. Its value is text or bytes, never both.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub raw_value: Bytes,
}

/// A piece of a body.
#[derive(Clone, PartialEq, Message)]
pub struct HttpBody {
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
    #[prost(bool, tag = "2")]
    pub end_of_stream: bool,
}

/// What the picker says.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessingResponse {
    #[prost(oneof = "Said", tags = "1, 2, 3, 7")]
    pub said: Option<Said>,
    #[prost(message, optional, tag = "8")]
    pub dynamic_metadata: Option<Struct>,
}

/// The part of an exchange that the picker has an opinion on.
#[derive(Clone, PartialEq, Oneof)]
pub enum Said {
    #[prost(message, tag = "1")]
    RequestHeaders(PartResponse),
    #[prost(message, tag = "2")]
    ResponseHeaders(PartResponse),
    #[prost(message, tag = "3")]
    RequestBody(PartResponse),
    #[prost(message, tag = "7")]
    Immediate(ImmediateResponse),
}

/// An opinion on headers, or on a piece of a body: the two have the same fields.
#[derive(Clone, PartialEq, Message)]
pub struct PartResponse {
    #[prost(message, optional, tag = "1")]
    pub response: Option<CommonResponse>,
}

/// What becomes of a part.
#[derive(Clone, PartialEq, Message)]
pub struct CommonResponse {
    /// 1 replaces the body and ends the exchange about it.
    #[prost(int32, tag = "1")]
    pub status: i32,
    #[prost(message, optional, tag = "2")]
    pub header_mutation: Option<HeaderMutation>,
    #[prost(message, optional, tag = "3")]
    pub body_mutation: Option<BodyMutation>,
}

/// Changes of headers.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMutation {
    #[prost(message, repeated, tag = "1")]
    pub set_headers: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "2")]
    pub remove_headers: Vec<String>,
}

/// A header, and what becomes of those of the same name.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// Wrapped, so that it can be left out: then it is replaced, unless the action says otherwise.
    #[prost(message, optional, tag = "2")]
    pub append: Option<bool>,
    #[prost(int32, tag = "3")]
    pub append_action: i32,
}

/// What becomes of a body, or of a piece of it.
#[derive(Clone, PartialEq, Message)]
pub struct BodyMutation {
    #[prost(oneof = "Replacement", tags = "1, 2, 3")]
    pub replacement: Option<Replacement>,
}

/// What takes the place of a body.
#[derive(Clone, PartialEq, Oneof)]
pub enum Replacement {
    #[prost(bytes = "bytes", tag = "1")]
    Body(Bytes),
    #[prost(bool, tag = "2")]
    Clear(bool),
    /// The next piece of the body as it is after the picker, which is not tied to a piece before it.
    #[prost(message, tag = "3")]
    Streamed(HttpBody),
}

/// The picker's own answer to the client.
#[derive(Clone, PartialEq, Message)]
pub struct ImmediateResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    #[prost(message, optional, tag = "2")]
    pub headers: Option<HeaderMutation>,
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
}

/// The status of an answer.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
}

impl HeaderValue {
    /// Makes a header of bytes, as Envoy writes it.
    pub fn new(key: &str, value: &[u8]) -> Self {
        Self { key: key.to_owned(), value: String::new(), raw_value: Bytes::copy_from_slice(value) }
    }

    /// Returns the value, whichever way it was written.
    pub fn bytes(&self) -> &[u8] {
        if self.raw_value.is_empty() { self.value.as_bytes() } else { &self.raw_value }
    }
}

impl Metadata {
    /// Makes metadata of one text.
    pub fn text(namespace: &str, key: &str, value: String) -> Self {
        let value = Value { kind: Some(Kind::StringValue(value)) };
        let fields = Struct { fields: [(key.to_owned(), value)].into() };
        Self { filter_metadata: [(namespace.to_owned(), fields)].into() }
    }
}

/// Returns a text of metadata.
pub fn text_in<'m>(metadata: &'m Struct, namespace: &str, key: &str) -> Option<&'m str> {
    let Some(Kind::StructValue(fields)) = &metadata.fields.get(namespace)?.kind else { return None };
    match &fields.fields.get(key)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}
