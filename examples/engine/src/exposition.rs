//! The live figures in the text form of Prometheus, under the names of vLLM or SGLang.
//!
//! Both engines label every series with `model_name`, the served model; vLLM adds the index of its engine core.

use std::fmt::Write;

use crate::{
    config::Dialect,
    gauges::Histogram,
    models::{Model, escape},
    state::{EngineState, seconds_since_epoch},
};

/// Media type of the text form.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names of one dialect.
struct Names {
    running: &'static str,
    waiting: &'static str,
    cache_usage: &'static str,
    time_to_first_token: &'static str,
    inter_token_latency: &'static str,
}

const VLLM: Names = Names {
    running: "vllm:num_requests_running",
    waiting: "vllm:num_requests_waiting",
    cache_usage: "vllm:kv_cache_usage_perc",
    time_to_first_token: "vllm:time_to_first_token_seconds",
    inter_token_latency: "vllm:inter_token_latency_seconds",
};

const SGLANG: Names = Names {
    running: "sglang:num_running_reqs",
    waiting: "sglang:num_queue_reqs",
    cache_usage: "sglang:token_usage",
    time_to_first_token: "sglang:time_to_first_token_seconds",
    inter_token_latency: "sglang:inter_token_latency_seconds",
};

/// Writes all families of an engine.
pub(crate) fn render(engine: &EngineState) -> String {
    // A label value and a JSON string escape quotes, backslashes and line ends alike.
    let model = escape(&engine.config.model);
    let (names, labels) = match engine.config.dialect {
        Dialect::Vllm => (VLLM, format!("engine=\"0\",model_name=\"{model}\"")),
        Dialect::Sglang => (SGLANG, format!("model_name=\"{model}\"")),
    };
    let gauges = &engine.gauges;
    let mut page = Page { text: String::with_capacity(8192), labels };
    page.gauge(names.running, gauges.running.value() as f64);
    page.gauge(names.waiting, gauges.waiting.value() as f64);
    page.gauge(names.cache_usage, cache_usage(engine));
    page.histogram(names.time_to_first_token, &gauges.time_to_first_token);
    page.histogram(names.inter_token_latency, &gauges.inter_token_latency);
    if engine.config.dialect == Dialect::Vllm {
        page.adapters(engine);
    }
    if engine.config.kv_connector.is_some() {
        for (name, value) in engine.transfers.counts.read().named() {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            page.figure(name, kind, value as f64);
        }
    }
    page.text
}

/// Returns the share of the KV cache in use, at most 1: a real engine would preempt requests there.
fn cache_usage(engine: &EngineState) -> f64 {
    let used = engine.gauges.cached_tokens.value() as f64;
    (used / engine.config.kv_cache_tokens.max(1) as f64).min(1.0)
}

struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn gauge(&mut self, name: &str, value: f64) {
        self.figure(name, "gauge", value);
    }

    fn figure(&mut self, name: &str, kind: &str, value: f64) {
        let labels = self.labels.clone();
        self.write(format_args!("# TYPE {name} {kind}\n{name}{{{labels}}} {value:?}\n"));
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        let labels = self.labels.clone();
        let sum = histogram.sum_seconds();
        let mut count = 0;
        self.write(format_args!("# TYPE {name} histogram\n"));
        for (bound, cumulative) in histogram.cumulative() {
            count = cumulative;
            if bound.is_finite() {
                self.write(format_args!("{name}_bucket{{{labels},le=\"{bound:?}\"}} {count}\n"));
            }
        }
        self.write(format_args!(
            "{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n\
             {name}_count{{{labels}}} {count}\n{name}_sum{{{labels}}} {sum:?}\n"
        ));
    }

    /// Every loaded adapter has a place in the simulated memory.
    fn adapters(&mut self, engine: &EngineState) {
        let adapters = engine.models.adapters();
        let names = |is_named: fn(&Model) -> bool| {
            let named = adapters.iter().filter(|model| is_named(model));
            let names: Vec<String> = named.map(|model| escape(&model.name)).collect();
            names.join(",")
        };
        let running = names(|model| model.running.value() > 0);
        let waiting = names(|model| model.waiting.value() > 0);
        let max = adapters.len();
        let now = seconds_since_epoch();
        self.write(format_args!(
            "# TYPE vllm:lora_requests_info gauge\n\
             vllm:lora_requests_info{{max_lora=\"{max}\",\
             running_lora_adapters=\"{running}\",waiting_lora_adapters=\"{waiting}\"}} {now}.0\n"
        ));
    }

    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("writing to a string does not fail");
    }
}
