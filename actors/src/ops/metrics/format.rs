//! The formats that metrics are written in, and which of them a reader gets.
//!
//! Source: "Prometheus exposition formats": text 0.0.4 names a counter as its sample, with `_total`; OpenMetrics 1.0 names
//! the family, without. A reader of one format takes the counters of the other for untyped.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, which every reader knows.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that an `Accept` header prefers; the text format unless OpenMetrics is asked for.
    pub fn accepted(accept: &str) -> Self {
        let quality = |wanted: &[&str]| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next()?;
                let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
                wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(media)).then(|| quality.unwrap_or(0.0))
            });
            ranges.fold(0.0, f32::max)
        };
        let open = quality(&["application/openmetrics-text"]);
        if open > 0.0 && open >= quality(&["text/plain"]) { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns the media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes registries, one after the other.
pub(super) fn encode<const N: usize>(registries: [&Registry; N], format: Format) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(16 << 10);
    for registry in registries {
        encode_registry(&mut text, registry)?;
    }
    match format {
        Format::OpenMetrics => encode_eof(&mut text).map(|()| text),
        Format::Text => Ok(as_prometheus_text(&text)),
    }
}

/// Makes Prometheus text of OpenMetrics text: samples are written alike, only what describes counters differs.
fn as_prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + (1 << 10));
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn a_reader_gets_the_format_that_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::Text),
            ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text;q=0.1, text/plain;q=0.9", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=x", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn counters_have_their_type_in_both_formats() {
        let mut registry = Registry::with_prefix("a");
        registry.register("requests", "Requests", Counter::<u64>::default());
        registry.register("in_flight", "Requests in flight", Gauge::<i64>::default());
        assert_eq!(
            encode([&registry], Format::Text).unwrap(),
            "# HELP a_requests_total Requests.\n# TYPE a_requests_total counter\na_requests_total 0\n\
             # HELP a_in_flight Requests in flight.\n# TYPE a_in_flight gauge\na_in_flight 0\n"
        );
        assert_eq!(
            encode([&registry], Format::OpenMetrics).unwrap(),
            "# HELP a_requests Requests.\n# TYPE a_requests counter\na_requests_total 0\n\
             # HELP a_in_flight Requests in flight.\n# TYPE a_in_flight gauge\na_in_flight 0\n# EOF\n"
        );
    }
}
