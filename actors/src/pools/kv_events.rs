//! What engines tell of their KV caches, heard and kept for whoever picks.
//!
//! ```text
//!  engine: PUB ─────> Subscription ──> index of the endpoint (HeldBlocks) ──> picks
//!  engine: ROUTER <── (replays)
//!  proxy ──LearnPrompt──> Tokenizer ──/tokenize──> engine; the answer ──> KnownPrompts ──> picks
//! ```
//!
//! Both actors belong to a pool whose ModelServer says that its engines have events; other pools have neither.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use awc::{Client, Connector};
use kthena_router_upstream::Upstream;

pub use listener::{HearEndpoints, Heard, KvEventListener, Listening};
pub use tokenizer::Tokenizer;

mod listener;
mod subscription;
mod tokenizer;

/// How long an engine may take to answer a question about itself or a prompt.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks engines questions, in HTTP/1.1.
#[derive(Clone)]
pub(crate) struct Questions {
    client: Client,
    scheme: &'static str,
}

impl Questions {
    /// Makes it for the current thread.
    pub(crate) fn new(upstream: &Upstream, https: bool) -> Self {
        let connector = Connector::new().rustls_0_23(upstream.engines_tls()).timeout(ANSWER_TIMEOUT);
        let client = Client::builder().connector(connector).timeout(ANSWER_TIMEOUT).disable_redirects().finish();
        Self { client, scheme: if https { "https" } else { "http" } }
    }

    /// Asks an engine: with a body by POST, without by GET. Returns the answer if it is a good one and not larger than
    /// `most` bytes.
    pub(crate) async fn ask(
        &self,
        engine: SocketAddr,
        path: &str,
        body: Option<String>,
        most: usize,
    ) -> Option<Vec<u8>> {
        let url = format!("{}://{engine}{path}", self.scheme);
        let sent = match body {
            Some(body) => self.client.post(url).insert_header(("content-type", "application/json")).send_body(body),
            None => self.client.get(url).send(),
        };
        let mut answer = sent.await.ok().filter(|answer| answer.status().is_success())?;
        Some(answer.body().limit(most).await.ok()?.to_vec())
    }
}

/// What both actors are made with.
#[derive(Clone)]
pub struct Engines {
    /// How they are reached.
    pub upstream: Upstream,
    /// Whether they speak https.
    pub https: bool,
    /// The pool's name, for metrics and logs.
    pub pool: Arc<str>,
}

#[cfg(test)]
mod tests;
