use proptest::prelude::*;

use super::*;

const SMALLEST: &str = "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\n";

fn read(page: &str) -> EndpointMetrics {
    parse(page.as_bytes(), Dialect::Vllm).unwrap_or_else(|error| panic!("{error}: {page}"))
}

fn totals(sum: f64, count: u64) -> HistogramTotals {
    HistogramTotals { sum, count }
}

#[test]
fn reads_a_page_of_each_engine() {
    let vllm = concat!(
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n",
        "# TYPE vllm:num_requests_running gauge\n",
        "vllm:num_requests_running{engine=\"0\",model_name=\"qwen/7b\"} 3.0\n",
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"qwen/7b\"} 4.0\n",
        "vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 4.0\n",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"qwen/7b\"} 0.25\n",
        "vllm:gpu_cache_usage_perc{engine=\"0\",model_name=\"qwen/7b\"} 0.75\n",
        "vllm:time_to_first_token_seconds_bucket{le=\"0.001\",model_name=\"qwen/7b\"} 7.0\n",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"qwen/7b\"} 10.0\n",
        "vllm:time_to_first_token_seconds_sum{engine=\"0\",model_name=\"qwen/7b\"} 1.5\n",
        "vllm:time_to_first_token_seconds_created{engine=\"0\",model_name=\"qwen/7b\"} 1.7e+09\n",
        "vllm:inter_token_latency_seconds_count{engine=\"0\",model_name=\"qwen/7b\"} 1.2e+03\n",
        "vllm:inter_token_latency_seconds_sum{engine=\"0\",model_name=\"qwen/7b\"} 24\n",
        "vllm:time_per_output_token_seconds_count{engine=\"0\",model_name=\"qwen/7b\"} 9.0\n",
        "vllm:time_per_output_token_seconds_sum{engine=\"0\",model_name=\"qwen/7b\"} 9.0\n",
        "vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"19208\",sliding_window=\"None\"} 1.0\n",
    );
    let sglang = concat!(
        "sglang:num_running_reqs{model_name=\"m\"} 3.0\nsglang:num_queue_reqs{model_name=\"m\"} 4.0\n",
        "sglang:token_usage{model_name=\"m\"} 0.25\n",
        "sglang:time_to_first_token_seconds_sum{model_name=\"m\"} 1.5\n",
        "sglang:time_to_first_token_seconds_count{model_name=\"m\"} 10.0\n",
        "sglang:inter_token_latency_seconds_sum{model_name=\"m\"} 24.0\n",
        "sglang:inter_token_latency_seconds_count{model_name=\"m\"} 1200.0\n",
        "sglang:max_total_num_tokens{model_name=\"m\"} 307328.0\n",
    );
    let expected = EndpointMetrics {
        kv_cache_usage: Some(0.25),
        waiting: 4,
        running: 3,
        time_to_first_token: totals(1.5, 10),
        inter_token_latency: totals(24.0, 1200),
        cache_tokens: Some(307_328),
        is_asleep: false,
    };
    assert_eq!(parse(vllm.as_bytes(), Dialect::Vllm), Ok(expected));
    assert_eq!(parse(sglang.as_bytes(), Dialect::Sglang), Ok(expected));
}

#[test]
fn a_cache_whose_size_is_not_known_has_none() {
    for labels in
        ["block_size=\"16\",num_gpu_blocks=\"None\"", "block_size=\"16\"", "num_gpu_blocks=\"0\",block_size=\"16\""]
    {
        assert_eq!(read(&format!("{SMALLEST}vllm:cache_config_info{{{labels}}} 1.0\n")).cache_tokens, None, "{labels}");
    }
}

#[test]
fn an_engine_of_which_no_rank_is_awake_sleeps() {
    let page = |states: &[(&str, u8)]| {
        let series = states
            .iter()
            .map(|(state, value)| format!("vllm:engine_sleep_state{{sleep_state=\"{state}\"}} {value}.0\n"));
        SMALLEST.to_owned() + &series.collect::<String>()
    };
    for (states, is_asleep) in [
        (&[][..], false),
        (&[("awake", 1), ("weights_offloaded", 0), ("discard_all", 0)], false),
        (&[("awake", 0), ("weights_offloaded", 1), ("discard_all", 0)], true),
        (&[("discard_all", 1), ("awake", 0), ("weights_offloaded", 0)], true),
        (&[("awake", 0), ("discard_all", 1), ("awake", 1), ("discard_all", 0)], false),
    ] {
        assert_eq!(read(&page(states)).is_asleep, is_asleep, "{states:?}");
    }
}

