//! Logs, and the last words of panics.
//!
//! Fields have fixed names: `gateway route pool endpoint model kind object bind file request_id`. Levels: error, a person
//! must act; warn, degraded but trying again; info, life cycle and plans; debug, single objects and scrapes.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::vitals::handling_here;

/// What is logged unless `RUST_LOG` says otherwise. Failures of the Kubernetes client are logged by those who use it, with
/// what they are about.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_web=warn,h2=warn,kube_client=off,kube_lease_manager=off";

/// Starts to log to standard error; standard output is the access log's.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .try_init();
    // A test process may log already.
    drop(started);
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
