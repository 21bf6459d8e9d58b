//! What one line says, in either layout.

use std::time::{Duration, Instant};

use actix_web::http::Version;
use k8s_openapi::jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::super::exchange::{End, Exchange};
use super::super::series::Names;

/// What a line says about one request.
pub(super) struct Entry<'e> {
    exchange: &'e Exchange,
    end: End,
    names: &'e Names,
    start: Duration,
    /// Milliseconds: in total, until sent, until answered, until the end.
    millis: [u64; 4],
}

/// The text of the second that was written last: a busy router writes thousands of lines in each.
#[derive(Default)]
pub(super) struct Seconds {
    second: i64,
    text: String,
}

/// The value of a field.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'e> {
    Text(&'e str),
    Number(u64),
}

/// Names and values of fields; those without a value are left out.
type Fields<'e, const N: usize> = [(&'static str, Option<Field<'e>>); N];

/// The fields of the text layout that all requests of one kind have in common, written once.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Written {
    route: Vec<u8>,
    backend: Vec<u8>,
    http_route: Vec<u8>,
}

impl Written {
    /// Writes what names say.
    pub(in super::super) fn of(names: &Names) -> Self {
        let mut written = Self::default();
        write_fields(&mut written.route, route(names));
        write_fields(&mut written.backend, backend(names));
        write_fields(&mut written.http_route, http_route(names));
        written
    }
}

impl<'e> Entry<'e> {
    /// Collects what is to be said of a request that came at `start`, since the epoch, and ended at `now`.
    pub(super) fn of(exchange: &'e Exchange, end: End, names: &'e Names, start: Duration, now: Instant) -> Self {
        let sent = exchange.marks.sent.unwrap_or(now);
        let answered = exchange.marks.answered.unwrap_or(now);
        let millis = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
        };
        Self {
            exchange,
            end,
            names,
            start,
            millis: [
                millis(exchange.started, now),
                millis(exchange.started, sent),
                millis(sent, answered),
                millis(answered, now),
            ],
        }
    }

    /// Writes the text layout.
    pub(super) fn text(&self, line: &mut Vec<u8>, seconds: &mut Seconds) {
        let request = &self.exchange.request;
        line.push(b'[');
        seconds.write(line, self.start);
        line.extend_from_slice(b"] \"");
        line.extend_from_slice(request.method().as_str().as_bytes());
        line.push(b' ');
        write_plain(line, request.path());
        line.push(b' ');
        line.extend_from_slice(self.protocol().as_bytes());
        line.extend_from_slice(b"\" ");
        write_number(line, u64::from(self.end.status));
        let written = &self.names.written;
        write_fields(line, self.outcome());
        line.extend_from_slice(&written.route);
        write_fields(line, self.attempt());
        line.extend_from_slice(&written.backend);
        write_fields(line, self.answer());
        line.extend_from_slice(&written.http_route);
        if let Some(usage) = self.exchange.usage {
            write_numbers(line, [(" tokens=", usage.prompt_tokens), ("/", usage.completion_tokens)]);
        }
        let [total, request, upstream, response] = self.millis;
        write_numbers(line, [(" timings=", total), ("ms(", request), ("+", upstream), ("+", response)]);
        line.extend_from_slice(b"ms)");
    }

    /// Writes the JSON layout.
    pub(super) fn json(&self, line: &mut Vec<u8>, seconds: &mut Seconds) {
        let mut timestamp = Vec::new();
        seconds.write(&mut timestamp, self.start);
        let written =
            serde_json::to_writer(line, &Object { entry: self, timestamp: &String::from_utf8_lossy(&timestamp) });
        debug_assert!(written.is_ok(), "writing to memory cannot fail");
    }

    fn protocol(&self) -> &'static str {
        match self.exchange.request.version() {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    fn outcome(&self) -> Fields<'_, 2> {
        let model = Some(Field::Text(&self.exchange.model)).filter(|_| !self.names.is_http_route);
        [("error", self.end.error.map(Field::Text)), ("model_name", model)]
    }

    fn attempt(&self) -> Fields<'_, 2> {
        let pod = self.exchange.endpoint.as_ref().map(|endpoint| Field::Text(&endpoint.pod.name));
        [("selected_pod", pod), ("request_id", self.exchange.request_id.to_str().ok().map(Field::Text))]
    }

    fn answer(&self) -> Fields<'_, 3> {
        let exchange = self.exchange;
        let attempts = u64::try_from(exchange.attempts).ok().filter(|attempts| *attempts > 0);
        [
            ("upstream_status_code", exchange.upstream_status.map(|status| Field::Number(status.into()))),
            ("upstream_attempts", attempts.map(Field::Number)),
            ("gateway", exchange.gateway.as_deref().map(Field::Text)),
        ]
    }
}

fn route(names: &Names) -> Fields<'_, 2> {
    let is_engine = names.backend.backend_type == "model_server";
    [
        ("model_route", text(&names.backend.model_route.0).filter(|_| !names.is_http_route)),
        ("model_server", text(&names.backend.backend_name.0).filter(|_| is_engine)),
    ]
}

