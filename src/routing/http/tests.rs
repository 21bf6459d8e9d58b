//! The traffic tables of the Gateway API's conformance tests, without a network.

mod compile;
mod cors;
mod hostnames;
mod matches;
mod naive;
mod rewrites;
mod scene;
mod weights;
