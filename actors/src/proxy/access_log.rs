//! One line for each request, in the Go router's two layouts.
//!
//! Text: `[start] "METHOD PATH PROTO" STATUS error=… model_name=… … tokens=IN/OUT timings=TOTALms(REQ+UP+RESPms)`; JSON: one
//! object with the same fields. Fields without a value are left out; the path is without its query, which may hold
//! secrets.

use std::cell::RefCell;
use std::io::Write;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::Recipient;
use actix_web::http::Version;
use k8s_openapi::jiff::Timestamp;
use kthena_router::config::AccessLogFormat;
use serde_json::{Map, Value, json};

use super::exchange::{End, Exchange};
use super::series::Names;
use crate::access_logger::LogLines;
use crate::metrics::Metrics;

/// Lines are sent when there are this many bytes of them.
const FULL: usize = 16 << 10;
/// And at least this often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The lines of one worker thread that were not sent yet.
pub(super) struct LogBuffer {
    lines: RefCell<Vec<u8>>,
    logger: Recipient<LogLines>,
    metrics: Arc<Metrics>,
}

impl LogBuffer {
    /// Makes a buffer that sends itself regularly for as long as it is in use.
    pub(super) fn start(logger: Recipient<LogLines>, metrics: Arc<Metrics>) -> Rc<Self> {
        let buffer = Rc::new(Self { lines: RefCell::default(), logger, metrics });
        let weak = Rc::downgrade(&buffer);
        actix::spawn(async move {
            let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
            loop {
                ticks.tick().await;
                match Weak::upgrade(&weak) {
                    Some(buffer) => buffer.send(),
                    None => return,
                }
            }
        });
        buffer
    }

    /// Appends what `write` writes.
    pub(super) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = self.lines.borrow_mut();
        write(&mut lines);
        if lines.len() >= FULL {
            drop(lines);
            self.send();
        }
    }

    fn send(&self) {
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if lines.is_empty() {
            return;
        }
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        // A logger that cannot keep up loses lines rather than memory.
        if self.logger.try_send(LogLines(lines)).is_err() {
            self.metrics.access_log_dropped.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.send();
    }
}

/// Writes the line of a request that ended at `now`.
pub(super) fn write(
    line: &mut Vec<u8>,
    format: AccessLogFormat,
    exchange: &Exchange,
    end: End,
    names: &Names,
    now: Instant,
) {
    let entry = Entry::of(exchange, end, names, now);
    let written = match format {
        AccessLogFormat::Text => entry.text(line),
        AccessLogFormat::Json => serde_json::to_writer(&mut *line, &entry.json()).map_err(Into::into),
    };
    debug_assert!(written.is_ok(), "writing to memory cannot fail");
    line.push(b'\n');
}

/// What a line says.
struct Entry<'e> {
    start: Timestamp,
    exchange: &'e Exchange,
    end: End,
    names: &'e Names,
    /// Milliseconds: in total, until sent, until answered, until the end.
    millis: [u128; 4],
}

impl<'e> Entry<'e> {
    fn of(exchange: &'e Exchange, end: End, names: &'e Names, now: Instant) -> Self {
        let total = now - exchange.started;
        let sent = exchange.marks.sent.unwrap_or(now);
        let answered = exchange.marks.answered.unwrap_or(now);
        let between = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis();
        let start = SystemTime::now().checked_sub(total).and_then(|start| Timestamp::try_from(start).ok());
        Self {
            start: start.unwrap_or(Timestamp::UNIX_EPOCH),
            exchange,
            end,
            names,
            millis: [
                total.as_millis(),
                between(exchange.started, sent),
                between(sent, answered),
                between(answered, now),
            ],
        }
    }

    fn protocol(&self) -> &'static str {
        match self.exchange.request.version() {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    /// Returns the fields that have a value, by name.
    fn fields(&self) -> [(&'static str, Option<&str>); 8] {
        let known = |text: &'e str| (text != "none").then_some(text);
        let exchange = self.exchange;
        let server = known(&self.names.backend_name.0);
        [
            ("model_name", Some(&exchange.model)),
            ("model_route", known(&self.names.model_route.0)),
            ("model_server", server),
            ("selected_pod", exchange.endpoint.as_ref().map(|endpoint| &*endpoint.pod.name)),
            ("request_id", exchange.request_id.to_str().ok()),
            ("backend_type", server.map(|_| self.names.backend_type)),
            ("backend_name", server),
            ("upstream_model", known(&self.names.upstream_model.0)),
        ]
    }

    fn text(&self, line: &mut Vec<u8>) -> std::io::Result<()> {
        let (request, End { status, error, .. }) = (&self.exchange.request, self.end);
        let (method, path) = (request.method(), request.path());
        write!(line, "[{:.9}] \"{method} {} {}\" {status}", self.start, path.escape_debug(), self.protocol())?;
        if let Some(error) = error {
            write!(line, " error={error}")?;
        }
        for (name, value) in self.fields() {
            if let Some(value) = value {
                write_field(line, name, value)?;
            }
        }
        if let Some(status) = self.exchange.upstream_status {
            write!(line, " upstream_status_code={status}")?;
        }
        if self.exchange.attempts > 0 {
            write!(line, " upstream_attempts={}", self.exchange.attempts)?;
        }
        if let Some(gateway) = &self.exchange.gateway {
            write_field(line, "gateway", gateway)?;
        }
        if let Some(usage) = self.exchange.usage {
            write!(line, " tokens={}/{}", usage.prompt_tokens, usage.completion_tokens)?;
        }
        let [total, request, upstream, response] = self.millis;
        write!(line, " timings={total}ms({request}+{upstream}+{response}ms)")
    }

    fn json(&self) -> Value {
        let (request, exchange) = (&self.exchange.request, self.exchange);
        let mut entry = Map::new();
        let mut add = |name: &str, value: Value| entry.insert(name.to_owned(), value);
        add("timestamp", json!(format!("{:.9}", self.start)));
        add("method", json!(request.method().as_str()));
        add("path", json!(request.path()));
        add("protocol", json!(self.protocol()));
        add("status_code", json!(self.end.status));
        if let Some(error) = self.end.error {
            add("error", json!({"type": error}));
        }
        for (name, value) in self.fields() {
            if let Some(value) = value {
                add(name, json!(value));
            }
        }
        if let Some(status) = exchange.upstream_status {
            add("upstream_status_code", json!(status));
        }
        if exchange.attempts > 0 {
            add("upstream_attempts", json!(exchange.attempts));
        }
        if let Some(gateway) = &exchange.gateway {
            add("gateway", json!(**gateway));
        }
        if let Some(usage) = exchange.usage {
            add("input_tokens", json!(usage.prompt_tokens));
            add("output_tokens", json!(usage.completion_tokens));
        }
        let names = ["total", "request_processing", "upstream_processing", "response_processing"];
        for (name, millis) in names.into_iter().zip(self.millis) {
            add(&format!("duration_{name}"), json!(u64::try_from(millis).unwrap_or(u64::MAX)));
        }
        Value::Object(entry)
    }
}

/// Writes a field; a value that could be taken for the end of its field or line is quoted.
fn write_field(line: &mut Vec<u8>, name: &str, value: &str) -> std::io::Result<()> {
    if value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
        write!(line, " {name}={value}")
    } else {
        write!(line, " {name}={value:?}")
    }
}
