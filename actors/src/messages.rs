//! The messages that two actors exchange, below both, so that neither has to know the other.

use std::net::SocketAddr;

use actix::Message;
use kthena_router::inference::health::Outcome;

/// An attempt at an endpoint ended in a way that its pool's keeper should know of. From leases to the PoolKeeper.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AttemptEnded {
    /// The endpoint.
    pub address: SocketAddr,
    /// How it ended.
    pub outcome: Outcome,
    /// How many attempts failed in a row, this one included; 0 for a good answer.
    pub in_a_row: u32,
}
