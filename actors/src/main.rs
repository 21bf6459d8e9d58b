//! kthena-router: an inference router and Gateway for Kubernetes.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use kthena_router::kinds::crds_yaml;
use kthena_router_actors::check::check;
use kthena_router_actors::cli::{Cli, Command, EXIT_USAGE};
use kthena_router_actors::demo::demo;
use kthena_router_actors::engine::engine;
use kthena_router_actors::serve::serve;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to the parser, but not to the user.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        None => serve(&cli.config, async { Ok(()) }),
        Some(Command::Demo(options)) => demo(*options),
        Some(Command::Engine(config)) => engine(config),
        Some(Command::Check(options)) => check(&options),
        Some(Command::Crds) => match io::stdout().write_all(crds_yaml().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}
