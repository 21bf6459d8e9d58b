//! Whether a pool can serve.

/// How much a pool can serve at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// It has no endpoint at all.
    Empty,
    /// It has none now, and requests wait for one to come.
    Awaited,
    /// It has endpoints, but all of them are ejected.
    Ejected,
    /// It has an endpoint that serves, but requests wait at all of them.
    Full,
    /// It has an endpoint that serves, and room.
    Ready,
}
