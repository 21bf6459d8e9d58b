//! What an inference pool is told of a request: the model that its engines know, and what a picker goes by.

use std::sync::Arc;

use super::policy::PoolPolicy;
use crate::inference::prompt::{Prompt, PromptFields};
use crate::scheduling::objective::OBJECTIVE_HEADERS;
use crate::scheduling::request::RequestFacts;

/// A request to an inference pool, as the pool is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'t> {
    /// The model or adapter that the client names.
    pub asked: &'t Arc<str>,
    /// The name that the engines know it by, where that is another.
    pub model: Option<&'t str>,
    /// Whether it is an adapter.
    pub adapter: bool,
    /// How important the request is.
    pub priority: i32,
}

impl Told<'_> {
    /// Returns what a picker goes by. A prompt is of no use where there is nothing to choose.
    pub fn facts(&self, prompt: &PromptFields<&[u8]>, has_choice: bool) -> RequestFacts {
        let model: Arc<str> = self.model.map_or_else(|| Arc::clone(self.asked), Arc::from);
        let adapter = self.adapter.then(|| Arc::clone(&model));
        let prompt = if has_choice { Prompt::read(prompt, &model, adapter.as_deref()) } else { Prompt::default() };
        RequestFacts {
            model,
            adapter,
            prefix: prompt.blocks,
            tokens: prompt.tokens,
            priority: self.priority,
            mark: prompt.key,
            ..RequestFacts::default()
        }
    }
}

/// Returns the name by which a pool's engines know a model, where it is another than the client's. An engine knows an
/// adapter by the name that the client uses, and a model by the name it was started with.
pub fn model_for<'p>(
    policy: &'p PoolPolicy,
    adapter: bool,
    asked: &str,
    draw: impl FnOnce(u64) -> u64,
) -> Option<&'p str> {
    let rewrites = policy.requests.as_ref().map(|requests| &requests.rewrites).filter(|rewrites| !rewrites.is_empty());
    let rewritten = || rewrites.and_then(|rewrites| rewrites.rewrite(asked, draw));
    let model = if adapter { None } else { policy.served_model.as_deref().or_else(rewritten) };
    model.filter(|model| *model != asked)
}

/// Returns how important a request is: by the objective of the pool that it names, or else as its route says. `header`
/// returns the value of a header.
pub fn priority<'h>(policy: &PoolPolicy, of_route: i32, header: impl Fn(&'static str) -> Option<&'h str>) -> i32 {
    let requests = policy.requests.as_ref().filter(|requests| !requests.objectives.is_empty());
    let of_objective = requests.and_then(|requests| {
        let named = OBJECTIVE_HEADERS.iter().find_map(|name| header(name));
        requests.objectives.priority(named?)
    });
    of_objective.unwrap_or(of_route)
}
