//! Which endpoints of a pool are ejected, that is left out for a while, because requests fail there.
//!
//! An endpoint is ejected after a row of failures without a good answer between them. How long the row must be depends
//! on the cause of its last failure. The time grows with each ejection, up to [`LONGEST`]. After it the endpoint is *on
//! trial*: it gets one request at a time, and the outcome of that request brings it back or ejects it again.
//!
//! Causes are hard or soft. A hard cause says that no request can reach the endpoint, and holds for every endpoint of
//! the pool. A soft cause may be the fault of the requests, so soft causes never eject more than half of a pool. Where
//! every endpoint is ejected, the picker uses them all: an ejection is a preference and never the reason for an error.
//!
//! ```text
//!            row of failures                  time is over
//!  Serving ------------------> Ejected(cause) ------------> Trial
//!     ^                            ^   |                    |   |
//!     |                            |   | good scrape        |   | any failure, a longer time
//!     |                            +---|--------------------|---+
//!     +--------------------------------+--------------------+ good answer
//! ```

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The time of the first ejection; each further one doubles it.
pub const FIRST: Duration = Duration::from_secs(1);
/// The longest time of an ejection. An endpoint that recovers gets a request at the latest after this time.
pub const LONGEST: Duration = Duration::from_secs(8);
/// How long an endpoint must serve until its next ejection is a first one again.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// How an attempt at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered with this HTTP status.
    Answered(u16),
    /// No connection could be made.
    Refused,
    /// The connection was made, but its TLS or HTTP/2 handshake failed or took too long.
    Handshake,
    /// The connection broke before the answer was complete.
    Reset,
    /// The answer, or its next byte, did not come within the deadline.
    Late,
    /// The answer is not valid HTTP.
    Malformed,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Connections are refused.
    Refused,
    /// Handshakes fail.
    Handshake,
    /// Connections break before an answer is complete.
    Reset,
    /// Answers miss their deadline.
    Late,
    /// Answers are not valid HTTP.
    Malformed,
    /// Answers have a status of 500 or above.
    Status,
    /// The metrics page does not answer.
    Scrape,
}

/// Whether an endpoint gets requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    #[default]
    Serving,
    /// It does not while another endpoint is left.
    Ejected(Cause),
    /// It gets one request at a time, to see whether it has recovered.
    Trial {
        /// Why it was ejected.
        cause: Cause,
        /// How many requests were in flight there when the trial began. They began before it and say nothing.
        in_flight: u32,
    },
}

/// What changed for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was ejected.
    Ejected {
        /// Why.
        cause: Cause,
        /// For how long, before it is tried again.
        time: Duration,
    },
    /// It is tried again.
    Tried,
    /// It serves again.
    Recovered,
}

/// What the requests to an endpoint show at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether its last attempt failed.
    pub failing: bool,
}

/// The health of a pool's endpoints.
#[derive(Clone, Debug, Default)]
pub struct PoolHealth {
    endpoints: HashMap<SocketAddr, Health>,
}

/// The health of one endpoint.
#[derive(Clone, Copy, Debug)]
struct Health {
    standing: Standing,
    /// When the standing last changed.
    since: Instant,
    /// How long the present ejection lasts.
    time: Duration,
    /// Ejections since the endpoint last served for [`FORGIVEN_AFTER`].
    ejections: u32,
    /// Why it would be ejected if that left enough endpoints.
    spared: Option<Cause>,
}

