//! Runs the tests one after the other, in the order in which they are listed, and prints one line for each.
//!
//! They have a runner of their own because they share one cluster and one router: the order is part of the suite (RBAC
//! is looked at after everything else has used it), the deployment is made once and its failure is told once, the
//! cluster is restored between two tests, and figures are printed beside the time that each test took. A test fails by
//! returning an error, by a panic, or by taking too long. None is skipped: those that need to break the cluster are not
//! selected for a cluster that is not made to be broken, and the run says which they are.

use std::future::Future;
use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::FutureExt;

use crate::control::Control;
use crate::rig::Rig;

/// How long one test may take.
const LIMIT: Duration = Duration::from_secs(300);
/// How many lines of the router's log are printed with a failure.
const LAST_WORDS: usize = 40;

/// A test while it runs.
pub type Run<'r> = Pin<Box<dyn Future<Output = Result<()>> + 'r>>;

/// Where a test can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In every cluster.
    AnyCluster,
    /// Only in the cluster of `integration/run`, because the test breaks it or looks behind it.
    TestCluster,
}

/// A test.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// Its name: the file, and what must hold.
    pub name: &'static str,
    /// Where it can run.
    pub place: Place,
    /// Runs it.
    pub run: for<'r> fn(&'r Rig) -> Run<'r>,
}

/// Lists a test by the path of its function.
#[macro_export]
macro_rules! behaviour {
    ($place:ident, $file:ident::$function:ident) => {
        $crate::suite::Behaviour {
            name: concat!(stringify!($file), "::", stringify!($function)),
            place: $crate::suite::Place::$place,
            run: |rig| Box::pin($file::$function(rig)),
        }
    };
}

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Selection {
    existing: bool,
    list: bool,
    filters: Vec<String>,
}

/// Runs the tests that the command line selects: `[--existing] [--list] [FILTER…]`.
pub fn run(behaviours: &[Behaviour]) -> ExitCode {
    let selection = match Selection::parse(std::env::args().skip(1)) {
        Ok(selection) => selection,
        Err(error) => return failed(&format!("{error:#}")),
    };
    let named: Vec<Behaviour> = behaviours.iter().filter(|known| selection.selects(known.name)).copied().collect();
    if named.is_empty() {
        return failed(&format!("no test has a name with one of {:?} in it", selection.filters));
    }
    if selection.list {
        named.iter().for_each(|behaviour| say(behaviour.name));
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}")),
    };
    runtime.block_on(run_all(&named, selection.existing))
}

async fn run_all(named: &[Behaviour], existing: bool) -> ExitCode {
    let control = if existing { None } else { Control::of_environment() };
    if !existing && control.is_none() {
        return failed("CLUSTER_CONTROL is not set: use integration/run, or --existing for the cluster of KUBECONFIG");
    }
    let (selected, others): (Vec<&Behaviour>, Vec<&Behaviour>) =
        named.iter().partition(|behaviour| !existing || behaviour.place == Place::AnyCluster);
    for other in others {
        say(&format!("NOT SELECTED  {}: it needs a cluster that can be broken", other.name));
    }
    let began = Instant::now();
    let rig = match Rig::set_up(control).await {
        Ok(rig) => rig,
        Err(error) => return failed(&format!("FAIL  set-up: {error:#}")),
    };
    say(&format!("READY {:>8.2} s  the router is deployed from its manifests", began.elapsed().as_secs_f64()));
    let mut failures = Vec::new();
    for behaviour in &selected {
        if !run_one(&rig, behaviour).await {
            failures.push(behaviour.name);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("{} passed, {} failed in {seconds:.1} s", selected.len() - failures.len(), failures.len()));
    if failures.is_empty() { ExitCode::SUCCESS } else { failed(&format!("failed: {}", failures.join(", "))) }
}

/// Runs one test and restores the cluster; prints its line, its figures, and what led to a failure.
async fn run_one(rig: &Rig, behaviour: &Behaviour) -> bool {
    let began = Instant::now();
    let guarded = AssertUnwindSafe((behaviour.run)(rig)).catch_unwind();
    let outcome = match tokio::time::timeout(LIMIT, guarded).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(panic_message(panic.as_ref())),
        Err(_) => Err(anyhow!("it did not end within {LIMIT:?}")),
    };
    let took = began.elapsed().as_secs_f64();
    // Before the cluster is restored, which is heard of in the log, too.
    let last_words = if outcome.is_ok() { Vec::new() } else { rig.router.last_words(LAST_WORDS).await };
    let restored = tokio::time::timeout(LIMIT, rig.restore()).await.unwrap_or_else(|_| Err(anyhow!("no end")));
    let faults = [outcome, restored.context("the cluster cannot be restored after the test")];
    let faults: Vec<_> = faults.into_iter().filter_map(Result::err).collect();
    let verdict = if faults.is_empty() { "PASS" } else { "FAIL" };
    say(&format!("{verdict}  {took:>8.2} s  {}", behaviour.name));
    rig.take_notes().iter().for_each(|note| say(&format!("                  {note}")));
    faults.iter().for_each(|fault| say(&format!("      {fault:#}")));
    last_words.iter().for_each(|line| say(&format!("      | {line}")));
    faults.is_empty()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("panic: {}", text.unwrap_or("without a message"))
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Who closed the output does not read that it is closed.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

fn failed(line: &str) -> ExitCode {
    say(line);
    ExitCode::FAILURE
}

impl Selection {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut selection = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--existing" => selection.existing = true,
                "--list" => selection.list = true,
                flag if flag.starts_with('-') => return Err(anyhow!("unknown flag `{flag}`")),
                _ => selection.filters.push(argument),
            }
        }
        Ok(selection)
    }

    fn selects(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parts_of_names_and_unknown_flags_are_refused() {
        let parse = |line: &str| Selection::parse(line.split_whitespace().map(str::to_owned));
        let selection = parse("--existing missed ports").expect("a good command line");
        assert!(selection.existing && !selection.list);
        assert!(selection.selects("missed_events::x") && selection.selects("service_ports::y"));
        assert!(!selection.selects("walk_through::z"));
        assert!(parse("").expect("an empty command line").selects("anything"));
        assert!(parse("--exist").is_err());
    }
}
