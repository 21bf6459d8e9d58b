//! Listener: one open socket, and the HTTP server behind it.
//!
//! # State
//! The handle of its server. Each worker thread of the server has its own Scheduler and its own connections to engines.
//!
//! # Messages
//! In: [`Drain`] from the ListenerFleet. Out: [`BindReported`] to the RouteRegistry.
//!
//! # Supervision
//! Started by the ListenerFleet, which starts a fresh one in place of a dead one; the dead one's server finishes what
//! runs. A socket that cannot be opened is tried again with growing pauses.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WeakRecipient,
    WrapFuture,
};
use actix_http::Request;
use actix_service::{fn_service, map_config};
use actix_web::HttpServer;
use actix_web::dev::{AppConfig, Server, ServerHandle};
use kthena_router::plan::BindPlan;
use kthena_router::world::BindState;
use tracing::{info, warn};

use crate::metrics::BindLabel;
use crate::proxy::{self, Door, Serving, Worker};
use crate::registry::BindReported;
use crate::vitals::Vitals;

/// The first pause before a socket is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the server goes on reading a request that was refused before its end. Closing at once would reset the
/// connection, and a client that sends its whole body first would lose the answer.
const LINGER: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Keeps one socket open.
pub struct Listener {
    plan: BindPlan,
    serving: Arc<Serving>,
    registry: WeakRecipient<BindReported>,
    server: Option<ServerHandle>,
    pause: Duration,
    vitals: Vitals,
}

/// Stop accepting, finish what runs, close; answered when that is done.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

impl Listener {
    /// The actor's name.
    pub const NAME: &str = "Listener";

    /// Makes the listener of one bind.
    pub fn new(plan: BindPlan, serving: Arc<Serving>, registry: WeakRecipient<BindReported>) -> Self {
        let vitals = Vitals::new(Self::NAME, &serving.metrics);
        Self { plan, serving, registry, server: None, pause: FIRST_PAUSE, vitals }
    }

    fn open(&mut self, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("Open");
        match serve(self.plan, &self.serving) {
            Err(error) => {
                warn!(bind = %self.plan.bind, %error, pause = ?self.pause, "port cannot be opened, trying again");
                self.report(BindState::Failed(error.to_string()));
                context.run_later(self.pause, Self::open);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
            Ok(server) => {
                info!(bind = %self.plan.bind, tls = self.plan.tls, "listening");
                self.pause = FIRST_PAUSE;
                self.server = Some(server.handle());
                self.report(BindState::Open);
                // On its own, so that what is served does not end with the actor.
                let serving = actix::spawn(server).into_actor(self);
                context.spawn(serving.map(|ended, listener, context| {
                    // After a drain the handle is gone, and the end is what was asked for.
                    if listener.server.take().is_some() {
                        let ended = ended.map_err(io::Error::other).flatten();
                        let error = ended.err().map_or_else(|| "server ended".to_owned(), |error| error.to_string());
                        warn!(bind = %listener.plan.bind, error, "http server ended, opening the port again");
                        listener.report(BindState::Failed(error));
                        context.run_later(listener.pause, Self::open);
                    }
                }));
            }
        }
    }

    fn report(&self, state: BindState) {
        let label = BindLabel { bind: self.plan.bind.to_string() };
        self.serving.metrics.listener_open.get_or_create(&label).set(i64::from(state == BindState::Open));
        if let Some(registry) = self.registry.upgrade() {
            registry.do_send(BindReported { bind: self.plan.bind, state });
        }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.open(context);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A listener that dies frees its port for the one that takes its place, and lets its requests end.
        if let Some(server) = self.server.take() {
            drop(server.stop(true));
        }
    }
}

impl Handler<Drain> for Listener {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, context: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("Drain");
        // Not only at the end: while the last streams run, the port may have been opened anew by another listener.
        self.serving.metrics.listener_open.remove(&BindLabel { bind: self.plan.bind.to_string() });
        match self.server.take() {
            Some(server) => {
                let address = context.address();
                Box::pin(async move {
                    server.stop(true).await;
                    address.do_send(Closed);
                })
            }
            None => {
                context.stop();
                Box::pin(async {})
            }
        }
    }
}

/// The server has ended after a drain.
#[derive(Message)]
#[rtype(result = "()")]
struct Closed;

impl Handler<Closed> for Listener {
    type Result = ();

    fn handle(&mut self, _: Closed, context: &mut Self::Context) {
        context.stop();
    }
}

/// Returns a time in seconds, rounded up: nothing is cut off early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Opens the socket and starts the HTTP server of a bind.
fn serve(plan: BindPlan, serving: &Arc<Serving>) -> io::Result<Server> {
    let config = &serving.config;
    let limits = config.limits.clone();
    let door = Door::new(plan.bind, Arc::clone(serving));
    let server = HttpServer::new(move || {
        // This closure runs once on each worker thread; what it makes stays there. Requests go to the handler as they are:
        // an `App` would route them a second time.
        let worker = Worker::new(Arc::clone(&door));
        let handle = move |request: Request| {
            let worker = Rc::clone(&worker);
            async move { Ok::<_, Infallible>(proxy::handle(worker, request).await) }
        };
        map_config(fn_service(handle), |_: AppConfig| ())
    })
    .workers(serving.workers)
    .backlog(BACKLOG)
    // Without it the first chunks of a stream wait for the client's delayed acknowledgement.
    .tcp_nodelay(true)
    // Otherwise a client that leaves during a long prefill goes unnoticed until the first token.
    .h1_allow_half_closed(false)
    .on_connect(move |io, data| proxy::watch(io, data, &limits))
    .keep_alive(config.limits.client_keep_alive)
    .client_request_timeout(config.limits.client_timeout)
    .client_disconnect_timeout(config.limits.client_timeout.min(LINGER))
    .shutdown_timeout(whole_seconds(config.drain.drain_timeout))
    .disable_signals();
    let server = match (plan.tls, &serving.server_tls) {
        (true, Some(tls)) => server.bind_rustls_0_23(plan.bind.socket(), tls.as_ref().clone())?,
        _ => server.bind(plan.bind.socket())?,
    };
    Ok(server.run())
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(Listener, vitals);
