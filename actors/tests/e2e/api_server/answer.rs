//! How an API server answers over HTTP.
//!
//! Source: Kubernetes, "API concepts": paths, lists in pages, watches as lines of JSON, and Status objects.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::apply::Refusal;
use super::store::{Place, RESOURCES, Resource, Store, Write};

/// How long a watch stays open in which nothing happens; longer than any test.
const WATCH_TIMEOUT: Duration = Duration::from_secs(290);

/// What a request is about.
struct Target {
    resource: &'static Resource,
    namespace: Option<String>,
    name: Option<String>,
    subresource: String,
}

/// A watch that a client has open.
struct Watching {
    store: watch::Receiver<Store>,
    target: Target,
    /// Up to which version the client knows what happened.
    known: u64,
}

type Query = BTreeMap<String, String>;

/// Answers a request.
pub(super) async fn answer(request: HttpRequest, body: Bytes, store: Data<watch::Sender<Store>>) -> HttpResponse {
    let Some(target) = Target::of(request.path()) else { return unknown() };
    let query = actix_web::web::Query::<Query>::from_query(request.query_string()).unwrap().into_inner();
    let is_watch = query.get("watch").is_some_and(|watch| watch == "true");
    let verb = match (request.method(), &target.name) {
        (&Method::GET, None) if is_watch => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, None) => "create",
        (&Method::PATCH, Some(_)) => "patch",
        _ => return unknown(),
    };
    let plural = target.resource.plural;
    // What is merely counted wakes no watch.
    store.send_if_modified(|store| {
        store.count(verb, plural);
        false
    });
    let refusal = store.borrow().refusal(plural);
    match (refusal, verb) {
        (Some(404), _) => unknown(),
        (Some(code), _) => refuse(&Refusal { code, reason: "Forbidden", place: target.place() }),
        (None, "watch") => watch_from(store.subscribe(), target, &query),
        (None, "list") => list(&store.borrow(), &target, &query),
        (None, "get") => {
            respond(store.borrow().find(&target.place()).cloned().ok_or_else(|| Refusal::not_found(&target.place())))
        }
        _ => respond(write(&store, &target, request.headers(), &query, &body)),
    }
}

impl Target {
    /// Reads a path: `/api/v1/pods`, `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME/SUBRESOURCE`.
    fn of(path: &str) -> Option<Self> {
        let mut parts: Vec<_> = path.split('/').skip(1).collect();
        let api_version = match *parts.first()? {
            "api" => parts.drain(..2).next_back()?.to_owned(),
            "apis" => parts.drain(..3).skip(1).collect::<Vec<_>>().join("/"),
            _ => return None,
        };
        let namespace = match parts[..] {
            ["namespaces", namespace, _, ..] => {
                parts.drain(..2);
                Some(namespace.to_owned())
            }
            _ => None,
        };
        let mut parts = parts.into_iter();
        let plural = parts.next()?;
        let is_meant = |resource: &&Resource| (resource.api_version, resource.plural) == (&*api_version, plural);
        Some(Self {
            resource: RESOURCES.iter().find(is_meant)?,
            namespace,
            name: parts.next().map(str::to_owned),
            subresource: parts.next().unwrap_or_default().to_owned(),
        })
    }

    fn place(&self) -> Place {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        Place { plural: self.resource.plural, namespace: part(&self.namespace), name: part(&self.name) }
    }

    /// Returns whether an object is one of those listed or watched.
    fn includes(&self, place: &Place) -> bool {
        place.plural == self.resource.plural
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == place.namespace)
            && self.name.as_ref().is_none_or(|name| *name == place.name)
    }
}

fn selected_name(query: &Query) -> Option<String> {
    query.get("fieldSelector").map(|selector| selector.strip_prefix("metadata.name=").unwrap().to_owned())
}

fn list(store: &Store, target: &Target, query: &Query) -> HttpResponse {
    // Further pages are of the version of the first, so that a watch from there on tells what changed in between.
    let first = (store.version(), 0);
    let (version, skipped) = query.get("continue").map_or(first, |token| serde_json::from_str(token).unwrap());
    let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let name = selected_name(query);
    let all: Vec<_> = store.list(target.resource.plural, target.namespace.as_deref(), name.as_deref()).collect();
    let page = all.iter().skip(skipped).take(limit);
    let items: Vec<_> = page.map(|object| listed(target.resource, (*object).clone())).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let end = skipped + items.len();
    if end < all.len() {
        metadata["continue"] = json!((version, end)).to_string().into();
    }
    HttpResponse::Ok().json(json!({
        "apiVersion": target.resource.api_version,
        "kind": format!("{}List", target.resource.kind),
        "metadata": metadata,
        "items": items,
    }))
}

