//! Prefill and decode on two engines: what one holds for the other, and who is refused.
//!
//! The simulation is strict, where a real engine would compute a prompt again or read blocks that are not its own: a
//! decode whose transfer was never prefilled, was fetched before, or is of another engine fails. The decode engine asks
//! the prefill engine over HTTP, at the address that its request tells, so that engines may be processes and Pods.
//!
//! | part | what it does |
//! |---|---|
//! | [`leg`] | reads what a request is to this engine |
//! | [`holds`] | blocks that wait to be fetched by id, until a time is over |
//! | [`rooms`] | where both legs of SGLang's protocol wait for each other |
//! | [`store`] | prompts in a store that engines share |
//! | [`peer`] | the decode engine's questions |

use std::{sync::Arc, time::Duration};

use clap::ValueEnum;
use tokio::time::sleep;

use crate::{config::EngineConfig, gauges::Figure, state::EngineState};

pub(crate) mod holds;
pub(crate) mod leg;
pub(crate) mod peer;
pub(crate) mod rooms;
pub(crate) mod store;

/// How often a transfer that stands still looks whether it may go on.
const STALL_POLL: Duration = Duration::from_millis(5);

/// How KV cache goes from engine to engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvConnector {
    /// A store that engines share.
    Http,
    /// LMCache, used as such a store.
    Lmcache,
    /// vLLM's `NixlConnector`.
    Nixl,
    /// vLLM's `MooncakeConnector`, which answers nothing and is met at its bootstrap server.
    Mooncake,
    /// The one of vLLM Ascend, which answers where its blocks are.
    MooncakeAscend,
    /// SGLang's disaggregation.
    Sglang,
}

/// What an engine does of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KvRole {
    /// Prompts.
    Prefill,
    /// Texts.
    Decode,
    /// Either.
    #[default]
    Both,
}

/// What an engine has seen of transfers since its start; the last three are of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferCounts {
    /// Requests that were prefilled for another engine.
    pub prefills: u64,
    /// Requests that went on from another engine's prefill.
    pub decodes: u64,
    /// Requests that were done without another engine.
    pub alone: u64,
    /// Requests that were refused because of their transfer.
    pub refused: u64,
    /// Transfers that were fetched from this engine, whole.
    pub fetched: u64,
    /// Transfers whose blocks were given up because nobody fetched them in time.
    pub expired: u64,
    /// Transfers that broke off.
    pub aborted: u64,
    /// Times that the engine's id was asked for.
    pub asked: u64,
    /// Transfers whose blocks are held now.
    pub held: u64,
    /// Transfers from this engine that are on their way now.
    pub sending: u64,
    /// Legs that are in rooms of this engine now.
    pub guests: u64,
}

/// The transfers of one engine.
#[derive(Debug)]
pub(crate) struct Transfers {
    /// The engine's name among engines.
    pub engine_id: String,
    pub holds: holds::Holds,
    pub rooms: rooms::Rooms,
    pub store: store::Store,
    pub counts: Counts,
}

/// The figures behind [`TransferCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub prefills: Figure,
    pub decodes: Figure,
    pub alone: Figure,
    pub refused: Figure,
    pub fetched: Figure,
    pub expired: Figure,
    pub aborted: Figure,
    pub asked: Figure,
    pub held: Figure,
    pub sending: Figure,
    pub guests: Figure,
}

impl Transfers {
    /// Makes the transfers of an engine that has just started.
    pub(crate) fn new() -> Self {
        Self {
            engine_id: format!("{:032x}", rand::random::<u128>()),
            holds: holds::Holds::default(),
            rooms: rooms::Rooms::default(),
            store: store::Store::default(),
            counts: Counts::default(),
        }
    }
}

impl Counts {
    /// Reads all figures.
    pub(crate) fn read(&self) -> TransferCounts {
        TransferCounts {
            prefills: self.prefills.value(),
            decodes: self.decodes.value(),
            alone: self.alone.value(),
            refused: self.refused.value(),
            fetched: self.fetched.value(),
            expired: self.expired.value(),
            aborted: self.aborted.value(),
            asked: self.asked.value(),
            held: self.held.value(),
            sending: self.sending.value(),
            guests: self.guests.value(),
        }
    }
}

impl TransferCounts {
    /// Returns the figures with their names in the metrics; those of now are gauges.
    pub(crate) fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("simulated:kv_prefills_total", self.prefills),
            ("simulated:kv_decodes_total", self.decodes),
            ("simulated:kv_alone_total", self.alone),
            ("simulated:kv_refused_total", self.refused),
            ("simulated:kv_fetched_total", self.fetched),
            ("simulated:kv_expired_total", self.expired),
            ("simulated:kv_aborted_total", self.aborted),
            ("simulated:kv_asked_total", self.asked),
            ("simulated:kv_held_transfers", self.held),
            ("simulated:kv_sending_transfers", self.sending),
            ("simulated:kv_room_guests", self.guests),
        ]
    }
}

/// Blocks that are on their way, or wait to be: counted in the cache as long as this lives.
#[derive(Debug)]
pub(crate) struct Blocks {
    engine: Arc<EngineState>,
    /// Tokens in the blocks.
    pub tokens: u64,
    /// Whether they have arrived; `None` before they are sent.
    is_sent: Option<bool>,
}

impl Blocks {
    /// Holds the blocks of so many tokens.
    pub(crate) fn hold(engine: Arc<EngineState>, tokens: u64) -> Self {
        engine.gauges.cached_tokens.add(tokens);
        engine.transfers.counts.held.add(1);
        Self { engine, tokens, is_sent: None }
    }

    /// Sends the blocks to another engine. Dropped before its end, the transfer was aborted.
    pub(crate) async fn send(mut self) -> u64 {
        self.is_sent = Some(false);
        travel(&self.engine, self.tokens).await;
        self.is_sent = Some(true);
        self.tokens
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.engine.gauges.cached_tokens.subtract(self.tokens);
        self.engine.transfers.counts.held.subtract(1);
        if self.is_sent == Some(false) {
            self.engine.transfers.counts.aborted.add(1);
        }
    }
}

/// Waits as long as the blocks of so many tokens are on their way.
pub(crate) async fn travel(engine: &EngineState, tokens: u64) {
    let _counted = Sending::begin(engine);
    while engine.faults.settings().stall_transfers {
        sleep(STALL_POLL).await;
    }
    sleep(duration(&engine.config, tokens)).await;
    engine.transfers.counts.fetched.add(1);
}

/// A transfer on its way.
struct Sending<'e>(&'e EngineState);

impl<'e> Sending<'e> {
    fn begin(engine: &'e EngineState) -> Self {
        engine.transfers.counts.sending.add(1);
        Self(engine)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.transfers.counts.sending.subtract(1);
    }
}

/// Returns how long the blocks of so many tokens are on their way.
fn duration(config: &EngineConfig, tokens: u64) -> Duration {
    let bytes = tokens.saturating_mul(config.kv_bytes_per_token);
    match config.kv_bytes_per_second {
        0 => Duration::ZERO,
        rate => Duration::from_secs_f64(bytes as f64 / rate as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_takes_its_bytes_at_the_rate() {
        let mut config = EngineConfig::new("m");
        assert_eq!(duration(&config, u64::MAX), Duration::ZERO, "without a rate");
        (config.kv_bytes_per_token, config.kv_bytes_per_second) = (1000, 500_000);
        assert_eq!(duration(&config, 250), Duration::from_millis(500));
    }
}
