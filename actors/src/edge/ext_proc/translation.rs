//! What an endpoint picker is shown of messages, and what its own answer is as one.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue as FieldValue};
use http::{HeaderMap, Response, StatusCode};

use super::edits::apply;
use super::fault::Fault;
use super::messages::{HeaderValue, ImmediateResponse};

/// Returns the headers of a message, after those that stand for its first line.
pub(crate) fn headers(first_line: &[(&str, &str)], headers: &HeaderMap) -> Vec<HeaderValue> {
    let first = first_line.iter().map(|(name, value)| HeaderValue::new(name, value.as_bytes()));
    first.chain(headers.iter().map(|(name, value)| HeaderValue::new(name.as_str(), value.as_bytes()))).collect()
}

/// Makes the picker's own answer.
pub(crate) fn response(answer: ImmediateResponse) -> Result<Response<Bytes>, Fault> {
    let code =
        answer.status.and_then(|status| u16::try_from(status.code).ok()).filter(|code| (200..600).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut response = Response::new(answer.body);
    *response.status_mut() = status.ok_or(Fault::Nonsense("it answers with what is no status"))?;
    if !response.body().is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, FieldValue::from_static("text/plain"));
    }
    if let Some(edits) = &answer.headers {
        apply(edits, response.headers_mut());
    }
    Ok(response)
}
