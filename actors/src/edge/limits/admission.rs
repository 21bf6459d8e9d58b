//! The requests that a port has in flight, and the right to be one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kthena_router::gateway::places::Places;
use prometheus_client::metrics::gauge::Gauge;

/// Gateways of one port whose own places are counted apart; further ones share these counts.
const COUNTS: usize = 64;

/// The places of a port, as its workers share them.
#[derive(Debug)]
pub(in crate::edge) struct PortPlaces {
    limit: usize,
    own: [AtomicUsize; COUNTS],
    common: AtomicUsize,
    shown: Gauge,
}

/// One of the requests that a port may have in flight; the place is given back when this is dropped.
#[derive(Debug)]
pub(in crate::edge) struct Admission {
    places: Arc<PortPlaces>,
    /// Which Gateway's own place it is; `None` for a common one.
    own: Option<usize>,
}

impl PortPlaces {
    /// Makes as many places, all of them free, that are counted in a gauge.
    pub(in crate::edge) fn new(limit: usize, shown: Gauge) -> Arc<Self> {
        let own = [const { AtomicUsize::new(0) }; COUNTS];
        Arc::new(Self { limit, own, common: AtomicUsize::new(0), shown })
    }

    /// Takes a place for a request that the Gateway at this place, of as many on the port, is to serve: one of its own,
    /// or else a common one.
    pub(in crate::edge) fn take(self: &Arc<Self>, gateway: usize, gateways: usize) -> Option<Admission> {
        let Places { own, common } = Places::divide(self.limit, gateways);
        let gateway = gateway % COUNTS;
        let own = take(&self.own[gateway], own).then_some(gateway);
        if own.is_none() && !take(&self.common, common) {
            return None;
        }
        self.shown.inc();
        Some(Admission { places: Arc::clone(self), own })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let PortPlaces { own, common, shown, .. } = &*self.places;
        self.own.map_or(common, |gateway| &own[gateway]).fetch_sub(1, Ordering::Relaxed);
        shown.dec();
    }
}

fn take(count: &AtomicUsize, limit: usize) -> bool {
    if count.fetch_add(1, Ordering::Relaxed) < limit {
        return true;
    }
    count.fetch_sub(1, Ordering::Relaxed);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_cannot_take_the_places_of_another() {
        let places = PortPlaces::new(8, Gauge::default());
        let mut greedy: Vec<_> = std::iter::from_fn(|| places.take(0, 2)).collect();
        assert_eq!(greedy.len(), 6, "its own two, and the common four");
        let other = [places.take(1, 2), places.take(1, 2)];
        assert!(other.iter().all(Option::is_some), "the other one has its own");
        assert!(places.take(1, 2).is_none() && places.take(0, 2).is_none());
        greedy.pop();
        assert!(places.take(1, 2).is_some(), "a common place that is given back is for anybody");
        drop((greedy, other));
        assert_eq!(places.shown.get(), 0);
    }
}
