//! What the control plane publishes to the HTTP workers: one snapshot of routes and pools, swapped as a whole, and
//! whether the router is stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::WeakRecipient;
use arc_swap::ArcSwap;
use http::uri::Authority;
use kthena_router::flow::room::{Room as Turns, Seen};
use kthena_router::flow::settings::Settings;
use kthena_router::inference::kv_events::index::HeldBlocks;
use kthena_router::inference::kv_events::known::KnownPrompts;
use kthena_router::object::PoolKey;
use kthena_router::pool::availability::Availability;
use kthena_router::pool::policy::PoolIndex;
use kthena_router::routing::table::RouteTable;
use kthena_router::scheduling::commons::Commons;
use kthena_router::scheduling::endpoint::{Endpoint, Observation, Role};
use kthena_router::scheduling::hits;
use kthena_router::scheduling::homes::Homes;
use kthena_router::scheduling::ledger::Ledger;
use kthena_router::scheduling::picker::Picker;
use kthena_router::scheduling::request::PickRequest;
use kthena_router::scheduling::room::Room;
use kthena_router::scheduling::work;

use crate::messages::{AttemptEnded, LearnPrompt};
use crate::pools::load::LoadCell;
use crate::pools::meters::Meters;
use crate::pools::throughput::Throughput;
use crate::pools::turnstile::Turnstile;
use kthena_router_upstream::ClientTls;

/// Everything that a worker needs to route a request.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with each snapshot; 0 before the first plan.
    pub generation: u64,
    /// The routes.
    pub table: RouteTable,
    /// The pools, in the order of [`RouteTable::pools`].
    pub pools: Vec<Arc<Pool>>,
    /// The counts of token limits.
    pub meters: Meters,
    /// How endpoints of the pools are picked, in the same order.
    pub pickers: Vec<Arc<Picker>>,
    /// How TLS is spoken to backends, by [`TlsIndex`](kthena_router::pool::policy::TlsIndex); `None` where it cannot
    /// be spoken as a policy asks for, so that nothing may be sent.
    pub backend_tls: Vec<Option<Arc<ClientTls>>>,
}

/// A pool, the same value for as long as its backend object exists.
#[derive(Debug)]
pub struct Pool {
    /// The pool's name.
    pub key: PoolKey,
    /// Which beginnings its prompts have in common.
    pub commons: Commons,
    /// The prompts whose tokens are known, where engines tell of their KV caches.
    pub prompts: Arc<KnownPrompts>,
    /// Where its requests wait.
    pub turnstile: Turnstile,
    /// How many tokens it computes.
    pub throughput: Throughput,
    view: ArcSwap<PoolView>,
}

/// What is known of a pool at one moment.
#[derive(Debug, Default)]
pub struct PoolView {
    /// The endpoints; requests share what is known of them at this moment.
    pub members: Vec<Arc<Member>>,
    /// Whether they share the work on a request, so that the role of each counts.
    pub has_roles: bool,
    /// Whether requests wait at all of them.
    pub room: Room,
    /// Where what is new is sent, so that replicas of the router agree.
    pub homes: Arc<Homes>,
    /// Who wants to know of failed attempts: the keeper of the pool.
    pub keeper: Option<WeakRecipient<AttemptEnded>>,
    /// Who learns the tokens of prompts, where engines tell of their KV caches.
    pub learner: Option<WeakRecipient<LearnPrompt>>,
}

/// One endpoint of a pool.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where it is.
    pub endpoint: Arc<Endpoint>,
    /// Where it is, as part of a URI.
    pub authority: Authority,
    /// Its load, which all views of the pool share.
    pub cell: Arc<LoadCell>,
    /// What was sent there and learnt from the answers, which all views share as well.
    pub ledger: Arc<Ledger>,
    /// What its engine tells of its KV cache, which all views share as well.
    pub held: Arc<HeldBlocks>,
    /// What was observed of it.
    pub observation: Observation,
}

/// Whether the router is stopping; its one writer is the Overseer.
#[derive(Clone, Debug, Default)]
pub struct Stopping(Arc<AtomicBool>);

/// The one writer of the snapshot.
#[derive(Debug)]
pub struct Publisher(Arc<ArcSwap<Snapshot>>);

/// A reader of the snapshot.
#[derive(Clone, Debug)]
pub struct Reader(Arc<ArcSwap<Snapshot>>);

/// Makes a writer and a reader of an empty snapshot.
pub fn channel() -> (Publisher, Reader) {
    let shared = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    (Publisher(Arc::clone(&shared)), Reader(shared))
}

