//! What every worker thread of one engine shares.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{HttpRequest, web::Bytes};
use tokio::sync::Semaphore;

use crate::{
    api::stored::StoredResponses,
    cache::Cache,
    config::EngineConfig,
    faults::{FaultError, Faults},
    gauges::Gauges,
    models::{Model, ModelSet},
    transfer::Transfers,
};

/// An inference request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// Method, in capitals.
    pub method: String,
    /// Path with the query, as sent.
    pub path: String,
    /// Names in small letters with their values, repeated names together.
    pub headers: Vec<(String, String)>,
    /// Body, complete.
    pub body: Bytes,
}

/// One engine, as its handlers see it.
#[derive(Debug)]
pub(crate) struct EngineState {
    /// Configuration at the start.
    pub config: EngineConfig,
    /// Live figures.
    pub gauges: Gauges,
    /// Faults on demand.
    pub faults: Faults,
    /// Models that requests may name.
    pub models: ModelSet,
    /// Places for running requests; none when their number is unlimited.
    pub places: Option<Arc<Semaphore>>,
    /// The cache of prompts, where there is one.
    pub cache: Option<ToldCache>,
    /// What is held for other engines.
    pub transfers: Transfers,
    /// Responses that clients may ask for.
    pub responses: StoredResponses,
    /// A number that no other engine has.
    pub life: u64,
    last_request: Mutex<Option<RecordedRequest>>,
}

/// A cache, and where its changes are told.
#[derive(Debug)]
pub(crate) struct ToldCache {
    pub cache: Cache,
    /// Port of the messages.
    pub port: u16,
    /// Port of their replays.
    pub replay_port: Option<u16>,
}

impl EngineState {
    /// Makes the state of an idle engine with the adapters of the configuration.
    pub(crate) fn new(config: EngineConfig, cache: Option<ToldCache>) -> Result<Self, FaultError> {
        let now = seconds_since_epoch();
        let models = ModelSet::new(Model::new(&config.model, &config.model, None, now));
        for name in &config.loras {
            models.load(name, name, now);
        }
        let places = config.max_concurrency.min(Semaphore::MAX_PERMITS);
        Ok(Self {
            gauges: Gauges::default(),
            faults: Faults::new(config.error_rate, config.error_status)?,
            models,
            places: (places > 0).then(|| Arc::new(Semaphore::new(places))),
            cache,
            transfers: Transfers::new(),
            responses: StoredResponses::default(),
            life: rand::random(),
            last_request: Mutex::new(None),
            config,
        })
    }

    /// Keeps a request when the configuration asks for it.
    pub(crate) fn record(&self, request: &HttpRequest, body: &Bytes) {
        if !self.config.record {
            return;
        }
        let headers = request.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        });
        let recorded = RecordedRequest {
            method: request.method().to_string(),
            path: request.uri().to_string(),
            headers: headers.collect(),
            body: body.clone(),
        };
        let mut last = self.last_request.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(recorded);
    }

    /// Returns the request that was kept last.
    pub(crate) fn last_request(&self) -> Option<RecordedRequest> {
        let last = self.last_request.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}

/// Reads the clock, as APIs write it.
pub(crate) fn seconds_since_epoch() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_secs())
}
