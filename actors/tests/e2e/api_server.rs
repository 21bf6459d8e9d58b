//! A fake Kubernetes API server, as far as the router needs one, that tests can make fall silent, forget, refuse and
//! stop.
//!
//! It speaks plain HTTP and keeps whatever it is given: nothing is validated, and nobody needs a right.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use serde_json::Value;
use tokio::sync::watch;

use crate::harness::until;

pub(crate) use store::{Place, Write};
use store::{Store, resource_of};

mod answer;
mod apply;
mod store;

/// The port of every API server under test.
const API_PORT: u16 = 6443;
/// How long an idle connection is kept; a client that finds one closed would have to try again.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// An API server under test; what it keeps outlasts a stop.
pub(crate) struct ApiServer {
    store: Arc<watch::Sender<Store>>,
    address: SocketAddr,
    server: Option<ServerHandle>,
}

impl ApiServer {
    /// Starts an API server without any objects.
    pub(crate) fn start(address: IpAddr) -> Self {
        let address = SocketAddr::new(address, API_PORT);
        let mut api = Self { store: Arc::new(watch::Sender::new(Store::default())), address, server: None };
        api.restart();
        api
    }

    /// Starts it again after a stop, on the same port and with what it kept.
    pub(crate) fn restart(&mut self) {
        let store = web::Data::from(Arc::clone(&self.store));
        let app = move || App::new().app_data(store.clone()).default_service(web::to(answer::answer));
        let server = HttpServer::new(app).workers(1).keep_alive(KEEP_ALIVE).disable_signals();
        let server = server.bind(self.address).unwrap().run();
        self.server = Some(server.handle());
        actix_web::rt::spawn(server);
    }

    /// Stops it: its port is closed, and so is every connection.
    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().stop(false).await;
    }

    /// Returns how it is reached.
    pub(crate) fn config(&self) -> kube::Config {
        kube::Config::new(format!("http://{}", self.address).parse().unwrap())
    }

    /// Puts an object where it belongs, in the namespace `default` if it does not say; a status it has none of is kept.
    pub(crate) fn put(&self, object: Value) {
        let place = Place::of(&object);
        self.change(|store| drop(store.put(place, object)));
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, kind: &str, key: &str) {
        let place = Place::named(kind, key);
        self.change(|store| assert!(store.delete(&place).is_some(), "there is {place:?} to be deleted"));
    }

    /// Returns an object, if there is one; `key` is its name, after its namespace unless that is `default`.
    pub(crate) fn find(&self, kind: &str, key: &str) -> Option<Value> {
        self.store.borrow().find(&Place::named(kind, key)).cloned()
    }

    /// Returns an object.
    pub(crate) fn object(&self, kind: &str, key: &str) -> Value {
        self.find(kind, key).unwrap_or_else(|| panic!("there is a {kind} `{key}`"))
    }

    /// Returns the objects of a kind.
    pub(crate) fn objects(&self, kind: &str) -> Vec<Value> {
        self.store.borrow().list(resource_of(kind).plural, None, None).cloned().collect()
    }

    /// Returns a condition of an object's status.
    pub(crate) fn condition(&self, kind: &str, key: &str, condition: &str) -> Option<Value> {
        let object = self.find(kind, key)?;
        let conditions = object["status"]["conditions"].as_array()?;
        conditions.iter().find(|other| other["type"] == condition).cloned()
    }

    /// Waits until a condition of an object's status is `True` or `False` for a reason.
    pub(crate) async fn has_condition(&self, kind: &str, key: &str, condition: &str, (status, reason): (&str, &str)) {
        let what = format!("{condition} of the {kind} `{key}` is {status}: {reason}");
        let holds = async || {
            self.condition(kind, key, condition)
                .is_some_and(|found| found["status"] == status && found["reason"] == reason)
        };
        until(&what, holds).await;
    }

    /// Returns what was written so far, but for Leases and Events.
    pub(crate) fn writes(&self) -> Vec<Write> {
        let quiet = ["Lease", "Event"].map(|kind| resource_of(kind).plural);
        self.store.borrow().writes().iter().filter(|write| !quiet.contains(&write.place.plural)).cloned().collect()
    }

    /// Returns what was written to one object.
    pub(crate) fn writes_to(&self, kind: &str, key: &str) -> Vec<Write> {
        let place = Place::named(kind, key);
        self.store.borrow().writes().iter().filter(|write| write.place == place).cloned().collect()
    }

    /// Returns the reasons of the Events about an object, and their notes.
    pub(crate) fn events(&self, kind: &str, name: &str) -> Vec<(String, String)> {
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let is_about = |event: &Value| event["regarding"]["kind"] == kind && event["regarding"]["name"] == name;
        let events = self.objects("Event").into_iter().filter(is_about);
        events.map(|event| (text(&event, "reason"), text(&event, "note"))).collect()
    }

    /// Returns how often a kind was asked for in one way: `get`, `list`, `watch`, `create` or `patch`.
    pub(crate) fn requests(&self, verb: &'static str, kind: &str) -> usize {
        self.store.borrow().requests(verb, resource_of(kind).plural)
    }

    /// Says nothing of what happens to a kind from now on, although its watches stay open; they miss it for ever.
    pub(crate) fn silence(&self, kind: &str) {
        self.change(|store| store.silence(resource_of(kind).plural));
    }

    /// Sends a bookmark whenever a watch that is not silent has had nothing to say for so long.
    pub(crate) fn bookmark_every(&self, pause: Duration) {
        self.change(|store| store.bookmarks = Some(pause));
    }

    /// Forgets what happened so far: whoever watches is told to list again.
    pub(crate) fn forget(&self) {
        self.change(Store::forget);
    }

    /// Knows a kind no longer, and has no objects of it to show.
    pub(crate) fn hide(&self, kind: &str) {
        self.change(|store| store.refuse(resource_of(kind).plural, 404));
    }

    /// Denies everyone the right to a kind.
    pub(crate) fn forbid(&self, kind: &str) {
        self.change(|store| store.refuse(resource_of(kind).plural, 403));
    }

    /// Knows a kind, and lets everyone at it.
    pub(crate) fn allow(&self, kind: &str) {
        self.change(|store| store.allow(resource_of(kind).plural));
    }

    /// Fails so many of the next writes to a kind, without a trace of them.
    pub(crate) fn fail_writes(&self, kind: &str, count: usize) {
        self.change(|store| store.fail_writes(resource_of(kind).plural, count));
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        self.store.send_modify(change);
    }
}