fn backend(names: &Names) -> Fields<'_, 3> {
    let name = text(&names.backend.backend_name.0);
    [
        ("backend_type", name.as_ref().map(|_| Field::Text(names.backend.backend_type))),
        ("backend_name", name),
        ("upstream_model", text(&names.backend.upstream_model.0)),
    ]
}

fn http_route(names: &Names) -> Fields<'_, 1> {
    [("http_route", text(&names.backend.model_route.0).filter(|_| names.is_http_route))]
}

/// Returns the value of a label, unless it says that there is none.
fn text(label: &str) -> Option<Field<'_>> {
    (label != "none").then_some(Field::Text(label))
}

impl Seconds {
    /// Writes a time since the epoch as RFC 3339 with nanoseconds.
    fn write(&mut self, line: &mut Vec<u8>, time: Duration) {
        let second = i64::try_from(time.as_secs()).unwrap_or_default();
        if second != self.second || self.text.is_empty() {
            self.second = second;
            // Without its `Z`, which follows the fraction.
            self.text = Timestamp::from_second(second).unwrap_or_default().to_string();
            self.text.pop();
        }
        line.extend_from_slice(self.text.as_bytes());
        line.push(b'.');
        // The leading 1 keeps the zeros, and is left out.
        let mut digits = itoa::Buffer::new();
        line.extend_from_slice(&digits.format(1_000_000_000 + time.subsec_nanos()).as_bytes()[1..]);
        line.push(b'Z');
    }
}

/// An entry as a JSON object.
struct Object<'e> {
    entry: &'e Entry<'e>,
    timestamp: &'e str,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Entry { exchange, end, millis, .. } = self.entry;
        let head = [
            ("timestamp", json!(self.timestamp)),
            ("method", json!(exchange.request.method().as_str())),
            ("path", json!(exchange.request.path())),
            ("protocol", json!(self.entry.protocol())),
            ("status_code", json!(end.status)),
        ];
        let names = self.entry.names;
        let first = self.entry.outcome().into_iter().chain(route(names)).chain(self.entry.attempt());
        let all = first.chain(backend(names)).chain(self.entry.answer()).chain(http_route(names));
        let fields = all.filter_map(|(name, field)| match field? {
            Field::Text(error) if name == "error" => Some((name, json!({ "type": error }))),
            field => Some((name, json!(field))),
        });
        let usage = exchange.usage.into_iter();
        let tokens = usage.flat_map(|usage| {
            [("input_tokens", json!(usage.prompt_tokens)), ("output_tokens", json!(usage.completion_tokens))]
        });
        let durations = [
            "duration_total",
            "duration_request_processing",
            "duration_upstream_processing",
            "duration_response_processing",
        ];
        let durations = durations.into_iter().zip(millis.map(|millis| json!(millis)));
        serializer.collect_map(head.into_iter().chain(fields).chain(tokens).chain(durations))
    }
}

fn write_fields<const N: usize>(line: &mut Vec<u8>, fields: Fields<'_, N>) {
    for (name, field) in fields {
        let Some(field) = field else { continue };
        line.push(b' ');
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        match field {
            Field::Text(text) => write_plain(line, text),
            Field::Number(number) => write_number(line, number),
        }
    }
}

/// Writes a text; one that could be taken for the end of its field or line is quoted.
fn write_plain(line: &mut Vec<u8>, text: &str) {
    // Without a way out of the loop it is done many bytes at a time.
    let is_plain = |plain: bool, byte: u8| plain & (byte > b' ') & (byte < 0x7f) & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, is_plain) {
        line.extend_from_slice(text.as_bytes());
    } else {
        line.extend_from_slice(format!("{text:?}").as_bytes());
    }
}

fn write_number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_numbers<const N: usize>(line: &mut Vec<u8>, parts: [(&str, u64); N]) {
    for (before, number) in parts {
        line.extend_from_slice(before.as_bytes());
        write_number(line, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_with_nanoseconds() {
        let mut seconds = Seconds::default();
        for (time, expected) in [
            (Duration::new(0, 0), "1970-01-01T00:00:00.000000000Z"),
            (Duration::new(1_795_458_881, 7_000_001), "2026-11-23T18:34:41.007000001Z"),
            (Duration::new(1_795_458_881, 999_999_999), "2026-11-23T18:34:41.999999999Z"),
            (Duration::new(1_795_458_882, 0), "2026-11-23T18:34:42.000000000Z"),
        ] {
            let mut line = Vec::new();
            seconds.write(&mut line, time);
            assert_eq!(String::from_utf8_lossy(&line), expected);
        }
    }

    #[test]
    fn a_text_never_ends_its_field_or_line() {
        for (text, expected) in [
            ("plain/model-1", "plain/model-1"),
            ("two words", "\"two words\""),
            ("a\nb", "\"a\\nb\""),
            ("quote\"d", "\"quote\\\"d\""),
            ("ünï", "\"ünï\""),
            ("", ""),
        ] {
            let mut line = Vec::new();
            write_plain(&mut line, text);
            assert_eq!(String::from_utf8_lossy(&line), expected, "{text}");
        }
    }
}
