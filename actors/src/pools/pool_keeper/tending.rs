//! What a keeper does about the health of its endpoints: it tells pickers and people of changes, and probes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WeakRecipient, WrapFuture};
use kthena_router::inference::health::{Cause, Change, LONGEST, Signs};
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::world::Ejected;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::PoolKeeper;
use crate::messages::HealthChanged;
use crate::ops::metrics::EjectionLabels;
use crate::pools::published::Member;

/// How often an endpoint that refuses connections is probed, and for how long at most.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

impl PoolKeeper {
    /// Makes a change of an endpoint's health known: to pickers by the pool's view, to people by log and metric.
    pub(super) fn note(&mut self, address: SocketAddr, change: Option<Change>, context: &mut Context<Self>) {
        let Some(change) = change else { return };
        let (pool, standing) = (Arc::clone(&self.pool), self.health.standing(address));
        let Some(member) = self.member(address) else { return };
        member.observation.standing = standing;
        let endpoint = Arc::clone(&member.endpoint);
        let latest =
            if let Change::Ejected { cause, .. } = change { Some((Arc::clone(&endpoint), cause)) } else { None };
        self.report(latest);
        match change {
            Change::Ejected { cause, time } => {
                self.tell_ejected(&endpoint, cause, time);
                context.run_later(time, Self::advance);
                if cause == Cause::Refused {
                    context.run_later(PROBE_INTERVAL, move |keeper, context| keeper.probe(address, context));
                }
            }
            Change::Tried => {
                debug!(pool = %pool.key, %endpoint, "endpoint on trial");
                context.run_later(LONGEST, Self::advance);
            }
            Change::Recovered => info!(pool = %pool.key, %endpoint, "endpoint serves again"),
        }
        self.publish(context);
    }

    /// Returns why each ejected endpoint is, the ones on trial included.
    pub(super) fn ejected(&self) -> Ejected {
        let ejected = |member: &Member| Some((member.endpoint.to_string(), member.observation.standing.cause()?));
        self.members.iter().filter_map(ejected).collect()
    }

    /// Tells which endpoints are ejected.
    pub(super) fn report(&self, latest: Option<(Arc<Endpoint>, Cause)>) {
        if let Some(registry) = self.means.reports.as_ref().and_then(WeakRecipient::upgrade) {
            registry.do_send(HealthChanged { pool: self.pool.key.clone(), ejected: self.ejected(), latest });
        }
    }

    fn tell_ejected(&self, endpoint: &Endpoint, cause: Cause, time: Duration) {
        let (pool, seconds) = (self.pool.key.to_string(), time.as_secs());
        warn!(pool, %endpoint, cause = cause.label(), seconds, "endpoint ejected");
        self.vitals.metrics().ejections.get_or_create(&EjectionLabels { pool, cause: cause.label() }).inc();
    }

    /// Moves health on to this moment.
    pub(super) fn advance(&mut self, context: &mut Context<Self>) {
        let members: HashMap<_, _> = self.members.iter().map(|member| (member.endpoint.socket(), member)).collect();
        let changes = self.health.advance(Instant::now(), |address| {
            let signs =
                |member: &&Member| Signs { in_flight: member.cell.in_flight(), failing: member.cell.is_failing() };
            members.get(&address).map(signs).unwrap_or_default()
        });
        for (address, change) in changes {
            self.note(address, Some(change), context);
        }
    }

    /// Takes back an endpoint that refused connections as soon as it accepts one, be there requests or not.
    pub(super) fn probe(&mut self, address: SocketAddr, context: &mut Context<Self>) {
        if self.health.standing(address).cause() != Some(Cause::Refused) {
            return;
        }
        let probe = timeout(PROBE_INTERVAL, TcpStream::connect(address)).into_actor(self);
        context.spawn(probe.map(move |connected, keeper, context| {
            if matches!(connected, Ok(Ok(_))) {
                keeper.note_contact(address, false, context);
            } else {
                context.run_later(PROBE_INTERVAL, move |keeper, context| keeper.probe(address, context));
            }
        }));
    }

    fn note_contact(&mut self, address: SocketAddr, by_scrape: bool, context: &mut Context<Self>) {
        if let Some(member) = self.member(address) {
            member.cell.note_contact();
        }
        let change = self.health.note_contact(address, by_scrape, Instant::now());
        self.note(address, change, context);
    }
}
