//! What one line says, in either layout.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Version;
use k8s_openapi::jiff::Timestamp;
use kthena_router::scheduling::endpoint::Endpoint;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::ops::requests::facts::{End, Facts};
use crate::ops::requests::log_fields::{Field, Fields, write_fields, write_number, write_numbers, write_plain};
use crate::ops::requests::names::Names;

/// What a line says about one request.
pub(super) struct Entry<'e> {
    facts: &'e Facts,
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

impl<'e> Entry<'e> {
    /// Collects what is to be said of a request that came at `start`, since the epoch, and ended at `now`.
    pub(super) fn of(facts: &'e Facts, end: End, names: &'e Names, start: Duration, now: Instant) -> Self {
        let sent = facts.marks.sent.unwrap_or(now);
        let answered = facts.marks.answered.unwrap_or(now);
        let millis = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
        };
        Self {
            facts,
            end,
            names,
            start,
            millis: [
                millis(facts.started, now),
                millis(facts.started, sent),
                millis(sent, answered),
                millis(answered, now),
            ],
        }
    }

    /// Writes the text layout.
    pub(super) fn text(&self, line: &mut Vec<u8>, seconds: &mut Seconds) {
        let facts = self.facts;
        line.push(b'[');
        seconds.write(line, self.start);
        line.extend_from_slice(b"] \"");
        line.extend_from_slice(facts.method.as_str().as_bytes());
        line.push(b' ');
        write_plain(line, facts.uri.path());
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
        write_fields(line, self.client());
        if let Some(usage) = facts.usage {
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
        match self.facts.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    fn outcome(&self) -> Fields<'_, 2> {
        [("error", self.end.error.map(Field::Text)), ("model_name", self.facts.model.as_deref().map(Field::Text))]
    }

    fn attempt(&self) -> Fields<'_, 4> {
        let name =
            |endpoint: &'e Option<Arc<Endpoint>>| endpoint.as_ref().map(|endpoint| Field::Text(&endpoint.pod.name));
        let (pod, prefill) = (name(&self.facts.endpoint), name(&self.facts.prefill));
        let millis = |waited: Duration| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        [
            ("queued_ms", self.facts.waited.map(|waited| Field::Number(millis(waited)))),
            ("selected_pod", pod),
            ("prefill_pod", prefill),
            ("request_id", Some(Field::Text(self.facts.request_id()))),
        ]
    }

    fn answer(&self) -> Fields<'_, 3> {
        let facts = self.facts;
        let attempts = (facts.attempts > 0).then_some(Field::Number(facts.attempts.into()));
        [
            ("upstream_status_code", facts.upstream_status.map(|status| Field::Number(status.into()))),
            ("upstream_attempts", attempts),
            ("gateway", facts.gateway.as_deref().map(Field::Text)),
        ]
    }

    fn client(&self) -> Fields<'_, 6> {
        let facts = self.facts;
        let user_agent = facts.user_agent.as_ref().and_then(|value| value.to_str().ok());
        [
            ("client", facts.client.to_str().ok().map(Field::Plain)),
            ("host", facts.uri.authority().map(|authority| Field::Plain(authority.as_str()))),
            ("user_agent", user_agent.map(Field::Text)),
            ("stream", facts.stream.then_some(Field::Plain("true"))),
            ("bytes_sent", Some(Field::Number(facts.bytes))),
            ("error_message", facts.error_text.as_deref().map(Field::Text)),
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
        let Entry { facts, end, millis, .. } = self.entry;
        let head = [
            ("timestamp", json!(self.timestamp)),
            ("method", json!(facts.method.as_str())),
            ("path", json!(facts.uri.path())),
            ("protocol", json!(self.entry.protocol())),
            ("status_code", json!(end.status)),
        ];
        let names = self.entry.names;
        let first = self.entry.outcome().into_iter().chain(names.route()).chain(self.entry.attempt());
        let all = first.chain(names.backend()).chain(self.entry.answer()).chain(names.http_route());
        let fields = all.chain(self.entry.client()).filter_map(|(name, field)| match field? {
            Field::Text(error) if name == "error" => Some((name, json!({ "type": error }))),
            Field::Plain("true") if name == "stream" => Some((name, json!(true))),
            field => Some((name, json!(field))),
        });
        let usage = facts.usage.into_iter();
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
}
