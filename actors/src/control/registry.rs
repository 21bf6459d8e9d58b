//! RouteRegistry: turns the world into plans, and publishes them.
//!
//! # State
//! The world, the last plan's reports, the keeper of each pool, and the one writer of the snapshot. All of it comes back
//! from the watchers' lists when the process starts anew.
//!
//! # Messages
//! In: [`Observed`] from the watchers, [`BindReported`] from listeners, [`HealthChanged`] from pool keepers,
//! [`RedisReported`](crate::messages::RedisReported) from the RedisWatch, [`NamesResolved`](crate::messages::NamesResolved) from the NameResolver, [`SetProfiles`] from the SchedulerFile, [`Observe`] from the admin pages.
//! Out: [`EnsureBinds`] to the ListenerFleet, [`EnsureNames`](crate::control::name_resolver::EnsureNames) to the NameResolver, [`SetPool`](crate::pools::pool_keeper::SetPool) and [`End`](crate::nursery::End) to the pool keepers, [`DesireWrites`] to the
//! ClusterWriter where there is one; the snapshot, to everyone.
//!
//! # Supervision
//! Part of the spine: its death ends the process. It looks after its pool keepers each second, and ends those of pools
//! that are gone. A pool that comes back gets its keeper when the former one has ended.
//!
//! ```text
//! facts     | |||   |        |
//! debounce  ....3 ms quiet after a calm time, else 20 ms, or 200 ms after the first fact
//! plan             *                 *
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, Recipient, SpawnHandle};
use kthena_router::conditions::Condition;
use kthena_router::controller::Controller;
use kthena_router::desired::Reconciler;
use kthena_router::object::{Bind, BindState, Kind, PoolKey};
use kthena_router::plan::{BindPlan, Complaint, Plan, PoolPlan, Reports, plan};
use kthena_router::record::Effect;
use kthena_router::scheduling::profiles::Profiles;
use kthena_router::world::{Fact, World, WorldKind};
use serde::Serialize;
use tracing::{info, warn};

pub use dump::ConfigDump;
pub use pools::Keeping;

use self::backend_tls::BackendTls;
use self::pools::{KeptPool, existing};
use crate::control::cluster_writer::{ClusterWriter, DesireWrites};
use crate::control::name_resolver::NameResolver;
use crate::edge::tls::TlsPublisher;
use crate::messages::{BindReported, EnsureBinds, HealthChanged};
use crate::nursery::Child;
use crate::ops::metrics::{Books, Existing, Metrics};
use crate::ops::observe::Observe;
use crate::ops::vitals::Vitals;
use crate::pools::meters::Meters;
use crate::pools::published::{Publisher, Snapshot};

mod backend_tls;
mod dump;
mod limits;
mod names;
mod pools;

/// How long the world must be quiet before a plan is made.
const QUIET: Duration = Duration::from_millis(20);
/// How long it must be quiet after a calm time: what follows at once belongs to the same change, the rest can wait.
const CALM_QUIET: Duration = Duration::from_millis(3);
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
    /// The pools whose former keepers have not ended yet.
    ending: BTreeSet<PoolKey>,
    publishers: Publishers,
    backend_tls: BackendTls,
    meters: Meters,
    /// Who looks up the names that ModelServers list, if there are any.
    resolver: Option<Child<NameResolver>>,
    generation: u64,
    /// The metric series of routes and backends, and the objects that they may be of.
    books: Books,
    existing: Existing,
    debounce: Option<Debounce>,
    /// When the last plan was made.
    planned: Option<Instant>,
    /// Whether something happened that plans depend on.
    outdated: bool,
    fleet: Recipient<EnsureBinds>,
    /// Who writes to the API server, where there is one.
    writer: Option<Addr<ClusterWriter>>,
    keeping: Keeping,
    /// What is wrong with the scheduler's configuration file, of which the last good text is in use.
    scheduler_fault: Option<String>,
    vitals: Vitals,
}

/// The one writer of everything that the HTTP workers read.
pub struct Publishers {
    /// The routes and pools.
    pub snapshot: Publisher,
    /// What listeners serve TLS with.
    pub tls: TlsPublisher,
}

/// A fact about objects of kind `K`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Observed<K: WorldKind>(pub Fact<K::Stored>);

