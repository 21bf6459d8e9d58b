//! Cross-origin resource sharing.
//!
//! Source: Gateway API, `HTTPCORSFilter`, and the Fetch standard, "CORS protocol". An origin's port may be left out
//! where it is the scheme's own; `*.` in front of a host stands for one or more labels, and `*` alone for every host.
//! With credentials no `*` is sent: the wildcard then is answered with what the request asks for, or not at all.
//! Without them methods and headers are answered in the same way, because to browsers `*` does not include
//! `Authorization`.

use super::faults::{Faults, RouteFault};
use super::predicate::METHODS;
use super::redirect::Scheme;
use crate::hostname::Hostname;
use crate::kinds::http_route::HttpCorsFilter;
use crate::kinds::names::{is_dns_subdomain, is_header_name};

/// For how many seconds a browser remembers a preflight where the filter does not say.
const DEFAULT_MAX_AGE: u32 = 5;

/// The most origins, and the most headers of each list.
const MAX_ENTRIES: usize = 64;

/// The response headers that belong to this filter: a backend's own are removed before they are set.
pub const RESPONSE_HEADERS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
];

/// Headers of an answer: names in lower case, values.
pub type ResponseHeaders = Vec<(&'static str, String)>;

/// Which requests of other origins browsers are to let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The origins.
    pub origins: Origins,
    /// Whether requests may carry credentials.
    pub credentials: bool,
    /// The methods.
    pub methods: Allowed,
    /// The request headers.
    pub headers: Allowed,
    /// The response headers that scripts may read.
    pub expose: Allowed,
    /// For how many seconds a browser may remember a preflight.
    pub max_age: u32,
}

/// Origins that are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All of them.
    Any,
    /// Those that match one of these.
    Listed(Vec<OriginPattern>),
}

/// Names that are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All of them.
    Any,
    /// These, joined by commas; may be empty.
    Listed(String),
}

/// Origins with one scheme and port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Scheme,
    host: Hostname,
    port: u16,
}

impl Cors {
    /// Reads a policy that is written by itself, with the fields of the filter.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it; one that lets nobody in is meant otherwise.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spec: HttpCorsFilter = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let mut faults = Faults::of_route();
        let cors = Self::compile("cors", &spec, &mut faults);
        if spec.allow_origins.is_empty() {
            faults.unsupported("cors.allowOrigins", "must name at least one origin, or `*`");
        }
        match faults.found.first() {
            None => Ok(cors),
            Some(RouteFault { fault, .. }) => Err(format!("`{}`: {}", fault.path, fault.message)),
        }
    }

    pub(super) fn compile(path: &str, spec: &HttpCorsFilter, faults: &mut Faults) -> Self {
        let max_age = spec.max_age.map(|seconds| u32::try_from(seconds).ok().filter(|seconds| *seconds > 0));
        if max_age == Some(None) {
            faults.unsupported(format!("{path}.maxAge"), "must be between 1 and 4294967295");
        }
        let is_method = |name: &str| METHODS.contains(&name);
        Self {
            origins: Origins::compile(&format!("{path}.allowOrigins"), &spec.allow_origins, faults),
            credentials: spec.allow_credentials == Some(true),
            methods: Allowed::compile(&format!("{path}.allowMethods"), &spec.allow_methods, is_method, faults),
            headers: Allowed::compile(&format!("{path}.allowHeaders"), &spec.allow_headers, is_header_name, faults),
            expose: Allowed::compile(&format!("{path}.exposeHeaders"), &spec.expose_headers, is_header_name, faults),
            max_age: max_age.flatten().unwrap_or(DEFAULT_MAX_AGE),
        }
    }

    /// Returns the headers of the answer, 204 without a body, to a preflight from `origin` that asks for a method and,
    /// joined by commas, for headers.
    ///
    /// An origin that is not let in gets none of the headers, and its browser refuses to go on.
    pub fn preflight(&self, origin: &str, method: &str, headers: Option<&str>) -> ResponseHeaders {
        let Some(mut answer) = self.origin(origin) else { return vec![("vary", "Origin".to_owned())] };
        self.methods.answer("access-control-allow-methods", Some(method), self.credentials, &mut answer);
        self.headers.answer("access-control-allow-headers", headers, self.credentials, &mut answer);
        self.expose.answer("access-control-expose-headers", None, self.credentials, &mut answer);
        answer.push(("access-control-max-age", self.max_age.to_string()));
        // Browsers keep preflights by method and headers; whatever else may keep this answer must do so too.
        answer.push(("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers".to_owned()));
        answer
    }

    /// Returns the headers that are added to the answer to a request from `origin` that is not a preflight.
    ///
    /// Those in [`RESPONSE_HEADERS`] replace the backend's; `vary` is added to the backend's.
    pub fn simple(&self, origin: &str) -> ResponseHeaders {
        let mut answer = self.origin(origin).unwrap_or_default();
        if !answer.is_empty() {
            self.expose.answer("access-control-expose-headers", None, self.credentials, &mut answer);
        }
        if self.depends_on_origin() {
            answer.push(("vary", "Origin".to_owned()));
        }
        answer
    }

    /// Returns whether the answer to a request without `Origin` has to say that one with it may get another.
    pub fn depends_on_origin(&self) -> bool {
        self.credentials || self.origins != Origins::Any
    }

    /// Returns the headers that let an origin in; `None` if it is not let in.
    fn origin(&self, origin: &str) -> Option<ResponseHeaders> {
        if !self.origins.contain(origin) {
            return None;
        }
        let allowed = if self.depends_on_origin() { origin } else { "*" };
        let mut answer = vec![("access-control-allow-origin", allowed.to_owned())];
        if self.credentials {
            answer.push(("access-control-allow-credentials", "true".to_owned()));
        }
        Some(answer)
    }
}

