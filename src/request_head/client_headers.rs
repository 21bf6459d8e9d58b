//! Which headers of a client are taken out before anything reads them.
//!
//! Two kinds are: claims about the client that only a proxy can make, which the router replaces by what it sees itself,
//! and headers by which components behind a router tell each other where a request goes. A client that could set these
//! would choose its own endpoint, or have a sidecar connect to an address of its choice.
//!
//! | headers | who reads them |
//! |---|---|
//! | `Forwarded`, `X-Forwarded-*`, `X-Real-IP` | backends, as facts about the client (RFC 7239) |
//! | `x-gateway-destination-endpoint*` | Gateways, from an endpoint picker (Inference Extension, protocol 1.0) |
//! | `x-gateway-model-name*`, `x-gateway-base-model-name` | routes and pickers, from a body-based router |
//! | `x-prefiller-host-port`, `x-prefiller-url`, `x-encoder-hosts-ports` | llm-d's routing sidecar: where to prefill |
//! | `x-kv-cache-source-host-port` | llm-d's routing sidecar: where cached blocks are fetched from |
//! | `x-data-parallel-host-port`, `x-data-parallel-rank` | llm-d's routing sidecar, vLLM: which rank decodes |
//! | `x-worker-instance-id`, `x-prefill-instance-id` | Dynamo's frontend: which worker serves |
//! | `x-smg-target-worker`, `x-smg-routing-key` | SGLang's router |
//! | `x-envoy-*` | Envoy: time limits, retries and original destinations |

/// Returns whether a header, named in lower case, is not a client's to send.
pub fn is_reserved(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("x-") else { return name == "forwarded" };
    const FAMILIES: [&str; 6] =
        ["forwarded-", "gateway-destination-endpoint", "gateway-model-name", "prefiller-", "data-parallel-", "envoy-"];
    match rest {
        "real-ip"
        | "gateway-base-model-name"
        | "encoder-hosts-ports"
        | "kv-cache-source-host-port"
        | "worker-instance-id"
        | "prefill-instance-id"
        | "smg-target-worker"
        | "smg-routing-key" => true,
        _ => FAMILIES.iter().any(|family| rest.starts_with(family)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_neither_who_it_is_nor_where_its_request_goes() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-client-cert",
            "x-real-ip",
            "x-gateway-destination-endpoint",
            "x-gateway-destination-endpoint-subset",
            "x-gateway-model-name-rewrite",
            "x-prefiller-host-port",
            "x-prefiller-url",
            "x-kv-cache-source-host-port",
            "x-data-parallel-host-port",
            "x-data-parallel-rank",
            "x-envoy-original-dst-host",
        ] {
            assert!(is_reserved(name), "{name}");
        }
    }

    #[test]
    fn what_a_client_may_say_passes() {
        for name in [
            "host",
            "x-request-id",
            "traceparent",
            "authorization",
            "x-gateway-inference-objective",
            "x-llm-d-inference-objective",
            "x-session-id",
            "x-api-key",
            "forwarded-by-me",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
