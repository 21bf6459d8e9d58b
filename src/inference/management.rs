//! Which paths of an engine are for its operator and no client, in every spelling.
//!
//! An HTTPRoute may send any path to an InferencePool, as the Gateway API's conformance tests do. What changes an
//! engine for all of its clients, or tells one of them what others ask, is refused all the same, unless a rule names
//! the path.
//!
//! Sources: vLLM 0.11, `vllm/entrypoints/openai/api_server.py` and `vllm/entrypoints/serve`; SGLang 0.5,
//! `sglang/srt/entrypoints/http_server.py`. Some of the paths exist in one of them only, some only in development mode.

use std::borrow::Cow;

/// The paths, in order, without the slash at their beginning. SGLang and vLLM have some of them below `v1` as well.
const PATHS: [&str; 67] = [
    "abort_request",                               // SGLang: ends requests of others
    "abort_requests",                              // vLLM, development mode
    "add_worker",                                  // SGLang router
    "clear_hicache_storage_backend",               // SGLang
    "close_session",                               // SGLang
    "collective_rpc",                              // vLLM, development mode
    "configure_logging",                           // SGLang: writes prompts to files
    "continue_generation",                         // SGLang
    "debug",                                       // both
    "destroy_weights_update_group",                // SGLang
    "docs",                                        // both: FastAPI
    "dump_expert_distribution_record",             // SGLang
    "finish_weight_update",                        // vLLM, development mode
    "flush_cache",                                 // SGLang
    "freeze_gc",                                   // SGLang
    "get_internal_state",                          // SGLang
    "get_load",                                    // SGLang
    "get_server_info",                             // SGLang: its command line
    "get_weights_by_name",                         // SGLang
    "get_world_size",                              // vLLM, development mode
    "hicache",                                     // SGLang
    "init_weight_transfer_engine",                 // vLLM
    "init_weights_send_group_for_remote_instance", // SGLang
    "init_weights_update_group",                   // both
    "is_paused",                                   // vLLM
    "is_scaling_elastic_ep",                       // vLLM
    "is_sleeping",                                 // vLLM, development mode
    "kv_event_sources",                            // vLLM: addresses within the cluster
    "list_workers",                                // SGLang router
    "load",                                        // vLLM
    "load_lora_adapter",                           // both
    "load_lora_adapter_from_tensors",              // SGLang
    "metrics",                                     // both
    "open_session",                                // SGLang
    "openapi.json",                                // both: FastAPI
    "pause",                                       // vLLM
    "pause_generation",                            // SGLang
    "redoc",                                       // both: FastAPI
    "release_memory_occupation",                   // SGLang
    "reload_weights",                              // vLLM
    "remove_worker",                               // SGLang router
    "reset_encoder_cache",                         // vLLM
    "reset_mm_cache",                              // vLLM
    "reset_prefix_cache",                          // vLLM, development mode
    "resume",                                      // vLLM
    "resume_memory_occupation",                    // SGLang
    "scale_elastic_ep",                            // vLLM
    "send_weights_to_remote_instance",             // SGLang
    "server_info",                                 // both: their configuration
    "set_internal_state",                          // SGLang
    "set_trace_level",                             // SGLang
    "sleep",                                       // vLLM, development mode
    "slow_down",                                   // SGLang
    "start_draft_weight_update",                   // vLLM, development mode
    "start_expert_distribution_record",            // SGLang
    "start_profile",                               // both
    "start_weight_update",                         // vLLM, development mode
    "stop_expert_distribution_record",             // SGLang
    "stop_profile",                                // both
    "unload_lora_adapter",                         // both
    "update_weight_version",                       // SGLang
    "update_weights",                              // vLLM
    "update_weights_from_disk",                    // SGLang
    "update_weights_from_tensor",                  // SGLang
    "wake_up",                                     // vLLM, development mode
    "weight_checker",                              // vLLM, development mode
    "weight_info",                                 // vLLM, development mode
];

/// Beginnings of paths all of which are for the operator: `update_weights_from_distributed`, `…_from_ipc` and what else
/// there will be.
const FAMILIES: [&str; 5] = ["debug/", "fault_tolerance/", "hicache/", "update_weights_", "workers/"];

/// How often a path is decoded: a proxy between this router and the engine may decode it once, and the engine again.
const DECODINGS: usize = 3;

/// Returns whether a path, without its query, leads to an engine's management or metrics for any server that decodes
/// it, merges its slashes or ignores the case of letters.
pub fn is_management(path: &str) -> bool {
    let path = plain(path);
    let path = path.strip_prefix("v1/").unwrap_or(&path);
    PATHS.binary_search(&path).is_ok() || FAMILIES.iter().any(|family| path.starts_with(family))
}

/// Returns a path in lower case, decoded, without empty segments, parameters, and slashes at its ends.
fn plain(path: &str) -> String {
    let mut decoded = Cow::Borrowed(path.as_bytes());
    for _ in 0..DECODINGS {
        match decode(&decoded) {
            Some(further) => decoded = Cow::Owned(further),
            None => break,
        }
    }
    let text = String::from_utf8_lossy(&decoded).to_ascii_lowercase().replace('\\', "/");
    let segments = text.split('/').map(|segment| segment.split(';').next().unwrap_or_default().trim());
    segments.filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/")
}

/// Decodes a path once; `None` if there is nothing to decode.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', path)?;
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
        });
        decoded.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    (decoded != path).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn management_is_known_in_every_spelling() {
        for path in [
            "/metrics",
            "/metrics/",
            "//metrics",
            "/Metrics",
            "/%6detrics",
            "/%256Detrics",
            "/metrics;x=1",
            "/metrics%2f",
            "/v1/load_lora_adapter",
            "/load_lora_adapter",
            "/v1//unload_lora_adapter",
            "/v1%2Funload_lora_adapter",
            "/V1/sleep",
            "/wake_up",
            "/update_weights_from_distributed",
            "/v1/update_weights_from_tensor",
            "/v1/pause",
            "/abort_requests",
            "/fault_tolerance/apply",
            "/hicache/storage-backend",
            "/v1/release_memory_occupation",
            "/debug/pprof",
            "/openapi.json",
        ] {
            assert!(is_management(path), "{path}");
        }
    }

    #[test]
    fn what_clients_ask_for_is_no_management() {
        for path in [
            "/",
            "",
            "*",
            "/v1/chat/completions",
            "/v1/models",
            "/health",
            "/ping",
            "/version",
            "/tokenize",
            "/generate",
            "/v1/responses/resp_1/cancel",
            "/metrics-of-mine",
            "/api/metrics",
            "/my/sleep",
            "/100%",
            "/%zz",
        ] {
            assert!(!is_management(path), "{path}");
        }
    }

    #[test]
    fn the_paths_can_be_searched() {
        assert!(PATHS.is_sorted(), "a binary search needs an order");
    }
}
