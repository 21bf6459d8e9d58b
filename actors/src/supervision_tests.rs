//! What becomes of the cast when one of its members panics.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, System};
use clap::Parser;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kthena_router::config::Config;
use kthena_router::controller::Controller;
use kthena_router::flow::settings::Settings;
use kthena_router::kinds::{EndpointSlice, Gateway, GatewayClass, ModelRoute, ModelServer, Service};
use kthena_router::manifest::{Object, read};
use kthena_router::object::{Bind, BindState};
use kthena_router::plan::BindPlan;
use kthena_router::routing::table::{ListenerIdentity, ListenerTable};
use kthena_router::world::{Fact, Listing, World};
use kthena_router_downstream::Budget;
use simulated_engine::EngineConfig;
use tempfile::TempDir;

use crate::control::fleet::ListenerFleet;
use crate::control::manifest_directory::ManifestKind;
use crate::control::overseer::{EXIT_BROKEN, Farewell, Overseer, OverseerState, Ward};
use crate::control::registry::{Keeping, Observed, Publishers, RouteRegistry};
use crate::edge::listener::{Drain, InferenceWorkers, Listener};
use crate::edge::proxy::Serving;
use crate::edge::tls;
use crate::messages::{BindReported, EnsureBinds};
use crate::ops::metrics::{ActorLabel, MessageLabels, Metrics, RestartLabels, ScrapeLabels};
use crate::ops::observe::Observe;
use crate::origin::Origin;
use crate::pools::lease::Lease;
use crate::pools::pool_keeper::{Means, PoolKeeper};
use crate::pools::published::{self, Reader, Snapshot, Stopping};
use crate::pools::scheduler::Scheduler;
use crate::pools::scraper::MetricsScraper;
use crate::router::Router;
use crate::workshop::cli::Cli;
use kthena_router_upstream::Upstream;

/// How long a test waits for something to come true before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the actor of this name panic; it is passed on from parents to children.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Panic(pub(crate) &'static str);

/// Lets an actor panic when a test says so; `children` are whom it passes the word on to.
macro_rules! panics_in_tests {
    ($actor:ty, $vitals:ident $(, |$parent:ident| $children:expr)?) => {
        impl actix::Handler<crate::supervision_tests::Panic> for $actor {
            type Result = ();

            fn handle(&mut self, panic: crate::supervision_tests::Panic, _: &mut Self::Context) {
                let _handling = self.$vitals.handling("Panic");
                assert!(panic.0 != <$actor>::NAME, "as the test says");
                $(
                    let $parent = self;
                    for child in $children.into_iter() {
                        child.do_send(panic);
                    }
                )?
            }
        }
    };
}
pub(crate) use panics_in_tests;

/// Stands for the actors that a test does without.
pub(crate) struct Bystander;

impl Actor for Bystander {
    type Context = Context<Self>;
}

impl Handler<EnsureBinds> for Bystander {
    type Result = ();

    fn handle(&mut self, _: EnsureBinds, _: &mut Self::Context) {}
}

impl Handler<Drain> for Bystander {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {}
}

impl Handler<BindReported> for Bystander {
    type Result = ();

    fn handle(&mut self, report: BindReported, _: &mut Self::Context) {
        assert_eq!(report.state, BindState::Open, "a fresh listener can open its port at once");
    }
}

/// Waits until a condition is true, and fails the test if it never is.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, poll).await.is_ok(), "it never came true that {what}");
}

/// Returns the panics that were counted for an actor, and those that took the place of a dead one.
pub(crate) fn casualties(metrics: &Metrics, actor: &'static str) -> (u64, u64) {
    let panics = metrics.actors.panics.get_or_create(&MessageLabels { actor, message: "Panic" }).get();
    let restarts = metrics.actors.restarts.get_or_create(&RestartLabels { actor, cause: "died" }).get();
    (panics, restarts)
}

pub(crate) fn running(metrics: &Metrics, actor: &'static str) -> i64 {
    metrics.actors.running.get_or_create(&ActorLabel { actor }).get()
}

pub(crate) fn config(flags: &[&str]) -> Config {
    Cli::try_parse_from(["kthena-router", "--workers=1"].iter().chain(flags)).unwrap().config
}

pub(crate) fn serving(config: Config, reader: Reader, metrics: &Arc<Metrics>) -> Serving {
    Serving {
        stopping: Stopping::default(),
        upstream: Upstream::new(config.engines.connect_timeout, tls::client(None).unwrap()),
        holders: Arc::default(),
        workers: 1,
        budget: Budget::new(64 << 20),
        config,
        reader,
        server_tls: None,
        tls: tls::channel().1,
        access_log: None,
        metrics: Arc::clone(metrics),
    }
}

