//! The Gateway API: which listeners there are, whom they let in, and what is reported of them.
//!
//! Source: <https://gateway-api.sigs.k8s.io/reference/spec/>.

pub mod certificate;
pub mod class;
pub mod conditions;
pub mod hostname;
pub mod listeners;
pub mod tls;
