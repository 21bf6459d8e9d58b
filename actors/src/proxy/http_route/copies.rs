//! Copies of requests to further backends, whose answers nobody gets.
//!
//! Source: Gateway API, `HTTPRequestMirrorFilter`: whatever becomes of a copy, the request is not concerned. Copies are
//! bounded in number and in bytes, because a backend that does not answer would otherwise fill the memory with them; what
//! is too much is not sent.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use futures::StreamExt;
use tokio::time::timeout;
use tracing::debug;

use super::super::worker::Worker;
use super::Target;
use super::outbound::Outbound;
use crate::scheduler::PickEndpoint;
use crate::upstream::{Ask, Body, Peer};

/// Copies that one worker thread may have under way.
const MOST: usize = 512;
/// The bytes of their bodies.
const MOST_BYTES: usize = 64 << 20;
/// How long a copy and its answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The copies of one worker thread that are under way.
#[derive(Default)]
pub(in super::super) struct Copies(Rc<UnderWay>);

#[derive(Default)]
struct UnderWay {
    copies: Cell<usize>,
    bytes: Cell<usize>,
}

/// One of the copies that may be under way.
struct Place {
    under_way: Rc<UnderWay>,
    bytes: usize,
}

/// A request that outlives the one that it is a copy of.
struct Copy {
    method: Method,
    target: String,
    host: String,
    headers: HeaderMap,
    replaced: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Copies {
    /// Sends a copy of a request whose body is there, if there is room for it; nothing is waited for.
    pub(super) fn send(&self, worker: &Rc<Worker>, target: Target, outbound: &Outbound<'_>) {
        let body = match &outbound.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Empty => Bytes::new(),
            Body::Stream(_) | Body::Gone => return,
        };
        let Some(place) = self.take(body.len()) else {
            debug!(pool = %target.pool.key, "request not mirrored: too many copies are under way");
            return;
        };
        let copy = Copy {
            method: outbound.method.clone(),
            target: outbound.target.to_string(),
            host: outbound.host.to_string(),
            headers: outbound.headers.clone().into_owned(),
            replaced: outbound.replaced.clone(),
            body,
        };
        let worker = Rc::clone(worker);
        actix::spawn(async move {
            let _place = place;
            if timeout(LIMIT, copy.send(&worker, &target)).await.is_err() {
                debug!(pool = %target.pool.key, "copy of a request given up");
            }
        });
    }

    fn take(&self, bytes: usize) -> Option<Place> {
        let under_way = &self.0;
        if under_way.copies.get() >= MOST || under_way.bytes.get() + bytes > MOST_BYTES {
            return None;
        }
        under_way.copies.set(under_way.copies.get() + 1);
        under_way.bytes.set(under_way.bytes.get() + bytes);
        Some(Place { under_way: Rc::clone(under_way), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let UnderWay { copies, bytes } = &*self.under_way;
        copies.set(copies.get().saturating_sub(1));
        bytes.set(bytes.get().saturating_sub(self.bytes));
    }
}

impl Copy {
    /// Sends the copy and reads its answer, so that the connection serves again.
    async fn send(self, worker: &Worker, target: &Target) {
        let ask = || PickEndpoint { pool: Arc::clone(&target.pool), facts: None, tried: Vec::new() };
        let Ok(Ok(lease)) = worker.pick(ask).await else { return };
        let peer = Peer { address: lease.endpoint().socket(), transport: target.transport.clone() };
        let mut ask = Ask {
            method: &self.method,
            target: &self.target,
            host: if self.host.is_empty() { lease.authority().as_str() } else { &self.host },
            headers: &self.headers,
            replaced: &self.replaced,
            upgrade: None,
            body: if self.body.is_empty() { Body::Empty } else { Body::Whole(self.body.clone()) },
            timeout: None,
        };
        match worker.client.send(&peer, &mut ask).await {
            Ok(mut answer) => while let Some(Ok(_)) = answer.body.next().await {},
            Err(error) => debug!(pool = %target.pool.key, %error, "copy of a request failed"),
        }
    }
}
