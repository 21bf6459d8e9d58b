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

/// A witness that may be absent, at the cost of a comparison.
impl<W: Witness> Witness for Option<W> {
    fn begins(&mut self) {
        if let Some(witness) = self {
            witness.begins();
        }
    }

    fn ended(&mut self, plugin: &'static str, part: &'static str) {
        if let Some(witness) = self {
            witness.ended(plugin, part);
        }
    }

    fn passed_over(&mut self, candidate: &Candidate<'_>, filter: &'static str) {
        if let Some(witness) = self {
            witness.passed_over(candidate, filter);
        }
    }

    fn gave_way(&mut self, filter: &'static str) {
        if let Some(witness) = self {
            witness.gave_way(filter);
        }
    }

    fn rated(&mut self, candidate: &Candidate<'_>, score: &'static str, rate: f32, weight: f32) {
        if let Some(witness) = self {
            witness.rated(candidate, score, rate, weight);
        }
    }

    fn picked(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        if let Some(witness) = self {
            witness.picked(candidate, total, ties);
        }
    }
}

/// Two witnesses of one pick.
impl<A: Witness, B: Witness> Witness for (A, B) {
    fn begins(&mut self) {
        self.0.begins();
        self.1.begins();
    }

    fn ended(&mut self, plugin: &'static str, part: &'static str) {
        self.0.ended(plugin, part);
        self.1.ended(plugin, part);
    }

    fn passed_over(&mut self, candidate: &Candidate<'_>, filter: &'static str) {
        self.0.passed_over(candidate, filter);
        self.1.passed_over(candidate, filter);
    }

    fn gave_way(&mut self, filter: &'static str) {
        self.0.gave_way(filter);
        self.1.gave_way(filter);
    }

    fn rated(&mut self, candidate: &Candidate<'_>, score: &'static str, rate: f32, weight: f32) {
        self.0.rated(candidate, score, rate, weight);
        self.1.rated(candidate, score, rate, weight);
    }

    fn picked(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        self.0.picked(candidate, total, ties);
        self.1.picked(candidate, total, ties);
    }
}

impl<W: Witness> Witness for &mut W {
    fn begins(&mut self) {
        (**self).begins();
    }

    fn ended(&mut self, plugin: &'static str, part: &'static str) {
        (**self).ended(plugin, part);
    }

    fn passed_over(&mut self, candidate: &Candidate<'_>, filter: &'static str) {
        (**self).passed_over(candidate, filter);
    }

    fn gave_way(&mut self, filter: &'static str) {
        (**self).gave_way(filter);
    }

    fn rated(&mut self, candidate: &Candidate<'_>, score: &'static str, rate: f32, weight: f32) {
        (**self).rated(candidate, score, rate, weight);
    }

    fn picked(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        (**self).picked(candidate, total, ties);
    }
}
