//! SGLang's disaggregation: both engines get the request at once and meet in a *room* of the prefill's bootstrap server.
//!
//! A batch and several samples have a room each: the engines count on from the one that they are told, both in the same
//! way, so that the prefill must have the same number of samples. The room also picks the data-parallel rank.
//!
//! Engines of either role refuse a request without a room: neither does all of one.

use super::connector::{Order, Protocol, Transfer, quoted};

/// The protocol.
pub(super) static SGLANG: Protocol = Protocol {
    name: "sglang",
    order: Order::Together,
    decodes_alone: false,
    prefills_alone: false,
    hands_over: false,
    one_sequence: false,
    pairs_samples: true,
    prefill: meeting,
    decode: |transfer, _| Ok(meeting(transfer)),
};

/// Both legs get the same. A room is a number of 63 bits; one less leaves the samples room to be counted on.
fn meeting(transfer: &Transfer<'_>) -> String {
    let room = transfer.id & (u128::MAX >> 66);
    let (host, port) = (quoted(&transfer.url_host()), transfer.bootstrap_port);
    format!(r#""bootstrap_host":{host},"bootstrap_port":{port},"bootstrap_room":{room}"#)
}
