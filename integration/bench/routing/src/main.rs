//! Runs every workload with every policy, and prints a table.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use kthena_router_proving_ground::fleet::run;
use kthena_router_proving_ground::policies::ALL;
use kthena_router_proving_ground::report::{Figures, HEAD};
use kthena_router_proving_ground::trace;
use kthena_router_proving_ground::workloads::Maker;

/// Compares routing policies on simulated engines, in virtual time.
#[derive(Parser)]
struct Options {
    /// The seed of workloads and draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the workloads are, by their full length.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only workloads whose names begin so.
    #[arg(long)]
    only: Vec<String>,
    /// Only policies whose names begin so.
    #[arg(long)]
    policy: Vec<String>,
    /// A directory with Mooncake's traces.
    #[arg(long)]
    traces: Option<PathBuf>,
    /// How many replicas of the router share the fleet without knowing of each other; may be given several times.
    #[arg(long, default_values_t = [1])]
    replicas: Vec<usize>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut workloads = Maker::new(options.seed, options.scale).all();
    if let Some(traces) = &options.traces {
        let conversation = traces.join("mooncake_conversation_trace.jsonl");
        workloads.push(trace::read("C conversation", &conversation, 2.0, options.scale.min(1.0) * 0.5)?);
        workloads.push(trace::read(
            "C synthetic",
            &traces.join("mooncake_synthetic_trace.jsonl"),
            1.2,
            options.scale.min(1.0),
        )?);
    }
    let mut out = stdout().lock();
    writeln!(out, "{HEAD}")?;
    let epoch = Instant::now();
    let is_wanted =
        |names: &[String], name: &str| names.is_empty() || names.iter().any(|start| name.starts_with(start));
    for workload in workloads.iter().filter(|workload| is_wanted(&options.only, workload.name)) {
        for rival in ALL.into_iter().filter(|rival| is_wanted(&options.policy, rival.name())) {
            for replicas in &options.replicas {
                let policies = (0..*replicas).map(|_| rival.policy()).collect();
                let outcomes = run(workload, &workload.fleet, policies, options.seed, epoch);
                let figures = Figures::of(&outcomes, workload.fleet.len());
                writeln!(out, "{}", figures.line(workload.name, rival.name(), *replicas))?;
            }
        }
    }
    Ok(())
}