/// Starts a registry of a world with one ModelServer, whose one Pod is an engine at `address`.
fn registry(address: SocketAddr, metrics: &Arc<Metrics>) -> (Addr<RouteRegistry>, Reader) {
    let (registry, reader) = empty_registry(metrics);
    apply(
        &registry,
        &format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: s}}\nspec:\n  \
             inferenceEngine: vLLM\n  workloadSelector: {{matchLabels: {{app: s}}}}\n  \
             workloadPort: {{port: {port}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: s}}}}\nstatus: {{podIP: {ip}}}\n",
            port = address.port(),
            ip = address.ip(),
        ),
    );
    (registry, reader)
}

/// Starts a registry that waits for its first objects.
pub(crate) fn empty_registry(metrics: &Arc<Metrics>) -> (Addr<RouteRegistry>, Reader) {
    let config = config(&["--metrics-scrape-interval=20ms"]);
    let (snapshot, reader) = published::channel();
    let controller = Controller { bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST), ..Controller::default() };
    let upstream = kthena_router_upstream::Upstream::new(config.engines.connect_timeout, tls::client(None).unwrap());
    let means = Means { scraping: Arbiter::current(), upstream, engines: config.engines, reports: None };
    let keeping =
        Keeping { scheduling: Arbiter::current(), means, profiles: Arc::default(), waiting: Settings::default() };
    let fleet = Bystander.start().recipient();
    let publishers = Publishers { snapshot, tls: tls::channel().0 };
    let registry =
        RouteRegistry::new((World::default(), controller), publishers, fleet, None, keeping, metrics).start();
    (registry, reader)
}

/// Tells a registry that there are these objects, and no others.
pub(crate) fn apply(registry: &Addr<RouteRegistry>, manifest: &str) {
    let manifest = read(manifest);
    assert_eq!(manifest.faults, []);
    let objects: Vec<_> = manifest.objects.into_iter().map(|located| located.object).collect();
    tell::<GatewayClass>(registry, &objects);
    tell::<Gateway>(registry, &objects);
    tell::<ModelRoute>(registry, &objects);
    tell::<ModelServer>(registry, &objects);
    tell::<Namespace>(registry, &objects);
    tell::<Pod>(registry, &objects);
    tell::<Service>(registry, &objects);
    tell::<EndpointSlice>(registry, &objects);
}

fn tell<K: ManifestKind>(registry: &Addr<RouteRegistry>, objects: &[Object])
where
    RouteRegistry: Handler<Observed<K>>,
{
    let objects = objects.iter().filter_map(K::select).map(|object| (object.key(), object.clone().digest()));
    registry.do_send(Observed::<K>(Fact::Resynced(Listing::of_all(objects))));
}

#[actix_web::test]
async fn a_pool_keeper_is_replaced_and_what_it_kept_is_not_lost() {
    let metrics = Metrics::new();
    let engine = simulated_engine::start(EngineConfig::new("m")).await.unwrap();
    let (registry, reader) = registry(engine.addresses()[0], &metrics);
    let pool = || reader.load().pools.first().map(Arc::clone);
    let scraped =
        || pool().is_some_and(|pool| pool.view().members.iter().any(|member| member.observation.metrics.is_some()));
    until("the engine is scraped", scraped).await;
    let pool = pool().unwrap();
    let member = pool.view().members[0].clone();
    let lease = Lease::new(Arc::clone(&pool), member.clone());
    let before = pool.view().keeper.clone().unwrap();

    registry.do_send(Panic(PoolKeeper::NAME));
    until("the panic is counted", || casualties(&metrics, PoolKeeper::NAME).0 == 1).await;
    until("a fresh keeper has taken its place", || casualties(&metrics, PoolKeeper::NAME).1 == 1).await;
    let is_fresh = || pool.view().keeper.clone().unwrap().upgrade().is_some();
    until("the fresh keeper has published the pool", is_fresh).await;
    assert!(before.upgrade().is_none(), "the dead keeper is gone");
    until("there is one scraper", || running(&metrics, MetricsScraper::NAME) == 1).await;
    assert_eq!(running(&metrics, PoolKeeper::NAME), 1);
    let kept = pool.view().members[0].clone();
    assert!(Arc::ptr_eq(&kept.cell, &member.cell), "in-flight counts are kept");
    assert_eq!(kept.cell.in_flight(), 1);
    drop(lease);
    assert_eq!(kept.cell.in_flight(), 0);
    assert!(kept.observation.metrics.is_some(), "what was known of the engine is kept");
}

