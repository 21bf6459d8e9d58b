//! Runs a simulated engine as a process of its own.

use std::io::{self, Write};
use std::process::ExitCode;

use actix::System;
use simulated_engine::{EngineConfig, start};
use tokio::signal::unix::{SignalKind, signal};

use crate::serve::complain;

/// Runs an engine until the process is told to stop.
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
        engine.stop().await;
        ExitCode::SUCCESS
    })
}
