//! The filters and scores that a configuration can name: one table, one file for each of them.
//!
//! The names are those of the Go kthena-router. A new plugin is one file and one line in the table.

use super::picker::Score;

pub mod expected_wait;
pub mod least_request;
pub mod serving;

/// Makes a score.
pub type MakeScore = fn() -> Box<dyn Score>;

/// Every score by its name.
pub const SCORES: &[(&str, MakeScore)] = &[
    ("expected-wait", || Box::new(expected_wait::ExpectedWait)),
    ("least-request", || Box::new(least_request::LeastRequest)),
];
