//! The server of one bind: accepts connections on its worker threads, and speaks HTTP/1.1 or HTTP/2 on each.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Request};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{Service, ServiceFactory, fn_factory, fn_service};
use kthena_router::plan::BindPlan;
use thiserror::Error;
use tokio::net::TcpStream;
use tracing::debug;

use super::accept::{AcceptError, Protocol, accept};
use super::http2::{self, Http2Error};
use super::stream::ClientStream;
use crate::proxy::{self, Connection, Door, Serving, Worker};

/// How long the server goes on reading a request that was refused before its end. Closing at once would reset the
/// connection, and a client that sends its whole body first would lose the answer.
const LINGER: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// What a bind's worker threads need to serve its connections.
#[derive(Clone)]
struct Entrance {
    tls: bool,
    door: Arc<Door>,
    closing: GracefulShutdownSignal,
}

/// Why a connection ended before its client was done.
#[derive(Debug, Error)]
enum Ended {
    #[error("it ended before its first request: {0}")]
    Early(AcceptError),
    #[error("http/1.1: {0}")]
    Http1(DispatchError),
    #[error("http/2: {0}")]
    Http2(Http2Error),
}

/// Opens the socket and starts the HTTP server of a bind.
pub(super) fn serve(plan: BindPlan, serving: &Arc<Serving>) -> io::Result<Server> {
    let builder = Server::build()
        .workers(serving.workers)
        .backlog(BACKLOG)
        .shutdown_timeout(whole_seconds(serving.config.drain.drain_timeout))
        .disable_signals();
    let entrance = Entrance {
        tls: plan.tls,
        door: Door::new(plan.bind, Arc::clone(serving)),
        closing: builder.graceful_shutdown_signal(),
    };
    // The closure runs once on each worker thread; what it makes stays there.
    let server = builder.bind("inference", plan.bind.socket(), move || entrance.service())?;
    Ok(server.run())
}

impl Entrance {
    /// Makes the service of the current thread.
    fn service(
        &self,
    ) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> + use<> {
        let entrance = self.clone();
        let worker = Worker::new(Arc::clone(&self.door));
        let http1 = http1(&worker, self.closing.clone());
        fn_factory(move || {
            let (entrance, worker) = (entrance.clone(), Rc::clone(&worker));
            let http1 = http1.new_service(());
            async move {
                let http1 = Rc::new(http1.await?);
                Ok(fn_service(move |socket| {
                    let (entrance, worker, http1) = (entrance.clone(), Rc::clone(&worker), Rc::clone(&http1));
                    async move {
                        entrance.attend(socket, worker, &*http1).await;
                        Ok(())
                    }
                }))
            }
        })
    }

    /// Serves one connection to its end.
    async fn attend<S>(&self, socket: TcpStream, worker: Rc<Worker>, http1: &S)
    where
        S: Service<(ClientStream, Option<SocketAddr>), Error = DispatchError>,
    {
        let ended = match self.admit(socket).await {
            Ok(None) => Ok(()),
            Ok(Some((stream, Protocol::Http1))) => {
                let peer = stream.peer();
                http1.call((stream, Some(peer))).await.map(drop).map_err(Ended::Http1)
            }
            Ok(Some((stream, Protocol::Http2))) => {
                http2::serve(stream, worker, &self.closing).await.map_err(Ended::Http2)
            }
            Err(error) => Err(Ended::Early(error)),
        };
        if let Err(ended) = ended {
            debug!(bind = %self.door.bind, error = %ended, "connection ended");
        }
    }

    /// Lets a connection in; a client that has not begun when the server closes is not waited for.
    async fn admit(&self, socket: TcpStream) -> Result<Option<(ClientStream, Protocol)>, AcceptError> {
        tokio::select! {
            accepted = accept(socket, self.tls, self.door.bind, &self.door.serving) => accepted.map(Some),
            () = self.closing.notified() => Ok(None),
        }
    }
}

/// Makes the service of HTTP/1.1.
fn http1(
    worker: &Rc<Worker>,
    closing: GracefulShutdownSignal,
) -> impl ServiceFactory<
    (ClientStream, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> + use<> {
    let limits = worker.limits().clone();
    let worker = Rc::clone(worker);
    // Requests go to the handler as they are: an `App` would route them a second time.
    let handle = move |request: Request| {
        let worker = Rc::clone(&worker);
        async move { Ok::<_, Infallible>(proxy::handle(worker, request).await) }
    };
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let closing = closing.clone();
            async move { closing.notified().await }
        })
        .keep_alive(limits.client_keep_alive)
        .client_request_timeout(limits.client_timeout)
        .client_disconnect_timeout(limits.client_timeout.min(LINGER))
        // Otherwise a client that leaves during a long prefill goes unnoticed until the first token.
        .h1_allow_half_closed(false)
        .on_connect_ext(move |stream: &ClientStream, data| {
            data.insert(Connection::open(stream, &limits));
        })
        .h1(fn_service(handle))
}

/// Returns a time in seconds, rounded up: nothing is cut off early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
