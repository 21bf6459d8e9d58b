//! How a decision is read back.
//!
//! A [`Witness`] sees what a picker does while it does it: explanations and the ring of recent decisions are written on
//! it. The witness `()` sees nothing and costs nothing.

use super::endpoint::Candidate;

/// Sees a pick. Whoever wants less than all of it implements less than all of it.
pub trait Witness {
    /// A plugin begins its work.
    fn begins(&mut self) {}

    /// The plugin of this name, a `filter` or a `score`, has done its work.
    fn ended(&mut self, plugin: &'static str, part: &'static str) {
        let _ = (plugin, part);
    }

    /// A candidate was passed over by the filter of this name, or because it was `tried`.
    fn passed_over(&mut self, candidate: &Candidate<'_>, filter: &'static str) {
        let _ = (candidate, filter);
    }

    /// A filter would have left no candidate, and gave way.
    fn gave_way(&mut self, filter: &'static str) {
        let _ = filter;
    }

    /// A score rated a candidate, from 0 (worst) to 1 (best); it counts with this weight.
    fn rated(&mut self, candidate: &Candidate<'_>, score: &'static str, rate: f32, weight: f32) {
        let _ = (candidate, score, rate, weight);
    }

    /// A candidate was picked with this total, at random among as many as were equally good, itself included.
    fn picked(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        let _ = (candidate, total, ties);
    }
}

impl Witness for () {}
