//! One leg of a split request: what comes before it, and what follows its answer.

use std::sync::Arc;

use actix_web::HttpRequest;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::{ApiError, answer::Answer};
use crate::{
    cache::BLOCK,
    connection::Connection,
    faults::HandoverFault,
    state::EngineState,
    transfer::{
        KvConnector,
        holds::Holds,
        leg::{Fields, Handover, Leg},
        peer,
        rooms::Guest,
    },
};

/// Bytes of an answer that is far too long.
const HUGE: usize = 10 << 20;

/// A prefill from its beginning.
#[derive(Debug)]
pub(crate) struct Prefill {
    handover: Handover,
    /// Who waits in the rooms: from the beginning, so that a prefill that ends too early is missed at once.
    guests: Vec<Guest>,
}

/// Reads what a request is to the engine, and counts it.
pub(crate) fn read(engine: &EngineState, body: &[u8]) -> Result<Leg, ApiError> {
    if engine.config.kv_connector.is_none() {
        return Ok(Leg::Whole);
    }
    let counts = &engine.transfers.counts;
    let refused = |_: &_| {
        counts.refused.add(1);
    };
    let fields: Fields = serde_json::from_slice(body)?;
    let leg = Leg::of(&engine.config, &fields).inspect_err(refused)?;
    match leg {
        Leg::Whole => counts.alone.add(1),
        Leg::Prefill(_) => counts.prefills.add(1),
        Leg::Decode(_) => 0,
    };
    Ok(leg)
}

/// Fetches the prompt of a decode from where it was computed.
pub(crate) async fn fetch(engine: &Arc<EngineState>, leg: &Leg, answer: &mut Answer) -> Result<(), ApiError> {
    let Leg::Decode(source) = leg else { return Ok(()) };
    let counts = &engine.transfers.counts;
    let refused = |_: &_| {
        counts.refused.add(1);
    };
    let fetched = peer::fetch(engine, source).await.inspect_err(refused)?;
    if fetched {
        counts.decodes.add(1);
        answer.prefilled = true;
        // As vLLM counts them.
        answer.cached_tokens = answer.cached_tokens.map(|_| answer.prompt_tokens);
    } else {
        counts.alone.add(1);
    }
    Ok(())
}

impl Prefill {
    /// Begins the prefill of a leg that is one.
    pub(crate) fn begin(engine: &Arc<EngineState>, leg: Leg) -> Option<Self> {
        let Leg::Prefill(handover) = leg else { return None };
        let rooms = if let Handover::Rooms(rooms) = &handover { &rooms[..] } else { &[] };
        let guests = rooms.iter().map(|room| Guest::enter(engine, *room)).collect();
        Some(Self { handover, guests })
    }

    /// Hands the blocks of a computed prompt over, and returns the answer with what tells of it.
    pub(crate) async fn hand_over(
        self,
        engine: &Arc<EngineState>,
        request: &HttpRequest,
        answer: &Answer,
        body: String,
    ) -> Result<String, ApiError> {
        let params = match self.handover {
            Handover::Rooms(_) => {
                try_join_all(self.guests.into_iter().map(|guest| guest.offer(answer.prompt_tokens))).await?;
                None
            }
            Handover::Stored(prompt) => {
                peer::put(engine, &prompt).await?;
                None
            }
            Handover::Held(id) => {
                let id = id.unwrap_or_else(|| format!("{}-{}", engine.transfers.engine_id, answer.number));
                Holds::hold(engine, id.clone(), answer.prompt_tokens);
                let is_told = engine.config.kv_connector != Some(KvConnector::Mooncake);
                is_told.then(|| ticket(engine, request, &id, answer.prompt_tokens))
            }
        };
        Ok(with_params(body, params, engine.faults.settings().handover))
    }
}

/// Returns what a decode engine needs to fetch blocks, as vLLM's `NixlConnector` has it.
fn ticket(engine: &EngineState, request: &HttpRequest, id: &str, tokens: u64) -> Value {
    let own = request.conn_data::<Connection>().and_then(|connection| connection.own_address().ok());
    let blocks = tokens.div_ceil(BLOCK as u64).max(1);
    json!({
        "do_remote_prefill": true,
        "do_remote_decode": false,
        "remote_block_ids": (0..blocks).collect::<Vec<_>>(),
        "remote_engine_id": engine.transfers.engine_id,
        "remote_request_id": id,
        "remote_host": own.map(|own| own.ip().to_string()),
        "remote_port": own.map(|own| own.port()),
        "tp_size": 1,
    })
}

/// Adds what is told to an answer, unless something is wrong with it.
fn with_params(mut body: String, params: Option<Value>, fault: HandoverFault) -> String {
    if fault == HandoverFault::Malformed {
        return "<html>a proxy's page</html>".to_owned();
    }
    let params = params.filter(|_| fault != HandoverFault::Missing).unwrap_or_default();
    body.truncate(body.len() - 1);
    body.push_str(&format!(",\"kv_transfer_params\":{params}"));
    if fault == HandoverFault::Huge {
        body.push_str(&format!(",\"padding\":\"{}\"", "x".repeat(HUGE)));
    }
    body.push('}');
    body
}
