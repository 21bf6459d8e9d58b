//! The filters of a rule or of a backend, compiled.
//!
//! Source: Gateway API, `HTTPRouteFilter`. A filter of one type occurs once, mirrors excepted; a redirect and a rewrite
//! exclude each other, and a redirect leaves nothing for backends to do. A filter that cannot be applied must not be
//! passed over: its rule answers 500 instead. That is also the fate of `ExternalAuth` and `ExtensionRef`, of which this
//! router has none.

use crate::kinds::http_route::{Filter, HttpRequestMirrorFilter, HttpUrlRewriteFilter};
use crate::object::ObjectKey;

use super::backend_reference::BackendReference;
use super::cors::Cors;
use super::faults::{Faults, precise_hostname};
use super::headers::HeaderEdits;
use super::path_modifier::PathModifier;
use super::redirect::Redirect;

/// The most filters of one rule or backend.
const MAX_FILTERS: usize = 16;

/// How requests and answers of a rule or of a backend are changed.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Changes of the request's headers.
    pub request_headers: HeaderEdits,
    /// Changes of the answer's headers.
    pub response_headers: HeaderEdits,
    /// Changes of the request's host and path.
    pub rewrite: Option<Rewrite>,
    /// The redirect that requests are answered with.
    pub redirect: Option<Redirect>,
    /// The backends that get copies of requests.
    pub mirrors: Vec<Mirror>,
    /// Which requests of other origins are let through.
    pub cors: Option<Cors>,
}

/// Changes of a request's host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The new host.
    pub hostname: Option<String>,
    /// How the path is changed.
    pub path: Option<PathModifier>,
}

/// A backend that gets copies of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The backend.
    pub reference: BackendReference,
    /// The share of the requests.
    pub share: Share,
}

/// A share of requests: a numerator, and a denominator that is neither zero nor less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32, u32);

impl Mirror {
    fn compile(path: &str, spec: &HttpRequestMirrorFilter, route: &ObjectKey, faults: &mut Faults) -> Self {
        let reference = BackendReference::of_object(route, &spec.backend_ref);
        let (numerator, denominator) = match (spec.percent, &spec.fraction) {
            (Some(_), Some(_)) => {
                faults.unsupported(path, "only one of `percent` and `fraction` may be given");
                (1, 1)
            }
            (Some(percent), None) => (percent, 100),
            (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
            (None, None) => (1, 1),
        };
        let share = match (u32::try_from(numerator), u32::try_from(denominator)) {
            (Ok(numerator), Ok(denominator)) if denominator > 0 && numerator <= denominator => {
                Share(numerator, denominator)
            }
            _ => {
                faults.unsupported(path, format!("the share {numerator}/{denominator} is not between 0 and 1"));
                Share(0, 1)
            }
        };
        Self { reference, share }
    }
}

impl Share {
    /// Returns whether a request belongs to the share; `draw(n)` must return a uniformly random number below `n`.
    pub fn is_drawn(self, draw: impl FnOnce(u64) -> u64) -> bool {
        let Self(numerator, denominator) = self;
        numerator == denominator || (numerator > 0 && draw(denominator.into()) < numerator.into())
    }
}

impl Filters {
    /// No filter at all.
    pub const NONE: Self = Self {
        request_headers: HeaderEdits::NONE,
        response_headers: HeaderEdits::NONE,
        rewrite: None,
        redirect: None,
        mirrors: Vec::new(),
        cors: None,
    };

    /// Returns whether the whole path of requests is replaced.
    pub fn replaces_path(&self) -> bool {
        let rewrite = self.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        matches!(rewrite, Some(PathModifier::Full(_)))
    }

    /// Compiles a list of filters.
    pub(super) fn compile(path: &str, specs: &[Filter], route: &ObjectKey, faults: &mut Faults) -> Self {
        faults.at_most(MAX_FILTERS, specs.len(), path);
        let mut filters = Self::default();
        for (index, spec) in specs.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let kind = spec.kind.as_str();
            let repeated = specs[..index].iter().any(|earlier| earlier.kind == kind);
            if repeated && kind != "RequestMirror" {
                faults.incompatible(&path, format!("the filter `{kind}` must not be repeated"));
            }
            filters.add(&path, spec, route, faults);
        }
        let has = |kind: &str| specs.iter().any(|spec| spec.kind == kind);
        if has("RequestRedirect") && has("URLRewrite") {
            faults.incompatible(path, "`RequestRedirect` and `URLRewrite` exclude each other");
        }
        filters
    }

    fn add(&mut self, path: &str, spec: &Filter, route: &ObjectKey, faults: &mut Faults) {
        let kind = spec.kind.as_str();
        let at = |field: &str| format!("{path}.{field}");
        let missing = match kind {
            "RequestHeaderModifier" => spec.request_header_modifier.as_ref().map(|edits| {
                self.request_headers = HeaderEdits::compile(&at("requestHeaderModifier"), edits, faults);
            }),
            "ResponseHeaderModifier" => spec.response_header_modifier.as_ref().map(|edits| {
                self.response_headers = HeaderEdits::compile(&at("responseHeaderModifier"), edits, faults);
            }),
            "RequestMirror" => spec.request_mirror.as_ref().map(|mirror| {
                self.mirrors.push(Mirror::compile(&at("requestMirror"), mirror, route, faults));
            }),
            "RequestRedirect" => spec.request_redirect.as_ref().map(|redirect| {
                self.redirect = Some(Redirect::compile(&at("requestRedirect"), redirect, faults));
            }),
            "URLRewrite" => spec.url_rewrite.as_ref().map(|rewrite| {
                self.rewrite = Some(Rewrite::compile(&at("urlRewrite"), rewrite, faults));
            }),
            "CORS" => spec.cors.as_ref().map(|cors| self.cors = Some(Cors::compile(&at("cors"), cors, faults))),
            other => {
                faults.unsupported(at("type"), format!("the filter `{other}` is not served"));
                return;
            }
        }
        .is_none();
        if missing {
            faults.unsupported(path, format!("the settings of the filter `{kind}` are missing"));
        }
    }

    /// Returns whether a prefix of the path is replaced, which takes a match by prefix.
    pub(super) fn replaces_prefix(&self) -> bool {
        let redirect = self.redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        let rewrite = self.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        [redirect, rewrite].into_iter().flatten().any(|path| matches!(path, PathModifier::Prefix(_)))
    }
}

impl Rewrite {
    fn compile(path: &str, spec: &HttpUrlRewriteFilter, faults: &mut Faults) -> Self {
        let hostname = spec.hostname.as_deref();
        let modifier = spec.path.as_ref();
        Self {
            hostname: hostname.map(|name| precise_hostname(&format!("{path}.hostname"), name, faults)),
            path: modifier.and_then(|spec| PathModifier::compile(&format!("{path}.path"), spec, faults)),
        }
    }
}
