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

    /// A candidate was picked to compute the prompt, likewise; it is told of before the one that answers.
    fn prefills(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        let _ = (candidate, total, ties);
    }

    /// A candidate was named from which the one that computes the prompt can pull its beginning.
    fn pulls_from(&mut self, candidate: &Candidate<'_>) {
        let _ = candidate;
    }

    /// In a pool with roles it was decided whether two endpoints work on the request, and why.
    fn split(&mut self, course: &Course) {
        let _ = course;
    }
}

/// Whether two endpoints work on a request, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Course {
    /// Why, in one word: [`REMOTE`](Course::REMOTE) if two endpoints do, else why one does all of it.
    pub why: &'static str,
    /// Seconds that the prompt is expected to cost where the answer is made; 0 where that was not calculated.
    pub local: f32,
    /// Seconds that it is expected to cost elsewhere, the second leg and the transfer included; likewise.
    pub remote: f32,
}

impl Course {
    /// Two endpoints work on the request.
    pub const REMOTE: &'static str = "remote";
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

    fn prefills(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        if let Some(witness) = self {
            witness.prefills(candidate, total, ties);
        }
    }

    fn pulls_from(&mut self, candidate: &Candidate<'_>) {
        if let Some(witness) = self {
            witness.pulls_from(candidate);
        }
    }

    fn split(&mut self, course: &Course) {
        if let Some(witness) = self {
            witness.split(course);
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

    fn prefills(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        self.0.prefills(candidate, total, ties);
        self.1.prefills(candidate, total, ties);
    }

    fn pulls_from(&mut self, candidate: &Candidate<'_>) {
        self.0.pulls_from(candidate);
        self.1.pulls_from(candidate);
    }

    fn split(&mut self, course: &Course) {
        self.0.split(course);
        self.1.split(course);
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

    fn prefills(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        (**self).prefills(candidate, total, ties);
    }

    fn pulls_from(&mut self, candidate: &Candidate<'_>) {
        (**self).pulls_from(candidate);
    }

    fn split(&mut self, course: &Course) {
        (**self).split(course);
    }
}
