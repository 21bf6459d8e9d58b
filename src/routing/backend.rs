//! The choice of one backend among several with weights.
//!
//! Source: the ModelRoute API and the Gateway API's `BackendRef.weight`: each backend receives the share of requests
//! that its weight has in the sum of all weights. A backend without endpoints that can serve takes no share while
//! another one has some, and one whose endpoints all have queues takes none while another one has room.

use crate::pool::availability::Availability;

/// Chooses one of `backends` at random by weight, among those with the best availability.
///
/// `draw(n)` must return a uniformly random number below `n`; it is called at most once, and with at least 1.
/// Returns `None` when no backend with a weight has any endpoint.
pub fn choose<B>(
    backends: &[B],
    weight: impl Fn(&B) -> u32,
    availability: impl Fn(&B) -> Availability,
    draw: impl FnOnce(u64) -> u64,
) -> Option<&B> {
    let best = backends.iter().filter(|backend| weight(backend) > 0).map(&availability).max()?;
    if best == Availability::Empty {
        return None;
    }
    let share = |backend: &B| if availability(backend) == best { u64::from(weight(backend)) } else { 0 };
    drawn(backends, share, draw).map(|place| &backends[place])
}

/// Draws one of `backends` at random, each by its share in the sum of all shares, and returns its place; `None` if none
/// has a share. `draw` is the same as that of [`choose`].
pub fn drawn<B>(backends: &[B], share: impl Fn(&B) -> u64, draw: impl FnOnce(u64) -> u64) -> Option<usize> {
    let total = backends.iter().map(&share).sum();
    let mut rest = match backends {
        _ if total == 0 => return None,
        // Nothing is left to chance, and no random number is spent.
        [_] => 0,
        _ => draw(total),
    };
    backends.iter().position(|backend| {
        let share = share(backend);
        let is_drawn = rest < share;
        rest = rest.saturating_sub(share);
        is_drawn
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inference::exposition::EndpointMetrics;
    use crate::scheduling::room::Room;

    type Backend = (&'static str, u32, Availability);

    fn pick(backends: &[Backend], ticket: u64) -> Option<&'static str> {
        choose(backends, |backend| backend.1, |backend| backend.2, |_| ticket).map(|backend| backend.0)
    }

    #[test]
    fn shares_follow_the_weights() {
        let backends = [("a", 70, Availability::Ready), ("b", 30, Availability::Ready)];
        let drawn_a = (0..100).filter(|ticket| pick(&backends, *ticket) == Some("a")).count();
        assert_eq!(drawn_a, 70);
    }

    #[test]
    fn a_backend_that_cannot_serve_takes_no_share() {
        for (name, first, second, expected) in [
            ("the other is ready", Availability::Empty, Availability::Ready, Some("b")),
            ("set aside is worse than ready", Availability::Ejected, Availability::Ready, Some("b")),
            ("set aside is better than nothing", Availability::Ejected, Availability::Empty, Some("a")),
            ("the other has room", Availability::Full, Availability::Ready, Some("b")),
            ("a queue is better than nobody", Availability::Full, Availability::Ejected, Some("a")),
            ("where all are full, shares are what they were", Availability::Full, Availability::Full, Some("a")),
            ("one that is waited for is better than nothing", Availability::Empty, Availability::Awaited, Some("b")),
            ("nobody waits where another one serves", Availability::Awaited, Availability::Ejected, Some("b")),
            ("nothing is there", Availability::Empty, Availability::Empty, None),
        ] {
            assert_eq!(pick(&[("a", 100, first), ("b", 1, second)], 0), expected, "{name}");
        }
    }

    /// A pool of one endpoint in virtual time: what waits, and what was done.
    #[derive(Default)]
    struct Queue {
        waiting: f64,
        got: u32,
        done: f64,
        room: Room,
    }

    impl Queue {
        fn availability(&self) -> Availability {
            if self.room == Room::Full { Availability::Full } else { Availability::Ready }
        }

        /// Works for a hundredth of a second, at so many requests a second.
        fn work(&mut self, rate: f64) {
            let done = self.waiting.min(rate / 100.0);
            self.waiting -= done;
            self.done += done;
        }

        fn scrape(&mut self) {
            let metrics = EndpointMetrics { waiting: self.waiting as u32, ..EndpointMetrics::default() };
            self.room = self.room.after([Some(&metrics)]);
        }
    }

    #[test]
    fn a_canary_takes_the_share_of_what_is_full_and_gives_it_back() {
        let (mut stable, mut canary) = (Queue::default(), Queue::default());
        let (mut ticket, mut sent) = (0_u64, 0_u32);
        let mut shares = Vec::new();
        for tick in 0..12_000 {
            // 100 requests a second; between 40 and 80 seconds the stable pool does a fifth of what it did before.
            let slow = (4_000..8_000).contains(&tick);
            let targets = [(90, &stable), (10, &canary)].map(|(weight, queue)| (weight, queue.availability()));
            ticket = ticket.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chosen = choose(&targets, |target| target.0, |target| target.1, |bound| (ticket >> 33) % bound);
            let queue = if chosen.is_some_and(|target| target.0 == 90) { &mut stable } else { &mut canary };
            queue.waiting += 1.0;
            queue.got += 1;
            sent += 1;
            stable.work(if slow { 30.0 } else { 150.0 });
            canary.work(150.0);
            if tick % 100 == 99 {
                shares.push((tick / 100, targets[0].1, f64::from(stable.got) / f64::from(stable.got + canary.got)));
                (stable.got, canary.got) = (0, 0);
                stable.scrape();
                canary.scrape();
            }
        }
        for (second, before, share) in &shares {
            let expected = if *before == Availability::Ready { 0.9 } else { 0.0 };
            assert!((share - expected).abs() < 0.11, "second {second}: {share} of the requests, {before:?}");
        }
        let mean =
            |from: usize, to: usize| shares[from..to].iter().map(|share| share.2).sum::<f64>() / (to - from) as f64;
        assert!((mean(0, 40) - 0.9).abs() < 0.05 && (mean(90, 120) - 0.9).abs() < 0.05, "{shares:?}");
        // A pool that can do 30 of 100 requests a second gets about that.
        assert!((mean(45, 80) - 0.3).abs() < 0.05, "{}", mean(45, 80));
        assert!(stable.waiting + stable.done + canary.waiting + canary.done >= f64::from(sent) - 0.01, "none is lost");
        assert!(stable.waiting < 5.0 && canary.waiting < 5.0);
    }

    #[test]
    fn a_weight_of_zero_is_never_chosen() {
        assert_eq!(pick(&[("a", 0, Availability::Ready)], 0), None);
        assert_eq!(pick(&[("a", 0, Availability::Ready), ("b", 1, Availability::Ejected)], 0), Some("b"));
    }

    proptest! {
        #[test]
        fn a_choice_is_made_for_every_ticket(weights in prop::collection::vec(0_u32..100, 1..8), ticket in any::<u64>()) {
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            let chosen = choose(&weights, |weight| *weight, |_| Availability::Ready, |bound| ticket % bound);
            prop_assert_eq!(chosen.is_some(), total > 0);
            prop_assert!(chosen.is_none_or(|weight| *weight > 0));
        }
    }
}
