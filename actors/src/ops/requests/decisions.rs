//! The latest decisions of one worker thread: numbers, put into words when somebody asks.
//!
//! Requests that are decided on are written down: all of them up to [`RATE`] a second, and as many of a busier thread's,
//! whose latest decisions would be milliseconds old otherwise, and gone before anybody can ask. What that costs is
//! bounded: a record is used again for a later request, so that nothing is allocated once its lists have grown, and a
//! thread keeps at most [`MOST`] records and [`MOST_BYTES`]. No header, no query and no text of a body is kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use kthena_router::object::Bind;
use kthena_router::scheduling::record::PickRecord;

use super::facts::{End, Facts};
use super::names::Names;
use crate::ops::metrics::{NONE, Text};

/// The most decisions that a thread keeps.
const MOST: usize = 256;
/// Requests a second of which all are written down; as many as are kept may come at once.
const RATE: f64 = 64.0;
/// The most bytes that they take.
const MOST_BYTES: usize = 1 << 20;
/// The most bytes that are kept of a host and of a path.
const LONGEST: usize = 512;
/// Records that wait to be used again.
const SPARE: usize = 8;

/// The latest decisions of one worker thread, the oldest first.
#[derive(Debug, Default)]
pub struct Recent {
    /// How many may be written down now, and since when that is so.
    allowed: Cell<Option<(f64, Instant)>>,
    kept: RefCell<VecDeque<Box<DecisionRecord>>>,
    bytes: Cell<usize>,
    #[expect(clippy::vec_box, reason = "the boxes go from hand to hand, and are not made anew")]
    spare: RefCell<Vec<Box<DecisionRecord>>>,
}

/// One request, its decision and its attempts.
#[derive(Clone, Debug)]
pub(crate) struct DecisionRecord {
    /// The request's id.
    pub id: String,
    /// When it came.
    pub started: Instant,
    pub method: Method,
    pub host: String,
    pub path: String,
    /// The model that it names, if that was read.
    pub model: Option<Arc<str>>,
    /// Whether it was decided by its model.
    pub by_model: bool,
    /// The port that it came in on.
    pub bind: Bind,
    /// The generation of the routes.
    pub generation: u64,
    /// The place of the rule in its route.
    pub rule: usize,
    /// The route, if one matched, and whether it is an HTTPRoute.
    pub route: Option<(Text, bool)>,
    /// The pool, if one was chosen.
    pub pool: Option<Text>,
    /// How long it has waited for the pool to have room, if it had to, and with what priority.
    pub waited: Option<(Duration, i32)>,
    /// What was tried.
    pub attempts: Vec<AttemptRecord>,
    /// The status of the answer and in a word how the request ended.
    pub end: (u16, &'static str),
    #[expect(clippy::vec_box, reason = "the boxes go from hand to hand, and are not made anew")]
    spare: Vec<Box<PickRecord>>,
}

/// One attempt of a request.
#[derive(Clone, Debug)]
pub(crate) struct AttemptRecord {
    /// The pick; `None` where the router did not pick.
    pub pick: Option<Box<PickRecord>>,
    /// Where it was sent; `None` where no endpoint was left.
    pub endpoint: Option<SocketAddr>,
    /// How it ended; empty while that is not known.
    pub outcome: &'static str,
}

impl Recent {
    /// Returns a record for another request, unless there are too many of them `now`.
    pub(crate) fn blank(&self, bind: Bind, generation: u64, now: Instant) -> Option<Box<DecisionRecord>> {
        if !self.allows(now) {
            return None;
        }
        let spare = self.spare.borrow_mut().pop();
        let mut record = spare.unwrap_or_else(|| Box::new(DecisionRecord::new(bind)));
        (record.bind, record.generation) = (bind, generation);
        Some(record)
    }

    /// Takes one of those that may be written down.
    fn allows(&self, now: Instant) -> bool {
        let (left, since) = self.allowed.get().unwrap_or((MOST as f64, now));
        let left = (left + RATE * now.saturating_duration_since(since).as_secs_f64()).min(MOST as f64);
        let is_allowed = left >= 1.0;
        self.allowed.set(Some((left - f64::from(u8::from(is_allowed)), now)));
        is_allowed
    }

    /// Keeps a record, unless it is so large that few others would be left, and lets go of the oldest ones that there
    /// is no room for.
    pub(crate) fn keep(&self, record: Box<DecisionRecord>) {
        if record.bytes() > MOST_BYTES / 4 {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        let mut bytes = self.bytes.get() + record.bytes();
        kept.push_back(record);
        while kept.len() > MOST || bytes > MOST_BYTES {
            let Some(mut oldest) = kept.pop_front() else { break };
            bytes -= oldest.bytes();
            let mut spare = self.spare.borrow_mut();
            if spare.len() < SPARE && oldest.bytes() < MOST_BYTES / SPARE {
                oldest.clear();
                spare.push(oldest);
            }
        }
        self.bytes.set(bytes);
    }

    /// Returns the latest decisions, at most so many.
    pub(crate) fn last(&self, count: usize) -> Vec<DecisionRecord> {
        self.kept.borrow().iter().rev().take(count).map(|record| (**record).clone()).collect()
    }

    /// Returns the decisions on requests with this id.
    pub(crate) fn of(&self, id: &str) -> Vec<DecisionRecord> {
        self.kept.borrow().iter().rev().filter(|record| record.id == id).map(|record| (**record).clone()).collect()
    }
}

impl DecisionRecord {
    fn new(bind: Bind) -> Self {
        Self {
            id: String::new(),
            started: Instant::now(),
            method: Method::GET,
            host: String::new(),
            path: String::new(),
            model: None,
            by_model: false,
            bind,
            generation: 0,
            rule: 0,
            route: None,
            pool: None,
            waited: None,
            attempts: Vec::new(),
            end: (0, ""),
            spare: Vec::new(),
        }
    }

