//! Answers requests whose filters leave nothing to a backend: preflights and redirects.

use http::header::ACCESS_CONTROL_REQUEST_METHOD;
use kthena_router::inference::api::Call as Asks;
use kthena_router::routing::decision::Decision;
use kthena_router::routing::http::filters::Filters;
use kthena_router::routing::http::redirect::RedirectContext;

use super::call::Call;
use super::way::Way;
use crate::edge::answers::Early;
use crate::edge::errors::ProxyError;
use crate::edge::heads::{preflight, redirect, text};

/// Answers a request whose rule leaves nothing to a backend.
pub(super) fn of_rule<'w>(call: &mut Call<'w>, decision: &Decision<'w>) -> Result<(), Early> {
    filters(decision.steps.filters, call, decision).inspect_err(|_| call.attribute_to(decision, None))
}

/// Returns what a request is answered with that falls under no route: what its browser asks before a call of the
/// ModelRoutes, where their Gateway lets other origins in, and otherwise the error.
///
/// Which model the call will name is not known yet. So where several Gateways share the host, all of them must say the same.
pub(super) fn unrouted(call: &mut Call<'_>, error: ProxyError) -> Early {
    let asked = text(&call.head.headers, ACCESS_CONTROL_REQUEST_METHOD).unwrap_or_default();
    if call.sharing.is_none() || Asks::of(asked, call.head.uri.path()) == Asks::Unserved {
        return error.into();
    }
    let mut policies = call.listeners.iter().map(|listener| &listener.filters);
    let agreed = policies.next().filter(|first| policies.all(|filters| filters.cors == first.cors));
    let Some(answer) = agreed.and_then(|filters| preflight(filters, call.head)) else { return error.into() };
    call.sharing = None;
    answer.into()
}

/// Answers a request whose backend has filters that leave nothing to it.
pub(super) fn of_backend(call: &Call<'_>, way: &Way<'_>) -> Result<(), Early> {
    filters(way.target.filters, call, &way.decision)
}

fn filters(filters: &Filters, call: &Call<'_>, decision: &Decision<'_>) -> Result<(), Early> {
    let redirected = || {
        let to = filters.redirect.as_ref()?;
        let identity = &decision.listener.identity;
        let asked = RedirectContext {
            scheme: identity.scheme,
            host: &call.host(),
            port: identity.port,
            path: call.head.uri.path(),
            query: call.head.uri.query().unwrap_or_default(),
            matched: decision.steps.prefix,
        };
        redirect(to, &asked)
    };
    preflight(filters, call.head).or_else(redirected).map_or(Ok(()), |answer| Err(answer.into()))
}
