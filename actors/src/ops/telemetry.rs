//! Logs, and the last words of panics.
//!
//! Fields have fixed names: `gateway route pool endpoint model kind object bind file request_id`. Levels: error, a person
//! must act; warn, degraded but trying again; info, life cycle and plans; debug, single objects and scrapes.

//!
//! Whoever logs never waits: lines go to a thread that writes them, and what that thread cannot get rid of in time is lost
//! and counted. A standard error that nobody reads stops nobody.

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use tracing::error;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::ops::metrics::Metrics;
use crate::ops::vitals::handling_here;

/// What is logged unless `RUST_LOG` says otherwise. Failures of the Kubernetes client are logged by those who use it, with
/// what they are about. What HTTP libraries log is the clients' and the backends' doing: requests are counted and have
/// their lines in the access log.
const DEFAULT_FILTER: &str = "info,actix_http=off,actix_server=warn,actix_web=off,h2=off,hyper=off,hyper_util=off,\
                              kube_client=off,kube_lease_manager=off,rustls=off,tokio_rustls=off";
/// How many lines may wait to be written.
const WAITING_LINES: usize = 8_192;
/// How often lost lines are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The log of the process. When it is dropped, what waits is written, if that takes no longer than about a second.
#[derive(Debug)]
pub struct Log {
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

/// Starts to log to standard error; standard output is the access log's.
pub fn start() -> Log {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(io::stderr());
    let log = Log { lost: writer.error_counter(), _writer: guard };
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer)
        .try_init();
    // A test process may log already.
    drop(started);
    log
}

impl Log {
    /// Counts lost lines in the metrics from now on, in the current actix System.
    pub fn count_lost(&self, metrics: &Arc<Metrics>) {
        let (lost, counter) = (self.lost.clone(), metrics.log_dropped.clone());
        actix::spawn(async move {
            let mut ticks = tokio::time::interval(COUNT_INTERVAL);
            loop {
                ticks.tick().await;
                let lost = u64::try_from(lost.dropped_lines()).unwrap_or(u64::MAX);
                counter.inc_by(lost.saturating_sub(counter.get()));
            }
        });
    }
}

/// Logs each panic with the actor and message that it happened in.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let (actor, message) = handling_here().unwrap_or(("none", "none"));
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let cause = panic.payload_as_str().unwrap_or("not a text");
        error!(actor, message, place, cause, "panic");
    }));
}