impl Outcome {
    /// Returns what the outcome says against the endpoint; `None` for a good answer.
    ///
    /// Only statuses from 500 on are failures, without 501 and 505, which a client can provoke by what it asks for. 429
    /// is the word of an engine that is busy and well.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Answered(501 | 505) => None,
            Self::Answered(status) => (status >= 500).then_some(Cause::Status),
            Self::Refused => Some(Cause::Refused),
            Self::Handshake => Some(Cause::Handshake),
            Self::Reset => Some(Cause::Reset),
            Self::Late => Some(Cause::Late),
            Self::Malformed => Some(Cause::Malformed),
        }
    }
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 7] =
        [Self::Refused, Self::Handshake, Self::Reset, Self::Late, Self::Malformed, Self::Status, Self::Scrape];

    /// Returns the value of the metric label `cause`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Handshake => "handshake",
            Self::Reset => "reset",
            Self::Late => "late",
            Self::Malformed => "malformed",
            Self::Status => "status",
            Self::Scrape => "scrape",
        }
    }

    /// Returns how many failures in a row eject an endpoint, when this is the cause of the last one.
    pub fn in_a_row(self) -> u32 {
        match self {
            Self::Late | Self::Scrape => 2,
            Self::Refused | Self::Handshake | Self::Reset | Self::Malformed => 3,
            Self::Status => 5,
        }
    }

    /// Returns whether the cause says that no request can reach the endpoint.
    pub fn is_hard(self) -> bool {
        matches!(self, Self::Refused | Self::Handshake)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Refused => "connections are refused",
            Self::Handshake => "handshakes fail",
            Self::Reset => "connections break before the answer is complete",
            Self::Late => "answers miss their deadline",
            Self::Malformed => "answers are not valid HTTP",
            Self::Status => "answers have a status of 500 or above",
            Self::Scrape => "the metrics page does not answer",
        })
    }
}

impl Standing {
    /// Returns whether an endpoint with `in_flight` requests may get another one.
    pub fn admits(self, in_flight: u32) -> bool {
        match self {
            Self::Serving => true,
            Self::Ejected(_) => false,
            Self::Trial { in_flight: before, .. } => in_flight <= before,
        }
    }

    /// Returns whether the endpoint is ejected, and not yet on trial.
    pub fn is_ejected(self) -> bool {
        matches!(self, Self::Ejected(_))
    }

    /// Returns why the endpoint is ejected or on trial.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Serving => None,
            Self::Ejected(cause) | Self::Trial { cause, .. } => Some(cause),
        }
    }
}

impl PoolHealth {
    /// Adds an endpoint whose `standing` was known before.
    pub fn add(&mut self, address: SocketAddr, standing: Standing, now: Instant) {
        self.endpoints.insert(address, Health::new(standing, now));
    }

    /// Forgets the endpoints for which `is_kept` is false.
    pub fn retain(&mut self, is_kept: impl Fn(SocketAddr) -> bool) {
        self.endpoints.retain(|address, _| is_kept(*address));
    }

    /// Returns whether an endpoint gets requests.
    pub fn standing(&self, address: SocketAddr) -> Standing {
        self.endpoints.get(&address).map_or(Standing::Serving, |health| health.standing)
    }

    /// Notes how an attempt ended that began while the endpoint had its present standing; a failure is the last of
    /// `in_a_row`.
    pub fn note(&mut self, address: SocketAddr, outcome: Outcome, in_a_row: u32, now: Instant) -> Option<Change> {
        let Some(cause) = outcome.cause() else { return self.recover(address, now) };
        match self.standing(address) {
            Standing::Serving if in_a_row < cause.in_a_row() => None,
            Standing::Serving | Standing::Trial { .. } => self.eject(address, cause, now),
            Standing::Ejected(_) => None,
        }
    }

    /// Notes a scrape that failed because the metrics page did not answer; it is the last of `in_a_row`.
    pub fn note_missed_scrape(&mut self, address: SocketAddr, in_a_row: u32, now: Instant) -> Option<Change> {
        let counts = match self.standing(address) {
            Standing::Serving => in_a_row >= Cause::Scrape.in_a_row(),
            // A request on trial that hangs says nothing until its client leaves.
            Standing::Trial { .. } => true,
            Standing::Ejected(_) => false,
        };
        if counts { self.eject(address, Cause::Scrape, now) } else { None }
    }