#[test]
fn older_names_count_where_the_newer_are_missing() {
    let older = "vllm:gpu_cache_usage_perc 0.5\nvllm:time_per_output_token_seconds_sum 6\nvllm:time_per_output_token_seconds_count 3\n";
    let metrics = read(&format!("{older}{SMALLEST}"));
    assert_eq!((metrics.kv_cache_usage, metrics.inter_token_latency), (Some(0.5), totals(6.0, 3)));
}

#[test]
fn missing_families_are_not_made_up() {
    let metrics = read("vllm:num_requests_running 2\n");
    assert_eq!(metrics, EndpointMetrics { running: 2, ..EndpointMetrics::default() });
    let sum_only = read(&format!("{SMALLEST}vllm:time_to_first_token_seconds_sum 3\n"));
    assert_eq!(sum_only.time_to_first_token, HistogramTotals::default());
    let ranks = "vllm:time_to_first_token_seconds_sum{a=\"0\"} 3\nvllm:time_to_first_token_seconds_sum{a=\"1\"} NaN\n";
    let half_a_rank = read(&format!("{SMALLEST}{ranks}{}", ranks.replace("_sum", "_count").replace("NaN", "4")));
    assert_eq!(half_a_rank.time_to_first_token, HistogramTotals::default());
}

#[test]
fn series_of_ranks_are_added_up() {
    let page = concat!(
        "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_running{engine=\"1\"} 5\n",
        "vllm:num_requests_waiting{engine=\"0\"} 1\nvllm:num_requests_waiting{engine=\"1\"} NaN\n",
        "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.75\n",
        "vllm:time_to_first_token_seconds_sum{engine=\"0\"} 1\nvllm:time_to_first_token_seconds_sum{engine=\"1\"} 2\n",
        "vllm:time_to_first_token_seconds_count{engine=\"0\"} 3\nvllm:time_to_first_token_seconds_count{engine=\"1\"} 4\n",
    );
    let metrics = read(page);
    assert_eq!((metrics.running, metrics.waiting, metrics.kv_cache_usage), (8, 1, Some(0.5)));
    assert_eq!(metrics.time_to_first_token, totals(3.0, 7));
}

#[test]
fn series_that_count_the_same_requests_are_not_added_up() {
    let page = concat!(
        "sglang:num_running_reqs{pp_rank=\"0\",priority=\"\",dp_rank=\"0\"} 14.0\n",
        "sglang:num_running_reqs{pp_rank=\"0\",priority=\"-1\",dp_rank=\"0\"} 4.0\n",
        "sglang:num_running_reqs{pp_rank=\"0\",priority=\"0\",dp_rank=\"0\"} 10.0\n",
        "sglang:num_running_reqs{pp_rank=\"1\",priority=\"\",dp_rank=\"0\"} 14.0\n",
        "sglang:num_running_reqs{dp_rank=\"1\",pp_rank=\"0\",priority=\"\"} 2.0\n",
    );
    assert_eq!(parse(page.as_bytes(), Dialect::Sglang).map(|metrics| metrics.running), Ok(16));
}

