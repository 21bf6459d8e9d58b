//! KEDA's external scaler, asked by a client of gRPC.

use std::collections::HashMap;

use actix_web::rt::spawn;
use http::uri::PathAndQuery;
use kthena_router_actors::ops::admin::scaler::messages::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef,
};
use prost::Message;
use serde_json::json;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::harness::{Network, PORT, pod_yaml, read, route_yaml};

const SCALER_PORT: u16 = 9091;

struct Keda(Grpc<Channel>);

impl Keda {
    fn path(call: &str) -> PathAndQuery {
        format!("/externalscaler.ExternalScaler/{call}").parse().unwrap()
    }

    async fn ask<A: Message + 'static, B: Message + Default + 'static>(
        &mut self,
        call: &str,
        asked: A,
    ) -> Result<B, Status> {
        self.0.ready().await.unwrap();
        let codec = ProstCodec::<A, B>::default();
        self.0.unary(Request::new(asked), Self::path(call), codec).await.map(tonic::Response::into_inner)
    }
}

fn scaled(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let scaler_metadata: HashMap<_, _> = metadata.collect();
    ScaledObjectRef { name: "chat".to_owned(), namespace: "default".to_owned(), scaler_metadata }
}

#[actix_web::test]
async fn a_pool_at_zero_is_active_when_somebody_asks_for_it() {
    let network = Network::new();
    let _engine = network.engine(10, "m").await;
    network.model_server("s", "m", &[]);
    network.write("route.yaml", &route_yaml("chat", "chat", "s"));
    let flags = ["--hold-without-endpoints=60s", &format!("--scaler-port={SCALER_PORT}")];
    let harness = network.start(&flags).await;
    let channel = Endpoint::from_shared(format!("http://{}:{SCALER_PORT}", harness.host(1))).unwrap();
    let mut keda = Keda(Grpc::new(channel.connect().await.unwrap()));

    let of = scaled(&[("name", "s"), ("target", "8")]);
    let active: IsActiveResponse = keda.ask("IsActive", of.clone()).await.unwrap();
    assert!(!active.result, "nobody asks");
    let spec: GetMetricSpecResponse = keda.ask("GetMetricSpec", of.clone()).await.unwrap();
    let metric = spec.metric_specs[0].metric_name.clone();
    assert_eq!((spec.metric_specs.len(), spec.metric_specs[0].target_size), (1, 8));
    keda.0.ready().await.unwrap();
    let codec = ProstCodec::<ScaledObjectRef, IsActiveResponse>::default();
    let told = keda.0.server_streaming(Request::new(of.clone()), Keda::path("StreamIsActive"), codec).await.unwrap();
    let mut told = told.into_inner();
    assert_eq!(told.message().await.unwrap(), Some(IsActiveResponse { result: false }));

    let body = json!({"model": "chat", "prompt": "Say something."}).to_string();
    let request = harness.post_to(PORT, "/v1/completions");
    let asked = spawn(async move { read(request.send_body(body).await.unwrap()).await });
    assert_eq!(
        told.message().await.unwrap(),
        Some(IsActiveResponse { result: true }),
        "it is told without being asked"
    );
    let asks = GetMetricsRequest { scaled_object_ref: Some(of.clone()), metric_name: metric.clone() };
    let values: GetMetricsResponse = keda.ask("GetMetrics", asks).await.unwrap();
    assert_eq!((&values.metric_values[0].metric_name, values.metric_values[0].metric_value), (&metric, 1));

    harness.write("pod.yaml", &pod_yaml("s-10", "s", harness.host(10)));
    assert_eq!(asked.await.unwrap().status, 200);
    assert_eq!(told.message().await.unwrap(), Some(IsActiveResponse { result: false }));

    for (case, metadata, code) in [
        ("no name", &[][..], Code::InvalidArgument),
        ("no such pool", &[("name", "x")], Code::NotFound),
        ("another kind", &[("name", "s"), ("kind", "InferencePool")], Code::NotFound),
    ] {
        let refused = keda.ask::<_, IsActiveResponse>("IsActive", scaled(metadata)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{case}");
    }
    let odd = scaled(&[("name", "s"), ("target", "0")]);
    let refused = keda.ask::<_, GetMetricSpecResponse>("GetMetricSpec", odd).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = keda.ask::<_, IsActiveResponse>("Unknown", of).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}
