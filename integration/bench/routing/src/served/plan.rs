//! Which engines a workload is served by, and when they are there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use kthena_router::scheduling::endpoint::Role;
use tokio::sync::watch;

use super::MODEL;
use super::transfers::{Protocol, Transfers};
use crate::engine::Spec;
use crate::fleet::outage::Outage;
use crate::workloads::Workload;

/// What the names of LoRA adapters begin with; their number follows.
const ADAPTER: &str = "adapter-";

/// What the engines of a workload have in common.
#[derive(Clone)]
pub(super) struct Fleet {
    /// How much faster than ours their clock runs.
    speed: f64,
    /// How they hand prompts over to each other.
    pub(super) protocol: Protocol,
    pub(super) transfers: Arc<Transfers>,
    /// How many LoRA adapters each could load.
    adapters: u16,
    /// When the first request came to any of them.
    pub(super) began: watch::Sender<Option<Instant>>,
}

/// One of the engines of a workload.
#[derive(Clone)]
pub struct Plan {
    pub(super) spec: Spec,
    pub(super) role: Role,
    pub(super) address: SocketAddr,
    /// When it is not there, counted from the first request on.
    pub(super) outages: Vec<Outage>,
    /// Prompt tokens of all its lives.
    pub(super) tokens: Arc<Tokens>,
    pub(super) fleet: Fleet,
}

/// Tokens of prompts, and those of them that were in the cache.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) asked: AtomicU64,
    pub(super) cached: AtomicU64,
}

/// Plans the engines of a workload at these addresses, whose clock runs so much faster than ours.
pub fn plans(
    workload: &Workload,
    addresses: impl Iterator<Item = SocketAddr>,
    speed: f64,
    protocol: Protocol,
) -> Vec<Plan> {
    let prompts = workload.sessions.iter().flatten().map(|turn| &turn.prompt);
    let adapters = prompts.filter_map(|prompt| prompt.adapter).max().map_or(0, |last| last + 1);
    let fleet = Fleet { speed, protocol, transfers: Arc::default(), adapters, began: watch::Sender::new(None) };
    let plan = |(place, (spec, address)): (usize, (&Spec, SocketAddr))| Plan {
        spec: *spec,
        role: workload.roles.get(place).copied().unwrap_or(Role::Whole),
        address,
        outages: workload.outages.iter().filter(|outage| outage.engine == place).copied().collect(),
        tokens: Arc::default(),
        fleet: fleet.clone(),
    };
    workload.fleet.iter().zip(addresses).enumerate().map(plan).collect()
}

impl Fleet {
    /// Returns how long so many seconds of the engines' clock take by ours.
    pub(super) fn after(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.speed)
    }

    /// Notes that a request came.
    pub(super) fn begin(&self) {
        self.began.send_if_modified(|began| {
            let is_first = began.is_none();
            began.get_or_insert_with(Instant::now);
            is_first
        });
    }

    /// Returns the adapter that a model's name stands for; `None` for the model itself.
    ///
    /// # Errors
    /// A name of neither.
    pub(super) fn adapter(&self, model: &str) -> Result<Option<u16>, String> {
        let number = model.strip_prefix(ADAPTER).and_then(|number| number.parse().ok());
        match number.filter(|number| *number < self.adapters) {
            None if model == MODEL => Ok(None),
            None => Err(format!("there is no model `{model}`")),
            found => Ok(found),
        }
    }

    /// Returns the names of all models: the one that is served, and its adapters.
    pub(super) fn models(&self) -> impl Iterator<Item = String> {
        let adapters = (0..self.adapters).map(|number| format!("{ADAPTER}{number}"));
        std::iter::once(MODEL.to_owned()).chain(adapters)
    }
}

impl Plan {
    /// Returns the line that tells of an engine's adapters, if it may have some. It is as new as the page.
    pub(super) fn adapters_line(&self, used: &BTreeSet<u16>) -> String {
        if self.fleet.adapters == 0 {
            return String::new();
        }
        let used: Vec<_> = used.iter().map(|number| format!("{ADAPTER}{number}")).collect();
        format!(
            "vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters=\"{}\",waiting_lora_adapters=\"\"}} 1\n",
            self.spec.slots,
            used.join(","),
        )
    }
}
