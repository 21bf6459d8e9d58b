//! Scheduler: answers which endpoint serves a request.
//!
//! # State
//! A random number generator that breaks ties; nothing that would be missed. What it knows of pools, and how it picks,
//! is in the snapshots and load cells that it is asked with.
//!
//! # Messages
//! In: [`PickEndpoint`], asked by request handlers of the same worker thread. The handler is synchronous, so that an
//! ask costs about a microsecond and needs no timeout.
//!
//! # Supervision
//! Started by each HTTP worker; after a panic the worker's next request starts a fresh one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Context, Handler, Message, MessageResult};
use kthena_router::scheduling::endpoint::{Candidate, PoolFacts};
use kthena_router::scheduling::hits;
use kthena_router::scheduling::homes::Homes;
use kthena_router::scheduling::picker::{Legs, PickError, Picker};
use kthena_router::scheduling::record::PickRecord;
use kthena_router::scheduling::request::{PickRequest, RequestFacts, Split};
use kthena_router::scheduling::witness::{Course, Witness};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::ops::metrics::{Metrics, PluginLabels};
use crate::ops::vitals::{MessageVitals, Vitals};
use crate::pools::lease::Lease;
use crate::pools::published::{Member, Pool, PoolView};

/// Picks endpoints for the requests of one worker thread.
pub struct Scheduler {
    /// What is said of a request that tells nothing of itself.
    nothing: RequestFacts,
    rng: SmallRng,
    picks: MessageVitals,
    vitals: Vitals,
}

/// Asks for the endpoints that work on a request, and reserves them in the same step.
#[derive(Message)]
#[rtype(result = "(Result<Legs<Lease>, PickError>, Option<Box<PickRecord>>)")]
pub struct PickEndpoint {
    /// The pool.
    pub pool: Arc<Pool>,
    /// How its endpoints are picked.
    pub picker: Arc<Picker>,
    /// What the request tells of itself; `None` for one that is no inference request.
    pub facts: Option<Arc<RequestFacts>>,
    /// The endpoints that it may go to.
    pub among: Among,
    /// Whether one endpoint is to do all of it, although two could.
    pub alone: bool,
    /// Where the pick is written down; it comes back with the answer.
    pub record: Option<Box<PickRecord>>,
}

/// The endpoints of a pool that a request may go to.
#[derive(Clone, Debug)]
pub enum Among {
    /// All but these, which have failed it already.
    Untried(Vec<SocketAddr>),
    /// These alone, one or a pair.
    Only(Vec<SocketAddr>),
}

impl Scheduler {
    /// The actor's name.
    pub const NAME: &str = "Scheduler";

    /// Makes a scheduler.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        let vitals = Vitals::new(Self::NAME, metrics);
        Self {
            nothing: RequestFacts::default(),
            rng: SmallRng::from_rng(&mut rand::rng()),
            picks: vitals.message("PickEndpoint"),
            vitals,
        }
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;
}

impl Handler<PickEndpoint> for Scheduler {
    type Result = MessageResult<PickEndpoint>;

    fn handle(&mut self, asked: PickEndpoint, _: &mut Self::Context) -> Self::Result {
        let handling = self.picks.handling();
        let PickEndpoint { pool, picker, facts, among, alone, mut record } = asked;
        let view = pool.view();
        let mut request = facts.as_deref().unwrap_or(&self.nothing).attempt(among.tried());
        if alone {
            request.split = Split::PREFILL_FAILED;
        }
        let now = Instant::now();
        let timing = handling.is_timed().then(|| Timing { metrics: self.vitals.metrics(), began: now });
        let mut why = Why::default();
        let witness = ((timing, &mut why), record.as_deref_mut());
        let picked = pick((&pool, &view, among.only()), &picker, &request, now, &mut self.rng, witness);
        if let Some(decision) = why.0 {
            self.vitals.metrics().disaggregation.note_decision(&pool.key, decision);
        }
        let lease = |picked: Candidate<'_>, opens: OpenLease| {
            opens(Arc::clone(&pool), Arc::clone(&view.members[picked.position]), &request, (picked.cached, now))
        };
        let legs = picked.map(|(legs, source)| match legs {
            Legs::One(picked) => Legs::One(lease(picked, Lease::opened).pulling_from(source)),
            Legs::Two { prefill, decode } => Legs::Two {
                prefill: lease(prefill, Lease::opened),
                decode: lease(decode, Lease::receiving).pulling_from(source),
            },
        });
        MessageResult((legs, record))
    }
}

