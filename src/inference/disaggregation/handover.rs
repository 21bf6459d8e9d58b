//! What a prefill's answer hands over to the decode engine.

use std::str;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::connector::Connector;

/// The longest answer of a prefill engine, in bytes: the ids of a million tokens' blocks have a tenth of it.
pub const MAX_ANSWER: usize = 4 << 20;

/// What the decode engine has to know of the prefill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// The `kv_transfer_params` of the answer: an object, as it is written.
    params: Option<Bytes>,
}

/// Why a decode engine cannot go on from a prefill's answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandoverError {
    /// The answer is longer than the router reads.
    #[error("the prefill's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// The router has no memory for the answer beside what other requests take.
    #[error("there is no memory for the prefill's answer")]
    NoMemory,
    /// The answer is no JSON object, or one that names what is handed over twice.
    #[error("the prefill's answer is not what an engine answers: {0}")]
    Malformed(String),
    /// The answer hands nothing over. That is so if the engine runs without the connector, and if the one token of the
    /// prefill ended the text.
    #[error("the prefill's answer has no `kv_transfer_params`")]
    NoParams,
    /// What is handed over is not an object.
    #[error("`kv_transfer_params` in the prefill's answer is not an object")]
    ParamsNotAnObject,
}

/// A prefill's answer, as far as it is read.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    kv_transfer_params: Option<&'a RawValue>,
}

impl Handover {
    /// Reads the good answer of a prefill engine. Connectors that hand nothing over do not look at it.
    ///
    /// # Errors
    ///
    /// Returns why a decode engine could not go on from this answer. An answer of vLLM's own Mooncake tells nothing,
    /// which is found out by [`SplitRequest::decode`](super::SplitRequest::decode).
    pub fn read(connector: Connector, answer: &Bytes) -> Result<Self, HandoverError> {
        if answer.len() > MAX_ANSWER {
            return Err(HandoverError::TooLong);
        }
        if !connector.protocol().hands_over {
            return Ok(Self::default());
        }
        let malformed = |error: serde_json::Error| HandoverError::Malformed(error.to_string());
        let params = serde_json::from_slice::<Answer<'_>>(answer).map_err(malformed)?.kv_transfer_params;
        let params = params.map(RawValue::get).filter(|params| *params != "null");
        match params {
            None if connector == Connector::Nixl => Err(HandoverError::NoParams),
            Some(params) if !params.starts_with('{') => Err(HandoverError::ParamsNotAnObject),
            params => Ok(Self { params: params.map(|params| answer.slice_ref(params.as_bytes())) }),
        }
    }

    /// Returns what is handed over, as it was written.
    pub(super) fn params(&self) -> Option<&str> {
        self.params.as_ref().map(|params| str::from_utf8(params).expect("they were read as a text"))
    }
}
