//! What one endpoint tells of its KV cache, from connection to connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use kthena_router::inference::kv_events::index::{Standing, Writer};
use kthena_router::inference::kv_events::sequence::{self, END, Sequence, Step};
use kthena_router::inference::kv_events::tokenize::{SOURCES, Source, sources};
use kthena_router::inference::kv_events::wire::{Batch, Event};
use kthena_router::pool::kv_events::KvEvents;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};
use zeromq::{
    DealerSocket, Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend, SubSocket, ZmqError, ZmqMessage,
};

use super::Questions;
use super::listener::{Heard, Listening};
use crate::ops::metrics::{KvEventLabels, Metrics, PoolLabel};

/// The pause before a connection is tried again: it doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a replay may take; an engine keeps 10,000 messages.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer about the places of events, in bytes.
const MOST_SOURCES: usize = 1 << 20;

/// Hears one endpoint.
pub(super) struct Subscription {
    heard: Heard,
    listening: Listening,
    questions: Questions,
    metrics: Arc<Metrics>,
    sequence: Sequence,
    writer: Writer,
    /// How far the index can be trusted while the connection lasts.
    standing: Standing,
}

/// Why an endpoint is not heard.
#[derive(Debug, Error)]
enum Fault {
    #[error("the engine does not say where its events are")]
    NoSource,
    #[error("no connection: {0}")]
    Connect(#[source] ZmqError),
    #[error("connection lost")]
    Lost,
}

impl Subscription {
    pub(super) fn new(heard: Heard, listening: Listening, questions: Questions, metrics: Arc<Metrics>) -> Self {
        let writer = Writer::new(Arc::clone(&heard.held));
        let (sequence, standing) = (Sequence::default(), Standing::Deaf);
        Self { heard, listening, questions, metrics, sequence, writer, standing }
    }