impl Stopping {
    /// Tells that the router is stopping; it does not go back on that.
    pub fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the router is stopping.
    pub fn is_announced(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Publisher {
    /// Publishes a snapshot; requests in flight keep the one they began with.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

impl Reader {
    /// Returns the snapshot of this moment.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Looks at the snapshot of this moment; cheaper than to keep it, and not to be held while waiting.
    pub fn glance(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.0.load()
    }
}

impl Snapshot {
    /// Returns what a pool can serve now.
    pub fn availability(&self, pool: PoolIndex) -> Availability {
        self.pools.get(pool.0).map_or(Availability::Empty, |pool| pool.availability())
    }
}

impl Pool {
    /// Makes a pool of these endpoints, whose requests wait in this way.
    pub fn new(key: PoolKey, endpoints: &[Endpoint], waiting: Settings) -> Arc<Self> {
        let members = endpoints.iter().map(Member::new);
        let view = PoolView::of(members);
        let (commons, prompts) = Default::default();
        let turnstile = Turnstile::new(waiting);
        let throughput = Throughput::default();
        Arc::new(Self { key, commons, prompts, turnstile, throughput, view: ArcSwap::from_pointee(view) })
    }

    /// Returns what is known of the pool.
    pub fn view(&self) -> arc_swap::Guard<Arc<PoolView>> {
        self.view.load()
    }

    /// Publishes what is known of the pool; only its keeper does so.
    pub(crate) fn publish(&self, view: PoolView) {
        self.view.store(Arc::new(view));
    }

    fn availability(&self) -> Availability {
        let view = self.view.load();
        let of = |member: &Arc<Member>| match (member.observation.standing.is_ejected(), view.room) {
            (true, _) => Availability::Ejected,
            (false, Room::Full) => Availability::Full,
            (false, Room::Left) => Availability::Ready,
        };
        let is_held = || self.turnstile.settings().holds();
        let of_none = || if is_held() { Availability::Awaited } else { Availability::Empty };
        view.members.iter().map(of).max().unwrap_or_else(of_none)
    }
}

impl PoolView {
    /// Makes a view of these endpoints of which nothing else is known.
    pub(crate) fn of(members: impl Iterator<Item = Member>) -> Self {
        let members: Vec<_> = members.map(Arc::new).collect();
        // Whether any of them works on a part of requests only.
        let has_roles = members.iter().any(|member| member.endpoint.role != Role::Whole);
        Self { members, has_roles, ..Self::default() }
    }

    /// Returns what room the pool has for further requests.
    pub(crate) fn room_for_turns(&self, settings: &Settings) -> Turns {
        if self.members.is_empty() {
            return if settings.holds() { Turns::NONE } else { Turns::UNBOUNDED };
        }
        if !settings.enabled {
            return Turns::UNBOUNDED;
        }
        let in_flight = || self.members.iter().map(|member| member.cell.in_flight()).sum::<u32>();
        let in_pool = settings.per_pool.map_or(usize::MAX, |most| most.saturating_sub(in_flight()) as usize);
        let answering = self.room_of(settings, |role| role != Role::Prefill).at_most(in_pool);
        if self.has_roles { answering.and(self.room_of(settings, |role| role == Role::Prefill)) } else { answering }
    }

    /// Returns for how long one of the endpoints computes the prompt of a request.
    pub(crate) fn work_of(&self, request: &PickRequest<'_>) -> Duration {
        let seen = |member: &Arc<Member>| {
            let capacity = member.observation.cache_tokens();
            (hits::cached(request, &member.ledger, &member.held, capacity), member.ledger.pace())
        };
        work::of_prompt(request.tokens, self.members.iter().map(seen))
    }

    /// Returns what room those with one of these roles have.
    fn room_of(&self, settings: &Settings, is_asked: impl Fn(Role) -> bool) -> Turns {
        let serves =
            |member: &&Arc<Member>| is_asked(member.endpoint.role) && !member.observation.standing.is_ejected();
        let serving = || self.members.iter().filter(serves);
        let limit = |member: &Member| settings.per_endpoint.or_else(|| member.observation.slots.limit());
        if serving().any(|member| limit(member).is_none()) {
            return Turns::UNBOUNDED;
        }
        let seen = serving().filter_map(|member| {
            let in_flight = member.cell.in_flight();
            let load = in_flight.saturating_add(self.homes.elsewhere(&member.observation, in_flight));
            limit(member).map(|limit| Seen { limit, load, busy: member.ledger.busy() })
        });
        Turns::of(seen, settings.kept_percent)
    }
}

impl Member {
    /// Makes a member of which nothing is observed yet.
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        Self {
            authority: endpoint.socket().to_string().parse().expect("a socket's address is an authority"),
            endpoint: Arc::new(endpoint.clone()),
            cell: Arc::default(),
            ledger: Arc::default(),
            held: Arc::default(),
            observation: Observation::default(),
        }
    }
}
