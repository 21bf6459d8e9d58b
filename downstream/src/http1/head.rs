//! Reads the head of a request.
//!
//! Source: RFC 9112, sections 3, 6 and 9.3; RFC 9110, sections 7.8 and 10.1.1. What a head says of the body is read here, and
//! judged by [`crate::head`], which knows both versions.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Uri, Version};
use kthena_router_wire::length_of;

use crate::service::Refusal;

/// The most fields that a head may have, whatever the limits say: so many have room on the stack.
const MOST_FIELDS: usize = 128;
/// The longest target that can be read, in bytes.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;
/// Fields for which there is room beside those that have come: what a proxy adds.
const MORE_FIELDS: usize = 4;

/// The head of a request.
pub(super) struct Head {
    /// What the service sees of it.
    pub parts: Parts,
    /// How its answer is framed.
    pub shape: Shape,
    /// The length of the body; `None` for one in chunks.
    pub length: Option<u64>,
    /// Whether the client waits for leave to send the body.
    pub expects_continue: bool,
    /// Whether the client offers to change the protocol.
    pub offers_protocol: bool,
}

/// What the framing of an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whether only the head of the answer is asked for.
    pub head_only: bool,
    /// Whether the client speaks HTTP/1.0.
    pub is_old: bool,
    /// Whether the client wants the connection to be kept.
    pub keeps: bool,
}

/// What the fields of a head say about its body and its connection.
#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    is_coded: bool,
    closes: bool,
    keeps: bool,
    expects_continue: bool,
    offers_protocol: bool,
}

impl Shape {
    /// The shape of an answer to what is not understood: nothing follows it.
    pub(super) const LAST: Self = Self { head_only: false, is_old: false, keeps: false };
}

/// Parses a whole head, with the empty line at its end.
pub(super) fn parse(bytes: &Bytes) -> Result<Head, Refusal> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Ok(_) | Err(_) => return Err(Refusal::Syntax),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::Syntax);
    };
    if target.len() > LONGEST_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Syntax)?;
    parts.uri = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).map_err(|_| Refusal::Syntax)?;
    let is_old = minor == 0;
    parts.version = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    let said = Fields::read(bytes, parsed.headers, &mut parts.headers)?;
    let keeps = if is_old { said.keeps && !said.closes } else { !said.closes };
    Ok(Head {
        shape: Shape { head_only: parts.method == Method::HEAD, is_old, keeps },
        length: if said.is_coded { None } else { said.length.or(Some(0)) },
        expects_continue: !is_old && said.expects_continue,
        offers_protocol: !is_old && said.offers_protocol,
        parts,
    })
}

