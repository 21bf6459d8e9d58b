//! Runs every workload with every policy, and prints a table; or lends its workloads and engines to a run over HTTP.

use std::io::{BufWriter, Write, stdout};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use futures::future::try_join_all;
use kthena_router_proving_ground::fleet::run;
use kthena_router_proving_ground::policies::{ALL, Rival};
use kthena_router_proving_ground::report::{Figures, HEAD};
use kthena_router_proving_ground::served::{Plan, Protocol};
use kthena_router_proving_ground::workloads::{Maker, Workload};
use kthena_router_proving_ground::{governed, jobs, served, trace};

/// Compares routing policies on simulated engines, in virtual time.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
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

/// What else can be done with the workloads.
#[derive(Subcommand)]
enum Command {
    /// Write the first workload as JSON lines.
    Jobs,
    /// Compare where requests wait, with tenants who ask for more than the engines can do.
    Govern {
        /// How long they ask, in seconds.
        #[arg(long, default_value_t = 1200.0)]
        seconds: f64,
    },
    /// Compare where requests wait, at growing rates of tenants with long prefixes.
    Knee,
    /// Serve as the engines of the first workload until ended.
    Serve {
        /// An engine's address; as many of them as the workload has engines are used.
        #[arg(long = "address", required = true)]
        addresses: Vec<IpAddr>,
        /// The port, the same at each address.
        #[arg(long)]
        port: u16,
        /// How much faster than real ones the engines are.
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        /// How engines with roles hand prompts over to each other.
        #[arg(long, value_enum, default_value_t)]
        protocol: Protocol,
    },
}

fn main() -> Result<()> {
    let options = Options::parse();
    let is_wanted =
        |names: &[String], name: &str| names.is_empty() || names.iter().any(|start| name.starts_with(start));
    let mut workloads = workloads(&options)?;
    workloads.retain(|workload| is_wanted(&options.only, workload.name));
    match &options.command {
        None => compare(&options, &workloads, is_wanted),
        Some(Command::Govern { seconds }) => Ok(write!(stdout(), "{}", governed::report(options.seed, *seconds))?),
        Some(Command::Knee) => Ok(write!(stdout(), "{}", governed::knee(options.seed, options.scale))?),
        Some(Command::Jobs) => jobs::write(first(&workloads)?, &mut BufWriter::new(stdout().lock())),
        Some(Command::Serve { addresses, port, speed, protocol }) => {
            let places = addresses.iter().map(|address| SocketAddr::new(*address, *port));
            serve(served::plans(first(&workloads)?, places, *speed, *protocol))
        }
    }
}

fn first(workloads: &[Workload]) -> Result<&Workload> {
    workloads.first().context("no workload has a name that begins so")
}

fn serve(plans: Vec<Plan>) -> Result<()> {
    actix_web::rt::System::new().block_on(async {
        try_join_all(plans.into_iter().map(served::serve)).await?;
        Ok(())
    })
}

fn workloads(options: &Options) -> Result<Vec<Workload>> {
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
    Ok(workloads)
}

/// Runs workloads with policies and prints the figures.
fn compare(options: &Options, workloads: &[Workload], is_wanted: fn(&[String], &str) -> bool) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{HEAD}")?;
    let epoch = Instant::now();
    for workload in workloads {
        let serves = |rival: &Rival| workload.roles.is_empty() || rival.knows_roles();
        for rival in ALL.into_iter().filter(|rival| serves(rival) && is_wanted(&options.policy, rival.name())) {
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
