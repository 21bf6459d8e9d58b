//! The choice of one backend among several with weights.
//!
//! Source: the ModelRoute API and the Gateway API's `BackendRef.weight`: each backend receives the share of requests
//! that its weight has in the sum of all weights. A backend without endpoints that can serve takes no share while
//! another one has some.

/// How much a backend can serve at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// It has no endpoint at all.
    Empty,
    /// It has endpoints, but all of them are ejected.
    Ejected,
    /// It has an endpoint that serves.
    Ready,
}

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
            ("nothing is there", Availability::Empty, Availability::Empty, None),
        ] {
            assert_eq!(pick(&[("a", 100, first), ("b", 1, second)], 0), expected, "{name}");
        }
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
