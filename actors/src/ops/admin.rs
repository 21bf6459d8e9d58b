//! The operators' pages: health, readiness and metrics on one port, debug pages on a loopback port.
//!
//! None of them is reachable through an inference port.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServerHandle;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::json;

use crate::control::cluster_writer::{ClusterWriter, WriterState};
use crate::control::overseer::{Overseer, OverseerState};
use crate::control::registry::{ConfigDump, RegistryState, RouteRegistry};
use crate::edge::listener::InferenceWorkers;
use crate::ops::metrics::{Format, Metrics};
use crate::ops::observe::Observe;
use crate::pools::published::Reader;
use crate::{CAST, CLUSTER_CAST, KV_EVENTS_CAST};

mod decisions;
mod demand;
pub mod scaler;

/// How long an actor may take to answer an admin page.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Who remembers decisions.
    pub workers: InferenceWorkers,
    /// The routes and pools.
    pub reader: Reader,
    /// The address that inference ports are opened on.
    pub bind_address: IpAddr,
}

/// One line of the readiness page.
struct Check {
    name: &'static str,
    /// What is missing, if anything is.
    missing: Option<String>,
}

impl Admin {
    /// Serves the pages of health and metrics.
    ///
    /// # Errors
    ///
    /// Returns an error when the socket cannot be used.
    pub fn serve_metrics(&self, socket: TcpListener) -> io::Result<ServerHandle> {
        let admin = self.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(admin.clone()))
                .route("/healthz", web::get().to(healthz))
                .route("/livez", web::get().to(healthz))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(metrics))
                .route("/demand", web::get().to(demand::all))
                .route("/demand/{namespace}/{kind}/{name}", web::get().to(demand::one))
        });
        let server = server.workers(1).disable_signals().shutdown_timeout(1).listen(socket)?.run();
        let handle = server.handle();
        actix::spawn(server);
        Ok(handle)
    }

    /// Serves the debug pages, to whoever names the router by an address or as `localhost`.
    ///
    /// # Errors
    ///
    /// Returns an error when the socket cannot be used.
    pub fn serve_debug(&self, socket: TcpListener) -> io::Result<ServerHandle> {
        let admin = self.clone();
        let server = HttpServer::new(move || {
            App::new()
                .wrap(from_fn(refuse_names))
                .app_data(web::Data::new(admin.clone()))
                .configure(decisions::add)
                .route("/debug/demand", web::get().to(demand::all))
                .route("/debug/actors", web::get().to(actors))
                .route("/debug/config_dump/namespaces/{namespace}/{kind}/{name}", web::get().to(dump_one))
                .route("/debug/config_dump/{kind}", web::get().to(dump_all))
        });
        let server = server.workers(1).disable_signals().shutdown_timeout(1).listen(socket)?.run();
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

/// Refuses requests that name the router by anything but an address or `localhost`: a web page that a browser on this machine
/// shows can give its own name this machine's address, and would read the answers.
async fn refuse_names(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if is_local(request.connection_info().host()) {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    }
    let refusal = HttpResponse::MisdirectedRequest().body("ask for this page by an address or as localhost\n");
    Ok(request.into_response(refusal))
}

fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let is_address = host.parse::<SocketAddr>().is_ok()
        || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    is_address || name.eq_ignore_ascii_case("localhost")
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

async fn metrics(admin: web::Data<Admin>, request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    match admin.metrics.encode(format) {
        Ok(text) => HttpResponse::Ok().content_type(format.media_type()).body(text),
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
        "kvEventsCast": admin.metrics.running(&KV_EVENTS_CAST),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_browser_cannot_ask_by_a_name_of_its_own() {
        for host in ["localhost", "LOCALHOST:15000", "127.0.0.1", "127.0.0.1:15000", "[::1]:15000", "10.0.0.1:80"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:15000", "localhost.evil.example", "127.0.0.1.evil.example:1"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
