//! Listener: one open socket, whose connections the worker threads serve.
//!
//! # State
//! The open port. What serves it on each worker thread is made there by its first connection.
//!
//! # Messages
//! In: [`Drain`] from the ListenerFleet. Out: [`BindReported`] to the RouteRegistry.
//!
//! # Supervision
//! Started by the ListenerFleet, which starts a fresh one in place of a dead one; the dead one's connections finish what
//! runs. A socket that cannot be opened is tried again with growing pauses.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, ResponseFuture, WeakRecipient};
use kthena_router::object::BindState;
use kthena_router::plan::BindPlan;
use tokio::net::TcpSocket;
use tracing::{info, warn};

use crate::edge::proxy::Serving;
use crate::edge::workers::{OpenPort, Workers};
use crate::messages::BindReported;
use crate::ops::metrics::BindLabel;
use crate::ops::vitals::Vitals;
use port::InferencePort;

mod port;

/// The threads that serve the connections of inference ports.
pub type InferenceWorkers = Workers<InferencePort>;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// The first pause before a socket is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Keeps one socket open.
pub struct Listener {
    plan: BindPlan,
    serving: Arc<Serving>,
    workers: InferenceWorkers,
    registry: WeakRecipient<BindReported>,
    open: Option<OpenPort<InferencePort>>,
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
    pub fn new(
        plan: BindPlan,
        serving: Arc<Serving>,
        workers: InferenceWorkers,
        registry: WeakRecipient<BindReported>,
    ) -> Self {
        let vitals = Vitals::new(Self::NAME, &serving.metrics);
        Self { plan, serving, workers, registry, open: None, pause: FIRST_PAUSE, vitals }
    }

    fn open(&mut self, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("Open");
        match listen(self.plan.bind.socket()) {
            Err(error) => {
                warn!(bind = %self.plan.bind, %error, pause = ?self.pause, "port cannot be opened, trying again");
                self.report(BindState::Failed(error.to_string()));
                context.run_later(self.pause, Self::open);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
            Ok(socket) => {
                info!(bind = %self.plan.bind, tls = self.plan.tls, "listening");
                self.pause = FIRST_PAUSE;
                let port = InferencePort::new(self.plan, Arc::clone(&self.serving));
                self.open = Some(self.workers.open(socket, port));
                self.report(BindState::Open);
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
        if let Some(open) = self.open.take()
            && actix::System::is_registered()
        {
            actix::spawn(open.close(self.serving.config.drain.drain_timeout));
        }
    }
}

impl Handler<Drain> for Listener {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, context: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("Drain");
        // Not only at the end: while the last streams run, the port may have been opened anew by another listener.
        self.serving.metrics.listener_open.remove(&BindLabel { bind: self.plan.bind.to_string() });
        match self.open.take() {
            Some(open) => {
                let address = context.address();
                let closed = open.close(self.serving.config.drain.drain_timeout);
                Box::pin(async move {
                    closed.await;
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

/// Opens a socket that listens.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port whose last connections are still being closed can be opened again.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// The port has closed after a drain.
#[derive(Message)]
#[rtype(result = "()")]
struct Closed;

impl Handler<Closed> for Listener {
    type Result = ();

    fn handle(&mut self, _: Closed, context: &mut Self::Context) {
        let _handling = self.vitals.handling("Closed");
        context.stop();
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(Listener, vitals);

#[cfg(test)]
mod tests;
