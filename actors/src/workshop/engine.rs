//! Runs a simulated engine as a process of its own.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use actix::System;
use simulated_engine::{EngineConfig, start};
use tokio::signal::unix::{SignalKind, signal};

use crate::serve::complain;

/// How long an engine that was told to stop goes on as if it were not: routers learn of it from the API server.
const GRACE: Duration = Duration::from_secs(1);
/// How long its requests may take to finish after that.
const DRAIN_LIMIT: Duration = Duration::from_secs(25);

/// Runs an engine until the process is told to stop and its requests are finished; told twice, it stops at once.
pub fn engine(config: EngineConfig) -> ExitCode {
    System::new().block_on(async {
        let engine = match start(config).await {
            Ok(engine) => engine,
            Err(error) => {
                complain(&error);
                return ExitCode::FAILURE;
            }
        };
        for address in engine.addresses() {
            drop(writeln!(io::stdout(), "simulated engine on http://{address}"));
        }
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return ExitCode::FAILURE;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::select! {
            () = engine.drain(GRACE, DRAIN_LIMIT) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ExitCode::SUCCESS
    })
}
