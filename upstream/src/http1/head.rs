//! Reads the head of an answer, and decides how its body is framed.
//!
//! Source: RFC 9112, section 6.3. What is ambiguous there is refused here: whoever reads on after a guess may take a
//! part of one answer for the beginning of another.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};
use kthena_router_wire::{Framing, HeadEnd, length_of};

use crate::headers::{Named, options};

/// The longest head that is read, in bytes.
const MAX_HEAD: usize = 128 << 10;
/// The most fields that a head may have.
const MAX_FIELDS: usize = 256;
/// The room for fields that a head has at least. hyper uses the map of an answer again for the next request, which then has
/// room for what a proxy adds.
const USUAL_FIELDS: usize = 12;
/// A chunk of up to this length is passed on whole, in bytes: clients see the chunks of the backend.
const MOST_HELD: u64 = 16 << 10;
/// What every head begins with.
const BEGINNING: &[u8] = b"HTTP/1.";

/// What an answer may be like, as its request says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Whether only the head was asked for.
    pub head_only: bool,
    /// Whether another protocol may follow.
    pub upgrade: bool,
}

/// The head of an answer.
pub(super) struct Head {
    /// The status and the headers that are not only for this connection.
    pub response: Parts,
    /// Where the body ends.
    pub framing: Framing,
    /// The announced length, also of a body that does not follow.
    pub announced: Option<u64>,
    /// Whether the connection may be used again after the body.
    pub reusable: bool,
    /// For how many seconds the backend keeps the connection then, if it says so.
    pub kept_for: Option<u64>,
}

/// What the fields of a head say about its body and its connection.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    encoded: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    kept_for: Option<u64>,
    named: Named,
}

/// Finds the end of heads that arrive bit by bit.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    end: HeadEnd,
}

impl Decoder {
    /// Takes the head of the final answer off `input`, once it is there whole; informational answers are skipped.
    pub(super) fn decode(&mut self, input: &mut BytesMut, expected: Expected) -> Result<Option<Head>, &'static str> {
        loop {
            let begun = BEGINNING.len().min(input.len());
            if input[..begun] != BEGINNING[..begun] {
                return Err("it is not HTTP/1.1");
            }
            let Some(length) = self.end.find(input).filter(|length| *length <= MAX_HEAD) else {
                return if input.len() > MAX_HEAD { Err("its head is longer than 128 KiB") } else { Ok(None) };
            };
            if let Some(head) = parse(&input.split_to(length).freeze(), expected)? {
                return Ok(Some(head));
            }
        }
    }
}

/// Parses a whole head; `None` is an informational one.
fn parse(bytes: &Bytes, expected: Expected) -> Result<Option<Head>, &'static str> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    match outcome {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err("its head has more than 256 fields"),
        Ok(httparse::Status::Partial) | Err(_) => return Err("its head is not well-formed"),
    }
    let (Some(code), Some(version)) = (parsed.code, parsed.version) else { return Err("its head has no status") };
    let status = StatusCode::from_u16(code).map_err(|_| "its status is none")?;
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    if status.is_informational() && !switches {
        return Ok(None);
    }
    if switches && !expected.upgrade {
        return Err("it changes to a protocol that was not asked for");
    }
    let facts = Fields::read(parsed.headers)?;
    let (mut response, ()) = Response::new(()).into_parts();
    response.status = status;
    response.headers.reserve(parsed.headers.len().max(USUAL_FIELDS));
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "a header has no valid name")?;
        let is_for_client = match name {
            header::CONTENT_LENGTH => status == StatusCode::NOT_MODIFIED,
            header::UPGRADE => switches,
            _ => facts.named.passes(&name),
        };
        if is_for_client {
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
            response.headers.append(name, value.map_err(|_| "a header has no valid value")?);
        }
    }
    let framing = facts.framing(status, version, expected)?;
    let reusable = facts.is_reusable(version) && !framing.ends_with_connection();
    Ok(Some(Head { response, framing, announced: facts.length, reusable, kept_for: facts.kept_for }))
}

impl Fields {
    fn read(fields: &[httparse::Header<'_>]) -> Result<Self, &'static str> {
        let mut facts = Self::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let length = length_of(field.value).ok_or("its length is none")?;
                if facts.length.replace(length).is_some_and(|earlier| earlier != length) {
                    return Err("it has two lengths");
                }
            } else if is("transfer-encoding") {
                // Chunked must be the last encoding, and no other was asked for.
                if facts.encoded || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("its transfer encoding is unknown");
                }
                (facts.encoded, facts.chunked) = (true, true);
            } else if is("keep-alive") {
                facts.kept_for = timeout(field.value).or(facts.kept_for);
            } else if is("connection") {
                facts.named.read(field.value);
                for option in options(field.value) {
                    facts.close |= option.eq_ignore_ascii_case(b"close");
                    facts.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        Ok(facts)
    }

    fn framing(&self, status: StatusCode, version: u8, expected: Expected) -> Result<Framing, &'static str> {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Framing::UntilClose);
        }
        if self.encoded && (self.length.is_some() || version == 0) {
            return Err("its length and its transfer encoding contradict each other");
        }
        let has_no_body = expected.head_only || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match self.length {
            _ if has_no_body => Framing::Ended,
            _ if self.chunked => Framing::chunked(MOST_HELD),
            Some(0) => Framing::Ended,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }

    fn is_reusable(&self, version: u8) -> bool {
        !self.close && (version == 1 || self.keep_alive)
    }
}

/// Finds the time in `Keep-Alive` (RFC 2068, section 19.7.1.1), which many servers send and no later standard has.
fn timeout(value: &[u8]) -> Option<u64> {
    let parameters = str::from_utf8(value).ok()?.split(',').filter_map(|parameter| parameter.split_once('='));
    let mut timeouts = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
    timeouts.next()?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests;
