//! What the pure decisions cost: a plan of a large world and what is to be written for it, and for each request the decision and the reading of
//! its body. Figures are in docs/benchmarks.md.

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use kthena_router::controller::Controller;
use kthena_router::desired::{Reconciler, Writes, stamp};
use kthena_router::inference::request::{Edit, parse};
use kthena_router::manifest::read;
use kthena_router::object::{Bind, Kind};
use kthena_router::plan::{Plan, plan};
use kthena_router::pool::availability::Availability;
use kthena_router::pool::policy::PoolIndex;
use kthena_router::request_head::{Headers, RequestHead};
use kthena_router::routing::decision::{Asked, Decision, Matched, Moment, Verdict};
use kthena_router::routing::http::entry::{Destination, HttpEntry};
use kthena_router::routing::table::{ListenerIdentity, ListenerTable, RouteTable};
use kthena_router::world::World;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GATEWAYS: usize = 1_000;
const ROUTES: usize = 5_000;
const SERVERS: usize = 200;
const PODS: usize = 2_000;

struct NoHeaders;

/// A moment at which every pool serves.
struct Ready;

impl Moment for Ready {
    fn availability(&self, _: PoolIndex) -> Availability {
        Availability::Ready
    }

    fn draw(&self, bound: u64) -> u64 {
        bound / 2
    }
}

impl Headers for NoHeaders {
    fn any(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }
}

/// A few headers, as most requests have them.
struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl Headers for Pairs<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.iter().any(|(candidate, value)| *candidate == name && test(value))
    }
}

/// Writes a world of many Gateways, each on a port of its own, many routes, servers and Pods.
fn manifest() -> String {
    let mut text = String::new();
    for index in 0..GATEWAYS {
        let port = 10_000 + index;
        let spec =
            format!("{{gatewayClassName: kthena-router, listeners: [{{name: http, port: {port}, protocol: HTTP}}]}}");
        object(&mut text, "gateway.networking.k8s.io/v1", "Gateway", &format!("name: gateway-{index}"), &spec);
    }
    for index in 0..SERVERS {
        let spec = format!(
            "{{model: served-{index}, inferenceEngine: vLLM, workloadSelector: {{matchLabels: {{app: server-{index}}}}}, \
             workloadPort: {{port: 8000}}}}"
        );
        object(&mut text, NATIVE, "ModelServer", &format!("name: server-{index}"), &spec);
    }
    for index in 0..ROUTES {
        let (gateway, server, other) = (index % GATEWAYS, index % SERVERS, (index + 1) % SERVERS);
        let spec = format!(
            "{{modelName: model-{index}, parentRefs: [{{name: gateway-{gateway}}}], rules: [\
             {{modelMatch: {{headers: {{tier: {{regex: '^premium'}}}}}}, targetModels: [{{modelServerName: server-{other}}}]}}, \
             {{targetModels: [{{modelServerName: server-{server}, weight: 70}}, {{modelServerName: server-{other}, weight: 30}}]}}]}}"
        );
        object(&mut text, NATIVE, "ModelRoute", &format!("name: route-{index}"), &spec);
    }
    for index in 0..PODS {
        let labels = format!("name: pod-{index}, labels: {{app: server-{}, tier: inference}}", index % SERVERS);
        let status = format!("{{podIP: 10.{}.{}.1}}", index / 250, index % 250);
        let document = format!("{{apiVersion: v1, kind: Pod, metadata: {{{labels}}}, status: {status}}}\n---\n");
        text.push_str(&document);
    }
    text
}

const NATIVE: &str = "networking.serving.volcano.sh/v1alpha1";

fn object(text: &mut String, api_version: &str, kind: &str, metadata: &str, spec: &str) {
    let document = format!(
        "{{apiVersion: {api_version}, kind: {kind}, metadata: {{{metadata}, uid: u, generation: 1, resourceVersion: '1'}}, spec: {spec}}}\n---\n"
    );
    text.push_str(&document);
}

/// Takes in the statuses that are to be written, as if the API server had told of them.
fn observe(world: &mut World, writes: Writes) {
    for (target, mut write) in writes {
        stamp(&mut write.body, "2026-01-01T00:00:00Z");
        let status = Some(Arc::new(write.body["status"].take()));
        match target.kind {
            Kind::Gateway => {
                world.gateways.objects.entry(target.key).and_modify(|gateway| gateway.record.status = status);
            }
            Kind::ModelRoute => {
                let routes = &mut world.model_routes.objects;
                routes.entry(target.key).and_modify(|route| Arc::make_mut(route).record.status = status);
            }
            _ => {
                world.model_servers.objects.entry(target.key).and_modify(|server| server.record.status = status);
            }
        }
    }
}

fn writing(criterion: &mut Criterion) {
    let (mut world, controller) = (world(), Controller::default());
    let Plan { binds, reports, .. } = plan(&world, &controller);
    let reports = Arc::new(reports);
    criterion.bench_function("reconciling them, every status to be written", |bencher| {
        let look = || Reconciler::default().writes(black_box(&world), &binds, &reports, &controller);
        bencher.iter_with_large_drop(look);
    });
    let mut reconciler = Reconciler::default();
    let writes = reconciler.writes(&world, &binds, &reports, &controller);
    assert_eq!(writes.len(), GATEWAYS + ROUTES + SERVERS, "every object has a status");
    observe(&mut world, writes);
    criterion.bench_function("reconciling them, nothing to be written", |bencher| {
        // Each plan has reports of its own, which say the same as the last ones.
        let mut copies = [Arc::clone(&reports), Arc::new((*reports).clone())].into_iter().cycle();
        bencher.iter(|| {
            let Some(reports) = copies.next() else { return };
            let writes = reconciler.writes(black_box(&world), &binds, &reports, &controller);
            assert!(writes.is_empty(), "every status is as it should be");
        });
    });
}

