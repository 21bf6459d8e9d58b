//! One line for each request, in the Go router's two layouts.
//!
//! Text: `[start] "METHOD PATH PROTO" STATUS error=… model_name=… … tokens=IN/OUT timings=TOTALms(REQ+UP+RESPms)`;
//! JSON: one object with the same fields. Fields without a value are left out; the path is without its query, which may
//! hold secrets.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kthena_router::config::AccessLogFormat;
use tokio::sync::Notify;

use super::facts::{End, Facts};
use super::names::Names;
use crate::ops::access_logger::{AccessLog, count_lines};
use crate::ops::metrics::Metrics;
use entry::{Entry, Seconds};

mod entry;

/// Lines are sent when there are this many bytes of them.
const FULL: usize = 16 << 10;
/// And the line that makes it so many fits in beside them, as a rule.
const ROOM: usize = 1 << 10;
/// And at the latest after this time, so that whoever has an answer finds its line soon.
const FLUSH_AFTER: Duration = Duration::from_millis(5);
/// How long the two clocks are taken to go alike.
const CLOCK_VALIDITY: Duration = Duration::from_secs(1);

/// The lines of one worker thread that were not sent yet.
pub(crate) struct LogBuffer {
    lines: RefCell<Lines>,
    clock: Cell<Clock>,
    log: AccessLog,
    format: AccessLogFormat,
    metrics: Arc<Metrics>,
    /// Told when there are lines to send.
    filled: Rc<Notify>,
}

/// One moment on both clocks: from it the time of day of any other is known without asking for it.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    since_epoch: Duration,
}

/// Whole lines, and the second that the last of them was written in.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    seconds: Seconds,
}

impl Clock {
    fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), since_epoch }
    }

    /// Returns the time since the epoch at an instant.
    fn time_of_day(self, instant: Instant) -> Duration {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.since_epoch + later,
            None => self.since_epoch.saturating_sub(self.instant.saturating_duration_since(instant)),
        }
    }
}

impl LogBuffer {
    /// Makes a buffer that sends itself soon after each first line, for as long as it is in use.
    pub(crate) fn start(log: AccessLog, format: AccessLogFormat, metrics: Arc<Metrics>) -> Rc<Self> {
        let buffer = Rc::new(Self {
            lines: RefCell::default(),
            clock: Cell::new(Clock::now()),
            log,
            format,
            metrics,
            filled: Rc::default(),
        });
        let filled = Rc::clone(&buffer.filled);
        let weak = Rc::downgrade(&buffer);
        tokio::task::spawn_local(async move {
            loop {
                filled.notified().await;
                tokio::time::sleep(FLUSH_AFTER).await;
                match Weak::upgrade(&weak) {
                    Some(buffer) => buffer.send(),
                    None => return,
                }
            }
        });
        buffer
    }

    /// Appends the line of a request that ended at `now`.
    pub(crate) fn append(&self, facts: &Facts, end: End, names: &Names, now: Instant) {
        let mut lines = self.lines.borrow_mut();
        let Lines { text, seconds } = &mut *lines;
        if text.is_empty() {
            self.filled.notify_one();
        }
        if now.saturating_duration_since(self.clock.get().instant) > CLOCK_VALIDITY {
            self.clock.set(Clock::now());
        }
        let start = self.clock.get().time_of_day(facts.started);
        let entry = Entry::of(facts, end, names, start, now);
        match self.format {
            AccessLogFormat::Text => entry.text(text, seconds),
            AccessLogFormat::Json => entry.json(text, seconds),
        }
        text.push(b'\n');
        if text.len() >= FULL {
            drop(lines);
            self.send();
        }
    }

    fn send(&self) {
        let mut kept = self.lines.borrow_mut();
        if kept.text.is_empty() {
            return;
        }
        let lines = std::mem::replace(&mut kept.text, Vec::with_capacity(FULL + ROOM));
        drop(kept);
        let count = count_lines(&lines);
        // A logger that cannot keep up loses lines rather than memory.
        if !self.log.send(lines) {
            self.metrics.access_log_dropped.inc_by(count);
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.send();
        self.filled.notify_one();
    }
}
