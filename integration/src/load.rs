//! Steady traffic from many clients, each of which counts every answer: what "no request failed" is said by.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::task::JoinHandle;

use crate::http::HttpClient;
use crate::latency::Latencies;
use crate::wait::eventually;

/// The pause between the answer to one request and the next request of a client: many clients, but not all of the CPU.
const PAUSE: Duration = Duration::from_millis(10);
/// How many failures are described; the others are counted.
const DESCRIBED: usize = 10;

/// What the clients ask for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The router, as `http://host:port`.
    pub base: String,
    /// The model that is asked for.
    pub model: String,
    /// The prompt.
    pub prompt: String,
    /// The models that may answer.
    pub answers: Vec<String>,
}

/// Clients at work, each with a connection of its own and one request at a time.
#[derive(Debug)]
pub struct Load {
    running: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    began: Instant,
    clients: Vec<JoinHandle<Tally>>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// Good answers by the model that gave them.
    pub answered: BTreeMap<String, u64>,
    /// The number of requests that failed.
    pub failed: u64,
    /// When and how the first ones failed.
    pub failures: Vec<String>,
    /// How long the good answers took.
    pub latencies: Latencies,
}

impl Load {
    /// Starts clients.
    pub fn start(wish: &Wish, clients: usize) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let answered = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let client = |_| tokio::spawn(ask(wish.clone(), began, Arc::clone(&running), Arc::clone(&answered)));
        let clients = (0..clients).map(client).collect();
        Self { running, answered, began, clients }
    }

    /// Waits until this many further requests have had a good answer.
    ///
    /// # Errors
    ///
    /// Returns an error when they have not in time.
    pub async fn goes_on(&self, requests: u64) -> Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + requests;
        eventually(&format!("{requests} further answers"), async || {
            let answered = self.answered.load(Ordering::Relaxed);
            ensure!(answered >= goal, "{} are missing", goal - answered);
            Ok(())
        })
        .await
    }

    /// Ends the load after the requests under way, and returns what became of all.
    pub async fn stop(self) -> Tally {
        self.running.store(false, Ordering::Relaxed);
        let mut whole = Tally::default();
        for client in self.clients {
            match client.await {
                Ok(tally) => whole.absorb(tally),
                Err(error) => whole.fail(self.began.elapsed(), &format!("a client died: {error}")),
            }
        }
        whole
    }
}

impl Tally {
    /// Returns the number of good answers.
    pub fn good(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Fails unless every request had a good answer.
    ///
    /// # Errors
    ///
    /// Returns how many failed, and how the first ones did.
    pub fn ensure_clean(&self) -> Result<()> {
        ensure!(self.good() > 0 || self.failed > 0, "the load made no request");
        if self.failed > 0 {
            bail!("{} of {} requests failed: {}", self.failed, self.failed + self.good(), self.failures.join("; "));
        }
        Ok(())
    }

    /// Says in one line what became of the requests.
    pub fn summary(&self) -> String {
        let mut summary = format!("{} of {} requests failed", self.failed, self.failed + self.good());
        for (model, count) in &self.answered {
            // Writing to a text cannot fail.
            let _written = write!(summary, ", {count} from {model}");
        }
        format!("{summary}; {}", self.latencies)
    }

    fn absorb(&mut self, other: Self) {
        for (model, count) in other.answered {
            *self.answered.entry(model).or_default() += count;
        }
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.sort();
        self.failures.truncate(DESCRIBED);
        self.latencies.extend(&other.latencies);
    }

    fn fail(&mut self, at: Duration, why: &str) {
        self.failed += 1;
        if self.failures.len() < DESCRIBED {
            self.failures.push(format!("at {:08.3} s: {why}", at.as_secs_f64()));
        }
    }
}

/// One client: asks, looks at the answer, pauses.
async fn ask(wish: Wish, began: Instant, running: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Tally {
    let http = HttpClient::new();
    let mut tally = Tally::default();
    while running.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let answer =
            http.complete_prompt(&wish.base, &wish.model, &wish.prompt).await.and_then(|answer| answer.answered_by());
        match answer {
            Ok(model) if wish.answers.contains(&model) => {
                tally.latencies.add(sent.elapsed());
                *tally.answered.entry(model).or_default() += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(model) => tally.fail(began.elapsed(), &format!("answered by `{model}`")),
            Err(error) => tally.fail(began.elapsed(), &format!("{error:#}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_enough_and_is_described() {
        let mut tally = Tally { answered: [("m".to_owned(), 9)].into(), ..Tally::default() };
        assert!(tally.ensure_clean().is_ok());
        tally.fail(Duration::from_millis(1_500), "refused");
        let error = tally.ensure_clean().expect_err("one request failed").to_string();
        assert_eq!(error, "1 of 10 requests failed: at 0001.500 s: refused");
        assert!(Tally::default().ensure_clean().is_err(), "no request at all proves nothing");
    }
}
