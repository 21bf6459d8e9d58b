//! An external scaler for KEDA, over gRPC: it tells of one pool what waits for it and is in flight there.
//!
//! A ScaledObject names the pool in its trigger's metadata: `name`, and `kind` (ModelServer unless it says otherwise) and
//! `namespace` (that of the ScaledObject). `target` is how many requests are enough for one Pod.

use std::convert::Infallible;
use std::net::TcpListener;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::server::Grpc;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tracing::debug;

use super::demand::{Demand, find};
use crate::pools::published::Reader;
use messages::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};

pub mod messages;

/// The one metric: requests that wait and that are in flight.
const METRIC: &str = "demand";
/// Requests that are enough for one Pod where a ScaledObject says nothing.
const TARGET: i64 = 16;
/// How often a stream looks whether a pool has become active.
const LOOK: Duration = Duration::from_millis(250);

/// Answers KEDA on a socket, until what is returned is aborted.
///
/// # Errors
///
/// Returns an error when the socket cannot be used.
pub fn serve(socket: TcpListener, reader: Reader) -> std::io::Result<JoinHandle<()>> {
    socket.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(socket)?;
    Ok(tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Without descriptors there is nothing to accept for a while.
                sleep(LOOK).await;
                continue;
            };
            let reader = reader.clone();
            let service = service_fn(move |request| answer(request, reader.clone()));
            let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "connection of a scaler broke");
                }
            });
        }
    }))
}

async fn answer(request: Request<Incoming>, reader: Reader) -> Result<Response<tonic::body::Body>, Infallible> {
    let call = request.uri().path().strip_prefix("/externalscaler.ExternalScaler/").unwrap_or_default().to_owned();
    Ok(match call.as_str() {
        "IsActive" => {
            let codec = ProstCodec::<IsActiveResponse, ScaledObjectRef>::default();
            let active = tower::service_fn(move |of: tonic::Request<ScaledObjectRef>| {
                let found = demand(&reader, of.get_ref());
                async move { Ok(tonic::Response::new(IsActiveResponse { result: found?.total() > 0 })) }
            });
            Grpc::new(codec).unary(active, request).await
        }
        "StreamIsActive" => {
            let codec = ProstCodec::<IsActiveResponse, ScaledObjectRef>::default();
            let active = tower::service_fn(move |of: tonic::Request<ScaledObjectRef>| {
                let changes = demand(&reader, of.get_ref()).map(|_| changes(reader.clone(), of.into_inner()));
                async move { changes.map(tonic::Response::new) }
            });
            Grpc::new(codec).server_streaming(active, request).await
        }
        "GetMetricSpec" => {
            let codec = ProstCodec::<GetMetricSpecResponse, ScaledObjectRef>::default();
            let spec = tower::service_fn(|of: tonic::Request<ScaledObjectRef>| {
                let spec = spec(of.get_ref());
                async move { spec.map(tonic::Response::new) }
            });
            Grpc::new(codec).unary(spec, request).await
        }
        "GetMetrics" => {
            let codec = ProstCodec::<GetMetricsResponse, GetMetricsRequest>::default();
            let metrics = tower::service_fn(move |asked: tonic::Request<GetMetricsRequest>| {
                let metrics = metrics(&reader, asked.get_ref());
                async move { metrics.map(tonic::Response::new) }
            });
            Grpc::new(codec).unary(metrics, request).await
        }
        _ => Status::new(Code::Unimplemented, "no such call of externalscaler.ExternalScaler").into_http(),
    })
}

/// Returns what is asked of the pool that a ScaledObject names.
fn demand(reader: &Reader, of: &ScaledObjectRef) -> Result<Demand, Status> {
    let named = |field: &str| of.scaler_metadata.get(field).filter(|value| !value.is_empty());
    let name = named("name").ok_or_else(|| Status::invalid_argument("the metadata has no `name` of a pool"))?;
    let namespace = named("namespace").unwrap_or(&of.namespace);
    let kind = named("kind").map_or("ModelServer", String::as_str);
    let missing = || Status::not_found(format!("there is no {kind} `{namespace}/{name}`"));
    find(&reader.load(), namespace, kind, name).map(|pool| Demand::of(&pool)).ok_or_else(missing)
}

fn spec(of: &ScaledObjectRef) -> Result<GetMetricSpecResponse, Status> {
    let target = of.scaler_metadata.get("target").map_or(Ok(TARGET), |target| target.parse());
    let target = target.ok().filter(|target| *target > 0);
    let target = target.ok_or_else(|| Status::invalid_argument("the `target` of the metadata is no number above 0"))?;
    let spec = MetricSpec { metric_name: METRIC.to_owned(), target_size: target, target_size_float: target as f64 };
    Ok(GetMetricSpecResponse { metric_specs: vec![spec] })
}

fn metrics(reader: &Reader, asked: &GetMetricsRequest) -> Result<GetMetricsResponse, Status> {
    let of = asked.scaled_object_ref.as_ref();
    let of = of.ok_or_else(|| Status::invalid_argument("no scaledObjectRef says which pool is meant"))?;
    let total = demand(reader, of)?.total();
    let metric_value = i64::try_from(total).unwrap_or(i64::MAX);
    let value = MetricValue { metric_name: METRIC.to_owned(), metric_value, metric_value_float: total as f64 };
    Ok(GetMetricsResponse { metric_values: vec![value] })
}

/// Says whether a pool is active: at once, and whenever that changes.
fn changes(reader: Reader, of: ScaledObjectRef) -> impl Stream<Item = Result<IsActiveResponse, Status>> {
    unfold((reader, of, None), |(reader, of, told)| async move {
        loop {
            let result = match demand(&reader, &of) {
                Ok(demand) => demand.total() > 0,
                Err(status) => return Some((Err(status), (reader, of, told))),
            };
            if told != Some(result) {
                return Some((Ok(IsActiveResponse { result }), (reader, of, Some(result))));
            }
            sleep(LOOK).await;
        }
    })
}
