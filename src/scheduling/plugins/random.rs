//! Prefers nobody: endpoints that are equally good share the traffic at random.

use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Score;
use crate::scheduling::request::PickRequest;

/// The random score.
pub struct Random;

impl Score for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn rate(&self, _: &PickRequest<'_>, _: &PoolFacts, _: &[Candidate<'_>], _: &mut [f32]) {}
}
