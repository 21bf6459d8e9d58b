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

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WeakRecipient,
    WrapFuture,
};
use actix_server::ServerHandle;
use kthena_router::object::BindState;
use kthena_router::plan::BindPlan;
use tracing::{info, warn};

use crate::metrics::BindLabel;
use crate::proxy::Serving;
use crate::registry::BindReported;
use crate::vitals::Vitals;

mod accept;
mod http2;
mod server;
mod stream;

pub(crate) use stream::ClientStream;

/// The first pause before a socket is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
        match server::serve(self.plan, &self.serving) {
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

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(Listener, vitals);

#[cfg(test)]
mod tests;
