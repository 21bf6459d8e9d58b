//! Redirects.
//!
//! Source: Gateway API, `HTTPRequestRedirectFilter`. What the filter does not say is kept from the request; the port
//! without a word of it is that of the filter's scheme or else the listener's, and it is left out where it is the
//! scheme's own.

use std::fmt;

use super::faults::{Faults, precise_hostname};
use super::path_modifier::PathModifier;
use crate::kinds::http_route::HttpRequestRedirectFilter;

/// The status code where the filter has none.
const FOUND: u16 = 302;

/// The status codes that a filter may have.
const CODES: [u16; 5] = [301, 302, 303, 307, 308];

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The scheme; the listener's if absent.
    pub scheme: Option<Scheme>,
    /// The host; the request's if absent.
    pub hostname: Option<String>,
    /// The port; derived from scheme and listener if absent.
    pub port: Option<u16>,
    /// How the path is changed; not at all if absent.
    pub path: Option<PathModifier>,
    /// The status code.
    pub status: u16,
}

/// A scheme of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// `http`.
    #[default]
    Http,
    /// `https`.
    Https,
}

/// The parts of a request that a redirect may keep.
#[derive(Clone, Copy, Debug)]
pub struct RedirectContext<'r> {
    /// The listener's scheme.
    pub scheme: Scheme,
    /// The host of the request, without port and without the brackets of an IPv6 address; empty if it has none.
    pub host: &'r str,
    /// The listener's port, as its spec has it.
    pub port: u16,
    /// The path of the request.
    pub path: &'r str,
    /// The query of the request, without its `?`.
    pub query: &'r str,
    /// The prefix that the rule matched, without a slash at its end, as
    /// [`HttpMatch::prefix`](super::table::HttpMatch::prefix) returns it.
    pub matched: Option<&'r str>,
}

impl Scheme {
    /// Returns the scheme's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the port that need not be written.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Redirect {
    pub(super) fn compile(path: &str, spec: &HttpRequestRedirectFilter, faults: &mut Faults) -> Self {
        let HttpRequestRedirectFilter { scheme, hostname, path: modifier, port, status_code } = spec;
        let scheme = scheme.as_deref().and_then(|scheme| match scheme {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            other => {
                faults.unsupported(format!("{path}.scheme"), format!("`{other}` is neither `http` nor `https`"));
                None
            }
        });
        let wanted = *port;
        let port = wanted.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if wanted.is_some() && port.is_none() {
            faults.unsupported(format!("{path}.port"), "must be between 1 and 65535");
        }
        let wanted = status_code.unwrap_or(FOUND.into());
        let status = CODES.into_iter().find(|code| i64::from(*code) == wanted).unwrap_or_else(|| {
            faults.unsupported(format!("{path}.statusCode"), format!("{wanted} is not one of {CODES:?}"));
            FOUND
        });
        let hostname = hostname.as_deref().map(|name| precise_hostname(&format!("{path}.hostname"), name, faults));
        let modifier = modifier.as_ref().and_then(|spec| PathModifier::compile(&format!("{path}.path"), spec, faults));
        Self { scheme, hostname, port, path: modifier, status }
    }

    /// Returns the status code and the `Location` for a request.
    ///
    /// Without any host it is a path, which clients resolve against what they asked for.
    pub fn location(&self, request: &RedirectContext<'_>) -> (u16, String) {
        let scheme = self.scheme.unwrap_or(request.scheme);
        let port = self.port.or_else(|| self.scheme.map(Scheme::default_port)).unwrap_or(request.port);
        let host = self.hostname.as_deref().unwrap_or(request.host);
        let mut location = match host {
            "" => String::new(),
            address if address.contains(':') => format!("{scheme}://[{address}]"),
            name => format!("{scheme}://{name}"),
        };
        if !host.is_empty() && port != scheme.default_port() {
            location.push_str(&format!(":{port}"));
        }
        match &self.path {
            Some(modifier) => location.push_str(&modifier.apply(request.path, request.matched)),
            None => location.push_str(request.path),
        }
        if !request.query.is_empty() {
            location.push('?');
            location.push_str(request.query);
        }
        (self.status, location)
    }
}
