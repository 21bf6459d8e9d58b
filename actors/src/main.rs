//! kthena-router: an inference router and Gateway for Kubernetes.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use kthena_router::kinds::{crd_files, crds_yaml};
use kthena_router_actors::memory::refuse_huge_pages;
use kthena_router_actors::serve::{EXIT_USAGE, complain, serve};
use kthena_router_actors::workshop::check::check;
use kthena_router_actors::workshop::cli::{Cli, Command};
use kthena_router_actors::workshop::explain::explain;
#[cfg(feature = "demo")]
use kthena_router_actors::workshop::{demo::demo, engine::engine};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    refuse_huge_pages();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to the parser, but not to the user.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        None => serve(&cli.config, async { Ok(()) }),
        #[cfg(feature = "demo")]
        Some(Command::Demo(options)) => demo(*options),
        #[cfg(feature = "demo")]
        Some(Command::Engine(config)) => engine(config),
        Some(Command::Check(options)) => check(&options),
        Some(Command::Explain(options)) => explain(&options),
        Some(Command::Crds(options)) => match write_crds(options.write_to.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        },
    }
}

fn write_crds(directory: Option<&Path>) -> io::Result<()> {
    match directory {
        None => io::stdout().write_all(crds_yaml().as_bytes()),
        Some(directory) => {
            crd_files().into_iter().try_for_each(|(name, yaml)| std::fs::write(directory.join(name), yaml))
        }
    }
}
