//! One inference request from its arrival to its answer.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
    },
    web,
};

use super::{
    Api, ApiError,
    answer::{Answer, FinishReason},
    events::Transcript,
    legs::{self, Prefill},
    request::{InferenceRequest, read_body},
    stored::Wish,
    stream::{Cut, TokenStream, broken_body, no_body},
};
use crate::{
    admission::{Visit, Waiting},
    cache,
    connection::Connection,
    faults::{Breakage, FAULT_HEADER, FaultPlan},
    state::EngineState,
    transfer::leg::Leg,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is decided before anything waits.
struct Task {
    answer: Answer,
    leg: Leg,
    plan: FaultPlan,
    streams: bool,
    includes_usage: bool,
}

/// Answers one request.
pub(crate) async fn serve(
    api: Api,
    request: HttpRequest,
    payload: web::Payload,
    engine: web::Data<EngineState>,
) -> HttpResponse {
    let engine = engine.into_inner();
    let mut visit = Visit::begin(Arc::clone(&engine));
    let body = match read_body(payload).await {
        Ok(body) => body,
        Err(error) => {
            // A body that ends early is a client that left.
            if matches!(error, ApiError::TooLarge(_)) {
                visit.finish();
            }
            return refuse(&request, &error);
        }
    };
    engine.record(&request, &body);
    match prepare(api, &request, &body, &engine) {
        Ok(mut task) => {
            (task.answer.number, task.answer.life) = (visit.number, engine.life);
            if api == Api::Responses {
                match respond(&engine, &body, &task.answer) {
                    Ok(None) => {}
                    Ok(Some(queued)) => {
                        visit.finish();
                        return begin(&request, StatusCode::OK).insert_header((CONTENT_TYPE, JSON)).body(queued);
                    }
                    Err(error) => {
                        visit.finish();
                        return refuse(&request, &error);
                    }
                }
            }
            run(api, &request, &engine, visit, task).await
        }
        Err(error) => {
            visit.finish();
            refuse(&request, &error)
        }
    }
}

/// Keeps a response, and returns what is answered at once to a client that does not wait for it.
fn respond(engine: &EngineState, body: &[u8], answer: &Answer) -> Result<Option<String>, ApiError> {
    let wish = Wish::read(body);
    engine.responses.check(&wish)?;
    let tokens = u32::try_from(answer.tokens).unwrap_or(u32::MAX);
    let takes = engine.config.time_to_first_token + engine.config.time_per_output_token * tokens;
    engine.responses.keep(&wish, answer, takes);
    if wish.is_in_background() { engine.responses.render(&answer.response_id()).map(Some) } else { Ok(None) }
}

fn prepare(api: Api, request: &HttpRequest, body: &[u8], engine: &EngineState) -> Result<Task, ApiError> {
    let plan = match request.headers().get(FAULT_HEADER) {
        Some(directive) => FaultPlan::parse(&String::from_utf8_lossy(directive.as_bytes()))?,
        None => engine.faults.plan(),
    };
    if let Some(status) = plan.status {
        return Err(ApiError::Simulated(status));
    }
    let wanted = InferenceRequest::parse(body)?;
    let Some(model) = engine.models.find(&wanted.model) else {
        return Err(ApiError::UnknownModel(wanted.model.into_owned()));
    };
    let mut answer = Answer::new(model, wanted.prompt_tokens(), wanted.items());
    if let Some(told) = &engine.cache
        && let Some(prompt) = cache::prompt(body, answer.model.parent.as_ref().map(|_| &*answer.model.name))
    {
        answer.prompt_tokens = prompt.tokens.len() as u64;
        answer.cached_tokens = Some(told.cache.compute(&prompt));
    }
    answer.limit(engine.config.output_tokens, wanted.max_tokens());
    let leg = if api.generates() { legs::read(engine, body)? } else { Leg::Whole };
    if let Leg::Prefill(_) = leg {
        (answer.tokens, answer.finish_reason) = (1, FinishReason::Length);
    }
    Ok(Task {
        answer,
        leg,
        plan,
        streams: wanted.streams() && api.generates(),
        includes_usage: wanted.includes_usage(),
    })
}

async fn run(
    api: Api,
    request: &HttpRequest,
    engine: &Arc<EngineState>,
    mut visit: Visit,
    mut task: Task,
) -> HttpResponse {
    match task.plan.refusal {
        Some(Breakage::Reset) => return reset(request, visit),
        Some(Breakage::Hang) => {
            let model = Arc::clone(&task.answer.model);
            let _slot = visit.admit(model, task.answer.prompt_tokens).await;
            return std::future::pending().await;
        }
        None => {}
    }
    let model = Arc::clone(&task.answer.model);
    let waiting = matches!(task.leg, Leg::Decode(_)).then(|| Waiting::new(engine, &model));
    if let Err(error) = legs::fetch(engine, &task.leg, &mut task.answer).await {
        visit.finish();
        return refuse(request, &error);
    }
    drop(waiting);
    let connection = request.conn_data::<Connection>();
    let cut = task.plan.cut.map(|(after, breakage)| Cut {
        after,
        breakage,
        connection: connection.and_then(|connection| connection.duplicate().ok()),
    });
    if task.streams {
        return stream(api, request, visit, task, cut);
    }
    let prefill = Prefill::begin(engine, task.leg);
    answer_whole(api, request, engine, (visit, task.answer, prefill), cut).await
}

/// Breaks the connection without an answer.
fn reset(request: &HttpRequest, mut visit: Visit) -> HttpResponse {
    visit.finish();
    match request.conn_data::<Connection>().map(Connection::reset_on_close) {
        // The server drops the connection before it has written the head.
        Some(Ok(())) => HttpResponse::Ok().body(no_body()),
        _ => refuse(request, &ApiError::Simulated(StatusCode::INTERNAL_SERVER_ERROR)),
    }
}

async fn answer_whole(
    api: Api,
    request: &HttpRequest,
    engine: &Arc<EngineState>,
    (mut visit, answer, prefill): (Visit, Answer, Option<Prefill>),
    cut: Option<Cut>,
) -> HttpResponse {
    let model = Arc::clone(&answer.model);
    let mut slot = visit.admit(model, answer.prompt_tokens).await;
    slot.first_token(&visit, answer.prefilled).await;
    if api.generates() {
        slot.further_tokens(answer.tokens.saturating_sub(1)).await;
    }
    let mut body = answer.render(api);
    if let Some(prefill) = prefill {
        body = match prefill.hand_over(engine, request, &answer, body).await {
            Ok(body) => body,
            Err(error) => {
                visit.finish();
                return refuse(request, &error);
            }
        };
    }
    let mut response = begin(request, StatusCode::OK);
    response.insert_header((CONTENT_TYPE, JSON));
    if let Some(cut) = cut {
        return response.body(broken_body(&body.into(), cut, visit, slot));
    }
    visit.finish();
    response.body(body)
}

fn stream(api: Api, request: &HttpRequest, visit: Visit, task: Task, cut: Option<Cut>) -> HttpResponse {
    let transcript = Transcript::new(api, task.answer, task.includes_usage);
    let answer = TokenStream::new(visit, transcript, cut);
    begin(request, StatusCode::OK)
        .insert_header((CONTENT_TYPE, EVENT_STREAM))
        .insert_header((CACHE_CONTROL, NO_CACHE))
        .streaming(answer.into_chunks())
}

/// Begins a response that carries the identifier of its request.
fn begin(request: &HttpRequest, status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    if let Some(identifier) = request.headers().get(REQUEST_ID) {
        response.insert_header((REQUEST_ID, identifier.clone()));
    }
    response
}

fn refuse(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    let mut response = error.error_response();
    if let Some(identifier) = request.headers().get(REQUEST_ID) {
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, identifier.clone());
    }
    response
}
