//! How replicas of the router count together in Redis.
//!
//! Source: the Go router, which keeps `tokens` and `last_update` in a hash for each model and quantity; routers of both
//! kinds may share a Redis. Redis runs a script as a whole, and its own clock is the only one: a router's may jump.

use std::sync::Arc;
use std::time::Duration;

use super::rate::{Amounts, Exceeded, Quantity, Rate};
use super::told::Standing;
use super::{Charge, ClientId, RateLimits};

/// Takes from each key, or from none; or settles, which never fails.
///
/// For each key the arguments are: the limit, the seconds of its unit, and how many, negative to give back. The first
/// argument says whether it must be refused what is not there: `1` or `0`. Returns the place of the key that has too
/// little, or 0; then for each key how many are left, as texts, because Redis cuts numbers.
pub const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local left = {}
local lacking = 0
for place, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[3 * place - 1])
  local unit = tonumber(ARGV[3 * place])
  local cost = tonumber(ARGV[3 * place + 1])
  local known = redis.call('HMGET', key, 'tokens', 'last_update')
  local tokens = tonumber(known[1]) or limit
  local since = tonumber(known[2]) or now
  tokens = math.min(limit, tokens + math.max(0, now - since) * limit / unit)
  left[place] = tokens
  if lacking == 0 and ARGV[1] == '1' and tokens < math.min(cost, limit) then
    lacking = place
  end
end
local answer = {lacking}
for place, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[3 * place - 1])
  local unit = tonumber(ARGV[3 * place])
  if lacking == 0 then
    left[place] = math.min(limit, left[place] - tonumber(ARGV[3 * place + 1]))
    redis.call('HSET', key, 'tokens', tostring(left[place]), 'last_update', string.format('%.6f', now))
    redis.call('EXPIRE', key, math.max(600, math.min(7776000, math.ceil(3 * unit))))
  end
  answer[place + 1] = tostring(left[place])
end
return answer
";

/// How keys are named in a Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNames {
    /// What they begin with, if it is not the Go router's names that are used.
    pub namespace: Option<String>,
    /// Whether all keys of one call must be at one node of a Redis Cluster, which goes by what is in braces.
    pub tagged: bool,
}

/// One call of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    model: Arc<str>,
    /// The client whose limits they are, if each has its own.
    client: Option<ClientId>,
    /// The arguments.
    pub arguments: Vec<String>,
    /// What the keys count.
    quantities: Vec<(Quantity, Rate, u32)>,
}

/// What the script has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Of what there is too little, if of anything.
    pub exceeded: Option<Exceeded>,
    /// How the limits stand.
    pub standings: Vec<Standing>,
}

impl KeyNames {
    fn key(&self, model: &str, client: Option<ClientId>, quantity: Quantity) -> String {
        let namespace = self.namespace.as_ref().map(|name| format!("{name}:")).unwrap_or_default();
        let client = client.map(|client| format!(":{client}")).unwrap_or_default();
        let quantity = quantity.label();
        if self.tagged {
            // A brace within the name would end the tag, and an empty tag is none.
            let model = model.replace('}', "%7D");
            format!("{namespace}kthena:ratelimit:{{{model}{client}}}:{quantity}")
        } else {
            format!("{namespace}kthena:ratelimit:{model}:{quantity}{client}")
        }
    }
}

impl Invocation {
    /// Makes the call that takes what a request may need, of one client's if each has a limit of its own.
    pub fn take(limits: &RateLimits, client: Option<ClientId>, amounts: Amounts) -> Self {
        Self::new((limits, client), true, amounts.map(i64::from), amounts)
    }

    /// Makes the call that settles what was used of what was taken; `None` if that is the same.
    pub fn settle(limits: &RateLimits, client: Option<ClientId>, taken: Amounts, used: Charge) -> Option<Self> {
        let used = used.amounts().map(|amount| i64::try_from(amount).unwrap_or(i64::MAX));
        let change = [0, 1, 2].map(|place| used[place].saturating_sub(taken[place].into()));
        let changes = Quantity::ALL.into_iter().any(|of| limits.rate(of).is_some() && change[of as usize] != 0);
        changes.then(|| Self::new((limits, client), false, change, Amounts::default()))
    }

    fn new(
        (limits, client): (&RateLimits, Option<ClientId>),
        strict: bool,
        change: [i64; 3],
        amounts: Amounts,
    ) -> Self {
        let (model, arguments) = (Arc::clone(&limits.key.model), vec![u8::from(strict).to_string()]);
        let mut call = Self { model, client, arguments, quantities: Vec::new() };
        for quantity in Quantity::ALL {
            let Some(rate) = limits.rate(quantity) else { continue };
            let change = change[quantity as usize];
            let numbers = [rate.amount.to_string(), rate.unit.as_secs().to_string(), change.to_string()];
            call.arguments.extend(numbers);
            call.quantities.push((quantity, rate, amounts[quantity as usize]));
        }
        call
    }

    /// Returns the keys.
    pub fn keys(&self, names: &KeyNames) -> Vec<String> {
        self.quantities.iter().map(|(quantity, ..)| names.key(&self.model, self.client, *quantity)).collect()
    }

    /// Reads what the script has answered; `None` if it is not an answer to this call.
    pub fn verdict(&self, answer: &[String]) -> Option<Verdict> {
        let (lacking, left) = answer.split_first()?;
        let lacking = lacking.parse::<usize>().ok()?;
        let left: Vec<f64> = left.iter().map(|amount| amount.parse().ok()).collect::<Option<_>>()?;
        if left.len() != self.quantities.len() || lacking > left.len() {
            return None;
        }
        let exceeded = lacking.checked_sub(1).map(|place| {
            let (quantity, rate, amount) = self.quantities[place];
            let missing = f64::from(amount.min(rate.amount)) - left[place];
            let wait = missing.max(0.0) * rate.unit.as_secs_f64() / f64::from(rate.amount.max(1));
            Exceeded { quantity, wait: Duration::try_from_secs_f64(wait).unwrap_or(rate.unit) }
        });
        let standing = |((quantity, rate, _), left): (&(Quantity, Rate, u32), f64)| standing(*quantity, *rate, left);
        let standings = self.quantities.iter().zip(left).map(standing).collect();
        Some(Verdict { exceeded, standings })
    }
}

/// Returns how a limit stands of which so many are left; fewer than none are owed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast keeps to the bounds of the type")]
fn standing(quantity: Quantity, rate: Rate, left: f64) -> Standing {
    let missing = (f64::from(rate.amount) - left).max(0.0);
    let reset = Duration::try_from_secs_f64(missing * rate.unit.as_secs_f64() / f64::from(rate.amount.max(1)));
    Standing { quantity, rate, left: left as u32, reset: reset.unwrap_or(rate.unit) }
}
