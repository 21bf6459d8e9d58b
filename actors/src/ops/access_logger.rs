//! AccessLogger: writes what the workers have to say about requests.
//!
//! # State
//! The output. Lines come in batches, so that a request costs no system call and a stalled output stalls no worker.
//!
//! # Messages
//! In: [`LogLines`] from the workers, [`Reopen`] on SIGHUP, [`Flush`] from the Overseer at the end.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one, on a thread of its own, since it may block.
//! Workers reach it by way of an [`AccessLog`], which always has the living one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use arc_swap::ArcSwapOption;
use tracing::error;

use crate::ops::metrics::Metrics;
use crate::ops::vitals::Vitals;

/// How many bytes of lines may wait to be written before further ones are dropped. They are counted by bytes because lines
/// are as long as what clients send.
pub const WAITING_BYTES: usize = 8 << 20;

/// The way to the access logger of the moment.
#[derive(Clone, Debug, Default)]
pub struct AccessLog {
    logger: Arc<ArcSwapOption<Addr<AccessLogger>>>,
    /// The bytes that wait.
    waiting: Arc<AtomicUsize>,
}

/// Bytes that wait, given back when they are written or lost.
#[derive(Debug)]
struct Waiting {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

/// Writes access log lines.
pub struct AccessLogger {
    /// `None` while the output cannot be opened.
    output: Option<Output>,
    name: String,
    failing: bool,
    vitals: Vitals,
}

/// Whole lines, each with its line end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogLines {
    text: Vec<u8>,
    _waiting: Waiting,
}

/// Opens a file anew, after it was moved away.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reopen;

/// Answered when everything sent before is written.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Flush;

/// Where lines go.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(File),
}

impl Output {
    /// Opens what `--access-log-output` names.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be opened for appending.
    pub fn open(name: &str) -> io::Result<Self> {
        match name {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            path => OpenOptions::new().create(true).append(true).open(path).map(Self::File),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(lines).and_then(|()| io::stdout().flush()),
            Self::Stderr => io::stderr().write_all(lines),
            Self::File(file) => file.write_all(lines),
        }
    }
}

impl AccessLogger {
    /// The actor's name.
    pub const NAME: &str = "AccessLogger";

    /// Makes a logger that writes to what `--access-log-output` names.
    pub fn new(name: String, metrics: &Arc<Metrics>) -> Self {
        Self { output: None, name, failing: false, vitals: Vitals::new(Self::NAME, metrics) }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let output = match self.output.take() {
            Some(output) => output,
            None => Output::open(&self.name)?,
        };
        self.output.insert(output).write(lines)
    }
}

impl AccessLog {
    /// Sends lines from now on to this logger.
    pub fn lead_to(&self, logger: Addr<AccessLogger>) {
        self.logger.store(Some(Arc::new(logger)));
    }

    /// Sends whole lines to the logger; returns whether it takes them.
    pub fn send(&self, text: Vec<u8>) -> bool {
        let Some(waiting) = Waiting::reserve(&self.waiting, text.len()) else { return false };
        let logger = self.logger.load();
        let living = logger.as_ref().filter(|logger| logger.connected());
        living.is_some_and(|logger| {
            // The limit is the number of bytes.
            logger.do_send(LogLines { text, _waiting: waiting });
            true
        })
    }

    /// Opens the output anew, if it is a file that was moved away.
    pub fn reopen(&self) {
        if let Some(logger) = self.logger.load().as_ref() {
            logger.do_send(Reopen);
        }
    }

    /// Waits until everything sent before is written.
    ///
    /// # Errors
    ///
    /// Returns an error when the logger is dead.
    pub async fn flush(&self) -> Result<(), MailboxError> {
        match self.logger.load_full() {
            Some(logger) => logger.send(Flush).await,
            None => Ok(()),
        }
    }
}

impl Actor for AccessLogger {
    type Context = Context<Self>;
}

impl Handler<LogLines> for AccessLogger {
    type Result = ();

    fn handle(&mut self, LogLines { text, .. }: LogLines, _: &mut Self::Context) {
        let _handling = self.vitals.handling("LogLines");
        let written = self.write(&text);
        if written.is_err() {
            self.vitals.metrics().access_log_dropped.inc_by(count_lines(&text));
        }
        if let Err(error) = &written
            && !self.failing
        {
            error!(%error, "access log cannot be written");
        }
        self.failing = written.is_err();
    }
}

impl Handler<Reopen> for AccessLogger {
    type Result = ();

    fn handle(&mut self, _: Reopen, _: &mut Self::Context) {
        let _handling = self.vitals.handling("Reopen");
        match Output::open(&self.name) {
            Ok(output) => self.output = Some(output),
            // The open one goes on being used: lines in a file that was moved are better than no lines.
            Err(error) => error!(%error, "access log cannot be opened again"),
        }
    }
}

impl Handler<Flush> for AccessLogger {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {
        // The mailbox is in order, and each batch is written as it is handled.
        let _handling = self.vitals.handling("Flush");
    }
}

impl Waiting {
    fn reserve(all: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Self { bytes, all: Arc::clone(all) };
        (before.saturating_add(bytes) <= WAITING_BYTES).then_some(reserved)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Returns the number of whole lines in a text.
pub fn count_lines(text: &[u8]) -> u64 {
    u64::try_from(memchr::memchr_iter(b'\n', text).count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
