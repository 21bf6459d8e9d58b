//! The queue of one pool.
//!
//! The band that is served next is the one that has had the least service for its weight (stride scheduling). While `n`
//! bands have something to do, the service of one counts as much as that of the highest, times
//! [`Settings::priority_weight`] for each band above it. A band that comes to the queue begins where the others are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::flows::{Entry, Flows};
use super::identity::FlowId;
use super::order::{Due, Turn};
use super::room::{Asker, Room};
use super::settings::{OVERHEAD_BYTES, Service, Settings};

/// How many bands are told apart; requests of further ones count for the next lower one.
const MOST_BANDS: usize = 32;
/// The steps between bands that count.
const MOST_STEPS: u32 = 8;
/// A flow is quiet of which less is being served than one of so many parts of an equal share.
const QUIET: u128 = 2;
/// For how many further requests room is left for quiet flows after the last request of one.
const MEMORY: u64 = 1000;

/// What a band is known by: the priority, and whether the session's prompts are likely to be cached. The highest one
/// is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The priority.
    pub priority: i32,
    /// Whether the session is preferred.
    pub boosted: bool,
}

/// A request that wants to wait.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// How important it is.
    pub rank: Rank,
    /// Whose it is.
    pub flow: FlowId,
    /// What its flow is charged when it is served.
    pub cost: Service,
    /// The bytes of its body.
    pub bytes: usize,
    /// When it arrived, after a moment that is the same for all.
    pub arrived: Duration,
    /// How long an endpoint computes its prompt, as far as that is known.
    pub work: Duration,
}

/// Where a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    rank: Rank,
    flow: FlowId,
    turn: Turn,
}

/// A request that is served, to be settled when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    rank: Rank,
    flow: FlowId,
    /// What its flow was charged.
    pub charged: Service,
}

/// What came of a request that wants to wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Pushed<T> {
    /// Where it waits; `None` where there is no room for it.
    pub place: Option<Place>,
    /// Who must not wait any longer: those that are due last of the flows with the most.
    pub driven_out: Vec<T>,
}

/// The requests that wait for one pool.
#[derive(Debug)]
pub struct FlowQueue<T> {
    bands: BTreeMap<Rank, Band<T>>,
    waiting: usize,
    bytes: usize,
    /// The number of the next request.
    next: u64,
    /// The virtual time of the band that was served last.
    time: u128,
    /// How many requests were served after the last one of a quiet flow, if there was one.
    served_since_quiet: Option<u64>,
}

#[derive(Debug)]
struct Band<T> {
    flows: Flows<T>,
    /// The service that it has had, by its weight.
    time: u128,
}

impl<T> Default for FlowQueue<T> {
    fn default() -> Self {
        Self { bands: BTreeMap::new(), waiting: 0, bytes: 0, next: 0, time: 0, served_since_quiet: None }
    }
}

impl<T> FlowQueue<T> {
    /// Returns how many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns how many bytes they have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many flows are known, in all bands.
    pub fn flows(&self) -> usize {
        self.bands.values().map(|band| band.flows.known()).sum()
    }

    /// Returns the bands in which requests wait, and how many those are.
    pub fn bands(&self) -> impl Iterator<Item = (Rank, usize)> {
        self.bands.iter().map(|(rank, band)| (*rank, band.flows.waiting())).filter(|(_, waiting)| *waiting > 0)
    }

    /// Lets a request wait. Where there is no room in the queue, those requests of the longest flow that are due last
    /// make room for one of a shorter flow, so that nobody fills the queue for all others.
    pub fn push(&mut self, asked: Asked, settings: &Settings, waiter: T) -> Pushed<T> {
        let rank = self.band_for(asked.rank);
        let bytes = asked.bytes.saturating_add(OVERHEAD_BYTES);
        let (time, number) = (self.time, self.next);
        let band = self.bands.entry(rank).or_insert_with(|| Band { flows: Flows::new(settings.most_flows), time });
        let flow = band.flows.counted_as(asked.flow);
        let own = band.flows.length(flow);
        let mut driven_out = Vec::new();
        let has_room = |waiting: usize, held: usize| {
            waiting < settings.most_requests && held.saturating_add(bytes) <= settings.most_bytes
        };
        while !has_room(band.flows.waiting(), self.bytes) {
            let longest = band.flows.longest().filter(|(other, length)| *other != flow && *length > own + 1);
            let Some(entry) = longest.and_then(|(other, _)| band.flows.remove_last(other)) else {
                return Pushed { place: None, driven_out };
            };
            (self.waiting, self.bytes) = (self.waiting - 1, self.bytes - entry.bytes);
            driven_out.push(entry.waiter);
        }
        if band.flows.waiting() == 0 {
            band.time = band.time.max(time);
        }
        let turn = Turn { due: Due::of(asked.arrived, asked.work, settings.time_to_live), number };
        band.flows.push(flow, turn, Entry { cost: asked.cost, work: asked.work, bytes, waiter });
        (self.waiting, self.bytes, self.next) = (self.waiting + 1, self.bytes + bytes, number + 1);
        Pushed { place: Some(Place { rank, flow, turn }), driven_out }
    }

