//! Understands the bodies of inference calls: the one place that does.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use kthena_router::inference::api::Call as Asks;
use kthena_router::inference::coding::{Coding, codings};
use kthena_router::inference::understood::{MODEL_HEADER, NotUnderstood, Shape, Understood, shape};

use super::call::Call;
use crate::edge::bodies::Inbound;
use crate::edge::errors::ProxyError;
use crate::edge::heads::{decoded, text};

/// The header that may name the model ahead of the body.
pub(super) const MODEL: HeaderName = HeaderName::from_static(MODEL_HEADER);

/// Reads the body of an inference call that still has its headers.
pub(super) async fn understand_own(call: &mut Call<'_>, body: &mut Inbound) -> Result<(), ProxyError> {
    let mut headers = std::mem::take(&mut call.head.headers);
    let outcome = understand(call, &mut headers, body).await;
    call.head.headers = headers;
    outcome
}

/// Reads the body of an inference call, unless that was done already. A body that cannot be understood is no error
/// here: it may be for somebody who understands it. One that was decoded to be read stays so.
pub(super) async fn understand(
    call: &mut Call<'_>,
    headers: &mut HeaderMap,
    body: &mut Inbound,
) -> Result<(), ProxyError> {
    let (Asks::Inference(api), None) = (call.asks, &call.understood) else { return Ok(()) };
    call.exchange.api = Some(api);
    let shaped = shape(api, text(headers, CONTENT_TYPE)).and_then(|shape| Ok((shape, codings_of(headers)?)));
    let understood = match shaped {
        Err(fault) => Err(fault),
        Ok((Shape::Query, _)) => Understood::of_query(api, call.head.uri.query().unwrap_or_default()),
        Ok((Shape::Form(form), codings)) if codings.is_empty() => {
            let form = Box::pin(body.read_form(form)).await?;
            form.and_then(|form| Understood::of_form(api, &form))
        }
        Ok((shape, codings)) => {
            let is_json = matches!(shape, Shape::Json);
            let bytes = if is_json { body.read_json(&codings).await? } else { body.read(&codings).await? };
            if !codings.is_empty() {
                decoded(headers);
            }
            Understood::of(api, shape, "", bytes)
        }
    };
    call.exchange.marks.body_read = Some(Instant::now());
    if let Ok(understood) = &understood {
        if let Some(hint) = headers.get(MODEL) {
            understood.agrees_with(hint.as_bytes())?;
        }
        call.exchange.model = Some(Arc::clone(&understood.model));
        call.exchange.stream = understood.is_streamed();
    }
    call.understood = Some(understood);
    Ok(())
}

fn codings_of(headers: &HeaderMap) -> Result<Vec<Coding>, NotUnderstood> {
    let unread = |_| "a value that is no text";
    codings(headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or_else(unread)))
}
