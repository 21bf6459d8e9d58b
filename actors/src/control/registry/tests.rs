//! Pools come, change and go; what works for them comes and goes with them.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use actix::Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::RouteRegistry;
use crate::ops::metrics::{Format, Metrics};
use crate::pools::pool_keeper::PoolKeeper;
use crate::pools::published::Reader;
use crate::pools::scraper::MetricsScraper;
use crate::supervision_tests::{apply, empty_registry, running, until};

/// A metrics page of both engines, so that every scrape is a good one.
const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 31\r\n\r\nvllm:num_requests_running{} 1\n\n";

/// An engine that counts.
#[derive(Default)]
struct Counts {
    open: Cell<i64>,
    scrapes: Cell<u64>,
}

/// Starts an engine that has nothing but a metrics page.
async fn engine(address: SocketAddr) -> (SocketAddr, Rc<Counts>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let (address, counts) = (listener.local_addr().unwrap(), Rc::<Counts>::default());
    let shared = Rc::clone(&counts);
    actix::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            actix::spawn(answer(stream, Rc::clone(&shared)));
        }
    });
    (address, counts)
}

async fn answer(mut stream: TcpStream, counts: Rc<Counts>) {
    counts.open.set(counts.open.get() + 1);
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if !buffer[..read].starts_with(b"GET /metrics") {
            break;
        }
        counts.scrapes.set(counts.scrapes.get() + 1);
        if stream.write_all(PAGE.as_bytes()).await.is_err() {
            break;
        }
    }
    counts.open.set(counts.open.get() - 1);
}

/// A ModelServer with these lines of its spec, and its Pods.
fn server(lines: &str, port: u16, pods: &[IpAddr]) -> String {
    let mut text = format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: s}}\nspec:\n  \
         {lines}\n  workloadSelector: {{matchLabels: {{app: s}}}}\n"
    );
    text = text.replace("PORT", &port.to_string());
    for (index, pod) in pods.iter().enumerate() {
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{index}, labels: {{app: s}}}}\nstatus: {{podIP: {pod}}}\n"
        );
    }
    text
}

/// What there is in a router's control plane.
#[derive(Debug, PartialEq)]
struct Inventory {
    keepers: i64,
    scrapers: i64,
    connections: i64,
    series: usize,
}

fn inventory(metrics: &Metrics, counts: &Counts) -> Inventory {
    let page = metrics.encode(Format::Text).unwrap();
    Inventory {
        keepers: running(metrics, PoolKeeper::NAME),
        scrapers: running(metrics, MetricsScraper::NAME),
        connections: counts.open.get(),
        series: page.lines().filter(|line| line.contains("ModelServer default/s")).count(),
    }
}

const NOTHING: Inventory = Inventory { keepers: 0, scrapers: 0, connections: 0, series: 0 };
const VLLM: &str = "inferenceEngine: vLLM\n  workloadPort: {port: PORT}";
const CHANGES: [&str; 5] = [
    VLLM,
    "inferenceEngine: SGLang\n  workloadPort: {port: PORT}",
    "inferenceEngine: vLLM\n  workloadPort: {port: PORT, protocol: https}",
    "inferenceEngine: vLLM\n  workloadPort: {port: PORT}\n  trafficPolicy: {retry: {attempts: 1}}",
    "inferenceEngine: vLLM\n  workloadPort: {port: 1}",
];

async fn settle(registry: &Addr<RouteRegistry>, reader: &Reader, manifest: &str) {
    let before = reader.load().generation;
    apply(registry, manifest);
    until("the change is planned", || reader.load().generation > before).await;
}

#[actix_web::test]
async fn whatever_changes_a_hundred_times_leaves_no_actor_connection_scrape_or_series_behind() {
    let metrics = Metrics::new();
    let (address, counts) = engine((Ipv4Addr::LOCALHOST, 0).into()).await;
    let (registry, reader) = empty_registry(&metrics);
    let with = |lines| server(lines, address.port(), &[address.ip()]);
    assert_eq!(inventory(&metrics, &counts), NOTHING);
    for round in 0..100 {
        let lines = CHANGES[round % CHANGES.len()];
        settle(&registry, &reader, &with(lines)).await;
        if round % 3 == 0 {
            settle(&registry, &reader, "").await;
        }
    }
    settle(&registry, &reader, &with(VLLM)).await;
    let one = |counts: &Counts| {
        let Inventory { keepers, scrapers, connections, .. } = inventory(&metrics, counts);
        (keepers, scrapers, connections) == (1, 1, 1)
    };
    until("one keeper, one scraper and one connection are left", || one(&counts)).await;
    settle(&registry, &reader, "").await;
    until("nothing is left", || inventory(&metrics, &counts) == NOTHING).await;
    let scrapes = counts.scrapes.get();
    let (other, other_counts) = engine((Ipv4Addr::LOCALHOST, 0).into()).await;
    let others = server(VLLM, other.port(), &[other.ip()]).replace("name: s}", "name: t}");
    settle(&registry, &reader, &others).await;
    until("twenty scrapes of another pool have passed", || other_counts.scrapes.get() > 20).await;
    assert_eq!((counts.scrapes.get(), counts.open.get()), (scrapes, 0));
}

#[actix_web::test]
async fn a_removed_pods_address_is_out_of_the_pool_whatever_changed_before() {
    let metrics = Metrics::new();
    let (stays, counts) = engine((Ipv4Addr::LOCALHOST, 0).into()).await;
    let (goes, gone_counts) = engine(SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), stays.port())).await;
    let (registry, reader) = empty_registry(&metrics);
    let both = [stays.ip(), goes.ip()];
    settle(&registry, &reader, &server(CHANGES[0], stays.port(), &both)).await;
    let pool = Arc::clone(&reader.load().pools[0]);
    let scraped = |counts: &Counts| counts.scrapes.get() > 0;
    until("both are scraped", || scraped(&counts) && scraped(&gone_counts)).await;
    settle(&registry, &reader, &server(CHANGES[1], stays.port(), &both)).await;
    settle(&registry, &reader, &server(CHANGES[1], stays.port(), &both[..1])).await;
    assert!(Arc::ptr_eq(&pool, &reader.load().pools[0]), "a pool is the same value as long as its object exists");
    let addresses = || pool.view().members.iter().map(|member| member.endpoint.socket()).collect::<Vec<_>>();
    until("the Pod is out of the pool", || addresses() == [stays]).await;
    let before = counts.scrapes.get();
    until("twenty scrapes have passed", || {
        assert_eq!(addresses(), [stays], "another writer has brought it back");
        counts.scrapes.get() > before + 20
    })
    .await;
    until("its connection is closed", || gone_counts.open.get() == 0).await;
}
