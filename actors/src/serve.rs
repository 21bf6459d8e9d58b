//! Serves until told to stop.

use std::error::Error;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use actix::System;
use kthena_router::config::{Config, unserved};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};

use crate::control::cluster::ClusterError;
use crate::control::overseer::Shutdown;
use crate::ops::telemetry;
use crate::origin::Origin;
use crate::router::{Router, StartError};

/// The exit code of a command line that cannot be used: EX_USAGE.
pub const EXIT_USAGE: u8 = 64;

/// Serves as `config` says, after `prepare`; returns when the router was told to stop and has done so.
///
/// `prepare` returns what is to be kept until the end.
pub fn serve<P, T>(config: &Config, prepare: P) -> ExitCode
where
    P: Future<Output = Result<T, Box<dyn Error>>>,
{
    let faults = config.faults();
    if !faults.is_empty() {
        for fault in faults {
            complain(&fault);
        }
        return ExitCode::from(EXIT_USAGE);
    }
    let log = telemetry::start();
    telemetry::log_panics();
    raise_descriptor_limit();
    let system = System::new();
    let started = system.block_on(async {
        let kept = prepare.await?;
        info!(?config, "starting");
        warn_of_unserved();
        let router = Router::start(config, &Origin::find(config).await?)?;
        log.count_lost(&router.metrics);
        listen_to_signals(&router).map_err(|source| StartError::Signals { source })?;
        Ok::<_, Box<dyn Error>>((kept, router))
    });
    match started {
        Ok((kept, router)) => {
            let code = system.run_with_code().unwrap_or(1);
            drop((kept, router));
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(error) => {
            // What was logged before comes first.
            drop(log);
            complain(error.as_ref());
            let unusable = matches!(error.downcast_ref(), Some(StartError::Cluster(ClusterError::Unknown(_))));
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

/// Says which variables of the environment ask for what the router does not do.
fn warn_of_unserved() {
    let variables: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for variable in unserved(variables) {
        warn!(variable, "the environment asks for what the router does not do");
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

/// SIGTERM and SIGINT stop the router, SIGHUP lets it open its log and read its files again. The other signals by which
/// people mean something to a program have no meaning here, and do not end it.
fn listen_to_signals(router: &Router) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let overseer = router.overseer.clone();
        on_signal(kind, move || overseer.do_send(Shutdown))?;
    }
    let reload = router.reload.clone();
    on_signal(SignalKind::hangup(), move || reload.reload())?;
    for (kind, signal) in [(SignalKind::user_defined1(), "SIGUSR1"), (SignalKind::user_defined2(), "SIGUSR2")] {
        on_signal(kind, move || info!(signal, "signal has no meaning"))?;
    }
    Ok(())
}

fn on_signal(kind: SignalKind, act: impl Fn() + 'static) -> io::Result<()> {
    let mut signals = signal(kind)?;
    actix::spawn(async move {
        while signals.recv().await.is_some() {
            act();
        }
    });
    Ok(())
}
