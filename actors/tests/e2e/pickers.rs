//! InferencePools whose endpoints are chosen by a picker of their own, which may be a good one or a bad one.

mod fake;
mod faults;
mod picks;
mod scene;