fn world() -> World {
    let mut world = World::default();
    for located in read(&manifest()).objects {
        world.apply(located.object);
    }
    world
}

fn planning(criterion: &mut Criterion) {
    let (world, controller) = (world(), Controller::default());
    criterion.bench_function("plan, 5000 ModelRoutes on 1000 Gateways, 200 ModelServers, 2000 Pods", |bencher| {
        // The old plan is dropped when the last request that began with it ends, and not by whoever plans.
        bencher.iter_with_large_drop(|| plan(black_box(&world), &controller));
    });
    let plan = plan(&world, &controller);
    let bind = Bind { address: controller.bind_address, port: 10_321 };
    let head = RequestHead {
        method: "POST",
        host: "example.org",
        path: "/v1/chat/completions",
        query: "",
        headers: &NoHeaders,
    };
    criterion.bench_function("decide, among them", |bencher| {
        bencher
            .iter(|| plan.table.decide(bind, black_box(&head), Asked::Model(black_box("model-3321")), &Ready).is_ok());
    });
}

/// How the 1000 HTTPRoutes with 5 rules each differ that share a listener.
#[derive(Clone, Copy)]
enum Shape {
    Hostnames,
    Prefixes,
    Headers,
    Parameters,
}

/// Returns the YAML of the route with this number.
fn http_route(shape: Shape, index: usize) -> String {
    let mut rules = String::new();
    for rule in 0..5 {
        let matched = match shape {
            Shape::Hostnames => format!("path: {{value: /v{rule}/chat}}"),
            Shape::Prefixes => format!("path: {{value: /tenant-{index}/v{rule}}}"),
            Shape::Headers => format!(
                "path: {{value: /v1}}, headers: [{{name: x-tenant, value: t-{index}}}, {{name: x-version, value: v{rule}}}]"
            ),
            Shape::Parameters => format!(
                "path: {{value: /v1}}, queryParams: [{{name: tenant, value: t-{index}}}, {{name: version, value: v{rule}}}]"
            ),
        };
        let _ = write!(rules, "{{matches: [{{{matched}}}], backendRefs: [{{name: service-{index}, port: 80}}]}}, ");
    }
    let hostname = match shape {
        Shape::Hostnames => format!("tenant-{index}.example.org"),
        Shape::Prefixes | Shape::Headers | Shape::Parameters => "example.org".to_owned(),
    };
    let mut text = String::new();
    let spec = format!("{{hostnames: [{hostname}], rules: [{rules}]}}");
    object(&mut text, "gateway.networking.k8s.io/v1", "HTTPRoute", &format!("name: route-{index}"), &spec);
    text
}

/// Returns a router whose only listener has all HTTPRoutes of this shape, and the bind of that listener.
fn http_table(shape: Shape) -> (RouteTable, Bind) {
    let mut world = World::default();
    for located in read(&(0..1_000).map(|index| http_route(shape, index)).collect::<String>()).objects {
        world.apply(located.object);
    }
    let resolve = |_: &_| Ok(Destination { pool: PoolIndex(0), tls: None });
    let entries: Vec<_> =
        world.http_routes.objects.values().map(|route| Arc::new(HttpEntry::new(route, &resolve))).collect();
    assert_eq!(entries.len(), 1_000);
    let bind = Bind { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 80 };
    let mut table = RouteTable::default();
    table.add_listener(bind, ListenerTable::new(ListenerIdentity::default(), &[], &entries));
    (table, bind)
}

fn deciding_http(criterion: &mut Criterion) {
    let headers = Pairs(&[
        ("host", "example.org"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("x-tenant", "t-777"),
        ("x-version", "v3"),
    ]);
    for (name, shape, host, path, query) in [
        ("a hostname each", Shape::Hostnames, "tenant-777.example.org", "/v3/chat/completions", ""),
        ("a path prefix each", Shape::Prefixes, "example.org", "/tenant-777/v3/chat/completions", ""),
        ("a header value each", Shape::Headers, "example.org", "/v1/chat/completions", ""),
        ("a query value each", Shape::Parameters, "example.org", "/v1/chat/completions", "version=v3&tenant=t-777"),
    ] {
        let (table, bind) = http_table(shape);
        let head = RequestHead { method: "POST", host, path, query, headers: &headers };
        let decide = |head: &RequestHead<'_>| match table.decide(bind, head, Asked::Other, &Ready) {
            Ok(Verdict::Serve(Decision { route: Matched::Http(matched), .. })) => Some(matched),
            _ => None,
        };
        let found = decide(&head).map(|matched| (matched.entry.key().name.to_string(), matched.place));
        assert_eq!(found, Some(("route-777".to_owned(), 3)), "{name}");
        criterion.bench_function(&format!("decide, 1000 HTTPRoutes x 5 rules, {name}"), |bencher| {
            bencher.iter(|| decide(black_box(&head)).map(|matched| matched.place));
        });
    }
}

fn reading(criterion: &mut Criterion) {
    for length in [1_000, 100_000] {
        let mut content = String::new();
        while content.len() < length {
            let _ = write!(content, "What is the {}th thing to know about Kubernetes? ", content.len());
        }
        let body = format!(
            "{{\"model\": \"model-1\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"{content}\"}}]}}"
        );
        let body = Bytes::from(body);
        criterion.bench_function(&format!("read and rewrite a body of {length} bytes"), |bencher| {
            bencher.iter(|| {
                let request = parse(black_box(&body)).expect("the body is valid");
                request.apply(body.clone(), &Edit { model: Some("served-1"), include_usage: true })
            });
        });
    }
}

criterion_group!(benches, planning, deciding_http, writing, reading);
criterion_main!(benches);