/// How endpoints are picked from now on, or why the file that says it cannot be used.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetProfiles(pub Result<Arc<Profiles>, String>);

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
    /// How endpoints are picked, by the name of the profile; the scheduler's own has none.
    pub profiles: BTreeMap<String, String>,
    /// What is wrong with the scheduler's configuration file now, so that the last good one stays in use.
    pub scheduler_fault: Option<String>,
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
        writer: Option<Addr<ClusterWriter>>,
        keeping: Keeping,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let controller = Controller { profiles: keeping.profiles.names(), ..controller };
        Self {
            world,
            controller,
            reports: Arc::default(),
            complaints: BTreeSet::new(),
            reconciler: Reconciler::default(),
            binds: Vec::new(),
            pools: BTreeMap::new(),
            ending: BTreeSet::new(),
            publishers,
            backend_tls: BackendTls::default(),
            meters: Meters::default(),
            resolver: None,
            generation: 0,
            books: Books::default(),
            existing: Existing::default(),
            debounce: None,
            planned: None,
            outdated: true,
            fleet,
            writer,
            keeping,
            scheduler_fault: None,
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
        let is_calm = self.planned.is_none_or(|planned| first.saturating_duration_since(planned) >= AT_MOST);
        let (quiet, rest) = (if is_calm { CALM_QUIET } else { QUIET }, AT_MOST.saturating_sub(now - first));
        let timer = context.run_later(quiet.min(rest), Self::recompute);
        self.debounce = Some(Debounce { first, timer });
    }

    fn recompute(&mut self, context: &mut Context<Self>) {
        self.debounce = None;
        if !self.world.unsynced().is_empty() {
            // A plan from half a world would close ports and drop routes that are still there.
            return;
        }
        let _handling = self.vitals.handling("Recompute");
        if std::mem::replace(&mut self.outdated, false) {
            self.make_plan(context);
            self.planned = Some(Instant::now());
        }
        if let Some(writer) = &self.writer {
            let writes = self.reconciler.writes(&self.world, &self.binds, &self.reports, &self.controller);
            writer.do_send(DesireWrites(writes));
        }
    }

    fn make_plan(&mut self, context: &mut Context<Self>) {
        let started = Instant::now();
        let plan = plan(&self.world, &self.controller);
        let Plan { table, binds, tls, upstream_tls, pools, reports, allocations, names } = plan;
        let took = started.elapsed();
        let metrics = self.vitals.metrics();
        metrics.plans.made.inc();
        metrics.plans.seconds.observe(took.as_secs_f64());

        let handles = self.keep_pools(&pools, context);
        self.generation += 1;
        let listeners = tls.iter().flat_map(|(bind, listeners)| listeners.iter().map(|(name, tls)| (*bind, name, tls)));
        self.publishers.tls.publish(listeners);
        let backend_tls = self.backend_tls.make(upstream_tls);
        let picker = |pool: &PoolPlan| Arc::clone(self.keeping.profiles.picker(pool.profile.as_deref()));
        let pickers = pools.iter().map(picker).collect();
        let (meters, gone) = self.keep_meters();
        let snapshot = Snapshot { generation: self.generation, table, pools: handles, meters, pickers, backend_tls };
        self.publishers.snapshot.publish(snapshot);
        self.forget_limits(&gone);
        self.existing = existing(&reports, &pools);
        self.books.note_change();
        self.world.ejected.retain(|pool, _| self.pools.contains_key(pool));
        self.world.allocations = allocations;
        self.look_up(names, context);
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

impl Actor for RouteRegistry {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.keeping.means.reports = Some(context.address().downgrade().recipient());
        context.run_interval(Duration::from_secs(1), |registry, _| {
            registry.look_after_keepers();
            registry.look_after_resolver();
            registry.books.settle(registry.vitals.metrics(), &registry.existing);
        });
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

impl Handler<HealthChanged> for RouteRegistry {
    type Result = ();

    fn handle(&mut self, HealthChanged { pool, ejected, latest }: HealthChanged, context: &mut Self::Context) {
        let _handling = self.vitals.handling("HealthChanged");
        if !self.pools.contains_key(&pool) {
            // It was on its way when the pool went.
            return;
        }
        if let (Some(writer), Some((endpoint, cause))) = (&self.writer, latest) {
            writer.do_send(self.ejection(&pool, &endpoint, cause));
        }
        let before = self.world.ejected.insert(pool.clone(), ejected);
        // Only a ModelServer has a status that tells of it.
        let is_news = pool.kind == Kind::ModelServer && before.unwrap_or_default() != self.world.ejected[&pool];
        self.schedule(if is_news { Effect::Plan } else { Effect::Nothing }, context);
    }
}

impl Handler<SetProfiles> for RouteRegistry {
    type Result = ();

    fn handle(&mut self, SetProfiles(read): SetProfiles, context: &mut Self::Context) {
        let _handling = self.vitals.handling("SetProfiles");
        let profiles = match read {
            Ok(profiles) => profiles,
            Err(fault) => {
                self.scheduler_fault = Some(fault);
                return;
            }
        };
        self.scheduler_fault = None;
        if profiles != self.keeping.profiles {
            self.controller.profiles = profiles.names();
            self.keeping.profiles = profiles;
            self.schedule(Effect::Plan, context);
        }
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
            profiles: self.keeping.profiles.words(),
            scheduler_fault: self.scheduler_fault.clone(),
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
    .filter_map(|kept| kept.keeper.as_ref())
    .map(crate::nursery::Child::address));

#[cfg(test)]
mod tests;
