//! The choice of the endpoint that serves a request.
//!
//! ```text
//!  PickRequest ──┐
//!  PoolFacts   ──┼─> filters ──> scores x weights ──> the best, ties at random ──> Legs ──> Ledger::open()
//!  Candidates  ──┘                      │
//!                                   Witness: who was passed over and why, each rate and its weight
//! ```
//!
//! | file | what it decides |
//! |---|---|
//! | [`endpoint`] | what an endpoint is, what is observed of it, and what it has to do |
//! | [`ledger`], [`prefix`], [`recent`] | what this router has sent to an endpoint: work that waits, prompts and adapters that it has, the rate |
//! | [`commons`] | which beginnings of prompts say nothing, because all have them |
//! | [`homes`] | where replicas of the router send what none of them has sent before |
//! | [`hits`] | how much of a prompt an endpoint has cached, by its own events where there are some |
//! | [`request`] | what a request tells of itself before an endpoint is picked |
//! | [`owners`] | which Pods hold a prompt, as Redis has it |
//! | [`picker`] | the order of filters and scores, and how ties are broken |
//! | [`plugins`] | the one table of filters and scores by name, and each of them in a file of its own |
//! | [`config`], [`profiles`] | which plugins are used, as the Go router's configuration file says it, and for which pools |
//! | [`objective`] | priorities, and which requests a saturated pool refuses |
//! | [`drain`] | when a pool that has no room will have some |
//! | [`room`] | whether a pool has room, so that a rule's shares go to those that have |
//! | [`witness`], [`record`] | how a decision is read back, and what is remembered of it |
//!
//! Nothing here knows a clock or a source of randomness: the time and random draws are passed in.

pub mod commons;
pub mod config;
pub mod drain;
pub mod endpoint;
pub mod hits;
pub mod homes;
pub mod ledger;
pub mod objective;
pub mod owners;
pub mod picker;
pub mod plugins;
pub mod prefix;
pub mod profiles;
pub mod recent;
pub mod record;
pub mod request;
pub mod room;
pub mod witness;
pub mod work;
