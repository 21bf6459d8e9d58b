//! Puts together what an endpoint picker says of one request.
//!
//! Source: Inference Extension, endpoint picker protocol 1.0, and Envoy's `ext_proc`, mode `FULL_DUPLEX_STREAMED`. A
//! picker says where the request goes in a header, in metadata, or in both. It streams the body back as it is to be
//! sent; there are pickers that answer each piece with what becomes of it instead, and both are taken.

use bytes::{Bytes, BytesMut};

use super::edits;
use super::fault::Fault;
use super::messages::{
    BodyMutation, CommonResponse, HeaderMutation, ImmediateResponse, ProcessingResponse, Replacement, Said, text_in,
};

/// The name of the header, and of the key in metadata, that says where a request goes.
pub(crate) const DESTINATION: &str = "x-gateway-destination-endpoint";
/// The name of the metadata that is for choosing endpoints.
pub(crate) const NAMESPACE: &str = "envoy.lb";
/// The status that replaces a body.
const CONTINUE_AND_REPLACE: i32 = 1;

/// What a picker has decided.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The request goes on.
    Forward(Decision),
    /// The picker answers it.
    Answer(ImmediateResponse),
}

/// How a request goes on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// Where to, in order of preference: a list of `ip:port`.
    pub destination: String,
    /// Changes of its headers, in order.
    pub edits: Vec<HeaderMutation>,
    /// Its body, where that changes.
    pub body: Option<Bytes>,
}

/// What a picker has said so far.
pub(crate) struct Gathering {
    /// The pieces of the body as the picker gets them.
    sent: Vec<Bytes>,
    /// How many of them it has answered.
    answered: usize,
    /// The pieces of the body as it is after the picker.
    pieces: Vec<Bytes>,
    /// How many more bytes they may have together.
    room: usize,
    changed: bool,
    streamed: bool,
    headers_done: bool,
    body_done: bool,
    from_metadata: Option<String>,
    from_header: Option<String>,
    edits: Vec<HeaderMutation>,
}

impl Gathering {
    /// Begins with the pieces of the body that the picker gets; it may make at most `limit` bytes of them.
    pub(crate) fn new(sent: Vec<Bytes>, limit: usize) -> Self {
        Self {
            body_done: sent.is_empty(),
            sent,
            answered: 0,
            pieces: Vec::new(),
            room: limit,
            changed: false,
            streamed: false,
            headers_done: false,
            from_metadata: None,
            from_header: None,
            edits: Vec::new(),
        }
    }

    /// Takes in what the picker says, and returns its verdict once it is known.
    pub(crate) fn take(&mut self, response: ProcessingResponse) -> Result<Option<Verdict>, Fault> {
        if let Some(metadata) = &response.dynamic_metadata
            && let Some(destination) = text_in(metadata, NAMESPACE, DESTINATION)
        {
            self.from_metadata = Some(destination.to_owned());
        }
        match response.said {
            Some(Said::Immediate(answer)) => return Ok(Some(Verdict::Answer(answer))),
            Some(Said::RequestHeaders(_)) if self.headers_done => {
                return Err(Fault::Nonsense("it speaks of the headers twice"));
            }
            Some(Said::RequestHeaders(part)) => self.take_headers(part.response.unwrap_or_default()),
            Some(Said::RequestBody(part)) => self.take_body(part.response.unwrap_or_default())?,
            Some(Said::ResponseHeaders(_)) => return Err(Fault::Nonsense("it speaks of an answer that is not there")),
            // A message of a kind that is not known, or that only asks for patience.
            None => {}
        }
        if self.headers_done && self.body_done { self.decision().map(Some) } else { Ok(None) }
    }

    /// Takes it that the picker has ended the exchange in good order, after which the request goes on as it is.
    pub(crate) fn end(&mut self) -> Result<Verdict, Fault> {
        if !self.headers_done || self.streamed {
            return Err(Fault::Broken("it ended the exchange early".to_owned()));
        }
        self.pieces.extend(self.sent.drain(self.answered..));
        self.decision()
    }

    fn take_headers(&mut self, response: CommonResponse) {
        self.headers_done = true;
        if response.status == CONTINUE_AND_REPLACE {
            self.body_done = true;
            self.changed = true;
            self.pieces = match response.body_mutation.and_then(|mutation| mutation.replacement) {
                Some(Replacement::Body(bytes)) => vec![bytes],
                Some(Replacement::Streamed(body)) => vec![body.body],
                Some(Replacement::Clear(_)) | None => Vec::new(),
            };
        }
        self.take_edits(response.header_mutation);
    }

    fn take_body(&mut self, response: CommonResponse) -> Result<(), Fault> {
        if self.body_done {
            // What a picker says of a body that is settled changes nothing.
            return Ok(());
        }
        let replacement = response.body_mutation.and_then(|BodyMutation { replacement }| replacement);
        if let Some(Replacement::Streamed(body)) = replacement {
            if self.answered > 0 {
                return Err(Fault::Nonsense("it streams a body of which it has answered pieces"));
            }
            self.streamed = true;
            self.changed = true;
            self.body_done = body.end_of_stream;
            self.push(body.body)?;
        } else {
            let piece = self.sent.get(self.answered).filter(|_| !self.streamed);
            let piece = piece.ok_or(Fault::Nonsense("it answers pieces of the body that are not there"))?.clone();
            self.answered += 1;
            self.body_done = self.answered == self.sent.len();
            self.changed |= replacement.is_some();
            match replacement {
                Some(Replacement::Body(bytes)) => self.push(bytes)?,
                Some(Replacement::Clear(true)) => {}
                Some(Replacement::Clear(false) | Replacement::Streamed(_)) | None => self.push(piece)?,
            }
        }
        self.take_edits(response.header_mutation);
        Ok(())
    }

    fn push(&mut self, piece: Bytes) -> Result<(), Fault> {
        self.room = self.room.checked_sub(piece.len()).ok_or(Fault::Nonsense("it makes the body too large"))?;
        self.pieces.push(piece);
        Ok(())
    }

    fn take_edits(&mut self, mutation: Option<HeaderMutation>) {
        let Some(mutation) = mutation else { return };
        if let Some(destination) = edits::value_of(&mutation, DESTINATION) {
            self.from_header = Some(destination.to_owned());
        }
        self.edits.push(mutation);
    }

    fn decision(&mut self) -> Result<Verdict, Fault> {
        let named = [self.from_metadata.take(), self.from_header.take()];
        let destination = named.into_iter().flatten().find(|list| !list.trim().is_empty());
        Ok(Verdict::Forward(Decision {
            destination: destination.ok_or(Fault::NoEndpoint)?,
            edits: std::mem::take(&mut self.edits),
            body: self.changed.then(|| self.body()),
        }))
    }

    fn body(&mut self) -> Bytes {
        match self.pieces.as_slice() {
            [whole] => whole.clone(),
            pieces => {
                let mut body = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                pieces.iter().for_each(|piece| body.extend_from_slice(piece));
                body.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests;
