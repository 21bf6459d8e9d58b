//! RouteRegistry: turns the world into plans, and publishes them.
//!
//! # State
//! The world, the last plan's reports, the keeper of each pool, and the one writer of the snapshot. All of it comes back
//! from the watchers' lists when the process starts anew.
//!
//! # Messages
//! In: [`Observed`] from the watchers, [`BindReported`] from listeners, [`Observe`] from the admin pages.
//! Out: [`EnsureBinds`] to the ListenerFleet, [`SetEndpoints`] to the pool keepers, [`DesireWrites`] to the
//! ClusterWriter where there is one; the snapshot, to everyone.
//!
//! # Supervision
//! Part of the spine: its death ends the process. It looks after its pool keepers each second.
//!
//! ```text
//! facts     | |||   |        |
//! debounce  ....20 ms quiet, or 200 ms after the first fact
//! plan             *                 *
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, MessageResult, Recipient, SpawnHandle,
};
use kthena_router::conditions::Condition;
use kthena_router::config::EngineConfig;
use kthena_router::controller::Controller;
use kthena_router::desired::Reconciler;
use kthena_router::object::{Bind, BindState, PoolKey};
use kthena_router::plan::{BindPlan, Complaint, Plan, PoolPlan, Reports, plan};
use kthena_router::record::Effect;
use kthena_router::routing::pool::PoolPolicy;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::world::{Fact, World, WorldKind};
use serde::Serialize;
use tracing::{info, warn};

pub use dump::ConfigDump;

use self::backend_tls::BackendTls;
use crate::cluster_writer::DesireWrites;
use crate::fleet::EnsureBinds;
use crate::metrics::Metrics;
use crate::observe::Observe;
use crate::pool_keeper::{PoolKeeper, SetEndpoints};
use crate::published::{Pool, Publisher, Snapshot};
use crate::tls::TlsPublisher;
use crate::vitals::{Vitals, note_restart};
use kthena_router_upstream::Upstream;

mod backend_tls;
mod dump;

/// How long the world must be quiet before a plan is made.
const QUIET: Duration = Duration::from_millis(20);
/// How long a plan may be put off by a world that is never quiet.
const AT_MOST: Duration = Duration::from_millis(200);

/// Turns facts into plans.
pub struct RouteRegistry {
    world: World,
    controller: Controller,
    reports: Arc<Reports>,
    complaints: BTreeSet<Complaint>,
    /// What is to be written to the API server.
    reconciler: Reconciler,
    binds: Vec<BindPlan>,
    pools: BTreeMap<PoolKey, KeptPool>,
    publishers: Publishers,
    backend_tls: BackendTls,
    generation: u64,
    debounce: Option<Debounce>,
    /// Whether something happened that plans depend on.
    outdated: bool,
    fleet: Recipient<EnsureBinds>,
    /// Who writes to the API server, where there is one.
    writer: Option<Recipient<DesireWrites>>,
    keeping: Keeping,
    vitals: Vitals,
}

/// The one writer of everything that the HTTP workers read.
pub struct Publishers {
    /// The routes and pools.
    pub snapshot: Publisher,
    /// What listeners serve TLS with.
    pub tls: TlsPublisher,
}

/// What pool keepers are made with.
pub struct Keeping {
    /// Where the keepers run.
    pub scheduling: ArbiterHandle,
    /// Where their scrapers run.
    pub scraping: ArbiterHandle,
    /// How engines are observed.
    pub engines: EngineConfig,
    /// How engines are reached.
    pub upstream: Upstream,
}

/// A fact about objects of kind `K`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Observed<K: WorldKind>(pub Fact<K::Stored>);

/// A socket was opened, or could not be.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BindReported {
    /// The socket.
    pub bind: Bind,
    /// What became of it.
    pub state: BindState,
}

/// The registry's state, for readiness and for operators.
#[derive(Clone, Debug, Serialize)]
pub struct RegistryState {
    /// How many plans were published; 0 before the first.
    pub generation: u64,
    /// The kinds of which no complete list has arrived yet.
    pub unsynced: BTreeSet<&'static str>,
    /// The sockets to have open, and what became of them.
    pub binds: BTreeMap<String, Option<String>>,
    /// The number of objects of each kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// The number of pools.
    pub pools: usize,
}

struct KeptPool {
    pool: Arc<Pool>,
    keeper: Addr<PoolKeeper>,
    policy: Arc<PoolPolicy>,
    endpoints: Vec<Endpoint>,
}

struct Debounce {
    first: Instant,
    timer: SpawnHandle,
}

impl RouteRegistry {
    /// The actor's name.
    pub const NAME: &str = "RouteRegistry";

