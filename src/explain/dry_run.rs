//! What would become of a request: the same decision and the same pick, of which nothing is reserved and nothing noted.

use bytes::Bytes;

use super::{AttemptWords, Explanation, RequestWords};
use crate::hostname::request_host;
use crate::inference::api::{Api, Call};
use crate::inference::coding::codings;
use crate::inference::understood::{NotUnderstood, Understood, shape, without_mark};
use crate::object::{Bind, Kind, PoolKey};
use crate::pool::policy::{PickerPolicy, PoolIndex, PoolPolicy};
use crate::pool::told::{Told, model_for, priority};
use crate::request_head::path;
use crate::request_head::{Headers, RequestHead};
use crate::routing::decision::{Asked, Decision, Matched, Moment, Refusal, Unreachable, Verdict, needs_model};
use crate::routing::table::RouteTable;
use crate::scheduling::picker::PickError;
use crate::scheduling::record::PickWords;
use crate::scheduling::request::{RequestFacts, Split};

/// A request that nobody sends.
#[derive(Clone, Debug)]
pub struct Question {
    /// The port that it would come in on.
    pub bind: Bind,
    /// The method.
    pub method: String,
    /// The host, with or without a port.
    pub host: String,
    /// The path, and the query if there is one.
    pub target: String,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The pools at one moment.
pub trait Fleet: Moment {
    /// Returns the number of the plan that the routes are of.
    fn generation(&self) -> u64;
    /// Returns a pool's name, how requests are sent to it, and how many endpoints it has.
    fn pool(&self, pool: PoolIndex) -> Option<(&PoolKey, &PoolPolicy, usize)>;
    /// Picks an endpoint of a pool as for a request that is sent.
    fn pick(&self, pool: PoolIndex, facts: &RequestFacts) -> (Result<(), PickError>, PickWords);
}

/// The headers of a request that nobody sends.
pub struct Pairs<'p>(pub &'p [(String, String)]);

impl Headers for Pairs<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.iter().any(|(known, value)| known == name && test(value))
    }
}

impl Pairs<'_> {
    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Says what would become of a request.
pub fn dry_run(table: &RouteTable, question: &Question, fleet: &impl Fleet) -> Explanation {
    let host = request_host(&question.host);
    let (path, query) = question.target.split_once('?').unwrap_or((&question.target, ""));
    let headers = Pairs(&question.headers);
    let head = RequestHead { method: &question.method, host: &host, path, query, headers: &headers };
    let calls = Call::of(&question.method, path);
    let understood = understand(calls, question);
    let asked = match (calls, &understood) {
        (Call::ListModels | Call::GetModel | Call::Health, _) => Asked::Models,
        (Call::StoredResponse, _) => Asked::Stored,
        (Call::Inference(_), _) if !needs_model(table.listeners(question.bind, &host)) => Asked::Other,
        (_, Some(Ok(understood))) => Asked::Model(&understood.model),
        (_, Some(Err(_))) => Asked::Unread,
        (_, None) => Asked::Other,
    };
    let mut explanation = Explanation {
        request: RequestWords {
            method: question.method.clone(),
            host: host.to_string(),
            path: path.to_owned(),
            port: question.bind.port,
            model: understood.iter().flatten().next().map(|understood| understood.model.to_string()),
            ..RequestWords::default()
        },
        generation: fleet.generation(),
        ..Explanation::default()
    };
    if let Err(fault) = path::check(path) {
        explanation.outcome = Some(format!("refused: {fault}"));
        return explanation;
    }
    let verdict = table.decide(question.bind, &head, asked, fleet);
    let winner = match &verdict {
        Ok(Verdict::Serve(decision)) => Some(winner(decision)),
        Ok(Verdict::Models(_)) | Err(_) => None,
    };
    let told = winner.as_ref().map(|(kind, route, rule)| (*kind, route.as_str(), *rule));
    let contenders = table.contenders(question.bind, &head, asked, false, told);
    (explanation.rules, explanation.omitted_rules) = (contenders.rules, contenders.omitted);
    explanation.route = winner.map(|(kind, route, _)| format!("{kind} {route}"));
    match verdict {
        Ok(Verdict::Serve(decision)) => send(&mut explanation, &decision, question, understood, fleet),
        Ok(Verdict::Models(_)) => {
            explanation.outcome = Some("the router answers itself, from its list of models".into());
        }
        Err(Refusal::NoListener) => explanation.outcome = Some("no listener of the port serves the host".into()),
        Err(Refusal::NoRoute { .. }) => explanation.outcome = Some(no_route(understood.as_ref())),
    }
    explanation
}

