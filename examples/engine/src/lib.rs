//! A simulated inference engine: the HTTP surface of vLLM and SGLang without a model behind it.
//!
//! An engine answers the OpenAI endpoints (and the Anthropic and rerank ones) with a sentence that names the model, at
//! a speed that its configuration sets, and tells the truth about itself: its metrics are live figures of the requests
//! that wait and run in it. It fails on demand.
//!
//! | part | what it decides |
//! |---|---|
//! | [`EngineConfig`] | what one engine serves, where, and how fast |
//! | [`start`], [`Engine`] | sockets and life time |
//! | [`Faults`] | what goes wrong, changeable while serving |
//! | `admission` | who runs, who waits, whose client left |
//! | `models` | the served model, its adapters, the text of each |
//! | `transfer` | what engines hold for each other, when prefill and decode are split |
//! | `cache` | which prompts are cached, and who is told of it |
//! | `gauges`, `exposition` | live figures and their text form |
//! | `api` | requests and answers |
//!
//! Nothing on the way of a request takes a lock unless the configuration asks for it (`max_concurrency`, `record`, `kv_events_port`), so
//! that one process outruns the router that is measured in front of it.

mod admission;
mod api;
mod cache;
mod config;
mod connection;
mod engine;
mod exposition;
mod faults;
mod gauges;
mod models;
mod state;
mod transfer;

pub use config::{Dialect, EngineConfig};
pub use engine::{Engine, EngineError, start};
pub use faults::{FaultError, FaultSettings, Faults, HandoverFault};
pub use state::RecordedRequest;
pub use transfer::{KvConnector, KvRole, TransferCounts};
