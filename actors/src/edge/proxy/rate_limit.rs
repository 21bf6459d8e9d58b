//! Takes the tokens of a request before it is sent, and settles at its end what it has used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;
use kthena_router::config::RedisConfig;
use kthena_router::inference::api::{self, Api, Call as Asks};
use kthena_router::rate_limit::shared::{Invocation, SCRIPT, Verdict};
use kthena_router::rate_limit::told::{self, Standing};
use kthena_router::rate_limit::{Direction, Estimate, Exceeded, Meter, Taken, TokenLimits, Work};
use kthena_router::routing::decision::{Decision, Matched};
use redis::Script;
use tokio::task::spawn_local;

use super::body::Inbound;
use super::call::Call;
use super::error::ProxyError;
use super::worker::Worker;
use crate::ops::metrics::{ModelLabel, RateLimitLabels, Text};
use crate::pools::meters::Meters;
use crate::pools::redis_link::{Away, RedisLink, host_and_port};

/// How long a request waits for Redis, and how long Redis has to learn what was used.
const TAKE_LIMIT: Duration = Duration::from_millis(100);
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// The ways of one worker thread to the Redis servers that routes name.
#[derive(Default)]
pub(super) struct SharedLimits {
    /// By address; `None` for one that cannot be used.
    links: RefCell<HashMap<Arc<str>, Option<Rc<RedisLink>>>>,
}

/// The tokens that a request has taken; they are settled when it ends.
pub(super) struct Reservation {
    limits: Arc<TokenLimits>,
    meter: Arc<Meter>,
    meters: Meters,
    taken: Taken,
    /// Where they were taken, if all replicas of the router count together.
    shared: Option<Rc<RedisLink>>,
    /// What the client is told.
    standings: Vec<Standing>,
    /// The events of the answer that were passed on.
    events: u32,
}

/// Why a request gets no tokens.
#[derive(Debug)]
pub struct Refused {
    limit: String,
    model: Arc<str>,
    wait: Duration,
    standings: Vec<Standing>,
}

/// Takes the tokens of an inference call to a model that is limited.
///
/// # Errors
///
/// Returns an error if there are too few.
pub(super) async fn take(call: &mut Call<'_>, decision: &Decision<'_>, body: &Inbound) -> Result<(), ProxyError> {
    let Matched::Model(route) = decision.route else { return Ok(()) };
    let (Some(limits), Asks::Inference(api)) = (route.limits(), call.asks) else { return Ok(()) };
    // Most requests are not limited, and do not carry the room for it.
    Box::pin(take_of(call, limits, api, body)).await
}

async fn take_of(call: &mut Call<'_>, limits: &Arc<TokenLimits>, api: Api, body: &Inbound) -> Result<(), ProxyError> {
    let meters = &call.snapshot.meters;
    let Some(meter) = meters.find(&limits.key) else { return Ok(()) };
    // A form has media, of which no token can be counted before they are read.
    let text = body.whole().filter(|_| api.traits().body == api::Body::Json);
    let mut tokens = meter.foresee(limits, text.map_or_else(Estimate::default, |body| Estimate::of(body)));
    if !api.traits().generates {
        tokens[Direction::Output as usize] = 0;
    }
    let worker = call.worker;
    let link =
        limits.redis.as_ref().map(|address| worker.shared_limits.link(address, &worker.door.serving.config.redis));
    let (verdict, standings, shared) = match link {
        None => {
            let now = meters.now();
            let verdict = meter.take(limits, tokens, now);
            (verdict, meter.standings(limits, now), None)
        }
        Some(link) => match ask(link.as_deref(), &Invocation::take(limits, tokens)).await {
            Ok(Verdict { exceeded, standings }) => {
                let verdict = exceeded.map_or_else(|| Ok(Taken::of(tokens)), Err);
                (verdict, standings, link)
            }
            Err(Away) => {
                let model = Text::from(&*limits.key.model);
                worker.door.serving.metrics.rate_limits.unchecked.get_or_create(&ModelLabel { model }).inc();
                return Ok(());
            }
        },
    };
    let (limits, meter, meters) = (Arc::clone(limits), Arc::clone(meter), meters.clone());
    match verdict {
        Ok(taken) => {
            call.exchange.reservation =
                Some(Box::new(Reservation { limits, meter, meters, taken, shared, standings, events: 0 }));
            Ok(())
        }
        Err(exceeded) => Err(refuse(worker, api, &limits, exceeded, standings)),
    }
}