    /// Notes that a connection of the router's own went well: a scrape, or a probe. It answers those causes only that
    /// it would have met itself.
    pub fn note_contact(&mut self, address: SocketAddr, by_scrape: bool, now: Instant) -> Option<Change> {
        let answers = |cause| match cause {
            Cause::Refused => true,
            Cause::Handshake | Cause::Scrape => by_scrape,
            Cause::Reset | Cause::Late | Cause::Malformed | Cause::Status => false,
        };
        if let Some(health) = self.endpoints.get_mut(&address) {
            health.spared = health.spared.filter(|cause| !answers(*cause));
        }
        if self.standing(address).cause().is_some_and(answers) { self.recover(address, now) } else { None }
    }

    /// Moves on to `now`: ejections that are over become trials, a trial without an outcome is opened for one more
    /// request, and endpoints that were spared are ejected if there is room by now.
    pub fn advance(&mut self, now: Instant, signs: impl Fn(SocketAddr) -> Signs) -> Vec<(SocketAddr, Change)> {
        let mut changes = Vec::new();
        let mut spared = Vec::new();
        for (address, health) in &mut self.endpoints {
            let Signs { in_flight, failing } = signs(*address);
            let is_over = now.saturating_duration_since(health.since) >= health.time;
            match health.standing {
                Standing::Serving => {
                    health.spared = health.spared.filter(|_| failing);
                    spared.extend(health.spared.map(|cause| (*address, cause)));
                }
                // A probe learns whether connections are accepted; no request has to.
                Standing::Ejected(cause) if is_over && cause != Cause::Refused => {
                    (health.standing, health.since) = (Standing::Trial { cause, in_flight }, now);
                    changes.push((*address, Change::Tried));
                }
                // The request on trial hangs: without another one nobody would learn that the endpoint has recovered.
                Standing::Trial { cause, .. } if is_over => {
                    (health.standing, health.since) = (Standing::Trial { cause, in_flight }, now);
                    changes.push((*address, Change::Tried));
                }
                Standing::Ejected(_) | Standing::Trial { .. } => {}
            }
        }
        spared.sort_unstable_by_key(|(address, _)| *address);
        changes.extend(
            spared.into_iter().filter_map(|(address, cause)| Some((address, self.eject(address, cause, now)?))),
        );
        changes
    }

    fn eject(&mut self, address: SocketAddr, cause: Cause, now: Instant) -> Option<Change> {
        let others = self.endpoints.iter().filter(|(other, _)| **other != address);
        let out = others.filter(|(_, health)| health.standing != Standing::Serving).count();
        let has_room = cause.is_hard() || (out + 1) * 2 <= self.endpoints.len();
        let health = self.endpoints.get_mut(&address)?;
        if has_room {
            return Some(health.eject(cause, now));
        }
        // An endpoint on trial that fails and may not be ejected serves: it does harm, and so do too many others.
        health.spared = Some(cause);
        if health.standing == Standing::Serving { None } else { Some(health.serve(now)) }
    }

    fn recover(&mut self, address: SocketAddr, now: Instant) -> Option<Change> {
        let health = self.endpoints.get_mut(&address)?;
        health.spared = None;
        if health.standing == Standing::Serving { None } else { Some(health.serve(now)) }
    }
}

impl Health {
    fn new(standing: Standing, now: Instant) -> Self {
        Self { standing, since: now, time: FIRST, ejections: u32::from(standing != Standing::Serving), spared: None }
    }

    fn eject(&mut self, cause: Cause, now: Instant) -> Change {
        if self.standing == Standing::Serving && now.saturating_duration_since(self.since) >= FORGIVEN_AFTER {
            self.ejections = 0;
        }
        let time = FIRST.saturating_mul(2_u32.saturating_pow(self.ejections)).min(LONGEST);
        *self =
            Self { standing: Standing::Ejected(cause), since: now, time, ejections: self.ejections + 1, spared: None };
        Change::Ejected { cause, time }
    }

    fn serve(&mut self, now: Instant) -> Change {
        (self.standing, self.since) = (Standing::Serving, now);
        Change::Recovered
    }
}

#[cfg(test)]
mod tests;
