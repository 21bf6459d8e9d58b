//! What the tests of `integration/tests` are made of: ways to ask the cluster, to change it, and to break it.
//!
//! `integration/run` starts a Kubernetes control plane of its own, with everything that is needed to run Pods as
//! processes, and the tests in it. A test says what must hold for users of `kubectl` and of the inference API; it knows
//! nothing of how the router is built.

pub mod audit;
pub mod cluster;
pub mod control;
pub mod exposition;
pub mod http;
pub mod kinds;
pub mod kubectl;
pub mod latency;
pub mod load;
pub mod objects;
pub mod rig;
pub mod router;
pub mod sandbox;
pub mod suite;
pub mod wait;
