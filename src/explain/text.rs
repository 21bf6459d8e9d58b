//! An explanation as text for people.

use std::fmt::{self, Display, Formatter};

use super::{AttemptWords, Explanation, QueueWords, RequestWords};
use crate::routing::contender::Contender;
use crate::scheduling::record::{CourseWords, EndpointWords, FilterWords, Inputs, PickWords, ScoreWords, Verdict};

impl Display for Explanation {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let RequestWords { id, method, host, path, port, model, seconds_ago } = &self.request;
        write!(to, "{method} {path} at {host}, port {port}")?;
        if let Some(model) = model {
            write!(to, ", model {model}")?;
        }
        if let (Some(id), Some(seconds)) = (id, seconds_ago) {
            write!(to, "\n  request {id}, {seconds:.1} s ago")?;
        }
        writeln!(to, "\n\nRules, in the order in which they are asked (plan {}):", self.generation)?;
        if self.rules_changed {
            writeln!(to, "  These are the rules of now; there was another plan since the request.")?;
        }
        for Contender { kind, route, rule, asks, won, why } in &self.rules {
            let (mark, why) = if *won { ('*', "serves the request") } else { (' ', why.as_str()) };
            writeln!(to, " {mark} {kind} {route} rule {rule} ({asks}): {why}")?;
        }
        if self.omitted_rules > 0 {
            writeln!(to, "   and {} more", self.omitted_rules)?;
        }
        if let Some(pool) = &self.pool {
            writeln!(to, "\nPool: {pool}")?;
        }
        if let Some(QueueWords { seconds, priority }) = self.queue {
            writeln!(to, "  waited {seconds:.3} s for room there, with priority {priority}")?;
        }
        for (number, attempt) in self.attempts.iter().enumerate() {
            write_attempt(to, number + 1, attempt)?;
        }
        match &self.outcome {
            Some(outcome) => writeln!(to, "\nOutcome: {outcome}"),
            None => Ok(()),
        }
    }
}

fn write_attempt(to: &mut Formatter<'_>, number: usize, attempt: &AttemptWords) -> fmt::Result {
    let AttemptWords { endpoint, outcome, pick } = attempt;
    let endpoint = endpoint.as_deref().unwrap_or("no endpoint");
    write!(to, "\nAttempt {number}: {endpoint}")?;
    if let Some(outcome) = outcome {
        write!(to, ", {outcome}")?;
    }
    let Some(pick) = pick else { return writeln!(to) };
    let PickWords { prompt_tokens, prompt_blocks, equally_good, disaggregation, kv_cache_source, endpoints, .. } = pick;
    writeln!(to, "\n  prompt of about {prompt_tokens} tokens, {prompt_blocks} blocks to look for in caches")?;
    if let Some(course) = disaggregation {
        write_course(to, course)?;
    }
    if let Some(source) = kv_cache_source {
        writeln!(to, "  the beginning of the prompt can be pulled from {source}")?;
    }
    if *equally_good > 1 {
        writeln!(to, "  {equally_good} endpoints were equally good; one of them was drawn")?;
    }
    endpoints.iter().try_for_each(|words| write_endpoint(to, words, words.endpoint == endpoint))
}

fn write_course(to: &mut Formatter<'_>, course: &CourseWords) -> fmt::Result {
    let CourseWords { decision, prefill, local_seconds, remote_seconds } = course;
    match prefill {
        Some(prefill) => write!(to, "  two endpoints: the prompt is computed by {prefill}")?,
        None => write!(to, "  one endpoint for all of it ({decision})")?,
    }
    match (local_seconds, remote_seconds) {
        (Some(local), Some(remote)) => {
            writeln!(to, "; the prompt costs {local:.3} s there, {remote:.3} s on another with the transfer")
        }
        _ => writeln!(to),
    }
}

fn write_endpoint(to: &mut Formatter<'_>, words: &EndpointWords, picked: bool) -> fmt::Result {
    let EndpointWords { endpoint, address, role, filters, scores, total, inputs } = words;
    write!(to, " {} {endpoint} ({address})", if picked { '*' } else { ' ' })?;
    if let Some(role) = role {
        write!(to, ", {role}")?;
    }
    for FilterWords { filter, verdict } in filters {
        match verdict {
            Verdict::Kept => {}
            Verdict::PassedOver => write!(to, ", passed over by `{filter}`")?,
            Verdict::GaveWay => write!(to, ", `{filter}` gave way")?,
        }
    }
    if let Some(total) = total {
        write!(to, ", total {total:.3}")?;
    }
    if !scores.is_empty() {
        let score = |ScoreWords { score, raw, weight, .. }: &ScoreWords| format!("{score} {raw:.3} x {weight}");
        write!(to, " = {}", scores.iter().map(score).collect::<Vec<_>>().join(" + "))?;
    }
    let Inputs { in_flight, elsewhere, penalty, backlog_tokens, cached_tokens, standing, .. } = inputs;
    write!(to, "\n     {standing}, {in_flight} in flight, {elsewhere} from elsewhere, penalty {penalty}, ")?;
    write!(to, "backlog {backlog_tokens} tokens, {cached_tokens} cached")?;
    match (inputs.scrape_age_seconds, inputs.waiting, inputs.running) {
        (Some(age), Some(waiting), Some(running)) => {
            write!(to, "\n     scraped {age:.1} s before: {waiting} waiting, {running} running")?;
            match inputs.kv_cache_usage {
                Some(usage) => writeln!(to, ", KV cache {:.0} %", usage * 100.0),
                None => writeln!(to),
            }
        }
        _ => writeln!(to, "\n     no figures of the engine"),
    }
}
