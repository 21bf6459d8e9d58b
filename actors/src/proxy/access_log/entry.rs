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

/// The fields that either layout has, in their order; those without a value are left out.
type Fields<'e> = [(&'static str, Option<Field<'e>>); 13];

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
        for (name, field) in self.fields() {
            let Some(field) = field else { continue };
            line.push(b' ');
            line.extend_from_slice(name.as_bytes());
            line.push(b'=');
            match field {
                Field::Text(text) => write_plain(line, text),
                Field::Number(number) => write_number(line, number),
            }
        }
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

    fn fields(&self) -> Fields<'_> {
        let text = |text: &'e str| (text != "none").then_some(Field::Text(text));
        let number = |number: usize| u64::try_from(number).ok().map(Field::Number);
        let exchange = self.exchange;
        let backend = &self.names.backend;
        let server = &*backend.backend_name.0;
        let route = |is_http: bool| text(&backend.model_route.0).filter(|_| self.names.is_http_route == is_http);
        let is_engine = backend.backend_type == "model_server";
        [
            ("error", self.end.error.map(Field::Text)),
            ("model_name", Some(Field::Text(&exchange.model)).filter(|_| !self.names.is_http_route)),
            ("model_route", route(false)),
            ("model_server", text(server).filter(|_| is_engine)),
            ("selected_pod", exchange.endpoint.as_ref().map(|endpoint| Field::Text(&endpoint.pod.name))),
            ("request_id", exchange.request_id.to_str().ok().map(Field::Text)),
            ("backend_type", text(server).map(|_| Field::Text(backend.backend_type))),
            ("backend_name", text(server)),
            ("upstream_model", text(&backend.upstream_model.0)),
            ("upstream_status_code", exchange.upstream_status.map(|status| Field::Number(status.into()))),
            ("upstream_attempts", number(exchange.attempts).filter(|_| exchange.attempts > 0)),
            ("gateway", exchange.gateway.as_deref().map(Field::Text)),
            ("http_route", route(true)),
        ]
    }
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
        let fields = self.entry.fields().into_iter().filter_map(|(name, field)| match field? {
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

/// Writes a text; one that could be taken for the end of its field or line is quoted.
fn write_plain(line: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
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