/// Returns an object as it is listed: those of built-in kinds do not repeat what they are.
fn listed(resource: &Resource, mut object: Value) -> Value {
    let is_custom = resource.api_version.contains("gateway") || resource.api_version.contains("volcano");
    if !is_custom {
        object.as_object_mut().unwrap().retain(|field, _| field != "kind" && field != "apiVersion");
    }
    object
}

fn watch_from(store: watch::Receiver<Store>, mut target: Target, query: &Query) -> HttpResponse {
    target.name = selected_name(query);
    let known = query["resourceVersion"].parse().unwrap();
    let watching = Watching { store, target, known };
    let lines = stream::unfold(Some(watching), async |watching| watching?.next().await);
    HttpResponse::Ok().content_type("application/json").streaming(lines)
}

impl Watching {
    /// Returns the next lines, and the watch unless it ends with them.
    async fn next(mut self) -> Option<(Result<Bytes, actix_web::Error>, Option<Self>)> {
        loop {
            let (lines, ends) = self.lines();
            if !lines.is_empty() {
                return Some((Ok(lines.into()), (!ends).then_some(self)));
            }
            if ends {
                return None;
            }
            let pause = self.store.borrow().bookmarks.unwrap_or(WATCH_TIMEOUT);
            match timeout(pause, self.store.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => {
                    if let Some(line) = self.bookmark() {
                        return Some((Ok(line.into()), Some(self)));
                    }
                }
            }
        }
    }

    /// Returns what the client does not know yet, and whether that is the end.
    fn lines(&mut self) -> (String, bool) {
        let store = self.store.borrow_and_update();
        if self.known < store.forgotten() {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
                "reason": "Expired", "message": format!("too old resource version: {}", self.known),
            });
            return (line("ERROR", &status), true);
        }
        let news = store.since(self.known).filter(|happening| self.target.includes(&happening.place));
        let lines = news.map(|happening| line(happening.verb, &happening.object)).collect();
        self.known = store.version();
        (lines, store.refusal(self.target.resource.plural).is_some())
    }

    fn bookmark(&self) -> Option<String> {
        let store = self.store.borrow();
        let Resource { kind, api_version, plural, .. } = self.target.resource;
        let metadata = json!({"resourceVersion": self.known.to_string(), "creationTimestamp": null});
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        (store.bookmarks.is_some() && !store.is_silent(plural)).then(|| line("BOOKMARK", &object))
    }
}

fn line(verb: &str, object: &Value) -> String {
    json!({"type": verb, "object": object}).to_string() + "\n"
}

fn write(
    store: &watch::Sender<Store>,
    target: &Target,
    headers: &actix_web::http::header::HeaderMap,
    query: &Query,
    body: &[u8],
) -> Result<Value, Refusal> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let mut place = target.place();
    let verb = match (&target.name, headers.get("content-type").unwrap().to_str().unwrap()) {
        (None, _) => "create",
        (Some(_), "application/apply-patch+yaml") => "apply",
        (Some(_), _) => "merge",
    };
    if verb == "create" {
        place.name = body["metadata"]["name"].as_str().unwrap().to_owned();
    }
    let write = Write {
        verb,
        place,
        subresource: target.subresource.clone(),
        manager: query.get("fieldManager").cloned().unwrap_or_default(),
        force: query.get("force").is_some_and(|force| force == "true"),
        body,
    };
    let mut outcome = None;
    store.send_modify(|store| {
        if store.fails(target.resource.plural) {
            outcome = Some(Err(Refusal { code: 500, reason: "InternalError", place: write.place }));
            return;
        }
        outcome = Some(if verb == "create" { store.create(&write) } else { store.patch(&write) });
        store.record(write);
    });
    outcome.unwrap()
}

fn respond(outcome: Result<Value, Refusal>) -> HttpResponse {
    match outcome {
        Ok(object) => HttpResponse::Ok().json(object),
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(Refusal { code, reason, place }: &Refusal) -> HttpResponse {
    let message = format!("{} \"{}\" in the namespace \"{}\": {reason}", place.plural, place.name, place.namespace);
    HttpResponse::build(StatusCode::from_u16(*code).unwrap()).json(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message,
    }))
}

/// Answers as to a path that leads nowhere, which is no Status.
fn unknown() -> HttpResponse {
    HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("404 page not found\n")
}
