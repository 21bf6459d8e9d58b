//! Who may pass: the places of a port, and what a model's limits leave for a request.
//!
//! Knows nothing of what a request is otherwise: it is given its client, its API and its body, and says yes or no.

mod admission;
mod rate_limit;

pub(super) use admission::{Admission, PortPlaces};
pub(super) use rate_limit::{Asking, Refused, Reservation, SharedLimits, tell};