    /// Hears the endpoint for ever.
    pub(super) async fn run(mut self) {
        let (mut pause, mut is_told) = (FIRST_PAUSE, false);
        loop {
            let fault = match self.connect().await {
                Ok((socket, source)) => {
                    (pause, is_told) = (FIRST_PAUSE, false);
                    info!(pool = %self.listening.engines.pool, endpoint = %self.heard.endpoint, "hearing what the engine tells of its KV cache");
                    self.hear(socket, source).await
                }
                Err(fault) => fault,
            };
            self.writer.trust(Standing::Deaf);
            self.tell_deaf(&fault, is_told);
            is_told = true;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Says that the endpoint is not heard, to the log's readers the first time only.
    fn tell_deaf(&self, fault: &Fault, is_told: bool) {
        let (pool, endpoint) = (&self.listening.engines.pool, &self.heard.endpoint);
        if is_told {
            debug!(%pool, %endpoint, %fault, "not hearing what the engine tells of its KV cache");
        } else {
            info!(%pool, %endpoint, %fault, "not hearing what the engine tells of its KV cache, trying again");
        }
    }

    async fn connect(&self) -> Result<(SubSocket, Source), Fault> {
        let source = self.source().await.ok_or(Fault::NoSource)?;
        let mut socket = SubSocket::with_options(options());
        socket.subscribe("").await.map_err(Fault::Connect)?;
        socket.connect(&self.endpoint(source.port)).await.map_err(Fault::Connect)?;
        Ok((socket, source))
    }

    /// Returns where the endpoint tells of its cache.
    async fn source(&self) -> Option<Source> {
        let rank = u32::from(self.heard.endpoint.rank);
        match self.listening.events {
            KvEvents::Ports { port, replay } => {
                let add = |port: u16| port.checked_add(self.heard.endpoint.rank);
                Some(Source { rank, port: add(port)?, replay: replay.and_then(add) })
            }
            KvEvents::Discovered => {
                let answer = self.questions.ask(self.heard.endpoint.socket(), SOURCES, None, MOST_SOURCES).await?;
                sources(&answer)?.into_iter().find(|source| source.rank == rank)
            }
        }
    }

    fn endpoint(&self, port: u16) -> String {
        format!("tcp://{}", SocketAddr::new(self.heard.endpoint.address, port))
    }

    /// Follows messages until the connection ends.
    async fn hear(&mut self, mut socket: SubSocket, source: Source) -> Fault {
        let mut changes = socket.monitor();
        self.sequence.reconnect();
        self.resync(source.replay, true).await;
        loop {
            tokio::select! {
                change = changes.next() => {
                    if matches!(change, None | Some(SocketEvent::Disconnected(_))) {
                        return Fault::Lost;
                    }
                }
                message = socket.recv() => {
                    let Ok(message) = message else { return Fault::Lost };
                    self.take(message);
                    self.resync(source.replay, false).await;
                }
            }
        }
    }

    /// Takes a message; returns whether it ends a replay.
    fn take(&mut self, message: ZmqMessage) -> bool {
        match sequence::read(&message.into_vec()) {
            Ok((END, _)) => return true,
            Ok((number, batch)) => {
                let steps = self.sequence.take(number, batch);
                self.follow(steps);
            }
            Err(error) => {
                debug!(endpoint = %self.heard.endpoint, %error, "message about a KV cache cannot be read");
                self.count("unreadable", 1);
            }
        }
        false
    }

    /// Has the messages sent again that are missing, and after a connection was made all that there may be. What cannot be
    /// had is given up.
    async fn resync(&mut self, replay: Option<u16>, is_new: bool) {
        let mut from = self.sequence.wanted().or_else(|| is_new.then(|| self.sequence.expected()));
        while let Some(first) = from {
            let is_replayed = match replay {
                Some(port) => timeout(REPLAY_TIMEOUT, self.replay(port, first)).await.is_ok_and(|done| done.is_ok()),
                None => false,
            };
            self.count(if is_replayed { "replayed" } else { "not_replayed" }, 1);
            if self.sequence.wanted().is_some_and(|wanted| wanted >= first || !is_replayed) {
                let steps = self.sequence.give_up();
                self.follow(steps);
            }
            let is_anew = self.sequence.expected() == 0;
            from = match is_replayed {
                true if is_anew && first == 0 => {
                    // Nothing was sent yet, because nothing was stored.
                    self.begin();
                    None
                }
                // A replay may show that the engine is another one, of which everything is wanted.
                true if is_anew => Some(0),
                true => self.sequence.wanted(),
                false => None,
            };
        }
        self.writer.trust(self.standing);
    }

    async fn replay(&mut self, port: u16, first: u64) -> Result<(), ZmqError> {
        let mut socket = DealerSocket::with_options(options());
        socket.connect(&self.endpoint(port)).await?;
        let mut question = ZmqMessage::from(Bytes::new());
        question.push_back(Bytes::copy_from_slice(&first.to_be_bytes()));
        socket.send(question).await?;
        while !self.take(socket.recv().await?) {}
        Ok(())
    }

    fn follow(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Began => self.begin(),
                Step::Lost => {
                    self.count("lost", 1);
                    self.writer.forget();
                    self.standing = Standing::Partial;
                }
                Step::Apply(batch) => self.apply(&batch),
            }
        }
        self.writer.trust(self.standing);
    }

    /// Notes that the engine began with an empty cache.
    fn begin(&mut self) {
        // An engine that had told nothing yet has nothing to forget.
        if self.writer.blocks() > 0 || self.standing == Standing::Partial {
            self.count("restarted", 1);
            self.heard.ledger.forget_prompts();
        }
        self.writer.forget();
        self.standing = Standing::Whole;
    }

    fn apply(&mut self, batch: &Batch) {
        self.count("unreadable", batch.unread.into());
        for event in &batch.events {
            let noted = self.writer.note(event);
            self.count("skipped", noted.skipped.into());
            match event {
                Event::Stored(_) => self.count("stored", noted.blocks.into()),
                Event::Removed { .. } => self.count("removed", noted.blocks.into()),
                Event::Cleared => {
                    self.count("cleared", 1);
                    self.heard.ledger.forget_prompts();
                    self.standing = Standing::Whole;
                }
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let labels = PoolLabel { pool: self.listening.engines.pool.to_string() };
        self.metrics.kv_events.lag_seconds.get_or_create(&labels).observe((now - batch.time).max(0.0));
    }

    fn count(&self, what: &'static str, count: u64) {
        if count > 0 {
            let labels = KvEventLabels { pool: self.listening.engines.pool.to_string(), what };
            self.metrics.kv_events.events.get_or_create(&labels).inc_by(count);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.writer.trust(Standing::Deaf);
    }
}

fn options() -> SocketOptions {
    let mut options = SocketOptions::default();
    options.connect_timeout(CONNECT_TIMEOUT);
    options
}
