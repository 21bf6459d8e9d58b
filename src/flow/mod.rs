//! The order in which requests leave the queue of a pool that has no room.
//!
//! ```text
//!  push(priority, flow, work) ──> band ──> flow ──> due           pop() ──> the band whose turn it is
//!                                                                         └> its flow with the least service
//!  cancel(place): the client left, or its time is over                       └> the request of that which is due first
//!  settle(served, used): what was really used counts for the flow from now on
//! ```
//!
//! | file | what it decides |
//! |---|---|
//! | [`queue`] | which band is next, what is refused or driven out where there is no room in the queue |
//! | [`flows`] | which flow of a band is next, by a virtual token counter |
//! | [`order`] | which request of a flow is next, by its arrival and its work |
//! | [`room`] | how many may pass, and what is kept for flows that ask for little |
//! | [`identity`] | whose request it is |
//! | [`sessions`] | which sessions had an answer of late |
//! | [`settings`] | limits, weights, and the Go router's options for them |
//!
//! Bands are served in proportion, so that none starves: while requests wait in two bands, the higher one gets
//! [`Settings::priority_weight`](settings::Settings) times the service of the lower one. Within a band the flow goes
//! first that has had the least service, in weighted tokens of prompts and answers (virtual token counter, Sheng et
//! al., OSDI 2024): one that had nothing to ask for a while is lifted to where the others are, so that it gains
//! nothing by having been away. Nothing here knows a clock: who waits for how long is its owner's to say.

pub mod flows;
pub mod identity;
pub mod order;
pub mod queue;
pub mod room;
pub mod sessions;
pub mod settings;
