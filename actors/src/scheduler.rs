//! Scheduler: answers which endpoint serves a request.
//!
//! # State
//! The picker, and a random number generator that breaks ties; nothing that would be missed. What it knows of pools is
//! in the snapshots and load cells that it is asked with.
//!
//! # Messages
//! In: [`PickEndpoint`], asked by request handlers of the same worker thread. The handler is synchronous, so that an
//! ask costs about a microsecond and needs no timeout.
//!
//! # Supervision
//! Started by each HTTP worker; after a panic the worker's next request starts a fresh one.

use std::net::SocketAddr;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, MessageResult};
use kthena_router::inference::picker::{PickError, Picker};
use kthena_router::inference::pool::Candidate;
use kthena_router::inference::scheduling::SchedulerConfig;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::published::Pool;
use crate::vitals::{MessageVitals, Vitals};

/// Picks endpoints for the requests of one worker thread.
pub struct Scheduler {
    picker: Picker,
    rng: SmallRng,
    picks: MessageVitals,
    _vitals: Vitals,
}

/// Asks for an endpoint of a pool, and reserves it in the same step.
#[derive(Message)]
#[rtype(result = "Result<Lease, PickError>")]
pub struct PickEndpoint {
    /// The pool.
    pub pool: Arc<Pool>,
    /// The endpoints that failed this request already.
    pub tried: Vec<SocketAddr>,
}

impl Scheduler {
    /// The actor's name.
    pub const NAME: &str = "Scheduler";

    /// Makes a scheduler that picks as `config` says.
    pub fn new(config: &SchedulerConfig, metrics: &Arc<Metrics>) -> Self {
        let vitals = Vitals::new(Self::NAME, metrics);
        Self {
            picker: config.picker(),
            rng: SmallRng::from_rng(&mut rand::rng()),
            picks: vitals.message("PickEndpoint"),
            _vitals: vitals,
        }
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;
}

impl Handler<PickEndpoint> for Scheduler {
    type Result = MessageResult<PickEndpoint>;

    fn handle(&mut self, PickEndpoint { pool, tried }: PickEndpoint, _: &mut Self::Context) -> Self::Result {
        let _handling = self.picks.handling();
        let view = pool.view();
        let mut candidates = view
            .members
            .iter()
            .enumerate()
            .map(|(position, member)| Candidate {
                endpoint: &member.endpoint,
                position,
                in_flight: member.cell.in_flight(),
                observation: &member.observation,
                penalty: member.cell.penalty(),
                tried: tried.contains(&member.endpoint.socket()),
            })
            .collect();
        MessageResult(
            self.picker
                .pick(&mut candidates, &mut self.rng)
                .map(|picked| Lease::new(Arc::clone(&pool), view.members[picked.position].clone())),
        )
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(Scheduler, _vitals);