/// Asks the Redis of a limit; `None` is one that cannot be asked.
async fn ask(link: Option<&RedisLink>, call: &Invocation) -> Result<Verdict, Away> {
    let answer = link.ok_or(Away)?.ask(TAKE_LIMIT, async |connection| invoke(call, connection).await).await?;
    call.verdict(&answer).ok_or(Away)
}

async fn invoke(
    call: &Invocation,
    connection: &mut redis::aio::MultiplexedConnection,
) -> redis::RedisResult<Vec<String>> {
    let script = Script::new(SCRIPT);
    let mut invocation = script.prepare_invoke();
    for key in &call.keys {
        invocation.key(key);
    }
    for argument in &call.arguments {
        invocation.arg(argument);
    }
    invocation.invoke_async(connection).await
}

fn refuse(
    worker: &Worker,
    api: Api,
    limits: &TokenLimits,
    Exceeded { direction, wait }: Exceeded,
    standings: Vec<Standing>,
) -> ProxyError {
    let limit_type = match direction {
        Direction::Input => "input_tokens",
        Direction::Output => "output_tokens",
    };
    let model = &limits.key.model;
    let labels = RateLimitLabels { model: Text::from(&**model), limit_type, path: api.label() };
    worker.door.serving.metrics.rate_limits.exceeded.get_or_create(&labels).inc();
    let limit = limits.rate(direction).map(|rate| told::limit(direction, rate)).unwrap_or_default();
    ProxyError::RateLimited(Box::new(Refused { limit, model: Arc::clone(model), wait, standings }))
}

impl SharedLimits {
    /// Returns the way to the Redis at an address, `host:port`.
    fn link(&self, address: &Arc<str>, own: &RedisConfig) -> Option<Rc<RedisLink>> {
        let mut links = self.links.borrow_mut();
        let link = links.entry(Arc::clone(address)).or_insert_with(|| {
            let link = RedisLink::new(host_and_port(address)?, own, "requests are not limited until it does");
            link.ok().map(Rc::new)
        });
        link.clone()
    }
}

impl Reservation {
    /// Counts the events of a stream that are passed on.
    pub(super) fn pass(&mut self, piece: &[u8]) {
        let events = memchr::memmem::find_iter(piece, b"\n\n").count();
        self.events = self.events.saturating_add(u32::try_from(events).unwrap_or(u32::MAX));
    }

    /// Tells the client how the limits stand.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        tell(&self.standings, headers);
    }

    /// Settles what the request has used.
    pub(super) fn settle(self, work: Work) {
        let work = Work { events: self.events, ..work };
        let [input, _] = self.taken.tokens;
        let used = work.charge(input);
        if used.output > 0 {
            self.meter.note_answer(used.output);
        }
        let Some(link) = self.shared else {
            return self.meter.settle(&self.limits, self.taken, used, self.meters.now());
        };
        if let Some(call) = Invocation::settle(&self.limits, self.taken.tokens, used) {
            spawn_local(async move {
                let settled = link.ask(SETTLE_LIMIT, async |connection| invoke(&call, connection).await);
                // What Redis does not learn stays taken, and flows back.
                drop(settled.await);
            });
        }
    }
}

impl Refused {
    /// Returns after how many seconds there are enough tokens.
    pub(super) fn retry_after(&self) -> u32 {
        u32::try_from(self.wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
    }

    /// Tells the client how the limits stand.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        tell(&self.standings, headers);
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { limit, model, .. } = self;
        write!(formatter, "rate limit exceeded: the model `{model}` has {limit}, try again in {} s", self.retry_after())
    }
}

fn tell(standings: &[Standing], headers: &mut HeaderMap) {
    for (name, value) in standings.iter().flat_map(Standing::headers) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
