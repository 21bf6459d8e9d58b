//! Waiting for something to come true: by asking for it again and again, never by sleeping for a guessed time.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long a test waits where nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes attempts until one succeeds, and returns what it returned.
///
/// # Errors
///
/// Returns the last attempt's error after [`PATIENCE`].
pub async fn eventually<T>(what: &str, attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    within(PATIENCE, what, attempt).await
}

/// Makes attempts until one succeeds, and returns what it returned.
///
/// # Errors
///
/// Returns the last attempt's error after `limit`.
pub async fn within<T>(limit: Duration, what: &str, attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    every(PAUSE, limit, what, attempt).await
}

/// Makes attempts with a pause between them until one succeeds, and returns what it returned.
///
/// # Errors
///
/// Returns the last attempt's error after `limit`.
pub async fn every<T>(
    pause: Duration,
    limit: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = tokio::time::Instant::now() + limit;
    let mut last = anyhow!("the first attempt did not end");
    loop {
        match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last.context(format!("not within {limit:?}: {what}"))),
        }
        if tokio::time::Instant::now() + pause >= deadline {
            return Err(last.context(format!("not within {limit:?}: {what}")));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Looks at something for a time, and fails as soon as it does not hold.
///
/// # Errors
///
/// Returns the first failure of `look`.
pub async fn throughout(time: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        let seen = look().await;
        seen.map_err(|error| error.context(format!("after {:.1?} no longer: {what}", began.elapsed())))?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
