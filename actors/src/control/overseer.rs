//! Overseer: starts the cast, looks after it, and ends it.
//!
//! # State
//! The wards: everyone it looks after. Whether the router is stopping.
//!
//! # Messages
//! In: [`Shutdown`] from signals. Out: [`Drain`] to the ListenerFleet.
//!
//! # Supervision
//! The first of the cast. Each second it looks whether its wards are alive: a dead member of the spine ends the process
//! with exit code 70, anyone else is replaced by a fresh one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, MessageResult, Recipient, System, WrapFuture,
};
use kthena_router::config::DrainConfig;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::edge::listener::Drain;
use crate::nursery::{Child, Tended};
use crate::ops::access_logger::AccessLog;
use crate::ops::metrics::Metrics;
use crate::ops::observe::Observe;
use crate::ops::vitals::Vitals;
use crate::pools::published::Stopping;

/// The exit code of a process whose spine is broken: EX_SOFTWARE.
pub const EXIT_BROKEN: i32 = 70;
/// What draining may take longer than `--drain-timeout`: HTTP servers look at their clocks once a second.
const DRAIN_SLACK: Duration = Duration::from_secs(3);
/// How long before the end of `--drain-timeout` the requests are counted that will be cut off.
const COUNTED_BEFORE: Duration = Duration::from_millis(50);
/// How long the requests that were cut off get to be logged.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// What giving the lease back may take.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(2);
/// What the access log may take to write its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks after the cast.
pub struct Overseer {
    wards: Vec<Ward>,
    drain: DrainConfig,
    fleet: Recipient<Drain>,
    access_log: Option<AccessLog>,
    farewell: Farewell,
    draining: bool,
    vitals: Vitals,
}

/// Whom the overseer tells that the router is stopping.
#[derive(Clone, Debug, Default)]
pub struct Farewell {
    /// Leadership, which gives its lease back; the channel is closed when that is done.
    pub lease: Arc<watch::Sender<bool>>,
    /// The HTTP workers, whose answers ask clients to connect elsewhere.
    pub connections: Stopping,
}

/// Someone to look after.
pub struct Ward {
    name: &'static str,
    care: Care,
}

/// What is done about a ward that is dead.
enum Care {
    /// The process ends; the function tells whether the ward is alive.
    Spine(Box<dyn Fn() -> bool>),
    /// A fresh one takes its place.
    Replaceable(Box<dyn Tended>),
}

/// Stop: drain, then end the process.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Shutdown;

/// The overseer's state.
#[derive(Clone, Debug, Serialize)]
pub struct OverseerState {
    /// Whether the router is stopping.
    pub draining: bool,
    /// Everyone it looks after, and whether they are alive.
    pub wards: Vec<(&'static str, bool)>,
}

impl Ward {
    /// Makes a ward whose death ends the process.
    pub fn spine<A: Actor<Context = Context<A>>>(name: &'static str, address: Addr<A>) -> Self {
        Self { name, care: Care::Spine(Box::new(move || address.connected())) }
    }

    /// Makes a ward that `start` starts, now and again when it is dead.
    pub fn replaceable<A>(name: &'static str, start: impl Fn() -> Addr<A> + 'static) -> Self
    where
        A: Actor<Context = Context<A>>,
    {
        Self { name, care: Care::Replaceable(Box::new(Child::start(name, start))) }
    }

    fn is_alive(&self) -> bool {
        match &self.care {
            Care::Spine(is_alive) => is_alive(),
            Care::Replaceable(child) => child.is_alive(),
        }
    }
}

impl Overseer {
    /// The actor's name.
    pub const NAME: &str = "Overseer";

    /// Makes the overseer of these wards.
    pub fn new(
        wards: Vec<Ward>,
        drain: DrainConfig,
        fleet: Recipient<Drain>,
        access_log: Option<AccessLog>,
        farewell: Farewell,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let vitals = Vitals::new(Self::NAME, metrics);
        Self { wards, drain, fleet, access_log, farewell, draining: false, vitals }
    }

    fn look_after_wards(&mut self) {
        let _handling = self.vitals.handling("Look");
        for Ward { name, care } in &mut self.wards {
            match care {
                Care::Replaceable(child) => {
                    child.look(&Self::NAME, self.vitals.metrics());
                }
                Care::Spine(is_alive) if !is_alive() => {
                    error!(actor = *name, "actor of the spine died, ending the process");
                    System::current().stop_with_code(EXIT_BROKEN);
                }
                Care::Spine(_) => {}
            }
        }
    }
}

impl Actor for Overseer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(Duration::from_secs(1), |overseer, _| overseer.look_after_wards());
    }
}

impl Handler<Shutdown> for Overseer {
    type Result = ();

    fn handle(&mut self, _: Shutdown, context: &mut Self::Context) {
        let _handling = self.vitals.handling("Shutdown");
        if std::mem::replace(&mut self.draining, true) {
            warn!("told to stop a second time, stopping at once");
            System::current().stop_with_code(1);
            return;
        }
        let DrainConfig { drain_delay, drain_timeout } = self.drain.clone();
        info!(?drain_delay, ?drain_timeout, "stopping");
        let (fleet, access_log) = (self.fleet.clone(), self.access_log.clone());
        // Another replica may write from now on; this one goes on serving until it is drained.
        self.farewell.lease.send_replace(true);
        self.farewell.connections.announce();
        let lease = Arc::clone(&self.farewell.lease);
        let metrics = Arc::clone(self.vitals.metrics());
        let drained = async move {
            sleep(drain_delay).await;
            let mut drained = pin!(fleet.send(Drain));
            let in_time = timeout(drain_timeout.saturating_sub(COUNTED_BEFORE), &mut drained).await.is_ok();
            let cut_off = if in_time { 0 } else { metrics.active_requests.get() };
            if !in_time {
                drop(timeout(COUNTED_BEFORE + DRAIN_SLACK, drained).await);
                sleep(LAST_WORDS).await;
            }
            if timeout(RESIGN_TIMEOUT, lease.closed()).await.is_err() {
                warn!("the lease was not given back, it will expire");
            }
            if let Some(access_log) = access_log
                && !matches!(timeout(FLUSH_TIMEOUT, access_log.flush()).await, Ok(Ok(())))
            {
                warn!("the last lines of the access log may be lost");
            }
            cut_off
        };
        context.spawn(drained.into_actor(self).map(|cut_off, _, _| {
            if cut_off == 0 {
                info!("stopped");
            } else {
                warn!(cut_off, "stopped before every request was finished");
            }
            System::current().stop_with_code(0);
        }));
    }
}

impl Handler<Observe<OverseerState>> for Overseer {
    type Result = MessageResult<Observe<OverseerState>>;

    fn handle(&mut self, _: Observe<OverseerState>, _: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("Observe");
        let wards = self.wards.iter().map(|ward| (ward.name, ward.is_alive())).collect();
        MessageResult(OverseerState { draining: self.draining, wards })
    }
}
