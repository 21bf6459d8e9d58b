//! How an answer leaves the engine: token by token, at the configured pace, or broken on purpose.

use std::sync::Arc;

use actix_web::{
    body::{MessageBody, SizedStream},
    web::Bytes,
};
use futures::{Stream, StreamExt, stream};
use thiserror::Error;

use super::events::{Part, Transcript};
use crate::{
    admission::{Slot, Visit},
    connection::Connection,
    faults::Breakage,
};

/// Ends a body; the server then drops the connection.
#[derive(Debug, Error)]
#[error("simulated reset")]
pub(crate) struct SimulatedReset;

/// A break after a number of chunks.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Chunks that are still sent.
    pub after: u64,
    /// What happens then.
    pub breakage: Breakage,
    /// The connection to reset, when it could be kept.
    pub connection: Option<Connection>,
}

impl Cut {
    /// Breaks the answer. What was written before is sent first.
    async fn strike(self, visit: &mut Visit) -> SimulatedReset {
        if self.breakage == Breakage::Hang {
            std::future::pending::<()>().await;
        }
        visit.finish();
        tokio::task::yield_now().await;
        if let Some(connection) = self.connection {
            // Without it, the connection ends all the same, only in order.
            connection.reset_on_close().ok();
        }
        SimulatedReset
    }
}

/// A streamed answer on its way.
#[derive(Debug)]
pub(crate) struct TokenStream {
    /// From admission to the last token. Given back before the visit ends.
    slot: Option<Slot>,
    visit: Visit,
    transcript: Transcript,
    cut: Option<Cut>,
    /// Nothing at the end.
    next: Option<Part>,
    sent: u64,
}

impl TokenStream {
    /// Prepares the stream of a request that is not admitted yet.
    pub(crate) fn new(visit: Visit, transcript: Transcript, cut: Option<Cut>) -> Self {
        Self { slot: None, visit, next: Some(transcript.first()), transcript, cut, sent: 0 }
    }

    /// Returns the chunks as they come.
    pub(crate) fn into_chunks(self) -> impl Stream<Item = Result<Bytes, SimulatedReset>> {
        stream::unfold(self, |mut answer| async move {
            let chunk = answer.next_chunk().await?;
            Some((chunk, answer))
        })
    }

    async fn next_chunk(&mut self) -> Option<Result<Bytes, SimulatedReset>> {
        if let Some(cut) = self.cut.take_if(|cut| cut.after == self.sent) {
            return Some(Err(cut.strike(&mut self.visit).await));
        }
        let part = self.next?;
        if self.sent == 0 {
            let answer = &self.transcript.answer;
            let model = Arc::clone(&answer.model);
            let mut slot = self.visit.admit(model, answer.prompt_tokens).await;
            slot.first_token(&self.visit, self.transcript.answer.prefilled).await;
            self.slot = Some(slot);
        } else if let (Part::Token(1..), Some(slot)) = (part, &mut self.slot) {
            slot.next_token().await;
        }
        if part == Part::Closing {
            self.slot = None;
        }
        self.sent += 1;
        self.next = self.transcript.following(part);
        if self.next.is_none() {
            self.visit.finish();
        }
        Some(Ok(self.transcript.render(part)))
    }
}

/// Returns a body that breaks before it begins.
pub(crate) fn no_body() -> impl MessageBody<Error = SimulatedReset> {
    SizedStream::new(1, stream::iter([Err(SimulatedReset)]))
}

/// Returns a whole answer that breaks in its middle.
pub(crate) fn broken_body(
    body: &Bytes,
    cut: Cut,
    mut visit: Visit,
    slot: Slot,
) -> impl MessageBody<Error = SimulatedReset> + use<> {
    let half = body.slice(..body.len() / 2);
    let rest = async move {
        let reset = cut.strike(&mut visit).await;
        drop(slot);
        Err(reset)
    };
    let parts = stream::iter([Ok(half)]).chain(stream::once(rest));
    SizedStream::new(body.len() as u64, parts)
}
