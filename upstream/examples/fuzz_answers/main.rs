//! Tries the client with hostile answers and stalling backends, for a given time:
//!
//! ```text
//! cargo run --release --package kthena-router-upstream --example fuzz_answers -- --seconds 60 [--seed 1] [--target http1]
//! ```
//!
//! Cases are made from a corpus in code and a seed. Each runs in memory and in virtual time, so that a client that
//! waits for what never comes is found at once. What must hold: nothing panics, everything ends, an answer that is cut
//! short is never taken for a whole one, an announced length is kept to, and how bytes are cut into pieces changes
//! nothing.

mod backend;
mod http1;
mod http2;
mod random;
mod sending;

use std::error::Error;
use std::io::{self, Write};
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;

use random::Random;

/// A case that takes longer than this goes round in circles.
const LONGEST_CASE: Duration = Duration::from_secs(30);

/// The number of the current case, and whether anything has panicked, in whatever task.
static CASE: AtomicU64 = AtomicU64::new(0);
static PANICKED: AtomicBool = AtomicBool::new(false);

/// What is tried.
struct Target {
    name: &'static str,
    case: fn(Random) -> LocalBoxFuture<'static, Result<(), String>>,
}

const TARGETS: &[Target] = &[
    Target { name: "http1", case: |random| Box::pin(http1::case(random)) },
    Target { name: "sending", case: |random| Box::pin(sending::case(random)) },
    Target { name: "http2", case: |random| Box::pin(http2::case(random)) },
];

struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self { seconds: 10, seed: 1, target: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("`{name}` has no value"))?;
            match name.as_str() {
                "--seconds" => options.seconds = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                "--target" => options.target = Some(value),
                _ => return Err(format!("`{name}` is unknown").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read(std::env::args().skip(1))?;
    let is_chosen = |target: &&Target| options.target.as_deref().is_none_or(|name| name == target.name);
    let chosen: Vec<_> = TARGETS.iter().filter(is_chosen).collect();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICKED.store(true, Ordering::Relaxed);
        hook(info);
    }));
    thread::spawn(watch);
    for target in &chosen {
        let share = Duration::from_secs(options.seconds) / u32::try_from(chosen.len())?;
        let cases = run(target, options.seed, share)?;
        writeln!(io::stdout(), "{}: {cases} cases held", target.name)?;
    }
    if chosen.is_empty() { Err("there is no such target".into()) } else { Ok(()) }
}

/// Runs cases for some time; the seed of each is the first one's plus its number.
fn run(target: &Target, seed: u64, share: Duration) -> Result<u64, String> {
    let begin = Instant::now();
    for number in 0.. {
        if begin.elapsed() >= share {
            return Ok(number);
        }
        let case_seed = seed.wrapping_add(number);
        CASE.store(case_seed, Ordering::Relaxed);
        let fault = run_case(target, case_seed).err();
        let fault = fault.or_else(|| PANICKED.load(Ordering::Relaxed).then(|| "something panicked".to_owned()));
        if let Some(fault) = fault {
            return Err(format!("{} --seed {case_seed}: {fault}", target.name));
        }
    }
    Ok(0)
}

fn run_case(target: &Target, seed: u64) -> Result<(), String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build_local(Default::default());
    let case = (target.case)(Random::new(seed));
    // Time passes only when nobody has anything to do.
    let limited = async { tokio::time::timeout(Duration::from_secs(3600), case).await };
    let outcome = runtime.map_err(|error| error.to_string())?.block_on(limited);
    outcome.unwrap_or_else(|_| Err("it waits for ever".to_owned()))
}

/// Ends the program when one case takes too long.
fn watch() {
    let mut last = (u64::MAX, Instant::now());
    loop {
        thread::park_timeout(Duration::from_secs(1));
        let case = CASE.load(Ordering::Relaxed);
        if case != last.0 {
            last = (case, Instant::now());
        } else if last.1.elapsed() > LONGEST_CASE {
            let _ = writeln!(io::stderr(), "--seed {case}: it goes round in circles");
            std::process::abort();
        }
    }
}
