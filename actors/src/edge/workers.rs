//! The threads that serve the connections of all inference ports: as many as `--workers` says, however many ports there
//! are.
//!
//! A port's connections are accepted on one thread, which all ports share, and each goes to the worker that has the
//! fewest. A worker makes what it needs for a port when the first connection comes, and drops it when the port closes.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream as Socket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::Arbiter;
use futures::future::join_all;
use kthena_router_downstream::{CancellationToken, Server, Service};
use kthena_router_heap::give_back;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

/// The pause after a connection could not be accepted: most likely there are no descriptors left, and none come back
/// sooner for asking again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The time after which a thread gives back what it has freed.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// The worker threads. Clones are the same threads; they end with the System.
pub struct Workers<P: Port>(Arc<Threads<P>>);

impl<P: Port> Clone for Workers<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Threads<P: Port> {
    accepting: Arbiter,
    workers: Vec<Worker<P>>,
}

/// What is served on one port, as all threads share it.
pub trait Port: Send + Sync + 'static {
    /// What answers the requests on one thread.
    type Service: Service;
    /// What the ports of one thread have in common.
    type Context;

    /// Makes what its ports have in common on the current thread.
    fn context() -> Self::Context;

    /// Makes the port's server on the current thread.
    fn server(self: &Arc<Self>, context: &Self::Context) -> Rc<Server<Self::Service>>;

    /// Cancelled when the port closes.
    fn closing(&self) -> &CancellationToken;
}

/// A port that is open: it is closed when [`OpenPort::close`] says so.
pub(crate) struct OpenPort<P: Port> {
    port: Arc<P>,
    threads: Arc<Threads<P>>,
    accepted: oneshot::Receiver<()>,
}

/// One thread, as others see it.
struct Worker<P: Port> {
    arbiter: Arbiter,
    orders: mpsc::UnboundedSender<Order<P>>,
    /// The connections that it serves, or is about to.
    connections: Arc<AtomicUsize>,
}

type Question<P> = Box<dyn FnOnce(&<P as Port>::Context) + Send>;

enum Order<P: Port> {
    /// Serve a connection.
    Attend { port: Arc<P>, socket: Socket, peer: SocketAddr, counted: Counted },
    /// Let a port's connections end, within a time; tell when they have.
    Leave { port: Arc<P>, patience: Duration, left: oneshot::Sender<()> },
    /// Answer a question about what the ports of the thread have in common.
    Ask(Question<P>),
}

/// One connection in a worker's count.
struct Counted(Arc<AtomicUsize>);

impl<P: Port> Workers<P> {
    /// Starts as many threads in the current System, and one that accepts.
    pub fn start(count: usize) -> Self {
        let workers = (0..count.max(1)).map(|_| Worker::start()).collect();
        Self(Arc::new(Threads { accepting: Arbiter::new(), workers }))
    }

    /// Accepts the connections of a socket that listens, until the port closes.
    pub(crate) fn open(&self, listener: TcpListener, port: Arc<P>) -> OpenPort<P> {
        let (done, accepted) = oneshot::channel();
        let open = OpenPort { port: Arc::clone(&port), threads: Arc::clone(&self.0), accepted };
        let threads = Arc::clone(&self.0);
        self.0.accepting.spawn(async move {
            if let Err(error) = accept(listener, &port, &threads).await {
                warn!(%error, "port accepts no connections");
            }
            // The socket is closed; whoever waits for that may have gone.
            done.send(()).ok();
        });
        open
    }

    /// Asks each thread a question, and returns the answers of those that give one.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&P::Context) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let asked = self.0.workers.iter().map(|worker| {
            let (question, (answer, answered)) = (question.clone(), oneshot::channel());
            // Whoever asks may have gone, and so may the worker.
            let question: Question<P> = Box::new(move |context| drop(answer.send(question(context))));
            worker.orders.send(Order::Ask(question)).ok();
            answered
        });
        join_all(asked).await.into_iter().filter_map(Result::ok).collect()
    }

    /// Ends the threads at once, with all that they serve.
    pub fn stop(&self) {
        for arbiter in self.0.workers.iter().map(|worker| &worker.arbiter).chain([&self.0.accepting]) {
            arbiter.stop();
        }
    }
}