    /// Makes a registry of a world that nothing is known of yet.
    pub fn new(
        (world, controller): (World, Controller),
        publishers: Publishers,
        fleet: Recipient<EnsureBinds>,
        writer: Option<Recipient<DesireWrites>>,
        keeping: Keeping,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            world,
            controller,
            reports: Arc::default(),
            complaints: BTreeSet::new(),
            reconciler: Reconciler::default(),
            binds: Vec::new(),
            pools: BTreeMap::new(),
            publishers,
            backend_tls: BackendTls::default(),
            generation: 0,
            debounce: None,
            outdated: true,
            fleet,
            writer,
            keeping,
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    /// Puts what an effect asks for off until the world is quiet, but not for ever.
    fn schedule(&mut self, effect: Effect, context: &mut Context<Self>) {
        if effect == Effect::Nothing {
            return;
        }
        self.outdated |= effect == Effect::Plan;
        let now = Instant::now();
        let first = match self.debounce.take() {
            Some(pending) => {
                context.cancel_future(pending.timer);
                pending.first
            }
            None => now,
        };
        let rest = AT_MOST.saturating_sub(now - first);
        let timer = context.run_later(QUIET.min(rest), |registry, _| registry.recompute());
        self.debounce = Some(Debounce { first, timer });
    }

    fn recompute(&mut self) {
        self.debounce = None;
        if !self.world.unsynced().is_empty() {
            // A plan from half a world would close ports and drop routes that are still there.
            return;
        }
        let _handling = self.vitals.handling("Recompute");
        if std::mem::replace(&mut self.outdated, false) {
            self.make_plan();
        }
        if let Some(writer) = &self.writer {
            let writes = self.reconciler.writes(&self.world, &self.binds, &self.reports, &self.controller);
            writer.do_send(DesireWrites(writes));
        }
    }

    fn make_plan(&mut self) {
        let started = Instant::now();
        let Plan { table, binds, tls, upstream_tls, pools, reports, allocations } = plan(&self.world, &self.controller);
        let took = started.elapsed();
        let metrics = self.vitals.metrics();
        metrics.plans.inc();
        metrics.plan_seconds.observe(took.as_secs_f64());

        self.keep_pools(&pools);
        self.generation += 1;
        let handles = pools.iter().filter_map(|pool| self.pools.get(&pool.key)).map(|kept| Arc::clone(&kept.pool));
        let listeners = tls.iter().flat_map(|(bind, listeners)| listeners.iter().map(|(name, tls)| (*bind, name, tls)));
        self.publishers.tls.publish(listeners);
        let (pools_of_table, backend_tls) = (handles.collect(), self.backend_tls.make(upstream_tls));
        let snapshot = Snapshot { generation: self.generation, table, pools: pools_of_table, backend_tls };
        self.publishers.snapshot.publish(snapshot);
        self.world.allocations = allocations;
        if binds != self.binds {
            self.fleet.do_send(EnsureBinds(binds.clone()));
            self.world.binds.retain(|bind, _| binds.iter().any(|plan| plan.bind == *bind));
            self.binds = binds;
        }
        let mut complaints = reports.complaints();
        complaints.extend(reports.unserved());
        self.tell(&reports, &complaints);
        info!(
            generation = self.generation,
            model_routes = reports.routes.len(),
            http_routes = reports.http_routes.len(),
            gateways = reports.gateways.len(),
            pools = pools.len(),
            endpoints = pools.iter().map(|pool| pool.endpoints.len()).sum::<usize>(),
            microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "plan published"
        );
        self.complaints = complaints;
        self.reports = Arc::new(reports);
    }

    /// Gives every pool a keeper with the right endpoints, and lets the keepers of vanished pools go.
    fn keep_pools(&mut self, plans: &[PoolPlan]) {
        let mut kept = std::mem::take(&mut self.pools);
        for plan in plans {
            let pool = match kept.remove(&plan.key) {
                Some(mut known) if same_engine(&known.policy, &plan.policy) => {
                    if known.endpoints != plan.endpoints {
                        known.keeper.do_send(SetEndpoints(plan.endpoints.clone()));
                        known.endpoints.clone_from(&plan.endpoints);
                    }
                    known.policy = Arc::clone(&plan.policy);
                    known
                }
                Some(known) => self.keep(known.pool, plan),
                None => self.keep(Pool::new(plan.key.clone(), &plan.endpoints), plan),
            };
            self.pools.insert(plan.key.clone(), pool);
        }
    }

    fn keep(&self, pool: Arc<Pool>, plan: &PoolPlan) -> KeptPool {
        let keeper = self.start_keeper(&pool, &plan.policy);
        keeper.do_send(SetEndpoints(plan.endpoints.clone()));
        KeptPool { pool, keeper, policy: Arc::clone(&plan.policy), endpoints: plan.endpoints.clone() }
    }

    fn start_keeper(&self, pool: &Arc<Pool>, policy: &Arc<PoolPolicy>) -> Addr<PoolKeeper> {
        let (pool, policy, metrics) = (Arc::clone(pool), Arc::clone(policy), Arc::clone(self.vitals.metrics()));
        let Keeping { scheduling, scraping, engines, upstream } = &self.keeping;
        let (scraping, engines, upstream) = (scraping.clone(), engines.clone(), upstream.clone());
        PoolKeeper::start_in_arbiter(scheduling, move |_| {
            PoolKeeper::new(pool, &policy, &engines, scraping, &upstream, &metrics)
        })
    }

    fn look_after_keepers(&mut self) {
        let _handling = self.vitals.handling("Look");
        let dead: Vec<_> =
            self.pools.iter().filter(|(_, kept)| !kept.keeper.connected()).map(|(key, _)| key.clone()).collect();
        for key in dead {
            warn!(pool = %key, "pool keeper died, starting a fresh one");
            note_restart(self.vitals.metrics(), PoolKeeper::NAME, "died");
            if let Some(kept) = self.pools.get(&key) {
                let keeper = self.start_keeper(&kept.pool, &kept.policy);
                keeper.do_send(SetEndpoints(kept.endpoints.clone()));
                self.pools.entry(key).and_modify(|kept| kept.keeper = keeper);
            }
        }
    }

    /// Logs what is new in a plan's complaints: each once, until it is different.
    fn tell(&self, reports: &Reports, complaints: &BTreeSet<Complaint>) {
        for Complaint { kind, key, text } in complaints.difference(&self.complaints) {
            warn!(%kind, object = %key, complaint = text, "object is not served as written");
        }
        for (server, report) in &reports.servers {
            let Condition { status, reason, message, .. } = &report.ready;
            let is_known = self.reports.servers.get(server).is_some_and(|known| known.ready == report.ready);
            if !status && !is_known {
                warn!(%server, reason, %message, "model server is not ready");
            }
        }
    }
}

/// Returns whether a keeper made for one policy can go on with the other.
fn same_engine(first: &PoolPolicy, second: &PoolPolicy) -> bool {
    (first.engine, first.https, first.protocol) == (second.engine, second.https, second.protocol)
}

impl Actor for RouteRegistry {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(Duration::from_secs(1), |registry, _| registry.look_after_keepers());
    }
}

