//! Finds the engine that has the response which a request is about: one that is asked for by its id, or gone on from.
//!
//! Responses are kept by the engine that has made them. Which one that is was noted when its answer passed here; of an id that
//! passed elsewhere, through another replica or before a restart, the engines are asked that the request may go to, several at
//! once, and what they say is noted. A response whose engine is gone is gone as well: the client is told so, in the engine's
//! words, because an answer without what went before would look as good as any.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap};
use kthena_router::pool::policy::PoolIndex;
use kthena_router::pool::response_holders::{Mark, ResponseHolders};
use kthena_router::routing::decision::Destination;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router_upstream::{Ask, Client, Peer};
use tokio::sync::Semaphore;

use crate::edge::backends::Backend;
use crate::edge::errors::Missing;

/// How many engines are asked at once.
const AT_ONCE: usize = 16;
/// How many requests of a thread look for a response at once, and how many more wait until they may. Anybody can ask for ids
/// that nobody has, and each of them is a question to all engines.
const LOOKUPS: usize = 4;
const LOOKUPS_WAITING: usize = 64;
/// How long an engine may take to say whether it has a response.
const PATIENCE: Duration = Duration::from_secs(5);

/// The endpoint that has a response.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Holder {
    /// Its pool.
    pub pool: PoolIndex,
    /// Where it is.
    pub endpoint: SocketAddr,
}

/// The turns of one thread's requests that look for a response.
pub(in crate::edge) struct Lookups {
    holders: Arc<ResponseHolders>,
    active: Semaphore,
    all: Semaphore,
}

/// What an engine says of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Has,
    HasNot,
    Nothing,
}

impl Lookups {
    /// Makes the turns of a thread, with what all threads note of responses.
    pub(in crate::edge) fn new(holders: Arc<ResponseHolders>) -> Self {
        Self { holders, active: Semaphore::new(LOOKUPS), all: Semaphore::new(LOOKUPS + LOOKUPS_WAITING) }
    }

    /// Returns who has a response; if that is not known, these engines are asked with the headers of the request.
    ///
    /// # Errors
    ///
    /// Returns why none is known to have it.
    pub(in crate::edge) async fn find(
        &self,
        id: &str,
        engines: &[(Destination, Backend)],
        asking: (&Client, &HeaderMap),
    ) -> Result<Holder, Missing> {
        if let Some(known) = self.known(id, engines) {
            return known;
        }
        if engines.is_empty() {
            return Err(Missing::Unknown);
        }
        let Ok(_place) = self.all.try_acquire() else { return Err(Missing::Crowded) };
        let Ok(_turn) = self.active.acquire().await else { return Err(Missing::Crowded) };
        // Somebody may have found it meanwhile.
        match self.known(id, engines) {
            Some(known) => known,
            None => self.seek(id, engines, asking).await,
        }
    }

    /// Returns who has a response of which it was noted, if it is still there.
    fn known(&self, id: &str, engines: &[(Destination, Backend)]) -> Option<Result<Holder, Missing>> {
        self.holders.find(id).map(|mark| noted(engines, mark).ok_or(Missing::Gone))
    }

    /// Asks the engines which of them has a response.
    async fn seek(
        &self,
        id: &str,
        engines: &[(Destination, Backend)],
        (client, headers): (&Client, &HeaderMap),
    ) -> Result<Holder, Missing> {
        let asked = engines.iter().flat_map(|(destination, backend)| {
            let view = backend.pool.view();
            let members = view.members.iter().map(|member| Arc::clone(&member.endpoint)).collect::<Vec<_>>();
            members.into_iter().map(move |endpoint| (destination.pool, backend, endpoint))
        });
        let answers = asked.map(async |(pool, backend, endpoint)| {
            let word = ask((client, headers), id, backend, &endpoint).await;
            (word, pool, endpoint)
        });
        let mut answers = stream::iter(answers).buffer_unordered(AT_ONCE);
        let mut silent = 0;
        while let Some((word, pool, endpoint)) = answers.next().await {
            match word {
                Word::Has => {
                    self.holders.note(id, Mark::of(&endpoint));
                    return Ok(Holder { pool, endpoint: endpoint.socket() });
                }
                Word::HasNot => {}
                Word::Nothing => silent += 1,
            }
        }
        Err(if silent == 0 { Missing::Unknown } else { Missing::Unsaid(silent) })
    }
}

/// Returns the endpoint with this mark, if it is there.
fn noted(engines: &[(Destination, Backend)], mark: Mark) -> Option<Holder> {
    engines.iter().find_map(|(destination, backend)| {
        let view = backend.pool.view();
        let member = view.members.iter().find(|member| Mark::of(&member.endpoint) == mark)?;
        Some(Holder { pool: destination.pool, endpoint: member.endpoint.socket() })
    })
}

/// Asks one engine whether it has a response. What it answers with is not read.
async fn ask((client, headers): (&Client, &HeaderMap), id: &str, backend: &Backend, endpoint: &Endpoint) -> Word {
    let socket = endpoint.socket();
    let peer = Peer { address: socket, transport: backend.transport.clone() };
    let shown: HeaderMap = headers.get(AUTHORIZATION).map(|value| (AUTHORIZATION, value.clone())).into_iter().collect();
    let (target, host) = (format!("/v1/responses/{id}"), socket.to_string());
    let connect_timeout = backend.policy.limits.connect;
    let mut ask = Ask { connect_timeout, timeout: Some(PATIENCE), ..Ask::get(&target, &host, &shown) };
    match client.send_again(&peer, &mut ask).await.map(|answer| answer.head.status) {
        Ok(status) if status.is_success() => Word::Has,
        // An engine without such a call has no responses.
        Ok(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) => Word::HasNot,
        Ok(_) | Err(_) => Word::Nothing,
    }
}