impl<P: Port> OpenPort<P> {
    /// Closes the port: accepts no more, lets what runs end within a time, and cuts off the rest.
    pub(crate) async fn close(self, patience: Duration) {
        self.port.closing().cancel();
        // Until then connections may be on their way to the workers.
        self.accepted.await.ok();
        let leaving = self.threads.workers.iter().map(|worker| {
            let (left, has_left) = oneshot::channel();
            // A worker that is gone serves nothing.
            worker.orders.send(Order::Leave { port: Arc::clone(&self.port), patience, left }).ok();
            has_left
        });
        join_all(leaving).await;
    }
}

impl<P: Port> Worker<P> {
    fn start() -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let arbiter = Arbiter::new();
        arbiter.spawn_fn(move || {
            tokio::task::spawn_local(work(inbox));
        });
        Self { arbiter, orders, connections: Arc::default() }
    }
}

impl<P: Port> Threads<P> {
    /// Gives a connection to the worker that has the fewest.
    fn attend(&self, port: &Arc<P>, socket: Socket, peer: SocketAddr) {
        let fewest = self.workers.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        let Some(worker) = fewest else { return };
        let counted = Counted::one(&worker.connections);
        // A worker that is gone closes the connection.
        worker.orders.send(Order::Attend { port: Arc::clone(port), socket, peer, counted }).ok();
    }
}

impl Counted {
    fn one(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections until the port closes.
async fn accept<P: Port>(listener: TcpListener, port: &Arc<P>, threads: &Threads<P>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut has_failed = false;
    loop {
        let accepted = tokio::select! {
            () = port.closing().cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(socket, peer)| Ok((socket.into_std()?, peer))) {
            Ok((socket, peer)) => {
                has_failed = false;
                threads.attend(port, socket, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    warn!(%error, "connections cannot be accepted, trying again");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// What a worker has for one port.
struct Served<S> {
    server: Rc<Server<S>>,
    /// The connections. What is kept of one that has ended goes with the next one that comes, or when the thread tidies up.
    connections: JoinSet<()>,
}

/// Does what a worker is told, on its thread.
async fn work<P: Port>(mut orders: mpsc::UnboundedReceiver<Order<P>>) {
    let context = P::context();
    // By the place of what all threads share of a port, which is held as long as the entry.
    let mut ports: HashMap<*const P, (Arc<P>, Served<P::Service>)> = HashMap::new();
    let mut tidying = interval(TIDY_INTERVAL);
    tidying.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = tidying.tick() => {
                ports.values_mut().for_each(|(_, served)| served.forget_ended());
                give_back();
                continue;
            }
        };
        let Some(order) = order else { return };
        match order {
            Order::Ask(question) => question(&context),
            Order::Attend { port, socket, peer, counted } => {
                let (_, served) = ports.entry(Arc::as_ptr(&port)).or_insert_with(|| {
                    let server = port.server(&context);
                    (port, Served { server, connections: JoinSet::new() })
                });
                served.attend(socket, peer, counted);
            }
            Order::Leave { port, patience, left } => {
                let served = ports.remove(&Arc::as_ptr(&port));
                tokio::task::spawn_local(async move {
                    if let Some((_, served)) = served {
                        served.leave(patience).await;
                    }
                    // Whoever waits for it may have gone.
                    left.send(()).ok();
                });
            }
        }
    }
}

impl<S: Service> Served<S> {
    fn attend(&mut self, socket: Socket, peer: SocketAddr, counted: Counted) {
        self.forget_ended();
        let server = Rc::clone(&self.server);
        self.connections.spawn_local(async move {
            let _counted = counted;
            match prepare(socket) {
                // In a box: what is kept of a connection that has ended is then small.
                Ok((socket, local)) => Box::pin(server.serve(socket, peer, local)).await,
                Err(error) => debug!(%peer, %error, "connection broke before it began"),
            }
        });
    }

    fn forget_ended(&mut self) {
        while self.connections.try_join_next().is_some() {}
    }

    /// Lets the connections end; those that have not when the time is over are cut off.
    async fn leave(mut self, patience: Duration) {
        let all_ended = async { while self.connections.join_next().await.is_some() {} };
        if timeout(patience, all_ended).await.is_err() {
            self.connections.shutdown().await;
        }
    }
}

fn prepare(socket: Socket) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    // Without it the first chunks of a stream wait for the client's delayed acknowledgement.
    socket.set_nodelay(true)?;
    let socket = tokio::net::TcpStream::from_std(socket)?;
    let local = socket.local_addr()?;
    Ok((socket, local))
}
