//! Writes an answer.
//!
//! Source: RFC 9112, sections 6 and 9; RFC 9110, sections 6.4.1, 6.6.1 and 8.6.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::Body;
use kthena_router_wire::LAST_CHUNK;

use super::head::Shape;
use super::output::Output;
use crate::answers::{has_no_body, with_date};
use crate::service::BoxError;

/// How the body of an answer is framed, and what of it is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Nothing follows.
    Ended,
    /// So many bytes follow, at least one.
    Length(u64),
    /// Chunks follow.
    Chunks,
    /// All that follows until the connection ends.
    UntilClose,
}

/// How much of an answer is in the output.
pub(super) enum Filled {
    /// All of it.
    All,
    /// As much as there is room for.
    Full,
    /// As much as there is.
    Waiting,
    /// What there was before it broke off, for the reason that the answer has.
    Broken,
}

/// An answer that is being sent.
pub(super) struct Answer<B> {
    /// The body; `None` once all of it is in the output.
    body: Option<B>,
    framing: Framing,
    /// Why it broke off. The body is not asked again, which would seem to have ended.
    pub failure: Option<BoxError>,
    /// Whether nothing may follow it on its connection.
    pub is_last: bool,
    /// Whether it changes the protocol.
    pub switches: bool,
}

impl<B> Answer<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// Begins an answer: writes its head. `is_last` says that nothing may follow it, whatever it says itself.
    pub(super) fn begin(response: Response<B>, shape: Shape, is_last: bool, output: &mut Output) -> Self {
        let (head, body) = response.into_parts();
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let length = body.size_hint().exact();
        let framing = framing(head.status, length, shape);
        // Who hears of an interim answer waits for another one, which does not come.
        let is_interim = head.status.is_informational() && !switches;
        let is_last = is_last || is_interim || !shape.keeps;
        let closes = is_last || says_close(&head.headers) || framing == Framing::UntilClose;
        write_head(output.buffer(), &head, (framing, length), shape, closes && !switches);
        let body = Some(body).filter(|_| framing != Framing::Ended);
        Self { body, framing, failure: None, is_last: closes, switches }
    }

    /// Brings what is there of the body into the output.
    pub(super) fn fill(&mut self, output: &mut Output, context: &mut Context<'_>) -> Filled {
        while let Some(body) = &mut self.body {
            if output.is_full() {
                return Filled::Full;
            }
            match Pin::new(body).poll_frame(context) {
                Poll::Pending => return Filled::Waiting,
                Poll::Ready(Some(Err(error))) => {
                    self.body = None;
                    self.failure = Some(error.into());
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not passed on.
                    if let Ok(piece) = frame.into_data()
                        && !piece.is_empty()
                    {
                        self.add(piece, output, context);
                    }
                }
                Poll::Ready(None) => {
                    self.body = None;
                    match self.framing {
                        Framing::Chunks => output.buffer().extend_from_slice(LAST_CHUNK),
                        Framing::Length(_) => self.failure = Some("it is shorter than it was said to be".into()),
                        Framing::Ended | Framing::UntilClose => {}
                    }
                }
            }
        }
        if self.failure.is_some() { Filled::Broken } else { Filled::All }
    }

    /// Adds a piece of the body to the output, and no more of it than belongs to the answer.
    fn add(&mut self, mut piece: Bytes, output: &mut Output, context: &mut Context<'_>) {
        match &mut self.framing {
            Framing::Chunks => output.add_chunk(piece),
            Framing::UntilClose | Framing::Ended => output.add(piece),
            Framing::Length(left) => {
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= piece.len() as u64;
                output.add(piece);
                if *left == 0 {
                    self.framing = Framing::Ended;
                    // The body learns here that it was passed on whole.
                    if let Some(mut body) = self.body.take() {
                        drop(Pin::new(&mut body).poll_frame(context));
                    }
                }
            }
        }
    }
}

