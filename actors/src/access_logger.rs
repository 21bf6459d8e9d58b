//! AccessLogger: writes what the workers have to say about requests.
//!
//! # State
//! The output. Lines come in batches, so that a request costs no system call and a stalled output stalls no worker.
//!
//! # Messages
//! In: [`LogLines`] from the workers, [`Flush`] from the Overseer at the end.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one, on a thread of its own, since it may block.
//! Workers reach it by way of an [`AccessLog`], which always has the living one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use arc_swap::ArcSwapOption;
use tracing::error;

use crate::metrics::Metrics;
use crate::vitals::Vitals;

/// How many batches may wait before further ones are dropped.
pub const WAITING_BATCHES: usize = 256;

/// The way to the access logger of the moment.
#[derive(Clone, Debug, Default)]
pub struct AccessLog(Arc<ArcSwapOption<Addr<AccessLogger>>>);

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
pub struct LogLines(pub Vec<u8>);

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
        self.0.store(Some(Arc::new(logger)));
    }

    /// Sends lines to the logger; returns whether it takes them.
    pub fn send(&self, lines: LogLines) -> bool {
        // All threads send by the one address: the limit of a mailbox holds for each address by itself.
        self.0.load().as_ref().is_some_and(|logger| logger.try_send(lines).is_ok())
    }

    /// Waits until everything sent before is written.
    ///
    /// # Errors
    ///
    /// Returns an error when the logger is dead.
    pub async fn flush(&self) -> Result<(), MailboxError> {
        match self.0.load_full() {
            Some(logger) => logger.send(Flush).await,
            None => Ok(()),
        }
    }
}

impl Actor for AccessLogger {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(WAITING_BATCHES);
    }
}

impl Handler<LogLines> for AccessLogger {
    type Result = ();

    fn handle(&mut self, LogLines(lines): LogLines, _: &mut Self::Context) {
        let _handling = self.vitals.handling("LogLines");
        let written = self.write(&lines);
        if let Err(error) = &written
            && !self.failing
        {
            error!(%error, "access log cannot be written");
        }
        self.failing = written.is_err();
    }
}

impl Handler<Flush> for AccessLogger {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {
        // The mailbox is in order, and each batch is written as it is handled.
    }
}
