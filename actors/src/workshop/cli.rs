//! The command line.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use kthena_router::config::{Config, DEFAULT_DEBUG_PORT, DEFAULT_NAMESPACE};
#[cfg(feature = "demo")]
use simulated_engine::EngineConfig;

/// Inference router and Gateway for Kubernetes
#[derive(Debug, Parser)]
#[command(name = "kthena-router", version, args_conflicts_with_subcommands = true, args_override_self = true)]
pub struct Cli {
    /// What to do; without a command, the router serves.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The options of the serving router.
    #[command(flatten)]
    pub config: Config,
}

/// What to do other than serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[cfg(feature = "demo")]
    /// Start simulated engines and a router in front of them, and show how to talk to them
    Demo(Box<Demo>),
    #[cfg(feature = "demo")]
    /// Run a simulated inference engine
    Engine(EngineConfig),
    /// Check manifests without serving them: report every fault with its file and line
    Check(Check),
    /// Ask a running router where a request would go, and why, without sending it
    Explain(Explain),
    /// Print the CustomResourceDefinitions of ModelRoute and ModelServer
    Crds(Crds),
}

/// The options of the demo.
#[cfg(feature = "demo")]
#[derive(Args, Debug)]
pub struct Demo {
    /// The options of the serving router; the manifests default to `examples/quickstart`.
    #[command(flatten)]
    pub config: Config,

    /// Whether `--bind-address` was left out.
    #[arg(skip)]
    pub is_anywhere: bool,
}

/// The options of the CRDs.
#[derive(Args, Debug)]
pub struct Crds {
    /// Write one file for each CustomResourceDefinition into this directory instead
    #[arg(long, value_name = "DIR")]
    pub write_to: Option<PathBuf>,
}

/// The options of an explanation.
#[derive(Args, Debug)]
pub struct Explain {
    /// File with the request's body; `-` is the standard input
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,

    /// The request beside its body.
    #[command(flatten)]
    pub request: RequestOptions,

    /// Debug port of the router, on this machine
    #[arg(long, env = "KTHENA_DEBUG_PORT", default_value_t = DEFAULT_DEBUG_PORT, value_name = "N")]
    pub debug_port: u16,

    /// Print JSON, as the page /debug/decisions has it
    #[arg(long)]
    pub json: bool,
}

/// A request that is not sent, beside its body.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct RequestOptions {
    /// Path of the request that is explained, and its query if it has one
    #[arg(long, default_value = "/v1/chat/completions", value_name = "PATH")]
    pub path: String,

    /// Port that the request would come in on
    #[arg(long, default_value_t = 8080, value_name = "N")]
    pub port: u16,

    /// Host that the request names
    #[arg(long, default_value = "localhost", value_name = "HOST")]
    pub host: String,

    /// Method of the request
    #[arg(long, default_value = "POST", value_name = "METHOD")]
    pub method: String,

    /// Header of the request; may be given several times
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
}

/// The options of the check.
#[derive(Args, Debug)]
pub struct Check {
    /// Manifest files, or directories of them; `-` is the standard input
    #[arg(required_unless_present = "scheduler_config", value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Check the file that says how endpoints are rated as well
    #[arg(long, env = "KTHENA_SCHEDULER_CONFIG", value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,

    /// Also explain where a request with the body in this file would go, which is not sent
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,

    /// The request beside its body.
    #[command(flatten)]
    pub explained: RequestOptions,

    /// Check for a router whose Gateway API is on
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set
    )]
    pub enable_gateway_api: bool,

    /// Check for a router that serves HTTPRoutes to InferencePools, where its Gateway API is on
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set
    )]
    pub enable_gateway_api_inference_extension: bool,

    /// Namespace of the router, and so of the default Gateway
    #[arg(long, env = "POD_NAMESPACE", default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    pub pod_namespace: String,
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("a header has the form NAME:VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

impl Cli {
    /// Reads the command line of the process.
    ///
    /// # Errors
    ///
    /// Returns an error for a command line that cannot be used, and where help or the version is asked for.
    pub fn read() -> Result<Self, clap::Error> {
        Self::of(&Self::command().try_get_matches()?)
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        #[cfg(feature = "demo")]
        if let (Some(Command::Demo(demo)), Some(matches)) = (&mut cli.command, matches.subcommand_matches("demo")) {
            demo.is_anywhere = matches.value_source("bind_address") == Some(ValueSource::DefaultValue);
        }
        Ok(cli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_that_is_given_twice_has_its_last_value() {
        // `kubectl patch` adds flags to those that a Deployment has.
        let flags =
            ["kthena-router", "--enable-gateway-api=false", "--port=1", "--enable-gateway-api=true", "--port=2"];
        let config = Cli::try_parse_from(flags).unwrap().config;
        assert_eq!((config.gateway_api(), config.listen.port), (true, 2));
    }

    #[test]
    fn a_bare_call_serves() {
        let cli = Cli::try_parse_from(["kthena-router", "--manifests", "dir"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.config.manifests, Some(PathBuf::from("dir")));
    }

    #[test]
    #[cfg(feature = "demo")]
    fn a_demo_knows_whether_it_was_told_where_to_listen() {
        for (arguments, expected) in [(vec![], true), (vec!["--bind-address=0.0.0.0"], false)] {
            let arguments = ["kthena-router", "demo"].into_iter().chain(arguments);
            let cli = Cli::of(&Cli::command().try_get_matches_from(arguments).unwrap()).unwrap();
            let Some(Command::Demo(demo)) = cli.command else { unreachable!("that is the command") };
            assert_eq!(demo.is_anywhere, expected);
        }
    }
}
