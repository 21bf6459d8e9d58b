//! The time that an engine has within its answer, and the heartbeats while it is silent.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use kthena_router::kinds::model_server::HeartbeatForm;
use kthena_router::pool::time_limits::{Heartbeat, Limit, TimeLimits};
use tokio::time::{Sleep, sleep_until};

/// What stands for a limit that no clock reaches: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time that an engine has within its answer.
pub(in crate::edge) struct Pace {
    idle: Option<Duration>,
    /// When the first piece must be there, until it is.
    first_until: Option<Instant>,
    /// When the answer must be at its end.
    until: Option<Instant>,
    heartbeat: Option<Heartbeat>,
    /// Since when the engine is waited for.
    since: Option<Instant>,
    /// When the last heartbeat was sent since then.
    beaten: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What is due while an engine is silent.
pub(super) enum Due {
    /// Nothing yet; the task is woken when something is.
    Nothing,
    /// A heartbeat.
    Heartbeat(HeartbeatForm),
    /// The end: this limit was reached.
    End(Limit),
}

impl Pace {
    /// Returns the time that an answer has to a request that came in at `started`.
    pub(in crate::edge) fn new(limits: &TimeLimits, started: Instant) -> Self {
        Self {
            idle: limits.idle,
            first_until: None,
            until: limits.total.and_then(|total| started.checked_add(total)),
            heartbeat: limits.heartbeat,
            since: None,
            beaten: None,
            timer: None,
        }
    }

    /// Has the first piece be there at a certain time.
    pub(super) fn expect_first(&mut self, until: Option<Instant>) {
        self.first_until = until;
    }

    /// Has no heartbeats: the answer has no room for them.
    pub(super) fn be_still(&mut self) {
        self.heartbeat = None;
    }

    /// Notes that a piece has arrived, and returns whether it is too late for it.
    pub(super) fn is_past_end(&mut self) -> bool {
        (self.since, self.beaten, self.first_until) = (None, None, None);
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Returns what is due now that nothing has arrived.
    pub(super) fn look(&mut self, context: &mut Context<'_>) -> Due {
        let since = *self.since.get_or_insert_with(Instant::now);
        let next = self.next(since);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next.into())));
        // The timer is set anew only when it fires: pieces arrive much more often than it does, and nothing is ever due
        // earlier than what was due before.
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if now < next {
                timer.as_mut().reset(next.into());
                continue;
            }
            if let Some(limit) = self.reached(since, now) {
                return Due::End(limit);
            }
            let Some(Heartbeat { form, .. }) = self.heartbeat else { return Due::Nothing };
            self.beaten = Some(now);
            return Due::Heartbeat(form);
        }
        Due::Nothing
    }

    /// Returns when the next thing is due.
    fn next(&self, since: Instant) -> Instant {
        let beat = self.heartbeat.map(|heartbeat| after(self.beaten.unwrap_or(since), heartbeat.interval));
        let idle = self.idle.map(|idle| after(since, idle));
        [beat, idle, self.first_until, self.until].into_iter().flatten().min().unwrap_or_else(|| after(since, LONGEST))
    }

    /// Returns the limit that is reached, if one is.
    fn reached(&self, since: Instant, now: Instant) -> Option<Limit> {
        let idle = self.idle.map(|idle| after(since, idle));
        let ends = [(self.until, Limit::Total), (self.first_until, Limit::FirstToken), (idle, Limit::Idle)];
        ends.into_iter().find_map(|(end, limit)| end.filter(|end| now >= *end).and(Some(limit)))
    }
}

/// Returns a time as much later.
fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration).unwrap_or_else(|| time + LONGEST)
}