fn understand(calls: Call, question: &Question) -> Option<Result<Understood, NotUnderstood>> {
    let Call::Inference(api) = calls else { return None };
    let headers = Pairs(&question.headers);
    let query = question.target.split_once('?').map_or("", |(_, query)| query);
    let understood = codings(headers.first("content-encoding")).and_then(|codings| match codings.first() {
        None => Understood::of(api, shape(api, headers.first("content-type"))?, query, without_mark(&question.body)),
        Some(coding) => {
            let fault = "an explanation takes bodies without a coding".to_owned();
            Err(NotUnderstood::Undecodable { encoding: coding.name().to_owned(), fault })
        }
    });
    Some(understood)
}

fn no_route(understood: Option<&Result<Understood, NotUnderstood>>) -> String {
    match understood {
        Some(Err(fault)) => format!("no rule serves the request, and its body is not understood: {fault}"),
        Some(Ok(_)) | None => "no rule serves the request".to_owned(),
    }
}

/// Returns the kind and the name of a route, and the place of its rule.
fn winner(decision: &Decision<'_>) -> (&'static str, String, usize) {
    let kind = match decision.route {
        Matched::Model(_) => Kind::ModelRoute,
        Matched::Http(_) => Kind::HttpRoute,
    };
    (kind.as_str(), decision.route.key().to_string(), decision.rule)
}

/// Says where a request would be sent.
fn send(
    explanation: &mut Explanation,
    decision: &Decision<'_>,
    question: &Question,
    understood: Option<Result<Understood, NotUnderstood>>,
    fleet: &impl Fleet,
) {
    if decision.steps.filters.redirect.is_some() {
        explanation.outcome = Some("a redirect, by a filter of the rule".to_owned());
        return;
    }
    let target = match decision.target {
        Ok(target) => target.destination.pool,
        Err(unreachable) => {
            explanation.outcome = Some(match unreachable {
                Unreachable::NoEndpoints => "no target of the route has an endpoint".to_owned(),
                Unreachable::Invalid(why) => format!("an error: {why}"),
            });
            return;
        }
    };
    let Some((key, policy, endpoints)) = fleet.pool(target) else { return };
    explanation.pool = Some(key.to_string());
    if policy.picker != PickerPolicy::BuiltIn {
        explanation.outcome = Some("the pool's endpoint picker would be asked".to_owned());
        return;
    }
    let facts = match understood {
        Some(Ok(understood)) if key.kind != Kind::Service => {
            let headers = Pairs(&question.headers);
            let model = model_for(policy, decision.steps.adapter, &understood.model, |bound| fleet.draw(bound));
            let priority = priority(policy, decision.route.priority(), |name| headers.first(name));
            let told = Told { asked: &understood.model, model, adapter: decision.steps.adapter, priority };
            let mut facts = told.facts(&understood.prompt(without_mark(&question.body)), endpoints > 1);
            facts.session = policy.sessions.find(&headers, query(&question.target));
            facts.split = split(policy, understood.api, question);
            facts
        }
        Some(_) | None => RequestFacts::default(),
    };
    let (picked, words) = fleet.pick(target, &facts);
    let endpoint = words.picked.clone();
    explanation.attempts = vec![AttemptWords { endpoint, outcome: None, pick: Some(words) }];
    explanation.outcome = picked.err().map(|error| error.to_string());
}

/// Returns whether two endpoints may work on a request.
fn split(policy: &PoolPolicy, api: Api, question: &Question) -> Split {
    let body = Bytes::copy_from_slice(without_mark(&question.body));
    policy.disaggregation.map_or_else(Split::default, |disaggregation| {
        disaggregation.split(api, body).map_or_else(|_| Split::default(), |(split, _)| split)
    })
}

/// Returns the query of a target; empty if it has none.
fn query(target: &str) -> &str {
    target.split_once('?').map_or("", |(_, query)| query)
}
