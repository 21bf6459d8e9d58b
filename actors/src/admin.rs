//! The operators' pages: health, readiness and metrics on one port, debug pages on a loopback port.
//!
//! None of them is reachable through an inference port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::json;

use crate::cluster_writer::{ClusterWriter, WriterState};
use crate::metrics::Metrics;
use crate::observe::Observe;
use crate::overseer::{Overseer, OverseerState};
use crate::registry::{ConfigDump, RegistryState, RouteRegistry};
use crate::{CAST, CLUSTER_CAST};

/// How long an actor may take to answer an admin page.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The media type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whom the pages ask.
#[derive(Clone)]
pub struct Admin {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The overseer.
    pub overseer: Addr<Overseer>,
    /// The registry.
    pub registry: Addr<RouteRegistry>,
    /// Who writes to the API server, in a cluster.
    pub writer: Option<Addr<ClusterWriter>>,
}

/// One line of the readiness page.
struct Check {
    name: &'static str,
    /// What is missing, if anything is.
    missing: Option<String>,
}

impl Admin {
    /// Opens the page of health and metrics.
    ///
    /// # Errors
    ///
    /// Returns an error when the port cannot be opened.
    pub fn serve_metrics(&self, address: SocketAddr) -> io::Result<ServerHandle> {
        let admin = self.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(admin.clone()))
                .route("/healthz", web::get().to(healthz))
                .route("/livez", web::get().to(healthz))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(metrics))
        });
        let server = server.workers(1).disable_signals().shutdown_timeout(1).bind(address)?.run();
        let handle = server.handle();
        actix::spawn(server);
        Ok(handle)
    }

    /// Opens the debug pages.
    ///
    /// # Errors
    ///
    /// Returns an error when the port cannot be opened.
    pub fn serve_debug(&self, port: u16) -> io::Result<ServerHandle> {
        let admin = self.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(admin.clone()))
                .route("/debug/actors", web::get().to(actors))
                .route("/debug/config_dump/namespaces/{namespace}/{kind}/{name}", web::get().to(dump_one))
                .route("/debug/config_dump/{kind}", web::get().to(dump_all))
        });
        let address = (Ipv4Addr::LOCALHOST, port);
        let server = server.workers(1).disable_signals().shutdown_timeout(1).bind(address)?.run();
        let handle = server.handle();
        actix::spawn(server);
        Ok(handle)
    }

    async fn checks(&self) -> Vec<Check> {
        let overseer = self.overseer.send(Observe::<OverseerState>::new()).timeout(ASK_TIMEOUT).await;
        let registry = self.registry.send(Observe::<RegistryState>::new()).timeout(ASK_TIMEOUT).await;
        let silent = || Some("no answer".to_owned());
        let when = |missing: bool, what: &str| missing.then(|| what.to_owned());
        let Ok(registry) = registry else {
            return vec![Check { name: "registry", missing: silent() }];
        };
        let unreported = registry.binds.values().filter(|state| state.is_none()).count();
        let open = registry.binds.values().flatten().any(|state| state == "open");
        let unsynced = registry.unsynced.iter().copied().collect::<Vec<_>>().join(", ");
        vec![
            Check {
                name: "not draining",
                missing: match overseer {
                    Ok(state) => when(state.draining, "the router is stopping"),
                    Err(_) => silent(),
                },
            },
            Check {
                name: "objects listed",
                missing: (!unsynced.is_empty()).then(|| format!("waiting for the first list of: {unsynced}")),
            },
            Check { name: "plan published", missing: when(registry.generation == 0, "no plan yet") },
            Check {
                name: "ports reported",
                missing: (unreported > 0).then(|| format!("{unreported} of {} are pending", registry.binds.len())),
            },
            Check { name: "a port is open", missing: when(!open, "no port is open") },
        ]
    }
}

async fn healthz(admin: web::Data<Admin>) -> HttpResponse {
    match admin.overseer.send(Observe::<OverseerState>::new()).timeout(ASK_TIMEOUT).await {
        Ok(_) => HttpResponse::Ok().json(json!({"message": "ok"})),
        Err(_) => HttpResponse::ServiceUnavailable().json(json!({"message": "the overseer does not answer"})),
    }
}

async fn readyz(admin: web::Data<Admin>) -> HttpResponse {
    let checks = admin.checks().await;
    let lines: Vec<_> = checks
        .iter()
        .map(|check| match &check.missing {
            None => format!("[+] {}\n", check.name),
            Some(missing) => format!("[-] {}: {missing}\n", check.name),
        })
        .collect();
    if checks.iter().all(|check| check.missing.is_none()) {
        HttpResponse::Ok().body(lines.concat() + "router is ready\n")
    } else {
        HttpResponse::ServiceUnavailable().body(lines.concat() + "router is not ready\n")
    }
}

async fn metrics(admin: web::Data<Admin>) -> HttpResponse {
    match admin.metrics.encode() {
        Ok(text) => HttpResponse::Ok().content_type(OPEN_METRICS).body(text),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

async fn actors(admin: web::Data<Admin>) -> HttpResponse {
    let overseer = admin.overseer.send(Observe::<OverseerState>::new()).timeout(ASK_TIMEOUT).await;
    let registry = admin.registry.send(Observe::<RegistryState>::new()).timeout(ASK_TIMEOUT).await;
    let mut page = json!({
        "Overseer": overseer.ok(),
        "RouteRegistry": registry.ok(),
        "cast": admin.metrics.running(CAST),
    });
    if let Some(writer) = &admin.writer {
        let writer = writer.send(Observe::<WriterState>::new()).timeout(ASK_TIMEOUT).await;
        page["ClusterWriter"] = json!(writer.ok());
        page["clusterCast"] = json!(admin.metrics.running(&CLUSTER_CAST));
    }
    HttpResponse::Ok().json(page)
}

async fn dump(admin: &Admin) -> Result<ConfigDump, HttpResponse> {
    let dump = admin.registry.send(Observe::<ConfigDump>::new()).timeout(ASK_TIMEOUT).await;
    dump.map_err(|_| HttpResponse::ServiceUnavailable().json(json!({"error": "the registry does not answer"})))
}

async fn dump_all(admin: web::Data<Admin>, kind: web::Path<String>) -> HttpResponse {
    let dump = match dump(&admin).await {
        Ok(dump) => dump,
        Err(response) => return response,
    };
    match dump.0.get(kind.as_str()) {
        Some(objects) => HttpResponse::Ok().json(json!({ kind.as_str(): objects })),
        None => not_found(&format!("no such kind, one of: {}", dump.0.keys().copied().collect::<Vec<_>>().join(", "))),
    }
}

async fn dump_one(admin: web::Data<Admin>, path: web::Path<(String, String, String)>) -> HttpResponse {
    let (namespace, kind, name) = path.into_inner();
    let dump = match dump(&admin).await {
        Ok(dump) => dump,
        Err(response) => return response,
    };
    let found = dump.0.get(kind.as_str()).and_then(|objects| {
        objects.iter().find(|object| object["namespace"] == namespace.as_str() && object["name"] == name.as_str())
    });
    match found {
        Some(object) => HttpResponse::Ok().json(object),
        None => not_found(&format!("{kind} `{namespace}/{name}` not found")),
    }
}

fn not_found(message: &str) -> HttpResponse {
    HttpResponse::NotFound().json(json!({ "error": message }))
}
