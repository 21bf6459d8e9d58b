//! What becomes of a request and why, in words: of one that was served, and of one that only might be.

use serde::{Deserialize, Serialize};

use crate::routing::contender::Contender;
use crate::scheduling::record::PickWords;

pub mod dry_run;
mod text;

/// What becomes of a request and why.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The request.
    pub request: RequestWords,
    /// The number of the plan that the routes are of; 0 for none.
    pub generation: u64,
    /// The rules of the listeners that the request came to, in the order in which they are asked.
    pub rules: Vec<Contender>,
    /// How many more rules there are.
    #[serde(default)]
    pub omitted_rules: usize,
    /// Whether there was another plan since, so that the rules may not be those that were asked.
    #[serde(default)]
    pub rules_changed: bool,
    /// The kind and the name of the route that serves the request.
    pub route: Option<String>,
    /// The kind and the name of the pool that it goes to.
    pub pool: Option<String>,
    /// How it waited for the pool to have room; absent for one that did not have to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueWords>,
    /// What was tried, or what would be tried first.
    pub attempts: Vec<AttemptWords>,
    /// How the request ended, or why it would go nowhere; absent for one that would be sent.
    pub outcome: Option<String>,
}

/// A request, without anything that its client may want to keep to itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestWords {
    /// Its id; absent for one that was not sent.
    pub id: Option<String>,
    /// The method.
    pub method: String,
    /// The host.
    pub host: String,
    /// The path, without the query.
    pub path: String,
    /// The port that it came in on.
    pub port: u16,
    /// The model that it names.
    pub model: Option<String>,
    /// How long ago it came, in seconds.
    pub seconds_ago: Option<f64>,
}

/// How a request waited for its pool.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct QueueWords {
    /// How long, in seconds.
    pub seconds: f64,
    /// Its priority.
    pub priority: i32,
}

/// One attempt to have a request answered.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptWords {
    /// The endpoint that was asked; absent where none was left.
    pub endpoint: Option<String>,
    /// How it ended; absent where that is not known.
    pub outcome: Option<String>,
    /// How it was picked; absent where an endpoint picker did that.
    pub pick: Option<PickWords>,
}
