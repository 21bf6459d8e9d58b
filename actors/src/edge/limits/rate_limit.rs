//! Takes what a request may use of the limits of its model before it is sent, and settles at its end what it has used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderValue;
use kthena_router::config::RedisConfig;
use kthena_router::inference::api::{self, Api};
use kthena_router::kinds::redis_address::RedisAddress;
use kthena_router::rate_limit::shared::{Invocation, KeyNames, SCRIPT, Verdict};
use kthena_router::rate_limit::told::{self, Standing};
use kthena_router::rate_limit::{
    Amounts, ClientId, Estimate, Exceeded, LimitMeters, Meter, Place, Quantity, RateLimits, Taken, Work,
};
use memchr::memmem::Finder;
use redis::{ErrorKind, RedisResult, Script, ServerErrorKind};
use tokio::task::spawn_local;

use crate::ops::metrics::{Metrics, ModelLabel, RateLimitLabels, Text};
use crate::pools::meters::Meters;
use crate::pools::redis_link::{Away, Connection, RedisLink};

/// How long a request waits for Redis, and how long Redis has to learn what was used.
const TAKE_LIMIT: Duration = Duration::from_millis(100);
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// What Redis knows the script by.
static SCRIPT_HASH: LazyLock<Script> = LazyLock::new(|| Script::new(SCRIPT));

/// What ends an event. Each piece of an answer is searched for it.
static BLANK_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n\n"));

/// The ways of one worker thread to the Redis servers that routes name.
pub(in crate::edge) struct SharedLimits {
    /// The router's own, whose user and password are for no other one.
    own: RedisConfig,
    metrics: Arc<Metrics>,
    /// By address; `None` for one that cannot be used.
    links: RefCell<HashMap<Arc<str>, Option<Rc<RedisLink>>>>,
}

/// An inference call, as limits see it.
pub(in crate::edge) struct Asking<'a> {
    /// The API.
    pub api: Api,
    /// Its client, if each client has limits of its own and this one is known.
    pub client: Option<ClientId>,
    /// Its body, if it was read.
    pub body: Option<&'a Bytes>,
}

/// What a request has taken; it is settled when the request ends.
pub(in crate::edge) struct Reservation {
    limits: Arc<RateLimits>,
    count: Count,
    taken: Taken,
    /// Its place among the requests at the same time, if those are limited.
    _place: Option<Place>,
    /// What the client is told.
    pub standings: Vec<Standing>,
    /// The events of the answer that were passed on.
    events: u32,
}

/// Where a request is counted.
struct Count {
    meters: Meters,
    /// The counts of its limit, and the one of them that it takes from.
    all: Arc<LimitMeters>,
    meter: Arc<Meter>,
    /// Its client, if each client has limits of its own.
    client: Option<ClientId>,
    /// The Redis in which all replicas of the router count together, if they do.
    shared: Option<Rc<RedisLink>>,
}

/// Why a request is refused.
#[derive(Debug)]
pub(in crate::edge) struct Refused {
    limit: String,
    model: Arc<str>,
    wait: Duration,
    /// What the client is told.
    pub standings: Vec<Standing>,
}

/// Returns what a request may use.
fn foresee(all: &LimitMeters, limits: &RateLimits, api: Api, body: Option<&Bytes>) -> Amounts {
    // A form has media, of which no token can be counted before they are read.
    let text = body.filter(|_| api.traits().body == api::Body::Json);
    let mut amounts = all.all().foresee(limits, text.map_or_else(Estimate::default, |body| Estimate::of(body)));
    if !api.traits().generates {
        amounts[Quantity::Output as usize] = 0;
    }
    amounts
}

/// Asks the Redis of a limit; `None` is one that cannot be asked.
async fn ask(link: Option<&RedisLink>, call: &Invocation) -> Result<Verdict, Away> {
    let link = link.ok_or(Away)?;
    let names = link.names();
    let answer = link.ask(TAKE_LIMIT, async |connection| invoke(call, names, connection).await).await?;
    call.verdict(&answer).ok_or(Away)
}

async fn invoke(call: &Invocation, names: &KeyNames, connection: &mut Connection) -> RedisResult<Vec<String>> {
    let keys = call.keys(names);
    let command = |name, script: &str| {
        let mut command = redis::cmd(name);
        command.arg(script).arg(keys.len()).arg(&keys).arg(&call.arguments);
        command
    };
    match command("EVALSHA", SCRIPT_HASH.get_hash()).query_async(connection).await {
        // Whoever runs it remembers it, and only the node of these keys has to.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            command("EVAL", SCRIPT).query_async(connection).await
        }
        answer => answer,
    }
}

/// Returns what metrics and clients call the limit on a quantity.
fn limit_on(quantity: Quantity, limits: &RateLimits) -> (&'static str, String) {
    let limit_type = match quantity {
        Quantity::Requests => "requests",
        Quantity::Input => "input_tokens",
        Quantity::Output => "output_tokens",
    };
    (limit_type, limits.rate(quantity).map(|rate| told::limit(quantity, rate)).unwrap_or_default())
}

