//! One request from its head to its end: everything that its log line and its metrics say.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::{HttpMessage, Request};
use actix_web::http::header::HeaderValue;
use kthena_router::inference::api::Api;
use kthena_router::inference::usage::Usage;
use kthena_router::routing::table::ListenerTable;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router_downstream::Connection;
use uuid::Uuid;

use super::error::ProxyError;
use super::headers::REQUEST_ID;
use super::series::{Series, Subject};
use super::worker::{Admission, Worker};
use crate::published::Snapshot;

/// The status that a request is logged with whose client left before the answer's end.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// The longest request id that is taken over from a client, in bytes.
const MAX_REQUEST_ID: usize = 256;

/// One request, observed when it is dropped.
pub(super) struct Exchange {
    worker: Rc<Worker>,
    connection: Option<Rc<Connection>>,
    admission: Option<Admission>,
    series: Option<Rc<Series>>,
    /// The request, for its log line.
    pub request: Rc<Request>,
    /// The request's id: the client's, or one that was made.
    pub request_id: HeaderValue,
    /// The API that the request is for.
    pub api: Option<Api>,
    /// When the request's head was there.
    pub started: Instant,
    /// The model that the request names.
    pub model: String,
    /// The Gateway that took the request.
    pub gateway: Option<Arc<str>>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The number of attempts.
    pub attempts: usize,
    /// The status of the engine's answer.
    pub upstream_status: Option<u16>,
    /// What the engine says it consumed.
    pub usage: Option<Usage>,
    /// When the body was read, the first attempt sent, and the answer's head there.
    pub marks: Marks,
    end: End,
}

/// The times at which a request passes from one stage to the next.
#[derive(Clone, Copy, Default)]
pub(super) struct Marks {
    pub body_read: Option<Instant>,
    pub sent: Option<Instant>,
    pub answered: Option<Instant>,
}

/// How a request ends.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub status: u16,
    pub reason: &'static str,
    pub error: Option<&'static str>,
}

impl Exchange {
    /// Begins a request; until it says otherwise it ends because its client left.
    pub(super) fn begin(worker: &Rc<Worker>, request: Rc<Request>) -> Self {
        let request_id = request_id(&request);
        let connection = request.extensions().get::<Rc<Connection>>().cloned();
        worker.door.serving.metrics.active_requests.inc();
        Self {
            worker: Rc::clone(worker),
            connection,
            admission: None,
            series: None,
            request,
            request_id,
            api: None,
            started: Instant::now(),
            model: String::new(),
            gateway: None,
            endpoint: None,
            attempts: 0,
            upstream_status: None,
            usage: None,
            marks: Marks::default(),
            end: End { status: CLIENT_CLOSED_REQUEST, reason: "client_closed", error: None },
        }
    }

    /// Returns the connection that the request came in on.
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connection.as_deref()
    }

    /// Lets the request in, unless too many are in flight or it is in already.
    pub(super) fn admit(&mut self) -> Result<(), ProxyError> {
        if self.admission.is_none() {
            self.admission = Some(self.worker.door.admit()?);
        }
        Ok(())
    }

    /// Notes the listener that took the request.
    pub(super) fn taken_by(&mut self, listener: &ListenerTable) {
        self.gateway.clone_from(&listener.identity.gateway);
    }

    /// Notes what the request is about, as far as it is known.
    pub(super) fn concerns(&mut self, snapshot: &Snapshot, subject: Subject<'_>) {
        let series = self.worker.series.of(snapshot, subject);
        series.downstream.inc();
        if subject.pool.is_some() {
            series.upstream.inc();
        }
        self.leave_series();
        self.series = Some(series);
    }

    /// Notes that the router answers with an error.
    pub(super) fn fails(&mut self, error: &ProxyError) {
        self.end = End { status: error.status().as_u16(), reason: error.reason(), error: Some(error.reason()) };
    }

    /// Notes that the answer was passed on whole.
    pub(super) fn completes(&mut self, status: u16) {
        let failed = status >= 400;
        let reason = if failed { "request_failed" } else { "successful_request" };
        self.end = End { status, reason, error: failed.then_some("upstream_response") };
    }

    /// Notes that the engine broke the answer off.
    pub(super) fn breaks_off(&mut self, status: u16) {
        self.end = End { status, reason: "upstream_reset", error: Some("upstream_reset") };
    }

    fn leave_series(&mut self) {
        if let Some(series) = self.series.take() {
            series.downstream.dec();
            if series.names.has_backend {
                series.upstream.dec();
            }
        }
    }

    /// Returns the seconds from a whole body to the first attempt: to parse it, decide, and pick an endpoint.
    fn overhead(&self) -> Option<f64> {
        let Marks { body_read, sent, .. } = self.marks;
        Some(sent?.checked_duration_since(body_read?)?.as_secs_f64())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = Instant::now();
        let metrics = Arc::clone(&self.worker.door.serving.metrics);
        metrics.active_requests.dec();
        let series = match &self.series {
            Some(series) => Rc::clone(series),
            None => self.worker.series.of(&self.worker.door.serving.reader.load(), Subject::default()),
        };
        let End { status, reason, .. } = self.end;
        let outcome = series.outcome(&metrics, self.api, status, reason);
        outcome.requests.inc();
        outcome.seconds.observe((now - self.started).as_secs_f64());
        if let Some(usage) = self.usage {
            outcome.input_tokens.inc_by(usage.prompt_tokens);
            outcome.output_tokens.inc_by(usage.completion_tokens);
        }
        if let Some(overhead) = self.overhead() {
            metrics.overhead_seconds.observe(overhead);
        }
        if let Some(log) = &self.worker.log {
            let format = self.worker.door.serving.config.access_log.access_log_format;
            log.append(format, self, self.end, &series.names, now);
        }
        self.leave_series();
    }
}

/// Returns the client's request id if it can be passed on and logged, or makes one.
fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID);
    let usable = |value: &&HeaderValue| {
        !value.is_empty() && value.len() <= MAX_REQUEST_ID && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(value) = given.filter(usable) {
        return value.clone();
    }
    let mut buffer = Uuid::encode_buffer();
    let made = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(made).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
