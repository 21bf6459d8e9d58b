//! HTTPRoutes as the router reads them, with the fields of Gateway API v1.7.
//!
//! Fields that the router has no use for are left out. Words and numbers that the API bounds are read as they come,
//! because a value that cannot be used spoils one rule and not the whole route; what is wrong with them is said by
//! [`HttpRoute::compile`](crate::routing::http::route::HttpRoute::compile).
//!
//! Source: <https://gateway-api.sigs.k8s.io/reference/spec/#httproute>.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::gateway::LocalObjectReference;
use super::parent_reference::ParentReference;

/// Routes requests by host, path, method, headers and query.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    plural = "httproutes",
    namespaced,
    status = "serde_json::Value",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// The Gateways and ListenerSets that the route attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,

    /// The hosts that the route is for; those of its listeners if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,

    /// What to do with which requests; one rule that matches every request if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<HttpRouteRule>,
}

/// What to do with some requests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Name of the rule, unique in its route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// The requests: those of any of these; every request if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpRouteMatch>,

    /// What is done with requests and answers on their way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,

    /// Where the requests go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<HttpBackendRef>,

    /// How long requests may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<HttpRouteTimeouts>,

    /// Which requests are tried again; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<HttpRouteRetry>,
}

/// Describes requests; everything that it says must hold.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// The path; every path if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPathMatch>,

    /// The headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HttpValueMatch>,

    /// The parameters of the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<HttpValueMatch>,

    /// The method, for example `GET`; every method if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Describes paths.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HttpPathMatch {
    /// `Exact`, `PathPrefix` or `RegularExpression`; `PathPrefix` if absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,

    /// The path, prefix or expression; `/` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Describes the value of a header, or of a parameter of the query.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HttpValueMatch {
    /// `Exact` or `RegularExpression`; `Exact` if absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,

    /// Name of the header or parameter.
    pub name: String,

    /// The value or expression.
    pub value: String,
}

/// A backend and its share of the requests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpBackendRef {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,

    /// Kind.
    #[serde(default = "service_kind")]
    pub kind: String,

    /// Name.
    pub name: String,

    /// Namespace; that of the route if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,

    /// Port, which a reference to a Service must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,

    /// The share, as a part of the sum of all weights; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,

    /// What is done with the requests to this backend and with its answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

/// Names a backend.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct BackendObjectReference {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,

    /// Kind.
    #[serde(default = "service_kind")]
    pub kind: String,

    /// Name.
    pub name: String,

    /// Namespace; that of the route if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,

    /// Port, which a reference to a Service must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Something that is done with requests or answers, of a rule or of one of its backends.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Which of the fields below counts, for example `RequestRedirect`.
    #[serde(rename = "type")]
    pub kind: String,

    /// Changes the headers of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HttpHeaderFilter>,

    /// Changes the headers of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HttpHeaderFilter>,

    /// Sends a copy of requests to another backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<HttpRequestMirrorFilter>,

    /// Answers with a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<HttpRequestRedirectFilter>,

    /// Changes the host and path of requests.
    #[serde(default, rename = "urlRewrite", skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<HttpUrlRewriteFilter>,

    /// Lets scripts of other origins make requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<HttpCorsFilter>,

    /// A filter of an implementation's own; this one has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_ref: Option<LocalObjectReference>,
}

/// Changes headers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HttpHeaderFilter {
    /// Headers that are replaced, or added where they are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HttpHeader>,

    /// Headers whose value is appended to what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HttpHeader>,

    /// Names of headers that are removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HttpHeader {
    /// Name.
    pub name: String,

    /// Value.
    pub value: String,
}

/// Sends a copy of requests to another backend.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequestMirrorFilter {
    /// The backend.
    pub backend_ref: BackendObjectReference,

    /// Of how many requests in a hundred; of all if this and the fraction are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,

    /// Of which part of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
}

/// A part of a whole.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Fraction {
    /// The numerator.
    pub numerator: i64,

    /// The denominator; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denominator: Option<i64>,
}

/// Answers with a redirect.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequestRedirectFilter {
    /// `http` or `https`; that of the request if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,

    /// The host; that of the request if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,

    /// What becomes of the path; nothing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPathModifier>,

    /// The port; derived from scheme and listener if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,

    /// The status code; 302 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<i64>,
}

/// Changes the host and path of requests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HttpUrlRewriteFilter {
    /// The new host; the old one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,

    /// What becomes of the path; nothing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPathModifier>,
}

/// Changes a path.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpPathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub kind: String,

    /// The path in place of the whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<String>,

    /// The path in place of the prefix that the rule matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
}

/// Lets scripts of other origins make requests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCorsFilter {
    /// The origins, for example `https://*.example.com`, or `*` alone for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,

    /// Whether requests may carry credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,

    /// The methods, or `*` alone for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,

    /// The request headers, or `*` alone for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,

    /// The response headers that scripts may read, or `*` alone for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,

    /// For how many seconds a browser may remember the answer; 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<i64>,
}

/// How long requests may take, as Gateway API durations such as `500ms`; `0s` means without an end.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteTimeouts {
    /// From the request to the end of the answer, with all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,

    /// Each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<String>,
}

/// Which requests are tried again.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HttpRouteRetry {
    /// Those that are answered with one of these status codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<i64>,

    /// How often at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,

    /// The shortest time before each retry, as a Gateway API duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
}

fn service_kind() -> String {
    "Service".to_owned()
}
