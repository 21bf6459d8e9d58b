//! Who may pass: the places of a port, what a model's limits leave for a request, the room for copies.
//!
//! Knows nothing of what a request is otherwise: it is given its client, its API and its body, and says yes or no.

mod admission;
mod mirror_room;
mod rate_limit;

pub(super) use admission::{Admission, PortPlaces};
pub(super) use mirror_room::MirrorRoom;
pub(super) use rate_limit::{Asking, Refused, Reservation, SharedLimits, tell};