impl Origins {
    fn compile(path: &str, spec: &[String], faults: &mut Faults) -> Self {
        faults.at_most(MAX_ENTRIES, spec.len(), path);
        if is_wildcard(path, spec, faults) {
            return Self::Any;
        }
        let mut patterns = Vec::with_capacity(spec.len());
        for (index, origin) in spec.iter().enumerate().filter(|(_, origin)| *origin != "*") {
            match OriginPattern::parse(origin) {
                Some(pattern) => patterns.push(pattern),
                None => {
                    let message = format!("`{origin}` is not an origin such as `https://example.com`");
                    faults.unsupported(format!("{path}[{index}]"), message);
                }
            }
        }
        Self::Listed(patterns)
    }

    /// Returns whether an origin is let in.
    pub fn contain(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => {
                let origin = origin.to_ascii_lowercase();
                let Some((scheme, host, port)) = parts(&origin) else { return false };
                patterns
                    .iter()
                    .any(|pattern| (pattern.scheme, pattern.port) == (scheme, port) && pattern.host.matches(host))
            }
        }
    }
}

impl OriginPattern {
    fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (scheme, host, port) = parts(&lower)?;
        let host = match host {
            "*" => Hostname::Any,
            host if is_dns_subdomain(host.strip_prefix("*.").unwrap_or(host)) => Hostname::parse(Some(host)),
            _ => return None,
        };
        Some(Self { scheme, host, port })
    }
}

impl Allowed {
    fn compile(path: &str, spec: &[String], is_valid: impl Fn(&str) -> bool, faults: &mut Faults) -> Self {
        faults.at_most(MAX_ENTRIES, spec.len(), path);
        if is_wildcard(path, spec, faults) {
            return Self::Any;
        }
        for (index, name) in spec.iter().enumerate().filter(|(_, name)| *name != "*" && !is_valid(name)) {
            faults.unsupported(format!("{path}[{index}]"), format!("`{name}` cannot be used here"));
        }
        Self::Listed(spec.join(", "))
    }

    /// Answers what was `asked` for, if anything.
    fn answer(&self, header: &'static str, asked: Option<&str>, credentials: bool, answer: &mut ResponseHeaders) {
        let value = match (self, asked) {
            (Self::Listed(names), _) => names.as_str(),
            (Self::Any, Some(asked)) => asked,
            (Self::Any, None) if credentials => "",
            (Self::Any, None) => "*",
        };
        if !value.is_empty() {
            answer.push((header, value.to_owned()));
        }
    }
}

/// Returns whether a request is a preflight: what its method is, and whether it has the headers that make it one.
pub fn is_preflight(method: &str, origin: Option<&str>, requested_method: Option<&str>) -> bool {
    method == "OPTIONS" && origin.is_some() && requested_method.is_some()
}

/// Returns whether a list is the wildcard, which must stand alone.
fn is_wildcard(path: &str, spec: &[String], faults: &mut Faults) -> bool {
    let has_wildcard = spec.iter().any(|entry| entry == "*");
    if has_wildcard && spec.len() > 1 {
        faults.unsupported(path, "`*` must be the only entry");
    }
    has_wildcard && spec.len() == 1
}

/// Returns scheme, host and port of an origin in lower case.
fn parts(origin: &str) -> Option<(Scheme, &str, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let scheme = [Scheme::Http, Scheme::Https].into_iter().find(|known| known.as_str() == scheme)?;
    // An IPv6 address is in brackets and has colons of its own; it can be let in by a wildcard only.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (rest, scheme.default_port()),
    };
    (!host.is_empty()).then_some((scheme, host, port))
}