    /// Takes the request that is next, if there is room for it.
    pub fn pop_within(&mut self, room: Room, settings: &Settings) -> Option<(Served, T)> {
        let rank = self.next_band()?;
        let is_quiet = self.is_quiet(rank);
        let is_one_about = self.served_since_quiet.is_some_and(|served| served < MEMORY);
        let asker = match (is_quiet, is_one_about) {
            (true, _) => Asker::Quiet,
            (false, true) => Asker::BesideQuiet,
            (false, false) => Asker::alone(self.bands.get(&rank)?.flows.work_of_next()?),
        };
        if room.left(asker) == 0 {
            return None;
        }
        self.served_since_quiet = if is_quiet { Some(0) } else { self.served_since_quiet.map(|served| served + 1) };
        self.pop_of(rank, settings)
    }

    /// Takes the request that is next.
    pub fn pop(&mut self, settings: &Settings) -> Option<(Served, T)> {
        self.next_band().and_then(|rank| self.pop_of(rank, settings))
    }

    fn next_band(&self) -> Option<Rank> {
        let busy = self.bands.iter().filter(|(_, band)| band.flows.waiting() > 0);
        // Of those with equal service the highest is first.
        busy.rev().min_by_key(|(_, band)| band.time).map(|(rank, _)| *rank)
    }

    /// Returns whether less is being served of the flow that is next in a band than one of [`QUIET`] parts of what each
    /// flow would have if all had the same.
    fn is_quiet(&self, rank: Rank) -> bool {
        let own = self.bands.get(&rank).and_then(|band| band.flows.held_by_next()).unwrap_or_default();
        let flows: usize = self.bands.values().map(|band| band.flows.busy()).sum();
        let held: u128 = self.bands.values().map(|band| u128::from(band.flows.held())).sum();
        u128::from(own) * flows as u128 * QUIET < held
    }

    fn pop_of(&mut self, rank: Rank, settings: &Settings) -> Option<(Served, T)> {
        let above = self.bands.range(rank..).skip(1).filter(|(_, band)| band.flows.waiting() > 0).count();
        let steps = u32::try_from(above).unwrap_or(MOST_STEPS).min(MOST_STEPS);
        let band = self.bands.get_mut(&rank)?;
        let (flow, Entry { cost, bytes, waiter, .. }) = band.flows.pop()?;
        self.time = self.time.max(band.time);
        let share = u128::from(settings.priority_weight.max(1)).saturating_pow(steps);
        band.time = band.time.saturating_add(u128::from(cost).saturating_mul(share));
        (self.waiting, self.bytes) = (self.waiting - 1, self.bytes - bytes);
        Some((Served { rank, flow, charged: cost }, waiter))
    }

    /// Takes a request out that does not wait any more; `None` if it is out already.
    pub fn cancel(&mut self, place: Place) -> Option<T> {
        let entry = self.bands.get_mut(&place.rank)?.flows.remove(place.flow, place.turn)?;
        (self.waiting, self.bytes) = (self.waiting - 1, self.bytes - entry.bytes);
        Some(entry.waiter)
    }

    /// Notes that a request is over, and what it has used.
    pub fn settle(&mut self, served: Served, used: Service) {
        if let Some(band) = self.bands.get_mut(&served.rank) {
            band.flows.settle(served.flow, served.charged, used);
        }
    }

    /// Returns the band that a request counts for: its own, if there is room for it.
    fn band_for(&mut self, rank: Rank) -> Rank {
        if self.bands.len() < MOST_BANDS || self.bands.contains_key(&rank) {
            return rank;
        }
        let idle = self.bands.iter().find(|(_, band)| band.flows.is_idle()).map(|(rank, _)| *rank);
        if let Some(idle) = idle {
            self.bands.remove(&idle);
            return rank;
        }
        let lower = self.bands.range(..rank).next_back().or_else(|| self.bands.first_key_value());
        lower.map_or(rank, |(rank, _)| *rank)
    }
}

#[cfg(test)]
mod tests;
