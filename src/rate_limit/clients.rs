//! The counts of the clients of one limit, where each client has a limit of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use papaya::HashMap;
use sha2::{Digest, Sha256};

use super::Meter;
use super::rate::nanos;

/// How many clients of a limit are counted apart; the others share a count.
const MOST: usize = 100_000;
/// How often idle clients are looked for at most, in nanoseconds.
const PAUSE: u64 = 1_000_000_000;

/// A client of a limit: what stands for its key, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId([u8; 16]);

/// The counts of a limit.
#[derive(Debug)]
pub struct LimitMeters {
    /// That of all requests, where clients are not counted apart, and of requests whose client is not known.
    all: Arc<Meter>,
    clients: HashMap<ClientId, Arc<Meter>, RandomState>,
    /// That of clients for whom there is no room.
    others: Arc<Meter>,
    /// How many clients are counted apart.
    most: usize,
    /// When idle clients are looked for again.
    sweep: AtomicU64,
}

impl ClientId {
    /// Makes the id of a client by its key: the first 16 bytes of its SHA-256.
    pub fn of(key: &str) -> Self {
        let digest = Sha256::digest(key);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl LimitMeters {
    /// Makes the counts of a limit that counts so many clients apart.
    fn of_most(most: usize) -> Self {
        let clients = HashMap::with_hasher(RandomState::default());
        Self { all: Arc::default(), clients, others: Arc::default(), most, sweep: AtomicU64::new(0) }
    }

    /// Returns the count of all requests, and of requests whose client is not known.
    pub fn all(&self) -> &Arc<Meter> {
        &self.all
    }

    /// Returns the count of a client at a time since some beginning; `None` is one that is not known.
    ///
    /// Of more than 100 000 clients, those are forgotten whose limit is whole; if there is none, new ones share one count.
    pub fn of(&self, client: Option<ClientId>, now: Duration) -> Arc<Meter> {
        let Some(client) = client else { return Arc::clone(&self.all) };
        let clients = self.clients.pin();
        if let Some(meter) = clients.get(&client) {
            return Arc::clone(meter);
        }
        if self.clients.len() >= self.most {
            self.forget_idle(now);
            if self.clients.len() >= self.most {
                return Arc::clone(&self.others);
            }
        }
        Arc::clone(clients.get_or_insert_with(client, Arc::default))
    }

    fn forget_idle(&self, now: Duration) {
        let (now_nanos, due) = (nanos(now), self.sweep.load(Ordering::Relaxed));
        let next = now_nanos.saturating_add(PAUSE);
        if now_nanos < due || self.sweep.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        // Whoever holds a count is about to take from it.
        self.clients.pin().retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(now));
    }
}

impl Default for LimitMeters {
    fn default() -> Self {
        Self::of_most(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LimitKey, Rate, RateLimits};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn two_a_minute() -> RateLimits {
        let key = LimitKey { namespace: "n".into(), model: "m".into() };
        let rates = [Some(Rate { amount: 2, unit: MINUTE }), None, None];
        RateLimits { key, rates, concurrent: None, redis: None }
    }

    #[test]
    fn a_client_is_known_by_its_key_and_not_told_by_it() {
        let (id, same, other) = (ClientId::of("Bearer sk-1"), ClientId::of("Bearer sk-1"), ClientId::of("Bearer sk-2"));
        assert_eq!((id == same, id == other), (true, false));
        assert_eq!(ClientId::of("").to_string(), "e3b0c44298fc1c149afbf4c8996fb924", "the beginning of SHA-256");
    }

    #[test]
    fn each_client_has_a_limit_of_its_own() {
        let (meters, limits) = (LimitMeters::default(), two_a_minute());
        let take = |client: Option<&str>| {
            meters.of(client.map(ClientId::of), Duration::ZERO).take(&limits, [1, 0, 0], Duration::ZERO).is_ok()
        };
        for client in [Some("a"), Some("b"), None] {
            assert_eq!([take(client), take(client), take(client)], [true, true, false], "{client:?}");
        }
    }

    #[test]
    fn there_is_room_for_new_clients_when_others_are_whole_again() {
        let (meters, limits) = (LimitMeters::of_most(3), two_a_minute());
        let take = |client: usize, now: Duration| {
            let client = ClientId::of(&client.to_string());
            meters.of(Some(client), now).take(&limits, [1, 0, 0], now).is_ok()
        };
        let at_once = (0..10).filter(|client| take(*client, Duration::ZERO)).count();
        assert_eq!(at_once, 5, "three clients, and two requests of the seven others together");
        assert!(take(0, Duration::ZERO) && !take(0, Duration::ZERO), "who is known keeps a count");
        let later = MINUTE * 2;
        assert!((10..13).all(|client| take(client, later) && take(client, later)), "idle ones made room");
        assert_eq!(meters.clients.len(), 3);
    }

    #[test]
    fn a_client_with_a_request_under_way_is_not_forgotten() {
        let meters = LimitMeters::of_most(1);
        let place = meters.of(Some(ClientId::of("a")), Duration::ZERO).enter(1).unwrap();
        assert!(meters.of(Some(ClientId::of("b")), MINUTE).enter(1).is_some());
        assert!(meters.of(Some(ClientId::of("a")), MINUTE).enter(1).is_none());
        drop(place);
        assert!(meters.of(Some(ClientId::of("a")), MINUTE).enter(1).is_some());
    }
}
