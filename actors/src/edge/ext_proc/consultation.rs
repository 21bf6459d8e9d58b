//! The exchange with an endpoint picker about one request and its answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::fault::Fault;
use super::gathering::{Gathering, NAMESPACE, Verdict};
use super::messages::{
    BodyMode, HeaderMap, HeaderMutation, HeaderValue, HttpBody, HttpHeaders, Metadata, ProcessingRequest,
    ProcessingResponse, ProtocolConfiguration, Said, Told,
};

/// The method that pickers serve.
const METHOD: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
/// The largest piece of a body that a picker gets, in bytes: what Envoy sends at most.
const PIECE: usize = 64 << 10;
/// The key that tells a picker which endpoint has answered.
const SERVED: &str = "x-gateway-destination-endpoint-served";
/// How long an answer is held back for the picker to look at its headers.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// What a picker is asked.
pub(crate) struct Question<'q> {
    /// The headers of the request, with those that stand for its first line.
    pub headers: &'q [HeaderValue],
    /// Its body.
    pub body: &'q Bytes,
    /// The most bytes that the picker may make of the body.
    pub limit: usize,
}

/// An answer that a picker is told of.
pub(crate) struct Served {
    /// The endpoint that has answered.
    pub endpoint: SocketAddr,
    /// The headers of the answer, its status among them.
    pub headers: Vec<HeaderValue>,
    /// Whether it has no body.
    pub ends: bool,
}

/// An exchange in which the picker has decided; it ends when this is dropped.
pub(crate) struct Consultation {
    telling: UnboundedSender<ProcessingRequest>,
    said: Streaming<ProcessingResponse>,
}

/// Why there is no decision.
pub(super) enum Failed {
    /// The picker was not reached, so that another one may be asked.
    Unreached(Fault),
    /// The picker has said or done something.
    Said(Fault),
}

impl Consultation {
    /// Tells a picker of a request, and waits for its decision.
    pub(super) async fn begin(channel: Channel, question: &Question<'_>) -> Result<(Verdict, Self), Failed> {
        let pieces = pieces(question.body);
        let (telling, told) = unbounded();
        for message in request(question.headers, &pieces) {
            // The other end is held below.
            let _ = telling.unbounded_send(message);
        }
        let mut client = Grpc::new(channel);
        let unreached = |fault: String| Failed::Unreached(Fault::Unreachable(fault));
        client.ready().await.map_err(|error| unreached(chain(&error)))?;
        let codec = ProstCodec::<ProcessingRequest, ProcessingResponse>::default();
        let opened = client.streaming(Request::new(told), PathAndQuery::from_static(METHOD), codec).await;
        let mut said = opened.map_err(|status| refused(&status))?.into_inner();
        let mut gathering = Gathering::new(pieces, question.limit);
        let mut silent = true;
        let verdict = loop {
            match said.message().await {
                Ok(Some(response)) => {
                    silent = false;
                    if let Some(verdict) = gathering.take(response).map_err(Failed::Said)? {
                        break verdict;
                    }
                }
                Ok(None) => break gathering.end().map_err(Failed::Said)?,
                Err(status) if silent => return Err(refused(&status)),
                Err(status) => return Err(Failed::Said(broken(&status))),
            }
        };
        Ok((verdict, Self { telling, said }))
    }

    /// Tells the picker of the answer, and returns the changes of its headers that the picker asks for.
    pub(crate) async fn report(&mut self, served: Served) -> Result<Option<HeaderMutation>, Fault> {
        let headers = HttpHeaders { headers: Some(HeaderMap { headers: served.headers }), end_of_stream: served.ends };
        let message = ProcessingRequest {
            told: Some(Told::ResponseHeaders(headers)),
            metadata_context: Some(Metadata::text(NAMESPACE, SERVED, served.endpoint.to_string())),
            protocol: None,
        };
        self.telling.unbounded_send(message).map_err(|_| Fault::Broken("it has ended the exchange".to_owned()))?;
        timeout(REPORT_LIMIT, self.opinion()).await.unwrap_or(Err(Fault::Late))
    }

    /// Returns what the picker says of the answer; what is left of what it says of the request is passed over.
    async fn opinion(&mut self) -> Result<Option<HeaderMutation>, Fault> {
        loop {
            match self.said.message().await {
                Ok(Some(ProcessingResponse { said: Some(Said::ResponseHeaders(part)), .. })) => {
                    return Ok(part.response.and_then(|response| response.header_mutation));
                }
                Ok(Some(ProcessingResponse { said: Some(Said::Immediate(_)), .. })) => {
                    return Err(Fault::Nonsense("it answers a request that is answered"));
                }
                Ok(Some(_)) => {}
                // One that has nothing to say any more may end the exchange.
                Ok(None) => return Ok(None),
                Err(status) => return Err(broken(&status)),
            }
        }
    }
}

/// Cuts a body into pieces.
fn pieces(body: &Bytes) -> Vec<Bytes> {
    (0..body.len()).step_by(PIECE).map(|start| body.slice(start..body.len().min(start + PIECE))).collect()
}

/// Returns the messages that tell of a request.
fn request(headers: &[HeaderValue], pieces: &[Bytes]) -> impl Iterator<Item = ProcessingRequest> {
    let protocol = ProtocolConfiguration {
        request_body_mode: BodyMode::FullDuplexStreamed.into(),
        response_body_mode: BodyMode::None.into(),
        send_body_without_waiting_for_header_response: true,
    };
    let headers =
        HttpHeaders { headers: Some(HeaderMap { headers: headers.to_vec() }), end_of_stream: pieces.is_empty() };
    let first = ProcessingRequest {
        told: Some(Told::RequestHeaders(headers)),
        metadata_context: None,
        protocol: Some(protocol),
    };
    let bodies = pieces.iter().enumerate().map(|(place, piece)| {
        let body = HttpBody { body: piece.clone(), end_of_stream: place + 1 == pieces.len() };
        ProcessingRequest { told: Some(Told::RequestBody(body)), metadata_context: None, protocol: None }
    });
    std::iter::once(first).chain(bodies)
}

/// Tells what it means that an exchange ended before the picker said anything: another picker is asked where this one
/// was not reached or takes none.
fn refused(status: &Status) -> Failed {
    let is_transport = std::error::Error::source(status).is_some();
    if is_transport || matches!(status.code(), Code::Unavailable | Code::Unimplemented) {
        return Failed::Unreached(Fault::Unreachable(chain(status)));
    }
    Failed::Said(broken(status))
}

fn broken(status: &Status) -> Fault {
    Fault::Broken(chain(status))
}

/// Returns what an error says, with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