#[test]
fn the_text_format_in_all_its_forms() {
    let cases = [
        ("timestamp", "vllm:num_requests_running{a=\"b\"} 7 1700000000000", 7),
        ("exemplar", "vllm:num_requests_running 7 # {id=\"1\"} 3", 7),
        ("tabs and spaces", "vllm:num_requests_running\t{a=\"b\",}  \t7\t", 7),
        ("carriage return", "vllm:num_requests_running{a=\"b\"} 7\r", 7),
        ("no space after the labels", "vllm:num_requests_running{a=\"b\"}7", 7),
        ("brace in a label", "vllm:num_requests_running{a=\"} 1 {\"} 7", 7),
        ("escapes in a label", r#"vllm:num_requests_running{a="\"} 1\\",b="\\"} 7"#, 7),
        ("label that is no split", "vllm:num_requests_running{priority=\"1\"} 7", 7),
        ("not a number", "vllm:num_requests_running NaN", 0),
        ("infinite", "vllm:num_requests_running +Inf", 0),
        ("negative", "vllm:num_requests_running -7", 0),
        ("more than fits", "vllm:num_requests_running 1e300", u32::MAX),
        ("another name", "vllm:num_requests_running_total 7", 0),
        ("comment", "# vllm:num_requests_running 7", 0),
        ("garbage", "}{\"\\\nvllm:\n\u{0}\n\n{a=\"", 0),
    ];
    for (name, line, running) in cases {
        for page in [format!("{line}\nvllm:num_requests_waiting 1\n"), format!("vllm:num_requests_waiting 1\n{line}")] {
            let metrics = read(&page);
            assert_eq!((metrics.running, metrics.waiting), (running, 1), "{name}");
        }
    }
    assert_eq!(read(&format!("{SMALLEST}vllm:kv_cache_usage_perc 1.02\n")).kv_cache_usage, Some(1.0));
}

#[test]
fn a_page_that_cannot_be_used_is_an_error() {
    let cases = [
        ("empty", "", "metrics have neither `vllm:num_requests_running` nor `vllm:num_requests_waiting`"),
        (
            "the other engine",
            "sglang:num_running_reqs 1\nsglang:num_queue_reqs 1\n",
            "metrics have neither `vllm:num_requests_running` nor `vllm:num_requests_waiting`",
        ),
        (
            "labels do not end",
            "\nvllm:num_requests_running{a=\"} 7\n",
            "line 2 of the metrics has no readable value for `vllm:num_requests_running`",
        ),
        (
            "no value",
            "vllm:kv_cache_usage_perc",
            "line 1 of the metrics has no readable value for `vllm:kv_cache_usage_perc`",
        ),
        (
            "no number",
            "vllm:num_requests_waiting many\n",
            "line 1 of the metrics has no readable value for `vllm:num_requests_waiting`",
        ),
    ];
    for (name, page, message) in cases {
        let error = parse(page.as_bytes(), Dialect::Vllm).map_err(|error| error.to_string());
        assert_eq!(error, Err(message.to_owned()), "{name}");
    }
}

#[test]
fn mean_is_that_of_new_observations() {
    let cases = [
        ("first reading", (0.0, 0), (6.0, 3), Some(2.0)),
        ("new observations", (6.0, 3), (16.0, 5), Some(5.0)),
        ("none", (6.0, 3), (6.0, 3), None),
        ("none at all", (0.0, 0), (0.0, 0), None),
        ("restarted", (60.0, 30), (8.0, 2), Some(4.0)),
        ("restarted and idle", (60.0, 30), (0.0, 0), None),
        ("restarted and already further", (60.0, 3), (8.0, 4), Some(2.0)),
    ];
    for (name, before, now, mean) in cases {
        assert_eq!(totals(now.0, now.1).mean_since(&totals(before.0, before.1)), mean, "{name}");
    }
}

proptest! {
    #[test]
    fn any_label_value_and_any_order_of_lines(
        value in "[a-z\"\\\\{} ,=#é\n]{0,12}",
        running in 0..1000_u32,
        waiting in 0..1000_u32,
        usage in 0..=100_u32,
        turn in 0..4_usize,
    ) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let mut lines = [
            format!("sglang:num_running_reqs{{model_name=\"{value}\",x=\"y\"}} {running}.0"),
            format!("sglang:num_queue_reqs{{model_name=\"{value}\"}} {waiting} 17"),
            format!("sglang:token_usage{{model_name=\"{value}\"}} {}", f64::from(usage) / 100.0),
            format!("sglang:gen_throughput{{model_name=\"{value}\"}} 9"),
        ];
        lines.rotate_left(turn);
        let metrics = parse(lines.join("\n").as_bytes(), Dialect::Sglang);
        let expected = EndpointMetrics {
            kv_cache_usage: Some(f64::from(usage) / 100.0), waiting, running, ..EndpointMetrics::default()
        };
        prop_assert_eq!(metrics, Ok(expected));
    }

    #[test]
    fn never_panics(page in "(vllm:num_requests_running|sglang:token_usage|[a-z{}\"\\\\=, 0-9\n#é]){0,40}") {
        let _ = parse(page.as_bytes(), Dialect::Vllm);
        let _ = parse(page.as_bytes(), Dialect::Sglang);
    }
}
