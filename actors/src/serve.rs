//! Serves until told to stop.

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use actix::System;
use kthena_router::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};

use crate::cli::EXIT_USAGE;
use crate::cluster::ClusterError;
use crate::origin::Origin;
use crate::overseer::Shutdown;
use crate::router::{Router, StartError};
use crate::telemetry;

/// Serves as `config` says, after `prepare`; returns when the router was told to stop and has done so.
///
/// `prepare` returns what is to be kept until the end.
pub fn serve<P, T>(config: &Config, prepare: P) -> ExitCode
where
    P: Future<Output = Result<T, StartError>>,
{
    let faults = config.faults();
    if !faults.is_empty() {
        for fault in faults {
            complain(&fault);
        }
        return ExitCode::from(EXIT_USAGE);
    }
    telemetry::start();
    telemetry::log_panics();
    raise_descriptor_limit();
    let system = System::new();
    let started = system.block_on(async {
        let kept = prepare.await?;
        info!(?config, "starting");
        let router = Router::start(config, &Origin::find(config).await?)?;
        stop_on_signals(&router).map_err(|source| StartError::Signals { source })?;
        Ok((kept, router))
    });
    match started {
        Ok((kept, router)) => {
            let code = system.run_with_code().unwrap_or(1);
            drop((kept, router));
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(error) => {
            complain(&error);
            let unusable = matches!(error, StartError::Cluster(ClusterError::Unknown(_)));
            ExitCode::from(if unusable { EXIT_USAGE } else { 1 })
        }
    }
}

/// Lets the process open as many descriptors as it may: each connection of a client or to a backend is one, and the limit
/// that most processes start with is for programs of another kind.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "descriptor limit raised"),
        Err(error) => warn!(%error, "descriptor limit cannot be raised"),
    }
}

/// Writes an error with its causes to standard error.
pub fn complain(error: &dyn std::error::Error) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    // If standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "{text}"));
}

fn stop_on_signals(router: &Router) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let overseer = router.overseer.clone();
        actix::spawn(async move {
            while signals.recv().await.is_some() {
                overseer.do_send(Shutdown);
            }
        });
    }
    Ok(())
}
