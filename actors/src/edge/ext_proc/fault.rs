//! What can be wrong with an endpoint picker.

use thiserror::Error;

/// Why an endpoint picker is of no help with a request. What is displayed reaches clients, and so names neither
/// addresses nor what the picker wrote; that is for the log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// It has no endpoints that are ready.
    #[error("it has no endpoint that is ready")]
    Absent,
    /// None of its endpoints can be connected to, or none takes requests.
    #[error("it cannot be reached")]
    Unreachable(String),
    /// It did not decide in time.
    #[error("it did not decide in time")]
    Late,
    /// It broke the exchange off.
    #[error("it broke off")]
    Broken(String),
    /// What it said makes no sense.
    #[error("it is not understood: {0}")]
    Nonsense(&'static str),
    /// It named no endpoint.
    #[error("it named no endpoint")]
    NoEndpoint,
    /// It named endpoints, none of which is one of the pool's.
    #[error("it named endpoints outside the pool")]
    Outside(String),
}

impl Fault {
    /// Returns what metrics call it.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Absent => "no_picker",
            Self::Unreachable(_) => "unreachable",
            Self::Late => "timeout",
            Self::Broken(_) => "broken",
            Self::Nonsense(_) => "nonsense",
            Self::NoEndpoint => "no_endpoint",
            Self::Outside(_) => "outside_pool",
        }
    }
}
