//! Asks what would become of a request, at the routes and pools of one snapshot.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use kthena_router::explain::Explanation;
use kthena_router::explain::dry_run::{Fleet, Question, dry_run};
use kthena_router::flow::settings::Settings;
use kthena_router::object::{Bind, PoolKey};
use kthena_router::plan::Plan;
use kthena_router::pool::availability::Availability;
use kthena_router::pool::policy::{PoolIndex, PoolPolicy};
use kthena_router::routing::decision::Moment;
use kthena_router::scheduling::picker::PickError;
use kthena_router::scheduling::profiles::Profiles;
use kthena_router::scheduling::record::{PickRecord, PickWords};
use kthena_router::scheduling::request::RequestFacts;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::pools::published::{Pool, Snapshot};
use crate::pools::scheduler::pick;

/// A question to a running router, as it is sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The port that the request would come in on.
    pub port: u16,
    /// Its method.
    pub method: String,
    /// Its host.
    pub host: String,
    /// Its path, and its query if it has one.
    pub path: String,
    /// Its headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Its body.
    #[serde(default)]
    pub body: String,
}

/// The pools of a snapshot at one moment.
struct Moments<'s> {
    snapshot: &'s Snapshot,
    rng: RefCell<SmallRng>,
}

impl Asked {
    /// Says what would become of the request; `address` is what inference ports are opened on.
    pub fn explain(self, snapshot: &Snapshot, address: IpAddr) -> Explanation {
        let Self { port, method, host, path, headers, body } = self;
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let bind = Bind { address, port };
        let question = Question { bind, method, host, target: path, headers, body: body.into_bytes() };
        let rng = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
        dry_run(&snapshot.table, &question, &Moments { snapshot, rng })
    }
}

impl Moment for Moments<'_> {
    fn availability(&self, pool: PoolIndex) -> Availability {
        self.snapshot.availability(pool)
    }

    fn draw(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().random_range(0..bound)
    }
}

impl Fleet for Moments<'_> {
    fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    fn pool(&self, pool: PoolIndex) -> Option<(&PoolKey, &PoolPolicy, usize)> {
        let entry = self.snapshot.table.pools.get(pool.0)?;
        let endpoints = self.snapshot.pools.get(pool.0)?.view().members.len();
        Some((&entry.key, &entry.policy, endpoints))
    }

    fn pick(&self, pool: PoolIndex, facts: &RequestFacts) -> (Result<(), PickError>, PickWords) {
        let mut record = PickRecord::default();
        let (Some(pool), Some(picker)) = (self.snapshot.pools.get(pool.0), self.snapshot.pickers.get(pool.0)) else {
            return (Err(PickError::NoEndpoints), record.words(&|_| None));
        };
        let (view, mut rng) = (pool.view(), self.rng.borrow_mut());
        let request = facts.attempt(&[]);
        let picked = pick((pool, &view, None), picker, &request, Instant::now(), &mut rng, ((), Some(&mut record)));
        let names = names(pool);
        (picked.map(|_| ()), record.words(&|address| names.get(&address).cloned()))
    }
}

/// Returns the names of the Pods at a pool's addresses.
pub(crate) fn names(pool: &Pool) -> BTreeMap<SocketAddr, String> {
    let view = pool.view();
    view.members.iter().map(|member| (member.endpoint.socket(), member.endpoint.pod.to_string())).collect()
}

/// Makes a snapshot of a plan that nobody serves: nothing is known of its endpoints.
pub(crate) fn snapshot_of(plan: Plan, profiles: &Profiles) -> Snapshot {
    let pools =
        plan.pools.iter().map(|pool| Pool::new(pool.key.clone(), &pool.endpoints, Settings::default())).collect();
    let pickers = plan.pools.iter().map(|pool| Arc::clone(profiles.picker(pool.profile.as_deref()))).collect();
    Snapshot { table: plan.table, pools, pickers, ..Snapshot::default() }
}
