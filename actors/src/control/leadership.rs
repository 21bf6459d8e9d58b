//! Leadership: holds the lease that makes this replica the one that writes to the API server.
//!
//! # State
//! Its side of the Lease, which is renewed for as long as the actor lives; when the process dies, the Lease expires.
//!
//! # Messages
//! In and out: [`LeadershipChanged`], from its own side of the Lease to the ClusterWriter.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one. It gives the Lease back when the Overseer
//! says that the router is stopping, and lets go of the Overseer's channel when that is done.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Recipient, WrapFuture};
use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use crate::control::cluster_writer::LeadershipChanged;
use crate::ops::metrics::Metrics;
use crate::ops::vitals::Vitals;

/// The name of the Lease.
pub const LEASE: &str = "kthena-router";
/// How long the Lease is held without being renewed, in seconds.
const LEASE_SECONDS: u64 = 15;
/// How long before its end the Lease is renewed, in seconds.
const RENEWED_BEFORE: u64 = 10;
/// How often a replica that does not lead looks at the Lease.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long to wait before a Lease that could not be read is read again.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Holds the Lease.
pub struct Leadership {
    candidacy: Candidacy,
    writer: Recipient<LeadershipChanged>,
    /// Becomes true when the router stops.
    stopping: Option<watch::Receiver<bool>>,
    vitals: Vitals,
}

/// Who runs for the Lease, and where it is.
#[derive(Clone)]
pub struct Candidacy {
    /// The client to hold it with.
    pub client: Client,
    /// The Lease's namespace.
    pub namespace: String,
    /// The name of this replica.
    pub identity: String,
}

impl Leadership {
    /// The actor's name.
    pub const NAME: &str = "Leadership";

    /// Makes a candidate that tells `writer` whether it leads, until `stopping` becomes true.
    pub fn new(
        candidacy: Candidacy,
        writer: Recipient<LeadershipChanged>,
        stopping: watch::Receiver<bool>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self { candidacy, writer, stopping: Some(stopping), vitals: Vitals::new(Self::NAME, metrics) }
    }
}

impl Actor for Leadership {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let Some(stopping) = self.stopping.take() else { return };
        let run = run(self.candidacy.clone(), stopping, context.address().recipient()).into_actor(self);
        context.spawn(run);
    }
}

impl Handler<LeadershipChanged> for Leadership {
    type Result = ();

    fn handle(&mut self, changed: LeadershipChanged, _: &mut Self::Context) {
        let _handling = self.vitals.handling("LeadershipChanged");
        self.writer.do_send(changed);
    }
}

/// Runs for the Lease until the router stops, then gives it back. That it cannot be held is said once.
async fn run(candidacy: Candidacy, mut stopping: watch::Receiver<bool>, states: Recipient<LeadershipChanged>) {
    let mut failures = 0_u32;
    while !*stopping.borrow() {
        if let Err(error) = hold(&candidacy, &mut stopping, &states).await {
            if failures == 0 {
                warn!(%error, lease = LEASE, "lease cannot be held, trying again");
            }
            failures += 1;
            tokio::select! {
                () = sleep(BACK_OFF) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        } else {
            failures = 0;
        }
    }
}

/// Holds the Lease, or waits for it for a while.
async fn hold(
    candidacy: &Candidacy,
    stopping: &mut watch::Receiver<bool>,
    states: &Recipient<LeadershipChanged>,
) -> Result<(), LeaseManagerError> {
    let Candidacy { client, namespace, identity } = candidacy.clone();
    let lease = LeaseManagerBuilder::new(client, LEASE)
        .with_namespace(namespace)
        .with_field_manager(format!("{LEASE}-{identity}"))
        .with_identity(identity)
        .with_duration(LEASE_SECONDS)
        .with_grace(RENEWED_BEFORE)
        .build();
    let lease = tokio::select! {
        lease = lease => lease?,
        _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
    };
    let mut leads = false;
    let outcome = loop {
        tokio::select! {
            changed = lease.changed() => match changed {
                Ok(leading) => {
                    leads = leading;
                    states.do_send(LeadershipChanged(leading));
                }
                Err(error) => break Err(error),
            },
            // By itself it would sleep until the end of the lease that it saw, and miss that it was given back.
            () = sleep(LOOK_AGAIN), if !leads => return Ok(()),
            _ = stopping.wait_for(|stopping| *stopping) => break lease.release().await,
        }
    };
    states.do_send(LeadershipChanged(false));
    outcome
}
