//! vLLM's `MooncakeConnector`: the prefill engine writes its blocks to the decode engine, which asks for them by the
//! transfer's id.
//!
//! Two dialects speak of it. vLLM Ascend's is like NIXL's: the prefill's answer has the `kv_transfer_params` for the
//! decode engine. vLLM's own answers nothing; the decode engine needs the id of the transfer, the address of the
//! prefill's bootstrap server and the engine's id, which that server tells at `/query`. The prefill's body is good for both, and
//! its answer tells which it was.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::connector::{Order, Protocol, Transfer, quoted};
use super::handover::{Handover, HandoverError};
use super::nixl::handed_on;

/// The protocol.
pub(super) static MOONCAKE: Protocol = Protocol {
    name: "mooncake",
    order: Order::PrefillFirst,
    decodes_alone: true,
    prefills_alone: true,
    hands_over: true,
    one_sequence: true,
    pairs_samples: false,
    prefill,
    decode,
};

/// An engine, as a bootstrap server tells of it.
#[derive(Deserialize)]
struct Engine {
    engine_id: String,
}

/// The engines of all ranks, as a bootstrap server tells of them, in the order of its answer.
struct Engines(Vec<(u32, String)>);

struct EnginesVisitor;

fn prefill(transfer: &Transfer<'_>) -> String {
    let id = transfer_id(transfer);
    format!(r#""kv_transfer_params":{{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"{id}"}}"#)
}

fn decode(transfer: &Transfer<'_>, handover: &Handover) -> Result<String, HandoverError> {
    if let Some(params) = handed_on(handover) {
        return Ok(params);
    }
    let engine = quoted(transfer.prefill_engine.as_deref().ok_or(HandoverError::NoParams)?);
    let (id, port) = (transfer_id(transfer), transfer.bootstrap_port);
    let address = quoted(&format!("http://{}:{port}", transfer.url_host()));
    Ok(format!(
        r#""kv_transfer_params":{{"do_remote_decode":false,"do_remote_prefill":true,"remote_bootstrap_addr":{address},"remote_engine_id":{engine},"transfer_id":"{id}"}}"#
    ))
}

fn transfer_id(transfer: &Transfer<'_>) -> String {
    format!("xfer-{:032x}", transfer.id)
}

/// Reads the answer of a Mooncake bootstrap server to `GET /query`: the id of the engine of each data-parallel rank. A
/// prefill has to go to the rank whose engine its [`Transfer`] names: by the header `X-data-parallel-rank`, if there
/// are several.
///
/// # Errors
///
/// Everything but an object of ranks, each with an `engine_id`, is refused, and so is one without a rank.
pub fn engine_ids(answer: &[u8]) -> Result<Vec<(u32, String)>, serde_json::Error> {
    let Engines(engines) = serde_json::from_slice(answer)?;
    if engines.is_empty() {
        return Err(serde::de::Error::custom("no engine is registered"));
    }
    Ok(engines)
}

impl<'de> Deserialize<'de> for Engines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnginesVisitor)
    }
}

impl<'de> Visitor<'de> for EnginesVisitor {
    type Value = Engines;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object of ranks")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Engines, A::Error> {
        let mut engines = Vec::new();
        while let Some(rank) = map.next_key::<String>()? {
            match rank.parse() {
                Ok(rank) => engines.push((rank, map.next_value::<Engine>()?.engine_id)),
                Err(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Engines(engines))
    }
}