    /// Returns a pick's record to write to.
    pub(crate) fn pick(&mut self) -> Box<PickRecord> {
        self.spare.pop().unwrap_or_default()
    }

    /// Adds an attempt.
    pub(crate) fn add(&mut self, pick: Option<Box<PickRecord>>, endpoint: Option<SocketAddr>) {
        self.attempts.push(AttemptRecord { pick, endpoint, outcome: "" });
    }

    /// Notes how the latest attempt ended.
    pub(crate) fn note_outcome(&mut self, outcome: &'static str) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.outcome = outcome;
        }
    }

    /// Notes what is known of the request at its end.
    pub(crate) fn complete(&mut self, facts: &Facts, names: &Names, end: End) {
        let copy = |text: &str, to: &mut String| to.push_str(&text[..text.floor_char_boundary(LONGEST)]);
        copy(facts.request_id(), &mut self.id);
        copy(facts.uri.authority().map_or("", |authority| authority.as_str()), &mut self.host);
        copy(facts.uri.path(), &mut self.path);
        self.started = facts.started;
        self.method.clone_from(&facts.method);
        self.model.clone_from(&facts.model);
        let route = &names.backend.model_route;
        self.route = (&*route.0 != NONE).then(|| (route.clone(), names.is_http_route));
        self.pool.clone_from(&names.pool);
        self.end = (end.status, end.reason);
    }

    fn clear(&mut self) {
        self.id.clear();
        self.host.clear();
        self.path.clear();
        (self.model, self.route, self.pool, self.by_model, self.rule) = (None, None, None, false, 0);
        self.waited = None;
        self.spare.extend(self.attempts.drain(..).filter_map(|attempt| attempt.pick));
        self.spare.truncate(1);
    }

    fn bytes(&self) -> usize {
        let picks = self.attempts.iter().filter_map(|attempt| attempt.pick.as_ref()).chain(&self.spare);
        size_of::<Self>()
            + self.id.capacity()
            + self.host.capacity()
            + self.path.capacity()
            + self.attempts.capacity() * size_of::<AttemptRecord>()
            + picks.map(|pick| pick.bytes()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const BIND: Bind = Bind { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 8080 };

    fn keep(recent: &Recent, id: usize, path: &str) {
        recent.allowed.set(None);
        let mut record = recent.blank(BIND, 1, Instant::now()).expect("there are not too many");
        assert!(record.id.is_empty() && record.attempts.is_empty(), "it is blank");
        record.id.push_str(&id.to_string());
        record.path.push_str(path);
        let pick = record.pick();
        record.add(Some(pick), None);
        recent.keep(record);
    }

    #[test]
    fn a_busy_thread_writes_down_some_of_its_decisions_and_a_quiet_one_all() {
        let written = |rate: u32, requests: u32| {
            let (recent, start) = (Recent::default(), Instant::now());
            let is_written = |request| recent.blank(BIND, 1, start + Duration::from_secs(request) / rate).is_some();
            (0..u64::from(requests)).filter(|request| is_written(*request)).count()
        };
        assert_eq!(written(60, 6_000), 6_000);
        assert_eq!(written(1_000_000, 256), MOST, "those of a moment");
        let busy = written(8_000, 80_000);
        assert!((MOST + 630..=MOST + 650).contains(&busy), "64 in each of ten seconds, and not {busy}");
    }

    #[test]
    fn the_latest_decisions_are_kept_within_bounds() {
        let recent = Recent::default();
        for id in 0..2 * MOST {
            keep(&recent, id, "/");
        }
        let ids = |records: Vec<DecisionRecord>| records.into_iter().map(|record| record.id).collect::<Vec<_>>();
        assert_eq!(ids(recent.last(2)), ["511", "510"]);
        assert_eq!(recent.last(10_000).len(), MOST);
        assert_eq!((recent.of("300").len(), recent.of("3").len()), (1, 0), "the oldest are gone");
        for id in 0..MOST {
            keep(&recent, id, &"x".repeat(MOST_BYTES / 64));
        }
        assert!(recent.bytes.get() <= MOST_BYTES && recent.last(10_000).len() < 64);
        assert_eq!(ids(recent.last(1)), ["255"]);
        keep(&recent, 1, &"x".repeat(2 * MOST_BYTES));
        assert_eq!(ids(recent.last(1)), ["255"], "one that would drive out all others is not kept");
    }
}
