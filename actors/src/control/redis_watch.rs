//! RedisWatch: finds out which of the Redis servers that limits name answer.
//!
//! Only the leader of several replicas writes to objects' status, and it may be one that no client of a limit asks: so each
//! replica asks Redis itself, and does not wait for a request to find out.
//!
//! # State
//! A connection to each server, and what was told of them last.
//!
//! # Messages
//! Out: [`RedisReported`] to the RouteRegistry, after the first look and whenever it is another set.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one; it has the servers from the published snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use futures::future::join_all;
use kthena_router::config::RedisConfig;
use kthena_router::kinds::redis_address::RedisAddress;

use crate::messages::RedisReported;
use crate::ops::metrics::Metrics;
use crate::ops::vitals::Vitals;
use crate::pools::published::Reader;
use crate::pools::redis_link::RedisLink;

/// How long after one look the next one begins, and how long a server has to answer.
const PAUSE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(1);

/// Watches the Redis servers of limits.
pub struct RedisWatch {
    reader: Reader,
    own: RedisConfig,
    registry: Recipient<RedisReported>,
    /// By address; `None` for one that cannot be one.
    links: BTreeMap<Arc<str>, Option<Rc<RedisLink>>>,
    told: Option<BTreeSet<Arc<str>>>,
    vitals: Vitals,
}

impl RedisWatch {
    /// The actor's name.
    pub const NAME: &str = "RedisWatch";

    /// Makes a watch of the servers that published limits name; `own` is the Redis of the router's own options.
    pub fn new(reader: Reader, own: RedisConfig, registry: Recipient<RedisReported>, metrics: &Arc<Metrics>) -> Self {
        let vitals = Vitals::new(Self::NAME, metrics);
        Self { reader, own, registry, links: BTreeMap::new(), told: None, vitals }
    }

    /// Asks all servers, and looks again a while after the last one has answered.
    fn look(&mut self, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("Look");
        self.follow();
        let links: Vec<_> = self.links.iter().map(|(address, link)| (Arc::clone(address), link.clone())).collect();
        let asked = join_all(links.into_iter().map(async |(address, link)| {
            let is_there = match link {
                Some(link) => answers(&link).await,
                None => false,
            };
            (!is_there).then_some(address)
        }));
        context.spawn(asked.into_actor(self).map(|away, watch, context| {
            watch.tell(away.into_iter().flatten().collect());
            context.run_later(PAUSE, Self::look);
        }));
    }

    /// Keeps the connections to the servers that are named now.
    fn follow(&mut self) {
        let snapshot = self.reader.load();
        let named = snapshot.meters.redis();
        self.links.retain(|address, _| named.contains(address));
        for address in named {
            if !self.links.contains_key(address) {
                self.links.insert(Arc::clone(address), link(address, &self.own));
            }
        }
    }

    fn tell(&mut self, away: BTreeSet<Arc<str>>) {
        if self.told.as_ref() != Some(&away) {
            self.registry.do_send(RedisReported { away: away.clone() });
            self.told = Some(away);
        }
    }
}

fn link(address: &str, own: &RedisConfig) -> Option<Rc<RedisLink>> {
    RedisLink::new(RedisAddress::read(address)?, own, "what it counts is not limited until it does").ok().map(Rc::new)
}

async fn answers(link: &RedisLink) -> bool {
    link.ask(LIMIT, async |connection| connection.is_whole().await).await == Ok(true)
}

impl Actor for RedisWatch {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.look(context);
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(RedisWatch, vitals);
