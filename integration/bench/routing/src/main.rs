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
    /// A directory with Mooncake's traces.
    #[arg(long)]
    traces: Option<PathBuf>,
    /// How many replicas of the router share the fleet without knowing of each other.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
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
    for workload in &workloads {
        if !options.only.is_empty() && !options.only.iter().any(|name| workload.name.starts_with(name.as_str())) {
            continue;
        }
        for rival in ALL {
            let policies = (0..options.replicas).map(|_| rival.policy()).collect();
            let outcomes = run(workload, &workload.fleet, policies, options.seed, epoch);
            let figures = Figures::of(&outcomes, workload.fleet.len());
            writeln!(out, "{}", figures.line(workload.name, rival.name()))?;
        }
    }
    Ok(())
}
