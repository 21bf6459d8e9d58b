//! Answers to requests that the engine does not serve, in vLLM's shape: `{"error":{"message","type","param","code"}}`.

use actix_web::{HttpResponse, ResponseError, body::BoxBody, error::PayloadError, http::StatusCode};
use serde::Serialize;
use thiserror::Error;

use crate::{
    faults::FaultError,
    transfer::{leg::Refusal, peer::NotFetched, rooms::Alone},
};

/// Why a request is not served.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// The body did not arrive whole.
    #[error("body cannot be read: {0}")]
    Payload(#[from] PayloadError),
    /// The body is larger than the engine takes.
    #[error("body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body is not the JSON of this endpoint.
    #[error("body is not a valid request: {0}")]
    Body(#[from] serde_json::Error),
    /// The named model is not served.
    #[error("The model `{0}` does not exist.")]
    UnknownModel(String),
    /// An adapter of this name is there already.
    #[error("The lora adapter '{0}' has already been loaded.")]
    AdapterLoaded(String),
    /// No adapter of this name is there.
    #[error("The lora adapter '{0}' cannot be found.")]
    AdapterUnknown(String),
    /// A fault cannot be set.
    #[error("fault cannot be set: {0}")]
    Fault(#[from] FaultError),
    /// A request is not for an engine of this role and connector.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A decode could not have its prompt.
    #[error("{0}")]
    NotFetched(#[from] NotFetched),
    /// One leg of two was in vain.
    #[error("KV transfer failed: {0}")]
    Alone(#[from] Alone),
    /// Nothing is held under an id.
    #[error("no blocks are held for request `{0}`")]
    NotHeld(String),
    /// No response has this id.
    #[error("Response with id '{0}' not found.")]
    UnknownResponse(String),
    /// A response that is not in the background cannot be cancelled.
    #[error("Cannot cancel a synchronous response.")]
    Synchronous,
    /// A fault on demand.
    #[error("simulated fault")]
    Simulated(StatusCode),
}

#[derive(Serialize)]
struct ErrorBody<'error> {
    error: ErrorDetail<'error>,
}

#[derive(Serialize)]
struct ErrorDetail<'error> {
    message: String,
    r#type: &'error str,
    param: Option<&'error str>,
    code: u16,
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::UnknownModel(_) | Self::AdapterUnknown(_) | Self::NotHeld(_) | Self::UnknownResponse(_) => {
                StatusCode::NOT_FOUND
            }
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Simulated(status) => *status,
            Self::NotFetched(_) | Self::Alone(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Synchronous
            | Self::Refused(_)
            | Self::Payload(_)
            | Self::Body(_)
            | Self::AdapterLoaded(_)
            | Self::Fault(_) => StatusCode::BAD_REQUEST,
        }
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let status = self.status_code();
        let (kind, param) = match self {
            Self::UnknownModel(_) => ("NotFoundError", Some("model")),
            Self::UnknownResponse(_) | Self::Synchronous => ("invalid_request_error", Some("response_id")),
            Self::AdapterUnknown(_) => ("NotFoundError", Some("lora_name")),
            Self::AdapterLoaded(_) => ("InvalidUserInput", Some("lora_name")),
            Self::NotFetched(_) | Self::Alone(_) => ("InternalServerError", None),
            Self::Simulated(status) if status.is_server_error() => ("InternalServerError", None),
            _ => ("BadRequestError", None),
        };
        HttpResponse::build(status).json(ErrorBody {
            error: ErrorDetail { message: self.to_string(), r#type: kind, param, code: status.as_u16() },
        })
    }
}
