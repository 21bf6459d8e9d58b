//! The pools of a plan, each with its one keeper.

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture};
use kthena_router::flow::settings::Settings;
use kthena_router::inference::health::Cause;
use kthena_router::object::{Kind, PoolKey};
use kthena_router::plan::{PoolPlan, Reports};
use kthena_router::pool::policy::PoolPolicy;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::scheduling::profiles::Profiles;

use super::RouteRegistry;
use crate::control::cluster_writer::ReportTrouble;
use crate::nursery::{Child, Tended};
use crate::ops::metrics::{Existing, Metrics, NONE};
use crate::pools::pool_keeper::{Means, PoolKeeper, SetPool};
use crate::pools::published::Pool;

/// What pool keepers are made with.
pub struct Keeping {
    /// Where the keepers run.
    pub scheduling: ArbiterHandle,
    /// What they work with.
    pub means: Means,
    /// How requests wait for pools that have no room.
    pub waiting: Settings,
    /// How endpoints are picked.
    pub profiles: Arc<Profiles>,
}

/// A pool of the last plan.
pub(super) struct KeptPool {
    pub(super) pool: Arc<Pool>,
    /// `None` until the keeper of the former pool of this name has ended.
    pub(super) keeper: Option<Child<PoolKeeper>>,
    pub(super) policy: Arc<PoolPolicy>,
    endpoints: Vec<Endpoint>,
}

impl RouteRegistry {
    /// Gives every pool a keeper with the right endpoints, and ends the keepers of vanished pools. Returns the pools in
    /// the order of their plans.
    pub(super) fn keep_pools(&mut self, plans: &[PoolPlan], context: &mut Context<Self>) -> Vec<Arc<Pool>> {
        let parts = plans.iter().filter_map(|plan| Some((&plan.key, plan.parts.as_ref()?)));
        self.vitals.metrics().disaggregation.show_pairs(parts);
        let mut kept = std::mem::take(&mut self.pools);
        let mut handles = Vec::with_capacity(plans.len());
        for plan in plans {
            let pool = match kept.remove(&plan.key) {
                Some(mut known) => {
                    known.follow(plan);
                    known
                }
                None => {
                    let mut pool = KeptPool::new(plan, self.keeping.waiting);
                    if !self.ending.contains(&plan.key) {
                        self.keeping.start_keeper(&mut pool, self.vitals.metrics());
                    }
                    pool
                }
            };
            handles.push(Arc::clone(&pool.pool));
            self.pools.insert(plan.key.clone(), pool);
        }
        for (key, gone) in kept {
            self.end_keeper(key, gone.keeper, context);
        }
        handles
    }

    /// Makes the report of an ejected endpoint, about the object that its pool stands for.
    pub(super) fn ejection(&self, pool: &PoolKey, endpoint: &Endpoint, cause: Cause) -> ReportTrouble {
        let world = &self.world;
        let server = world.model_servers.find(&pool.object).map(|server| &server.record);
        let record = match pool.kind {
            Kind::InferencePool => world.inference_pools.find(&pool.object).map(|facts| &facts.record),
            Kind::ModelServer => server,
            _ => None,
        };
        let uid = record.map(|record| record.uid.to_string()).unwrap_or_default();
        let message = format!("{endpoint} gets no requests for a while: {cause}");
        ReportTrouble { kind: pool.kind, key: pool.object.clone(), uid, reason: "EndpointEjected", message }
    }

    fn end_keeper(&mut self, key: PoolKey, keeper: Option<Child<PoolKeeper>>, context: &mut Context<Self>) {
        // Without a keeper the one before it is still ending.
        let Some(keeper) = keeper else { return };
        self.ending.insert(key.clone());
        let ended = keeper.end().into_actor(self);
        context.spawn(ended.map(move |(), registry, _| registry.note_ended(&key)));
    }

    fn note_ended(&mut self, key: &PoolKey) {
        self.ending.remove(key);
        match self.pools.get_mut(key) {
            Some(pool) => self.keeping.start_keeper(pool, self.vitals.metrics()),
            None => self.vitals.metrics().forget_pool(key),
        }
    }

    pub(super) fn look_after_keepers(&mut self) {
        let _handling = self.vitals.handling("Look");
        for (key, kept) in &mut self.pools {
            let metrics = self.vitals.metrics();
            if kept.keeper.as_mut().is_some_and(|keeper| keeper.look(key, metrics)) {
                kept.tell();
            }
        }
    }
}

impl KeptPool {
    fn new(plan: &PoolPlan, waiting: Settings) -> Self {
        let pool = Pool::new(plan.key.clone(), &plan.endpoints, waiting);
        Self { pool, keeper: None, policy: Arc::clone(&plan.policy), endpoints: plan.endpoints.clone() }
    }

    /// Lets the pool be as a plan says.
    fn follow(&mut self, plan: &PoolPlan) {
        if self.endpoints == plan.endpoints && self.policy == plan.policy {
            return;
        }
        self.endpoints.clone_from(&plan.endpoints);
        self.policy = Arc::clone(&plan.policy);
        self.tell();
    }

    /// Tells the keeper what the pool is to be.
    fn tell(&self) {
        if let Some(keeper) = &self.keeper {
            let (policy, endpoints) = (Arc::clone(&self.policy), self.endpoints.clone());
            keeper.address().do_send(SetPool { policy, endpoints });
        }
    }
}

impl Keeping {
    fn start_keeper(&self, kept: &mut KeptPool, metrics: &Arc<Metrics>) {
        let (scheduling, means) = (self.scheduling.clone(), self.means.clone());
        let (pool, policy, metrics) = (Arc::clone(&kept.pool), Arc::clone(&kept.policy), Arc::clone(metrics));
        let keeper = Child::start(PoolKeeper::NAME, move || {
            let (pool, policy, metrics) = (Arc::clone(&pool), Arc::clone(&policy), Arc::clone(&metrics));
            let means = means.clone();
            PoolKeeper::start_in_arbiter(&scheduling, move |_| PoolKeeper::new(pool, policy, means, &metrics))
        });
        kept.keeper = Some(keeper);
        kept.tell();
    }
}

/// Returns the names that metric series may have.
pub(super) fn existing(reports: &Reports, pools: &[PoolPlan]) -> Existing {
    let routes = reports.routes.keys().chain(reports.http_routes.keys());
    let backend = |pool: &PoolPlan| {
        (pool.key.object.to_string(), pool.policy.served_model.clone().unwrap_or_else(|| NONE.to_owned()))
    };
    Existing { routes: routes.map(ToString::to_string).collect(), backends: pools.iter().map(backend).collect() }
}