/// Decides how the body is framed.
fn framing(status: StatusCode, length: Option<u64>, shape: Shape) -> Framing {
    match length {
        _ if shape.head_only || has_no_body(status) => Framing::Ended,
        Some(0) => Framing::Ended,
        Some(length) => Framing::Length(length),
        None if shape.is_old => Framing::UntilClose,
        None => Framing::Chunks,
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    let options = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// Writes a head. The server says what concerns the framing and the connection, but for what an answer without a body says
/// of the one that it does not have.
fn write_head(
    output: &mut Vec<u8>,
    head: &Parts,
    (framing, length): (Framing, Option<u64>),
    shape: Shape,
    closes: bool,
) {
    let status = head.status;
    output.extend_from_slice(if shape.is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    output.extend_from_slice(status.as_str().as_bytes());
    output.push(b' ');
    output.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    output.extend_from_slice(b"\r\n");
    // An answer without a body may say how long it would be.
    let tells_length = framing == Framing::Ended && (shape.head_only || status == StatusCode::NOT_MODIFIED);
    for (name, value) in &head.headers {
        let is_passed = match *name {
            TRANSFER_ENCODING => false,
            CONTENT_LENGTH => tells_length,
            CONNECTION => !closes,
            _ => true,
        };
        if is_passed {
            write_field(output, name.as_str(), value.as_bytes());
        }
    }
    match (framing, length) {
        (Framing::Chunks, _) => write_field(output, TRANSFER_ENCODING.as_str(), b"chunked"),
        (Framing::Length(length), _) => write_length(output, length),
        (Framing::Ended, Some(0)) if !has_no_body(status) && !shape.head_only => write_length(output, 0),
        (Framing::Ended, Some(length @ 1..)) if tells_length && !head.headers.contains_key(CONTENT_LENGTH) => {
            write_length(output, length);
        }
        (Framing::Ended | Framing::UntilClose, _) => {}
    }
    if closes {
        write_field(output, CONNECTION.as_str(), b"close");
    } else if shape.is_old {
        write_field(output, CONNECTION.as_str(), b"keep-alive");
    }
    if !head.headers.contains_key(DATE) {
        with_date(|now| write_field(output, DATE.as_str(), now.as_bytes()));
    }
    output.extend_from_slice(b"\r\n");
}

fn write_field(output: &mut Vec<u8>, name: &str, value: &[u8]) {
    output.reserve(name.len() + value.len() + 4);
    output.extend_from_slice(name.as_bytes());
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

fn write_length(output: &mut Vec<u8>, length: u64) {
    write_field(output, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const NEW: Shape = Shape { head_only: false, is_old: false, keeps: true };
    const HEAD: Shape = Shape { head_only: true, ..NEW };
    const OLD: Shape = Shape { is_old: true, ..NEW };

    type Unknown = StreamBody<futures::stream::Empty<Result<http_body::Frame<Bytes>, BoxError>>>;

    /// Writes an answer; returns its text, and whether it is the last.
    fn written<B>(response: Response<B>, shape: Shape, is_last: bool) -> (String, bool)
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        let mut output = Output::default();
        let mut answer = Answer::begin(response, shape, is_last, &mut output);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(answer.fill(&mut output, &mut context), Filled::All));
        (String::from_utf8(output.buffer().clone()).unwrap(), answer.is_last)
    }

    fn response<B>(status: u16, fields: &[(&'static str, &'static str)], body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields.iter().chain(&[("date", "now")]) {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }

    /// Writes an answer with a body of a known length.
    fn known(status: u16, fields: &[(&'static str, &'static str)], body: &'static str, shape: Shape) -> (String, bool) {
        written(response(status, fields, Full::new(Bytes::from_static(body.as_bytes()))), shape, false)
    }

    /// Writes an answer with an empty body whose length is not known.
    fn unknown(fields: &[(&'static str, &'static str)], shape: Shape) -> (String, bool) {
        written(response(200, fields, Unknown::new(futures::stream::empty())), shape, false)
    }

    #[test]
    fn the_server_says_how_an_answer_is_framed() {
        let others = [("content-length", "9"), ("transfer-encoding", "gzip")];
        for (case, (text, is_last), expected) in [
            ("a length", known(200, &[], "abc", NEW), "200 OK\r\ndate: now\r\ncontent-length: 3\r\n\r\nabc"),
            ("nothing", known(200, &[], "", NEW), "200 OK\r\ndate: now\r\ncontent-length: 0\r\n\r\n"),
            ("chunks", unknown(&[], NEW), "200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("others' words", known(200, &others, "abc", NEW), "200 OK\r\ndate: now\r\ncontent-length: 3\r\n\r\nabc"),
            ("a status without a name", known(299, &[], "", NEW), "299 \r\ndate: now\r\ncontent-length: 0\r\n\r\n"),
            ("no content", known(204, &others, "", NEW), "204 No Content\r\ndate: now\r\n\r\n"),
            (
                "not modified",
                known(304, &others, "", NEW),
                "304 Not Modified\r\ncontent-length: 9\r\ndate: now\r\n\r\n",
            ),
            ("head", known(200, &[], "abc", HEAD), "200 OK\r\ndate: now\r\ncontent-length: 3\r\n\r\n"),
            ("head with a length", unknown(&others, HEAD), "200 OK\r\ncontent-length: 9\r\ndate: now\r\n\r\n"),
            ("head of chunks", unknown(&[], HEAD), "200 OK\r\ndate: now\r\n\r\n"),
            (
                "another protocol",
                known(101, &[("connection", "upgrade"), ("upgrade", "x")], "", NEW),
                "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\ndate: now\r\n\r\n",
            ),
        ] {
            assert_eq!(text, format!("HTTP/1.1 {expected}"), "{case}");
            assert!(!is_last, "{case}");
        }
    }

    #[test]
    fn an_answer_says_whether_it_is_the_last() {
        let closing = Shape { keeps: false, ..NEW };
        for (case, (text, is_last), expected, expected_last) in [
            ("the client closes", known(200, &[], "", closing), "HTTP/1.1 200 OK|connection: close", true),
            (
                "the service closes",
                known(200, &[("connection", "x, Close")], "", NEW),
                "HTTP/1.1 200 OK|connection: close",
                true,
            ),
            ("an old client", known(200, &[], "abc", OLD), "HTTP/1.0 200 OK|connection: keep-alive", false),
            ("an old client and no length", unknown(&[], OLD), "HTTP/1.0 200 OK|connection: close", true),
            ("an interim answer", known(102, &[], "", NEW), "HTTP/1.1 102 Processing|connection: close", true),
        ] {
            let said = text.lines().filter(|line| line.starts_with("HTTP/1.") || line.starts_with("connection:"));
            assert_eq!(said.collect::<Vec<_>>().join("|"), expected, "{case}");
            assert_eq!(is_last, expected_last, "{case}");
        }
    }

    #[test]
    fn an_answer_without_a_date_gets_one() {
        let mut response = response(200, &[], Full::new(Bytes::new()));
        response.headers_mut().remove(DATE);
        let (text, _) = written(response, NEW, false);
        let date = text.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
        assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    }

    #[test]
    fn a_body_that_is_not_as_long_as_it_said_is_cut_or_broken_off() {
        struct Liar(Option<Bytes>);
        impl Body for Liar {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
                Poll::Ready(self.0.take().map(|piece| Ok(http_body::Frame::data(piece))))
            }
            fn size_hint(&self) -> http_body::SizeHint {
                http_body::SizeHint::with_exact(3)
            }
        }
        let (text, _) = written(response(200, &[], Liar(Some("abcdef".into()))), NEW, false);
        assert!(text.ends_with("\r\n\r\nabc"), "{text}");
        let mut output = Output::default();
        let mut answer = Answer::begin(response(200, &[], Liar(Some("ab".into()))), NEW, false, &mut output);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(answer.fill(&mut output, &mut context), Filled::Broken));
    }
}
