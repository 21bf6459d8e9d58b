//! The pages that tell why requests went where they went, and where one would go that is not sent.

use actix_web::{HttpResponse, web};
use kthena_router::explain::dry_run::Pairs;
use kthena_router::explain::{AttemptWords, Explanation, QueueWords, RequestWords};
use kthena_router::hostname::request_host;
use kthena_router::request_head::RequestHead;
use kthena_router::routing::decision::Asked;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{ASK_TIMEOUT, Admin, not_found};
use crate::dry_run::{self, names};
use crate::ops::requests::decisions::{AttemptRecord, DecisionRecord};
use crate::pools::published::Snapshot;

/// How many decisions are told unless it is said.
const LAST: usize = 20;
/// The largest question, in bytes.
const MAX_QUESTION: usize = 64 << 20;

/// Which decisions are asked for.
#[derive(Deserialize)]
pub(super) struct Wanted {
    last: Option<usize>,
}

/// Adds the pages.
pub(super) fn add(pages: &mut web::ServiceConfig) {
    pages
        .app_data(web::JsonConfig::default().limit(MAX_QUESTION))
        .route("/debug/decisions", web::get().to(last))
        .route("/debug/decisions/{request_id}", web::get().to(one))
        .route("/debug/explain", web::post().to(explain));
}

async fn last(admin: web::Data<Admin>, wanted: web::Query<Wanted>) -> HttpResponse {
    let count = wanted.last.unwrap_or(LAST);
    let mut records = ask(&admin, move |recent| recent.last(count)).await;
    records.truncate(count);
    HttpResponse::Ok().json(json!({ "decisions": told(&admin, &records) }))
}

async fn one(admin: web::Data<Admin>, id: web::Path<String>) -> HttpResponse {
    let wanted = id.clone();
    let records = ask(&admin, move |recent| recent.of(&wanted)).await;
    if records.is_empty() {
        return not_found(&format!(
            "the decision on request `{id}` is not remembered: it is too old, or one of too many"
        ));
    }
    HttpResponse::Ok().json(json!({ "decisions": told(&admin, &records) }))
}

async fn explain(admin: web::Data<Admin>, asked: web::Json<dry_run::Asked>) -> HttpResponse {
    let snapshot = admin.reader.load();
    HttpResponse::Ok().json(asked.into_inner().explain(&snapshot, admin.bind_address))
}

/// Asks all worker threads for decisions, and returns them with the latest first. A thread that does not answer in time
/// keeps nobody waiting.
async fn ask(
    admin: &Admin,
    question: impl Fn(&crate::ops::requests::decisions::Recent) -> Vec<DecisionRecord> + Clone + Send + 'static,
) -> Vec<DecisionRecord> {
    let asked = admin.workers.ask(move |recent| question(recent));
    let mut records: Vec<_> = timeout(ASK_TIMEOUT, asked).await.unwrap_or_default().into_iter().flatten().collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.started));
    records
}

fn told(admin: &Admin, records: &[DecisionRecord]) -> Vec<Explanation> {
    let snapshot = admin.reader.load();
    records.iter().map(|record| words(record, &snapshot)).collect()
}

/// Puts a decision into words; `snapshot` is that of this moment.
fn words(record: &DecisionRecord, snapshot: &Snapshot) -> Explanation {
    let host = request_host(&record.host);
    let (path, method) = (record.path.as_str(), record.method.as_str());
    let head = RequestHead { method, host: &host, path, query: "", headers: &Pairs(&[]) };
    let asked = match &record.model {
        Some(model) if record.by_model => Asked::Model(model),
        Some(_) | None => Asked::Other,
    };
    let route = record.route.as_ref().map(|(name, is_http)| (if *is_http { "HTTPRoute" } else { "ModelRoute" }, name));
    let winner = route.map(|(kind, name)| (kind, &*name.0, record.rule));
    let contenders = snapshot.table.contenders(record.bind, &head, asked, true, winner);
    let pool = record.pool.as_ref().map(|pool| pool.0.to_string());
    let pools = snapshot.pools.iter();
    let names = pools.filter(|known| Some(known.key.to_string()) == pool).map(|pool| names(pool)).next();
    let name = |address| names.as_ref().and_then(|names| names.get(&address).cloned());
    let attempt = |AttemptRecord { pick, endpoint, outcome }: &AttemptRecord| AttemptWords {
        endpoint: endpoint.map(|address| name(address).unwrap_or_else(|| address.to_string())),
        outcome: (!outcome.is_empty()).then(|| (*outcome).to_owned()),
        pick: pick.as_ref().map(|pick| pick.words(&name)),
    };
    let (status, reason) = record.end;
    Explanation {
        request: RequestWords {
            id: Some(record.id.clone()),
            method: record.method.to_string(),
            host: host.into_owned(),
            path: record.path.clone(),
            port: record.bind.port,
            model: record.model.as_deref().map(ToOwned::to_owned),
            seconds_ago: Some(record.started.elapsed().as_secs_f64()),
        },
        generation: record.generation,
        rules: contenders.rules,
        omitted_rules: contenders.omitted,
        rules_changed: record.generation != snapshot.generation,
        route: route.map(|(kind, name)| format!("{kind} {}", name.0)),
        pool,
        queue: record.waited.map(|(waited, priority)| QueueWords { seconds: waited.as_secs_f64(), priority }),
        attempts: record.attempts.iter().map(attempt).collect(),
        outcome: Some(format!("{status} {reason}")),
    }
}
