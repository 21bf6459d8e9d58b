//! Connectors whose engines share a store of KV cache, which they look up by the content of the prompt.
//!
//! Neither engine is told of the other: the prefill's blocks are in the store when it answers, and the decode engine
//! finds them there, or computes the prompt again. LMCache can also push blocks to one decode engine
//! (`pd_role: sender`); that wants the receiver's ports and a tokenized prompt, and is not spoken here. So a prefill engine is
//! told nothing either: it answers whole requests as any engine does, and what it puts into the store costs it little.

use super::connector::{Order, Protocol};

/// A store without a name.
pub(super) static HTTP: Protocol = protocol("http");

/// LMCache's.
pub(super) static LMCACHE: Protocol = protocol("lmcache");

const fn protocol(name: &'static str) -> Protocol {
    Protocol {
        name,
        order: Order::PrefillFirst,
        decodes_alone: true,
        prefills_alone: true,
        hands_over: false,
        one_sequence: false,
        pairs_samples: false,
        prefill: |_| String::new(),
        decode: |_, _| Ok(String::new()),
    }
}
