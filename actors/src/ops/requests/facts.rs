//! What is said of a request at its end, in the access log and the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Uri, Version};
use kthena_router::inference::api::Api;
use kthena_router::inference::usage::Usage;
use kthena_router::scheduling::endpoint::Endpoint;
use uuid::Uuid;

/// The header that names a request in all logs.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over from a client, in bytes.
const MAX_REQUEST_ID: usize = 256;

/// What is known of a request.
pub(crate) struct Facts {
    /// The client's address.
    pub client: HeaderValue,
    /// The method.
    pub method: Method,
    /// The authority, the path and the query.
    pub uri: Uri,
    /// The version of HTTP that the client speaks.
    pub version: Version,
    /// What the client says that it is.
    pub user_agent: Option<HeaderValue>,
    /// The request's id: the client's, or one that was made.
    pub request_id: HeaderValue,
    /// The API that the request is for.
    pub api: Option<Api>,
    /// When the request's head was there.
    pub started: Instant,
    /// The model that the request names, if it was read.
    pub model: Option<Arc<str>>,
    /// Whether the client asks for a stream.
    pub stream: bool,
    /// The Gateway that took the request.
    pub gateway: Option<Arc<str>>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The endpoint that computed the prompt, where it was another one.
    pub prefill: Option<Arc<Endpoint>>,
    /// How long the request has waited for its pool to have room, if it had to.
    pub waited: Option<Duration>,
    /// How often the request was sent.
    pub attempts: u32,
    /// The status of the engine's answer.
    pub upstream_status: Option<u16>,
    /// What the engine says it consumed.
    pub usage: Option<Usage>,
    /// The bytes of the answer's body that were passed on.
    pub bytes: u64,
    /// What went wrong, in words.
    pub error_text: Option<String>,
    /// When the body was read, the first attempt sent, and the answer's head there.
    pub marks: Marks,
}

/// The times at which a request passes from one stage to the next.
#[derive(Clone, Copy, Default)]
pub(crate) struct Marks {
    pub body_read: Option<Instant>,
    pub sent: Option<Instant>,
    pub answered: Option<Instant>,
    /// When the last attempt was sent to an endpoint that had the prompt computed elsewhere.
    pub decoding: Option<Instant>,
}

/// How a request ends.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub status: u16,
    pub reason: &'static str,
    pub error: Option<&'static str>,
}

impl Facts {
    /// Notes what the head of a request says.
    pub(crate) fn of(client: &HeaderValue, head: &Parts) -> Box<Self> {
        // Made where it stays, because it is large.
        Box::write(
            Box::new_uninit(),
            Self {
                client: client.clone(),
                method: head.method.clone(),
                uri: head.uri.clone(),
                version: head.version,
                user_agent: head.headers.get(USER_AGENT).cloned(),
                request_id: request_id(head),
                api: None,
                started: Instant::now(),
                model: None,
                stream: false,
                gateway: None,
                endpoint: None,
                prefill: None,
                waited: None,
                attempts: 0,
                upstream_status: None,
                usage: None,
                bytes: 0,
                error_text: None,
                marks: Marks::default(),
            },
        )
    }

    /// Returns the request's id, which is plain ASCII: that costs less to see at once than byte by byte.
    pub(crate) fn request_id(&self) -> &str {
        str::from_utf8(self.request_id.as_bytes()).unwrap_or_default()
    }

    /// Returns the seconds from a whole body to the first attempt: to parse it, decide, and pick an endpoint; not to
    /// wait for the pool.
    pub(crate) fn overhead(&self) -> Option<f64> {
        let Marks { body_read, sent, .. } = self.marks;
        let taken = sent?.checked_duration_since(body_read?)?;
        Some(taken.saturating_sub(self.waited.unwrap_or_default()).as_secs_f64())
    }
}

/// Returns the client's request id if it can be passed on and logged, or makes one.
fn request_id(head: &Parts) -> HeaderValue {
    let given = head.headers.get(REQUEST_ID);
    let usable = |value: &&HeaderValue| {
        !value.is_empty() && value.len() <= MAX_REQUEST_ID && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(value) = given.filter(usable) {
        return value.clone();
    }
    let mut buffer = Uuid::encode_buffer();
    let made = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(made).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