impl<K: WorldKind> Handler<Observed<K>> for RouteRegistry {
    type Result = ();

    fn handle(&mut self, Observed(fact): Observed<K>, context: &mut Self::Context) {
        let _handling = self.vitals.handling("Observed");
        let effect = self.world.absorb::<K>(fact);
        self.schedule(effect, context);
    }
}

impl Handler<BindReported> for RouteRegistry {
    type Result = ();

    fn handle(&mut self, BindReported { bind, state }: BindReported, context: &mut Self::Context) {
        let _handling = self.vitals.handling("BindReported");
        let before = self.world.binds.insert(bind, state.clone());
        self.schedule(if before == Some(state) { Effect::Nothing } else { Effect::Plan }, context);
    }
}

impl Handler<Observe<RegistryState>> for RouteRegistry {
    type Result = MessageResult<Observe<RegistryState>>;

    fn handle(&mut self, _: Observe<RegistryState>, _: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("Observe");
        let state = |bind: &Bind| {
            self.world.binds.get(bind).map(|state| match state {
                BindState::Open => "open".to_owned(),
                BindState::Failed(error) => format!("failed: {error}"),
            })
        };
        let world = &self.world;
        MessageResult(RegistryState {
            generation: self.generation,
            unsynced: world.unsynced().iter().map(|(kind, _)| kind.label()).collect(),
            binds: self.binds.iter().map(|plan| (plan.bind.to_string(), state(&plan.bind))).collect(),
            objects: world.counts().into_iter().map(|(kind, count)| (kind.label(), count)).collect(),
            pools: self.pools.len(),
        })
    }
}

impl Handler<Observe<ConfigDump>> for RouteRegistry {
    type Result = MessageResult<Observe<ConfigDump>>;

    fn handle(&mut self, _: Observe<ConfigDump>, _: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("Observe");
        let pools = self.pools.iter().map(|(key, kept)| (key, (kept.pool.as_ref(), kept.policy.engine))).collect();
        MessageResult(dump::dump(&self.world, &self.reports, &pools))
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(RouteRegistry, vitals, |registry| registry
    .pools
    .values()
    .map(|kept| &kept.keeper));