impl Among {
    fn tried(&self) -> &[SocketAddr] {
        match self {
            Self::Untried(tried) => tried,
            Self::Only(_) => &[],
        }
    }

    fn only(&self) -> Option<&[SocketAddr]> {
        match self {
            Self::Untried(_) => None,
            Self::Only(only) => Some(only),
        }
    }
}

/// Reserves a member of a pool for a request of whose prompt so many tokens are in its cache.
type OpenLease = fn(Arc<Pool>, Arc<Member>, &PickRequest<'_>, (u32, Instant)) -> Lease;

/// Why one endpoint works on a request, or two do.
#[derive(Default)]
struct Why(Option<&'static str>);

impl Witness for Why {
    fn split(&mut self, course: &Course) {
        self.0 = Some(course.why);
    }
}

/// Picks among the endpoints of a pool, or `only` among these, and reserves nothing. Beside what was picked stands where the beginning of the prompt
/// can be pulled from.
pub(crate) fn pick<'v>(
    (pool, view, only): (&Pool, &'v PoolView, Option<&[SocketAddr]>),
    picker: &Picker,
    request: &PickRequest<'_>,
    now: Instant,
    rng: &mut SmallRng,
    (timing, mut record): (impl Witness, Option<&mut PickRecord>),
) -> Result<(Legs<Candidate<'v>>, Option<SocketAddr>), PickError> {
    let is_meant = |member: &Member| only.is_none_or(|only| only.contains(&member.endpoint.socket()));
    let members = view.members.iter().enumerate().filter(|(_, member)| is_meant(member));
    let mut candidates: Vec<_> =
        members.map(|(position, member)| candidate(request, &view.homes, position, member)).collect();
    view.homes.presume(&pool.commons, request, &mut candidates);
    // One that did all of a request does so again, whatever its role.
    let has_roles = view.has_roles && only.is_none_or(|only| only.len() > 1);
    let moment = PoolFacts { now, is_shared: view.homes.is_shared(), has_roles };
    if let Some(record) = &mut record {
        record.begin(request, &moment, &candidates);
    }
    // Filters leave out who has too much to do; it still has what it has.
    let all = picker.names_sources().then(|| candidates.clone());
    let mut witness = (timing, record);
    let legs = picker.pick(request, &moment, &mut candidates, rng, &mut witness)?;
    let source = all.and_then(|all| picker.source(&legs, &all, &mut witness));
    Ok((legs, source.map(|source| source.endpoint.socket())))
}

fn candidate<'m>(request: &PickRequest<'_>, homes: &Homes, position: usize, member: &'m Member) -> Candidate<'m> {
    let in_flight = member.cell.in_flight();
    let cached = hits::cached(request, &member.ledger, &member.held, member.observation.cache_tokens());
    Candidate {
        endpoint: &member.endpoint,
        position,
        in_flight,
        elsewhere: homes.elsewhere(&member.observation, in_flight),
        observation: &member.observation,
        penalty: member.cell.penalty(),
        ledger: &member.ledger,
        cached,
        counted: cached,
    }
}

/// Times what each plugin takes.
struct Timing<'m> {
    metrics: &'m Metrics,
    began: Instant,
}

impl Witness for Timing<'_> {
    fn begins(&mut self) {
        self.began = Instant::now();
    }

    fn ended(&mut self, plugin: &'static str, part: &'static str) {
        let labels = PluginLabels { plugin, r#type: part };
        self.metrics.plugin_seconds.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(Scheduler, vitals);
