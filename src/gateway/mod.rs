//! The Gateway API: which listeners there are, whom they let in, and what is reported of them.
//!
//! Source: <https://gateway-api.sigs.k8s.io/reference/spec/>.

pub mod addresses;
pub mod admission;
pub mod class;
mod conflicts;
mod features;
pub mod frontend;
pub mod gateways;
pub mod listeners;
pub mod parents;
pub mod places;
pub mod references;
pub mod services;
pub mod tls;
