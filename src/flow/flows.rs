//! The flows of one band: which is next, by a virtual token counter.
//!
//! A flow's counter grows by the service that it gets. The flow with the least goes first; of those with as much, the
//! one that came last to the queue, which has waited for less. One that comes to the queue is lifted to the counter of
//! the flow that was served last.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use super::identity::FlowId;
use super::order::Turn;
use super::settings::Service;

/// The flow that requests share whose own flow there is no room for.
pub const OVERFLOW: FlowId = FlowId(u64::MAX);

/// The flows of one band, with the requests that wait.
#[derive(Debug)]
pub struct Flows<T> {
    flows: HashMap<FlowId, Flow>,
    /// What waits, by flow: the request of each that is due first is the first.
    entries: BTreeMap<(FlowId, Turn), Entry<T>>,
    /// The flows that wait, the next one first.
    ready: BTreeSet<(Service, Reverse<u64>, FlowId)>,
    /// The flows that wait, the longest last.
    lengths: BTreeSet<(usize, FlowId)>,
    /// The flows of which nothing waits and nothing is being served, the one with the least service first.
    idle: BTreeSet<(Service, FlowId)>,
    /// What the flow had that was served last.
    floor: Service,
    /// What is being served of all of them.
    held: Service,
    /// How many flows are told apart.
    most: usize,
}

/// A request that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// What its flow is charged when it is served.
    pub cost: Service,
    /// How long an endpoint computes its prompt.
    pub work: Duration,
    /// What it takes of the queue's limit of bytes.
    pub bytes: usize,
    /// Who waits.
    pub waiter: T,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    service: Service,
    waiting: usize,
    in_service: usize,
    /// What it was charged for the requests that are being served.
    held: Service,
    /// When it came to the queue, as a number.
    came: u64,
}

impl<T> Flows<T> {
    /// Makes a band in which so many flows are told apart.
    pub fn new(most: usize) -> Self {
        Self {
            flows: HashMap::new(),
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            lengths: BTreeSet::new(),
            idle: BTreeSet::new(),
            floor: 0,
            held: 0,
            most,
        }
    }

    /// Returns how many requests wait.
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many flows are known.
    pub fn known(&self) -> usize {
        self.flows.len()
    }

    /// Returns whether nothing waits and nothing is being served.
    pub fn is_idle(&self) -> bool {
        self.idle.len() == self.flows.len()
    }

    /// Returns how many flows have requests that wait or are being served.
    pub fn busy(&self) -> usize {
        self.flows.len() - self.idle.len()
    }

    /// Returns what is being served of all flows, as they were charged for it.
    pub fn held(&self) -> Service {
        self.held
    }

    /// Returns what is being served of the flow that is next.
    pub fn held_by_next(&self) -> Option<Service> {
        let (_, _, id) = self.ready.first()?;
        self.flows.get(id).map(|flow| flow.held)
    }

    /// Returns the work of the request that is next.
    pub fn work_of_next(&self) -> Option<Duration> {
        let (_, _, id) = self.ready.first()?;
        self.entries.range((*id, Turn::FIRST)..).next().map(|(_, entry)| entry.work)
    }

    /// Returns how many requests of a flow wait.
    pub fn length(&self, flow: FlowId) -> usize {
        self.flows.get(&flow).map_or(0, |flow| flow.waiting)
    }

    /// Returns the flow with the most requests that wait, and how many those are.
    pub fn longest(&self) -> Option<(FlowId, usize)> {
        self.lengths.last().map(|(length, flow)| (*flow, *length))
    }

    /// Returns the flow that a request counts for: its own, if there is room for it.
    pub fn counted_as(&self, flow: FlowId) -> FlowId {
        let has_room = self.busy() < self.most;
        if has_room || self.flows.contains_key(&flow) { flow } else { OVERFLOW }
    }

    /// Lets a request wait; its flow must be one that [`Flows::counted_as`] has returned.
    pub fn push(&mut self, id: FlowId, turn: Turn, entry: Entry<T>) {
        while !self.flows.contains_key(&id) && self.flows.len() >= self.most {
            // Who has nothing to ask is forgotten, the one with the least service first: it loses nothing by that.
            let Some((_, gone)) = self.idle.pop_first() else { break };
            self.flows.remove(&gone);
        }
        let floor = self.floor;
        self.change(id, |flow| {
            if flow.waiting == 0 {
                (flow.service, flow.came) = (flow.service.max(floor), turn.number);
            }
            flow.waiting += 1;
        });
        self.entries.insert((id, turn), entry);
    }

    /// Takes the request that is next, and charges its flow.
    pub fn pop(&mut self) -> Option<(FlowId, Entry<T>)> {
        let (service, _, id) = *self.ready.first()?;
        let (_, turn) = *self.entries.range((id, Turn::FIRST)..).next()?.0;
        let entry = self.entries.remove(&(id, turn))?;
        self.floor = self.floor.max(service);
        self.held = self.held.saturating_add(entry.cost);
        self.change(id, |flow| {
            flow.waiting -= 1;
            flow.in_service += 1;
            flow.held = flow.held.saturating_add(entry.cost);
            flow.service = flow.service.saturating_add(entry.cost);
        });
        Some((id, entry))
    }

    /// Takes a request out that does not wait any more.
    pub fn remove(&mut self, id: FlowId, turn: Turn) -> Option<Entry<T>> {
        let entry = self.entries.remove(&(id, turn))?;
        self.change(id, |flow| flow.waiting -= 1);
        Some(entry)
    }

    /// Takes the request of a flow out that is due last.
    pub fn remove_last(&mut self, id: FlowId) -> Option<Entry<T>> {
        let (of, turn) = *self.entries.range(..=(id, Turn::LAST)).next_back()?.0;
        if of == id { self.remove(id, turn) } else { None }
    }

    /// Notes that a request is over, and what it has used of what was charged.
    pub fn settle(&mut self, id: FlowId, charged: Service, used: Service) {
        if self.flows.contains_key(&id) {
            self.held = self.held.saturating_sub(charged);
            self.change(id, |flow| {
                flow.in_service = flow.in_service.saturating_sub(1);
                flow.held = flow.held.saturating_sub(charged);
                flow.service = flow.service.saturating_sub(charged).saturating_add(used);
            });
        }
    }

    /// Changes a flow, and its place in all orders.
    fn change(&mut self, id: FlowId, change: impl FnOnce(&mut Flow)) {
        let known = self.flows.entry(id).or_default();
        let before = *known;
        change(known);
        let after = *known;
        if before.waiting > 0 {
            self.ready.remove(&(before.service, Reverse(before.came), id));
            self.lengths.remove(&(before.waiting, id));
        } else if before.in_service == 0 {
            self.idle.remove(&(before.service, id));
        }
        if after.waiting > 0 {
            self.ready.insert((after.service, Reverse(after.came), id));
            self.lengths.insert((after.waiting, id));
        } else if after.in_service == 0 {
            self.idle.insert((after.service, id));
        }
    }
}
