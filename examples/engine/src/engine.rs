//! Sockets and life time of one engine.

use std::{
    any::Any,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    App, HttpServer,
    dev::{Extensions, ServerHandle},
    http::KeepAlive,
    rt::{self, task::JoinHandle},
    web,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use zeromq::ZmqError;

use crate::{
    api,
    cache::{Cache, Publisher},
    config::EngineConfig,
    connection::Connection,
    faults::{FaultError, Faults},
    state::{EngineState, RecordedRequest, ToldCache},
    transfer::TransferCounts,
};

/// Connections that wait to be accepted, for load generators that open all theirs at once.
const BACKLOG: u32 = 4096;

/// How often a draining engine looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Connections per worker, above what one process may open.
const MAX_CONNECTIONS: usize = 1 << 20;

/// Why an engine cannot start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The configuration names no address or no port.
    #[error("engine of model `{model}` has no address to serve on")]
    NoAddress {
        /// Name of the served model.
        model: String,
    },
    /// A fault of the configuration is out of its bounds.
    #[error("faults of the engine are wrong")]
    Faults(#[from] FaultError),
    /// The ports of KV events cannot be bound.
    #[error("engine cannot publish its KV events")]
    Events(#[from] ZmqError),
    /// An address cannot be bound.
    #[error("engine cannot bind `{address}`")]
    Bind {
        /// The address with the configured port.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A serving engine. Dropping it ends it as [`Engine::stop`] does, without waiting.
#[derive(Debug)]
#[must_use = "an engine ends when it is dropped"]
pub struct Engine {
    addresses: Vec<SocketAddr>,
    state: Arc<EngineState>,
    server: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
    /// Ends when the last worker has dropped its services and connections.
    workers: mpsc::Receiver<Infallible>,
    telling: Option<Telling>,
}

/// Who tells of the cache; it ends when `closing` is dropped.
#[derive(Debug)]
struct Telling {
    closing: oneshot::Sender<Infallible>,
    done: JoinHandle<()>,
}

impl Engine {
    /// Returns the bound addresses: every address of the configuration with its first
    /// port, then with its second, and so on, and at last with the port where engines meet.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the faults, to change them while the engine serves.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// Returns the number of inference requests that arrived, failed ones included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.gauges.requests.value()
    }

    /// Returns the number of requests that hold a place now.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.state.gauges.running.value()
    }

    /// Returns the number of requests that wait for a place now.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.state.gauges.waiting.value()
    }

    /// Returns the number of requests whose client left before the end.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.state.gauges.aborted.value()
    }

    /// Returns the last inference request; nothing unless the configuration says `record`.
    #[must_use]
    pub fn last_request(&self) -> Option<RecordedRequest> {
        self.state.last_request()
    }

    /// Returns what the engine has seen of transfers between engines.
    #[must_use]
    pub fn transfers(&self) -> TransferCounts {
        self.state.transfers.counts.read()
    }

    /// Returns how many prompts' tokens were asked for.
    #[must_use]
    pub fn tokenizations(&self) -> u64 {
        self.state.gauges.tokenizations.value()
    }

    /// Ends the engine once it has nothing left to do: it goes on serving for `grace`, because clients learn late that
    /// it leaves, and then until no request runs, or for `limit` at most.
    pub async fn drain(self, grace: Duration, limit: Duration) {
        let started = Instant::now();
        rt::time::sleep(grace).await;
        while self.running() + self.waiting() > 0 && started.elapsed() < limit {
            rt::time::sleep(DRAIN_POLL).await;
        }
        self.stop().await;
    }

    /// Ends the engine at once: closes its listeners and cuts its connections.
    pub async fn stop(mut self) {
        self.server.stop(false).await;
        // An error of the accept loop has no meaning any more at this point.
        drop((&mut self.serving).await);
        while self.workers.recv().await.is_some() {}
        if let Some(Telling { closing, done }) = self.telling.take() {
            drop(closing);
            drop(done.await);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The command is sent by the call; the future only waits for its end.
        drop(self.server.stop(false));
    }
}

/// Starts an engine: binds every address with every port and serves on them. Must be called inside of an actix
/// `System`.
///
/// # Errors
/// When an address cannot be bound or the configuration contradicts itself.
pub async fn start(config: EngineConfig) -> Result<Engine, EngineError> {
    let (cache, telling) = open_cache(&config).await?.unzip();
    let state = Arc::new(EngineState::new(config, cache)?);
    let (alive, workers) = mpsc::channel::<Infallible>(1);
    let shared = web::Data::from(Arc::clone(&state));
    let mut server =
        HttpServer::new(move || App::new().app_data(alive.clone()).app_data(shared.clone()).configure(api::routes))
            .on_connect(keep_connection)
            .workers(state.config.workers.max(1))
            .backlog(BACKLOG)
            .max_connections(MAX_CONNECTIONS)
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .tcp_nodelay(true)
            .h1_allow_half_closed(false)
            .disable_signals();

    for address in listen_addresses(&state.config)? {
        server = server.bind(address).map_err(|source| EngineError::Bind { address, source })?;
    }
    let addresses = server.addrs();
    let server = server.run();
    let handle = server.handle();
    Ok(Engine { addresses, state, server: handle, serving: rt::spawn(server), workers, telling })
}

/// Makes the cache of an engine that tells of it, at its first address.
async fn open_cache(config: &EngineConfig) -> Result<Option<(ToldCache, Telling)>, EngineError> {
    let (Some(port), Some(address)) = (config.kv_events_port, config.addresses.first()) else { return Ok(None) };
    let place = |port| SocketAddr::new(*address, port);
    let (publisher, port, replay_port) =
        Publisher::open(place(port), config.kv_events_replay_port.map(place), config.dialect).await?;
    let (events, changes) = mpsc::unbounded_channel();
    let (closing, closed) = oneshot::channel();
    let done = rt::spawn(publisher.run(changes, closed));
    let cache = Cache::new(config.kv_cache_tokens, events);
    Ok(Some((ToldCache { cache, port, replay_port }, Telling { closing, done })))
}

fn listen_addresses(config: &EngineConfig) -> Result<Vec<SocketAddr>, EngineError> {
    let pairs = config.ports.iter().chain(&config.kv_bootstrap_port).flat_map(|port| {
        let addresses = config.addresses.iter();
        addresses.map(move |address| SocketAddr::new(*address, *port))
    });
    let pairs: Vec<SocketAddr> = pairs.collect();
    if pairs.is_empty() {
        let model = config.model.clone();
        return Err(EngineError::NoAddress { model });
    }
    Ok(pairs)
}

fn keep_connection(stream: &dyn Any, extensions: &mut Extensions) {
    if let Some(connection) = Connection::of(stream) {
        extensions.insert(connection);
    }
}
