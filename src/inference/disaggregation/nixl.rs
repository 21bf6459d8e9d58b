//! vLLM's `NixlConnector`: the decode engine reads the prefill engine's blocks.
//!
//! The prefill engine holds its blocks under the ids that its answer tells, until they were read or
//! `VLLM_NIXL_ABORT_REQUEST_TIMEOUT` (480 s) is over. The decode engine gets them as they are: what is in them belongs
//! to the two engines, and differs between versions.

use super::connector::{Order, Protocol, Transfer};
use super::handover::{Handover, HandoverError};

/// The protocol.
pub(super) static NIXL: Protocol = Protocol {
    name: "nixl",
    order: Order::PrefillFirst,
    decodes_alone: true,
    prefills_alone: true,
    hands_over: true,
    one_sequence: true,
    pairs_samples: false,
    prefill,
    decode,
};

fn prefill(_: &Transfer<'_>) -> String {
    r#""kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}"#.to_owned()
}

fn decode(_: &Transfer<'_>, handover: &Handover) -> Result<String, HandoverError> {
    handed_on(handover).ok_or(HandoverError::NoParams)
}

/// Returns the prefill's parameters as a field of the decode's body.
pub(super) fn handed_on(handover: &Handover) -> Option<String> {
    let params = handover.params()?;
    Some(format!(r#""kv_transfer_params":{params}"#))
}
