//! Engines on loopback, seen by a client.

mod faults;
mod generation;
mod life;
mod queueing;
mod support;
mod transfers;