impl Fields {
    /// Reads fields into `headers`.
    fn read(bytes: &Bytes, fields: &[httparse::Header<'_>], headers: &mut HeaderMap) -> Result<Self, Refusal> {
        let mut said = Self::default();
        headers.reserve(fields.len() + MORE_FIELDS);
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::Syntax)?;
            said.note(&name, field.value)?;
            if name == CONTENT_LENGTH && headers.contains_key(CONTENT_LENGTH) {
                // It is the same, and is passed on once (RFC 9110, section 8.6).
                continue;
            }
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| Refusal::Syntax)?;
            headers.append(name, value);
        }
        Ok(said)
    }

    /// Notes what a field says. A length that is given several times must be the same.
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Refusal> {
        match *name {
            CONTENT_LENGTH => {
                let length = length_of(value).ok_or(Refusal::Syntax)?;
                if self.length.replace(length).is_some_and(|earlier| earlier != length) {
                    return Err(Refusal::Syntax);
                }
            }
            TRANSFER_ENCODING => self.is_coded = true,
            CONNECTION => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.closes |= option.eq_ignore_ascii_case(b"close");
                    self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            EXPECT => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            UPGRADE => self.offers_protocol = true,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Result<Head, Refusal> {
        parse(&Bytes::copy_from_slice(head.as_bytes()))
    }

    #[test]
    fn the_shape_of_an_answer_is_what_its_request_says() {
        let shape = |head_only, is_old, keeps| Shape { head_only, is_old, keeps };
        for (head, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", shape(false, false, true)),
            ("HEAD / HTTP/1.1\r\nx: y\r\n\r\n", shape(true, false, true)),
            ("GET / HTTP/1.1\r\nconnection: te , Close\r\n\r\n", shape(false, false, false)),
            ("GET / HTTP/1.1\r\nconnection: te\r\nConnection: close\r\n\r\n", shape(false, false, false)),
            ("GET / HTTP/1.1\r\nconnection: closed\r\n\r\n", shape(false, false, true)),
            ("GET / HTTP/1.0\r\n\r\n", shape(false, true, false)),
            ("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", shape(false, true, true)),
            ("GET / HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n", shape(false, true, false)),
        ] {
            assert_eq!(parsed(head).unwrap().shape, expected, "{head}");
        }
    }

    #[test]
    fn a_head_says_where_its_body_ends() {
        for (fields, expected) in [
            ("", Ok(Some(0))),
            ("content-length: 7\r\n", Ok(Some(7))),
            ("content-length: 7\r\ncontent-length: 07\r\n", Ok(Some(7))),
            ("content-length: 7\r\ncontent-length: 8\r\n", Err(Refusal::Syntax)),
            ("content-length: 7, 7\r\n", Err(Refusal::Syntax)),
            ("content-length: +7\r\n", Err(Refusal::Syntax)),
            ("content-length:\r\n", Err(Refusal::Syntax)),
            ("content-length: 18446744073709551616\r\n", Err(Refusal::Syntax)),
            ("transfer-encoding: chunked\r\n", Ok(None)),
        ] {
            let found = parsed(&format!("POST / HTTP/1.1\r\n{fields}\r\n")).map(|head| head.length);
            assert_eq!(found, expected, "{fields}");
        }
    }

    #[test]
    fn a_length_is_passed_on_once() {
        let head = parsed("POST / HTTP/1.1\r\ncontent-length: 7\r\na: b\r\ncontent-length: 07\r\n\r\n").unwrap();
        assert_eq!(head.parts.headers.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["7"]);
    }

    #[test]
    fn a_head_that_cannot_be_read_in_one_way_only_is_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MOST_FIELDS + 1));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(LONGEST_TARGET));
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nhost : x\r\n\r\n", Refusal::Syntax),
            ("GET / HTTP/1.1\r\n host: x\r\n\r\n", Refusal::Syntax),
            ("GET / HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n", Refusal::Syntax),
            ("GET / HTTP/1.1\r\nh\0st: x\r\n\r\n", Refusal::Syntax),
            ("GET / HTTP/1.1\r\nhost: \0\r\n\r\n", Refusal::Syntax),
            ("GET / HTTP/1.1\r\nhost\r\n\r\n", Refusal::Syntax),
            ("GET  / HTTP/1.1\r\n\r\n", Refusal::Syntax),
            ("GET / HTTP/1.1 \r\n\r\n", Refusal::Syntax),
            ("GET / HTTP/1.2\r\n\r\n", Refusal::Syntax),
            ("GET /\r\n\r\n", Refusal::Syntax),
            ("G@T / HTTP/1.1\r\n\r\n", Refusal::Syntax),
            (&many, Refusal::HeadTooLarge),
            (&long, Refusal::TargetTooLong),
        ] {
            assert_eq!(parsed(head).err(), Some(expected), "{head:.60}");
        }
    }

    #[test]
    fn leave_to_send_and_another_protocol_are_things_of_http_1_1() {
        let fields = "expect: 100-Continue\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        for (version, expected) in [("1.1", true), ("1.0", false)] {
            let head = parsed(&format!("GET / HTTP/{version}\r\n{fields}")).unwrap();
            assert_eq!((head.expects_continue, head.offers_protocol), (expected, expected), "{version}");
        }
    }
}