#[actix_web::test]
async fn a_scraper_is_replaced_by_its_keeper() {
    let metrics = Metrics::new();
    let engine = simulated_engine::start(EngineConfig::new("m")).await.unwrap();
    let (registry, reader) = registry(engine.addresses()[0], &metrics);
    until("the scraper runs", || running(&metrics, MetricsScraper::NAME) == 1).await;
    registry.do_send(Panic(MetricsScraper::NAME));
    until("the panic is counted", || casualties(&metrics, MetricsScraper::NAME) == (1, 0)).await;
    until("a fresh scraper has taken its place", || casualties(&metrics, MetricsScraper::NAME) == (1, 1)).await;
    until("there is one scraper", || running(&metrics, MetricsScraper::NAME) == 1).await;
    assert_eq!(casualties(&metrics, PoolKeeper::NAME), (0, 0));
    let scrapes = || {
        let labels = ScrapeLabels { pool: reader.load().pools[0].key.to_string(), outcome: "ok" };
        metrics.scrapes.get_or_create(&labels).get()
    };
    let before = scrapes();
    // One scrape may have been under way when the old scraper died.
    until("the fresh one scrapes", || scrapes() > before + 1).await;
}

#[actix_web::test]
async fn a_listener_is_replaced_and_its_port_serves_on() {
    let metrics = Metrics::new();
    let (publisher, reader) = published::channel();
    let serving = Arc::new(serving(config(&[]), reader, &metrics));
    let registry = Bystander.start();
    let fleet = ListenerFleet::new(serving, InferenceWorkers::start(1), registry.downgrade().recipient()).start();
    let address = free_address();
    let bind = Bind { address: address.ip(), port: address.port() };
    let mut snapshot = Snapshot::default();
    snapshot.table.add_listener(bind, ListenerTable::new(ListenerIdentity::default(), [], []));
    publisher.publish(snapshot);
    fleet.do_send(EnsureBinds(vec![BindPlan { bind, tls: false }]));
    until("the port is open", || TcpStream::connect(address).is_ok()).await;
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{").unwrap();
    until("a request is in flight", || metrics.active_requests.get() == 1).await;

    fleet.do_send(Panic(Listener::NAME));
    until("the panic is counted", || casualties(&metrics, Listener::NAME).0 == 1).await;
    until("a fresh listener has taken its place", || casualties(&metrics, Listener::NAME).1 == 1).await;
    assert_eq!(running(&metrics, Listener::NAME), 1);
    until("the port is open again", || TcpStream::connect(address).is_ok()).await;
    client.write_all(b"}").unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400", "a request outlives the listener that it came in by");
    // What is open now is the fresh one's: it can be closed.
    fleet.do_send(EnsureBinds(Vec::new()));
    until("the port is closed", || TcpStream::connect(address).is_err()).await;
    assert!(registry.connected(), "every report was good");
}

#[actix_web::test]
async fn a_ward_is_replaced_by_the_overseer() {
    let metrics = Metrics::new();
    let latest = Rc::new(RefCell::new(None));
    let (started, ward_metrics) = (Rc::clone(&latest), Arc::clone(&metrics));
    let ward = Ward::replaceable(Scheduler::NAME, move || {
        let ward = Scheduler::new(&ward_metrics).start();
        *started.borrow_mut() = Some(ward.clone());
        ward
    });
    let fleet = Bystander.start().recipient();
    let overseer = Overseer::new(vec![ward], config(&[]).drain, fleet, None, Farewell::default(), &metrics).start();
    let first: Addr<Scheduler> = latest.take().unwrap();
    first.do_send(Panic(Scheduler::NAME));
    until("a fresh ward has taken its place", || casualties(&metrics, Scheduler::NAME) == (1, 1)).await;
    assert!(!first.connected());
    assert!(latest.take().unwrap().connected());
    let state: OverseerState = overseer.send(Observe::new()).await.unwrap();
    assert_eq!(state.wards, [(Scheduler::NAME, true)]);
}

#[test]
fn the_death_of_the_spine_ends_the_process() {
    let ended = thread::spawn(|| {
        let manifests = TempDir::new().unwrap();
        let system = System::new();
        let address = free_address();
        let ports = [free_address(), free_address()];
        let config = config(&[
            &format!("--manifests={}", manifests.path().display()),
            &format!("--bind-address={}", address.ip()),
            &format!("--port={}", address.port()),
            &format!("--metrics-port={}", ports[0].port()),
            &format!("--debug-port={}", ports[1].port()),
        ]);
        let router = system.block_on(async { Router::start(&config, &Origin::find(&config).await.unwrap()).unwrap() });
        router.registry.do_send(Panic(RouteRegistry::NAME));
        let code = system.run_with_code().unwrap();
        (code, casualties(&router.metrics, RouteRegistry::NAME))
    });
    assert_eq!(ended.join().unwrap(), (EXIT_BROKEN, (1, 0)));
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).unwrap()
}
