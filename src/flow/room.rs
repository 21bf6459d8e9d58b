//! How many requests a pool has room for, and for whom.
//!
//! An endpoint has *places* for requests that are worked on at the same time, and it computes their prompts one after
//! the other. A prompt that is sent while others are to be computed waits for them inside the engine, where nobody can
//! go before it. So the router sends the next long one where it is computed at once. A short one, most of which is
//! cached, is sent earlier: nobody would go before it, those behind it hardly notice it, and an engine computes it in
//! the same step as a long one for which it would wait otherwise. While a quiet flow asks now and then beside others,
//! some endpoints are kept from the others: whoever asks for little finds an endpoint that has nothing to compute.

use std::time::Duration;

/// Seconds of prompts that an endpoint may have to compute before a short one is sent there.
const SOON: f32 = 2.0;
/// Seconds of prompts that an endpoint may have to compute before a long one is sent there, and the longest short one.
const AT_ONCE: f32 = 0.1;
/// The same as before a long one while a quiet flow is about, whose next prompt would wait for them.
const BESIDE: f32 = 0.05;
/// One of so many places is left free while a quiet flow is about.
const SPARE: u32 = 16;

/// What is known of the room that an endpoint has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// How many requests may be in flight there.
    pub limit: u32,
    /// How many are.
    pub load: u32,
    /// Seconds for which it has prompts to compute, as far as that is known.
    pub busy: f32,
}

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A flow of which little is being served.
    Quiet,
    /// Another one, while a quiet flow is about.
    BesideQuiet,
    /// Another one whose next prompt is short, while none is.
    Short,
    /// Another one whose next prompt is long, or not known, while none is.
    Long,
}

impl Asker {
    /// Returns who asks that has so much work, while no quiet flow is about.
    pub fn alone(work: Duration) -> Self {
        if work.as_secs_f32() <= AT_ONCE { Self::Short } else { Self::Long }
    }
}

/// How many requests may pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Places that are left.
    places: usize,
    /// Endpoints with places that can begin with a prompt soon.
    soon: usize,
    /// Those that can do so at once.
    at_once: usize,
    /// Those of them with places to spare, but for those that are kept for quiet flows.
    beside: usize,
}

impl Room {
    /// Room for nobody.
    pub const NONE: Self = Self::for_any(0);
    /// Room for all.
    pub const UNBOUNDED: Self = Self::for_any(usize::MAX);

    const fn for_any(count: usize) -> Self {
        Self { places: count, soon: count, at_once: count, beside: count }
    }

    /// Returns the room of endpoints, of which so many of a hundred are kept for quiet flows, rounded down. Without an
    /// endpoint nothing bounds them: the pick says that there is none.
    pub fn of(endpoints: impl IntoIterator<Item = Seen>, kept_percent: u32) -> Self {
        let (mut room, mut count) = (Self::NONE, 0_usize);
        for Seen { limit, load, busy } in endpoints {
            let left = limit.saturating_sub(load);
            room.places = room.places.saturating_add(left as usize);
            room.soon += usize::from(left > 0 && busy <= SOON);
            room.at_once += usize::from(left > 0 && busy <= AT_ONCE);
            room.beside += usize::from(left > limit / SPARE && busy <= BESIDE);
            count += 1;
        }
        let kept = count * kept_percent.min(100) as usize / 100;
        room.beside = room.beside.saturating_sub(kept);
        if count == 0 { Self::UNBOUNDED } else { room }
    }

    /// Returns the room of two kinds of endpoints, both of which work on a request.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            places: self.places.min(other.places),
            soon: self.soon.min(other.soon),
            at_once: self.at_once.min(other.at_once),
            beside: self.beside.min(other.beside),
        }
    }

    /// Returns the room if there are no more places than so many.
    #[must_use]
    pub fn at_most(self, places: usize) -> Self {
        self.and(Self::for_any(places))
    }

    /// Returns what is left of it when so many have passed.
    #[must_use]
    pub fn less(self, passed: usize) -> Self {
        // What has no bound keeps none.
        let less = |count: usize| if count == usize::MAX { count } else { count.saturating_sub(passed) };
        Self {
            places: less(self.places),
            soon: less(self.soon),
            at_once: less(self.at_once),
            beside: less(self.beside),
        }
    }

    /// Returns how many requests of such a flow may pass.
    pub fn left(self, asker: Asker) -> usize {
        match asker {
            Asker::Quiet => self.places,
            Asker::BesideQuiet => self.beside.min(self.places),
            Asker::Short => self.soon.min(self.places),
            Asker::Long => self.at_once.min(self.places),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKERS: [Asker; 4] = [Asker::Quiet, Asker::BesideQuiet, Asker::Short, Asker::Long];

    fn left(endpoints: &[(u32, u32, f32)], kept_percent: u32) -> [usize; 4] {
        let seen = endpoints.iter().map(|(limit, load, busy)| Seen { limit: *limit, load: *load, busy: *busy });
        let room = Room::of(seen, kept_percent);
        ASKERS.map(|asker| room.left(asker))
    }

    #[test]
    fn a_prompt_is_sent_where_it_is_computed_soon() {
        for (case, endpoints, kept, expected) in [
            ("idle endpoints", &[(32, 0, 0.0), (32, 0, 0.0)][..], 0, [64, 2, 2, 2]),
            ("one of them is kept", &[(32, 0, 0.0), (32, 0, 0.0)], 50, [64, 1, 2, 2]),
            ("no part of one is", &[(32, 0, 0.0), (32, 0, 0.0), (32, 0, 0.0)], 25, [96, 3, 3, 3]),
            ("the kept one computes", &[(32, 4, 0.2), (32, 0, 0.0)], 50, [60, 0, 2, 1]),
            ("long prompts everywhere", &[(32, 4, 3.0), (32, 1, 3.0)], 0, [59, 0, 0, 0]),
            ("the last places are spared", &[(32, 30, 0.0), (32, 29, 0.0)], 0, [5, 1, 2, 2]),
            ("no place is left", &[(32, 32, 0.0), (1, 7, 0.0)], 0, [0, 0, 0, 0]),
            ("a place for one", &[(1, 0, 0.0)], 25, [1, 1, 1, 1]),
        ] {
            assert_eq!(left(endpoints, kept), expected, "{case}");
        }
        assert_eq!(left(&[], 25), [usize::MAX; 4], "the pick says that nobody is there");
    }

    #[test]
    fn a_prompt_that_takes_a_twentieth_of_a_second_is_short_and_one_that_takes_half_of_one_is_long() {
        assert_eq!([50, 500].map(|work| Asker::alone(Duration::from_millis(work))), [Asker::Short, Asker::Long]);
    }

    #[test]
    fn a_limit_for_the_pool_and_those_who_pass_count_for_all() {
        let room = Room::of([Seen { limit: 8, load: 0, busy: 0.0 }; 4], 25);
        assert_eq!(room.at_most(2).left(Asker::Quiet), 2);
        let after = room.less(3);
        assert_eq!(ASKERS.map(|asker| after.left(asker)), [29, 0, 1, 1]);
        assert_eq!((Room::UNBOUNDED.and(Room::NONE), Room::UNBOUNDED.less(3)), (Room::NONE, Room::UNBOUNDED));
    }
}