/// Counts a refusal, and says why it is one.
fn refuse(
    (metrics, api, limits): (&Metrics, Api, &RateLimits),
    (limit_type, limit): (&'static str, String),
    wait: Duration,
    standings: Vec<Standing>,
) -> Box<Refused> {
    let model = Arc::clone(&limits.key.model);
    let labels = RateLimitLabels { model: Text::from(&*model), limit_type, path: api.label() };
    metrics.rate_limits.exceeded.get_or_create(&labels).inc();
    Box::new(Refused { limit, model, wait, standings })
}

impl SharedLimits {
    /// Makes no connection yet; the metrics tell of refusals.
    pub(in crate::edge) fn new(own: RedisConfig, metrics: Arc<Metrics>) -> Self {
        Self { own, metrics, links: RefCell::default() }
    }

    /// Takes what an inference call may use of the limits of its model; nothing if nobody counts them any more.
    ///
    /// # Errors
    ///
    /// Returns an error if there is too little.
    pub(in crate::edge) async fn take(
        &self,
        meters: &Meters,
        limits: &Arc<RateLimits>,
        Asking { api, client, body }: Asking<'_>,
    ) -> Result<Option<Box<Reservation>>, Box<Refused>> {
        let metrics = &self.metrics;
        let Some(all) = meters.find(&limits.key) else { return Ok(None) };
        let meter = all.of(client, meters.now());
        let place = match limits.concurrent.map(|most| (most, meter.enter(most))) {
            None => None,
            Some((_, Some(place))) => Some(place),
            Some((most, None)) => {
                // When a request ends is not known; it may be soon.
                let (limit, wait) = (("concurrent_requests", told::concurrent_limit(most)), Duration::from_secs(1));
                return Err(refuse((metrics, api, limits), limit, wait, Vec::new()));
            }
        };
        let amounts = foresee(all, limits, api, body);
        let link = limits.redis.as_ref().map(|address| self.link(address));
        let (verdict, standings, shared) = match link {
            None => {
                let now = meters.now();
                let verdict = meter.take(limits, amounts, now);
                (verdict, meter.standings(limits, now), None)
            }
            Some(link) => match ask(link.as_deref(), &Invocation::take(limits, client, amounts)).await {
                Ok(Verdict { exceeded, standings }) => {
                    let verdict = exceeded.map_or_else(|| Ok(Taken::of(amounts)), Err);
                    (verdict, standings, link)
                }
                Err(Away) => {
                    let model = Text::from(&*limits.key.model);
                    metrics.rate_limits.unchecked.get_or_create(&ModelLabel { model }).inc();
                    (Ok(Taken::default()), Vec::new(), None)
                }
            },
        };
        let taken = match verdict {
            Ok(taken) => taken,
            Err(Exceeded { quantity, wait }) => {
                return Err(refuse((metrics, api, limits), limit_on(quantity, limits), wait, standings));
            }
        };
        let count = Count { meters: meters.clone(), all: Arc::clone(all), meter, client, shared };
        let limits = Arc::clone(limits);
        Ok(Some(Box::new(Reservation { limits, count, taken, _place: place, standings, events: 0 })))
    }

    /// Returns the way to the Redis at an address.
    fn link(&self, address: &Arc<str>) -> Option<Rc<RedisLink>> {
        let mut links = self.links.borrow_mut();
        let link = links.entry(Arc::clone(address)).or_insert_with(|| {
            let link =
                RedisLink::new(RedisAddress::read(address)?, &self.own, "requests are not limited until it does");
            link.ok().map(Rc::new)
        });
        link.clone()
    }
}

impl Reservation {
    /// Counts the events of a stream that are passed on.
    pub(in crate::edge) fn pass(&mut self, piece: &[u8]) {
        let events = BLANK_LINE.find_iter(piece).count();
        self.events = self.events.saturating_add(u32::try_from(events).unwrap_or(u32::MAX));
    }

    /// Settles what the request has used.
    pub(in crate::edge) fn settle(self, work: Work) {
        let work = Work { events: self.events, ..work };
        let Count { meters, all, meter, client, shared } = self.count;
        let used = work.charge(self.taken.amounts[Quantity::Input as usize]);
        if used.output > 0 {
            all.all().note_answer(used.output);
        }
        let Some(link) = shared else {
            // What nobody has counted is not charged.
            if self.limits.redis.is_none() {
                meter.settle(&self.limits, self.taken, used, meters.now());
            }
            return;
        };
        if let Some(call) = Invocation::settle(&self.limits, client, self.taken.amounts, used) {
            spawn_local(async move {
                let names = link.names();
                let settled = link.ask(SETTLE_LIMIT, async |connection| invoke(&call, names, connection).await);
                // What Redis does not learn stays taken, and flows back.
                drop(settled.await);
            });
        }
    }
}

impl Refused {
    /// Returns after how many seconds there are enough tokens.
    pub(in crate::edge) fn retry_after(&self) -> u32 {
        u32::try_from(self.wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { limit, model, .. } = self;
        write!(formatter, "rate limit exceeded: the model `{model}` has {limit}, try again in {} s", self.retry_after())
    }
}

/// Tells a client how the limits stand.
pub(in crate::edge) fn tell(standings: &[Standing], headers: &mut HeaderMap) {
    for (name, value) in standings.iter().flat_map(Standing::headers) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
