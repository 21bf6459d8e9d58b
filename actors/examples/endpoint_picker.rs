//! The simplest endpoint picker: it names its endpoints in turn. The benchmark in `integration/bench` measures with it
//! what asking a picker costs the router.
//!
//! ```bash
//! cargo run --example endpoint_picker -- 127.0.0.1:9002 127.0.0.1:8000 127.0.0.2:8000
//! ```

use std::convert::Infallible;
use std::env::args;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::future::{Ready, ready};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kthena_router_actors::edge::ext_proc::messages::{
    CommonResponse, HeaderMutation, HeaderValue, HeaderValueOption, PartResponse, ProcessingRequest,
    ProcessingResponse, Said, Told,
};
use tokio::net::TcpListener;
use tonic::server::{Grpc, StreamingService};
use tonic::{Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// What the picker knows.
struct Endpoints {
    addresses: Vec<String>,
    next: AtomicUsize,
}

/// One exchange.
struct Exchange(Arc<Endpoints>);

impl Endpoints {
    /// Returns all endpoints, each time beginning with another one.
    fn in_turn(&self) -> String {
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len());
        addresses.join(",")
    }

    /// Returns what is said after a part of a request or of an answer.
    fn respond(&self, told: Option<Told>) -> Vec<ProcessingResponse> {
        match told {
            Some(Told::RequestHeaders(headers)) if headers.end_of_stream => vec![self.named()],
            Some(Told::RequestBody(body)) if body.end_of_stream => {
                vec![self.named(), says(Said::RequestBody(PartResponse::default()))]
            }
            Some(Told::ResponseHeaders(_)) => vec![says(Said::ResponseHeaders(PartResponse::default()))],
            _ => Vec::new(),
        }
    }

    fn named(&self) -> ProcessingResponse {
        let header = Some(HeaderValue::new("x-gateway-destination-endpoint", self.in_turn().as_bytes()));
        let set_headers = vec![HeaderValueOption { header, append: None, append_action: 0 }];
        let header_mutation = Some(HeaderMutation { set_headers, remove_headers: Vec::new() });
        let response = CommonResponse { status: 0, header_mutation, body_mutation: None };
        says(Said::RequestHeaders(PartResponse { response: Some(response) }))
    }
}

impl StreamingService<ProcessingRequest> for Exchange {
    type Response = ProcessingResponse;
    type ResponseStream = UnboundedReceiver<Result<ProcessingResponse, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<ProcessingRequest>>) -> Self::Future {
        let (say, said) = unbounded();
        let (mut told, endpoints) = (request.into_inner(), Arc::clone(&self.0));
        tokio::spawn(async move {
            while let Some(Ok(message)) = told.next().await {
                for response in endpoints.respond(message.told) {
                    if say.unbounded_send(Ok(response)).is_err() {
                        return;
                    }
                }
            }
        });
        ready(Ok(Response::new(said)))
    }
}

fn says(said: Said) -> ProcessingResponse {
    ProcessingResponse { said: Some(said), dynamic_metadata: None }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = args().skip(1);
    let address = arguments.next().ok_or("usage: endpoint_picker ADDRESS:PORT ENDPOINT:PORT…")?;
    let endpoints = Arc::new(Endpoints { addresses: arguments.collect(), next: AtomicUsize::new(0) });
    if endpoints.addresses.is_empty() {
        return Err("no endpoint is given".into());
    }
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let endpoints = Arc::clone(&endpoints);
        let service = service_fn(move |request| {
            let codec = ProstCodec::<ProcessingResponse, ProcessingRequest>::default();
            let exchange = Exchange(Arc::clone(&endpoints));
            async move { Ok::<_, Infallible>(Grpc::new(codec).streaming(exchange, request).await) }
        });
        // A router that leaves is nothing to complain about.
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(connection.await) });
    }
}
