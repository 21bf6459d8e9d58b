//! What a client is answered with: what an engine says, as it arrives and in its time, or what the router says itself.
//!
//! What is said of the request, and what it holds, end with its answer.

mod answer;
mod naming;
mod pace;
mod reply;
mod tunnel;

pub(super) use answer::{Answer, Passing};
pub(super) use naming::Naming;
pub(super) use pace::Pace;
pub(super) use reply::{Early, Ending, Reply, ReplyBody, failed};
