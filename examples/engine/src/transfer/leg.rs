//! What a request is to an engine: the prefill of another one's, the rest of one, or all of it.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{KvConnector, KvRole};
use crate::config::EngineConfig;

/// What an engine has to do of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// All of it.
    Whole,
    /// The prompt.
    Prefill(Handover),
    /// The text, with what another engine holds.
    Decode(Source),
}

/// What becomes of a prefill's blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Handover {
    /// They are held under an id: that of the transfer, or one that the answer tells.
    Held(Option<String>),
    /// They are fetched in these rooms.
    Rooms(Vec<u64>),
    /// They go into a store.
    Stored(String),
}

/// Where the blocks of a prompt are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An engine holds them under an id.
    Engine { host: String, port: u16, engine: String, id: String },
    /// A prefill engine has them in these rooms.
    Rooms { host: String, port: u16, rooms: Vec<u64> },
    /// They may be in a store.
    Store(String),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[error("this engine is a {0:?} engine, and the request wants the other role of it")]
    Role(KvRole),
    #[error("kv_transfer_params has no {0}")]
    NoParam(&'static str),
    #[error("disaggregated serving needs {0}")]
    NoField(&'static str),
    #[error("a list of bootstrap rooms must have one for each sequence")]
    Rooms,
    #[error("a transfer serves one sequence, and the request has several")]
    Sequences,
    #[error("a prefill must generate one token, without a stream")]
    LongPrefill,
    #[error("min_tokens must be at most max_tokens")]
    MinTokens,
    #[error("stream_options can only be set if stream is true")]
    StreamOptions,
}

/// The fields of a body that transfers are about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    kv_transfer_params: Option<Params>,
    bootstrap_host: Option<String>,
    bootstrap_port: Option<u16>,
    bootstrap_room: Option<Room>,
    n: Option<u64>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    min_tokens: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<Value>,
    model: Value,
    prompt: Value,
    messages: Value,
    system: Value,
    instructions: Value,
    input: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    do_remote_decode: Option<bool>,
    do_remote_prefill: Option<bool>,
    transfer_id: Option<String>,
    remote_engine_id: Option<String>,
    remote_request_id: Option<String>,
    remote_block_ids: Option<Vec<u64>>,
    remote_host: Option<String>,
    remote_port: Option<u16>,
    remote_bootstrap_addr: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Room {
    First(u64),
    Each(Vec<u64>),
}

impl Leg {
    /// Reads what a request is to an engine.
    ///
    /// # Errors
    /// When the engine could only do it in another way than the request says.
    pub(crate) fn of(config: &EngineConfig, fields: &Fields) -> Result<Self, Refusal> {
        let Some(connector) = config.kv_connector else { return Ok(Self::Whole) };
        fields.check()?;
        let leg = match (connector, config.kv_role) {
            // What shares a store is told of nothing: one token for another engine, or all of a request.
            (KvConnector::Http | KvConnector::Lmcache, KvRole::Prefill) if fields.is_short() => {
                Self::Prefill(Handover::Stored(fields.content()))
            }
            (KvConnector::Http | KvConnector::Lmcache, KvRole::Prefill) => Self::Whole,
            (KvConnector::Http | KvConnector::Lmcache, KvRole::Decode) => Self::Decode(Source::Store(fields.content())),
            (KvConnector::Http | KvConnector::Lmcache, KvRole::Both) => Self::Whole,
            (KvConnector::Sglang, role) => fields.meeting(role)?,
            (KvConnector::Nixl | KvConnector::Mooncake | KvConnector::MooncakeAscend, role) => {
                fields.params_leg(connector, role)?
            }
        };
        match leg {
            Self::Prefill(_) if !fields.is_short() => Err(Refusal::LongPrefill),
            leg => Ok(leg),
        }
    }
}

impl Fields {
    /// Checks what engines check of every request.
    fn check(&self) -> Result<(), Refusal> {
        if self.min_tokens > self.max_tokens() && self.max_tokens().is_some() {
            return Err(Refusal::MinTokens);
        }
        let has_options = self.stream_options.as_ref().is_some_and(|options| !options.is_null());
        if has_options && self.stream != Some(true) {
            return Err(Refusal::StreamOptions);
        }
        Ok(())
    }

    fn max_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens)
    }

    fn is_short(&self) -> bool {
        self.max_tokens() == Some(1) && self.stream != Some(true)
    }

    /// Counts the samples of all prompts.
    fn sequences(&self) -> u64 {
        let is_batch = |prompts: &&Vec<Value>| prompts.iter().any(|prompt| !prompt.is_number());
        let prompts = self.prompt.as_array().filter(is_batch).map_or(1, Vec::len);
        self.n.unwrap_or(1).max(1) * prompts as u64
    }

    /// Returns a name of the prompt, which is the same on every engine.
    fn content(&self) -> String {
        let mut hasher = DefaultHasher::new();
        let parts = [&self.model, &self.prompt, &self.messages, &self.system, &self.instructions, &self.input];
        parts.map(Value::to_string).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn meeting(&self, role: KvRole) -> Result<Leg, Refusal> {
        if role == KvRole::Both {
            return Ok(Leg::Whole);
        }
        let host = self.bootstrap_host.clone().ok_or(Refusal::NoField("bootstrap_host"))?;
        let port = self.bootstrap_port.ok_or(Refusal::NoField("bootstrap_port"))?;
        let rooms: Vec<u64> = match self.bootstrap_room.as_ref().ok_or(Refusal::NoField("bootstrap_room"))? {
            Room::First(first) => (0..self.sequences()).map(|next| first.saturating_add(next)).collect(),
            Room::Each(rooms) if rooms.len() as u64 == self.sequences() => rooms.clone(),
            Room::Each(_) => return Err(Refusal::Rooms),
        };
        Ok(match role {
            KvRole::Prefill => Leg::Prefill(Handover::Rooms(rooms)),
            _ => Leg::Decode(Source::Rooms { host, port, rooms }),
        })
    }

    fn params_leg(&self, connector: KvConnector, role: KvRole) -> Result<Leg, Refusal> {
        let Some(params) = &self.kv_transfer_params else { return Ok(Leg::Whole) };
        let wants = |flag: Option<bool>| flag == Some(true);
        if !wants(params.do_remote_prefill) && !wants(params.do_remote_decode) {
            return Ok(Leg::Whole);
        }
        if self.sequences() > 1 {
            return Err(Refusal::Sequences);
        }
        if wants(params.do_remote_prefill) {
            return match role {
                KvRole::Prefill => Err(Refusal::Role(role)),
                _ => params.source(connector).map(Leg::Decode),
            };
        }
        if role == KvRole::Decode {
            return Err(Refusal::Role(role));
        }
        let id = params.transfer_id.clone();
        if connector == KvConnector::Mooncake && id.is_none() {
            return Err(Refusal::NoParam("transfer_id"));
        }
        Ok(Leg::Prefill(Handover::Held(id.filter(|_| connector == KvConnector::Mooncake))))
    }
}

impl Params {
    fn source(&self, connector: KvConnector) -> Result<Source, Refusal> {
        let engine = self.remote_engine_id.clone().ok_or(Refusal::NoParam("remote_engine_id"))?;
        if connector == KvConnector::Mooncake {
            let address = self.remote_bootstrap_addr.as_deref().ok_or(Refusal::NoParam("remote_bootstrap_addr"))?;
            let place = address.strip_prefix("http://").and_then(|place| place.rsplit_once(':'));
            let place = place.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
            let (host, port) = place.ok_or(Refusal::NoParam("remote_bootstrap_addr that is a URL"))?;
            let id = self.transfer_id.clone().ok_or(Refusal::NoParam("transfer_id"))?;
            return Ok(Source::Engine { host, port, engine, id });
        }
        let host = self.remote_host.clone().ok_or(Refusal::NoParam("remote_host"))?;
        let port = self.remote_port.ok_or(Refusal::NoParam("remote_port"))?;
        let id = self.remote_request_id.clone().ok_or(Refusal::NoParam("remote_request_id"))?;
        if self.remote_block_ids.as_ref().is_none_or(Vec::is_empty) {
            return Err(Refusal::NoParam("remote_block_ids"));
        }
        Ok(Source::Engine { host, port, engine, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(connector: KvConnector, role: KvRole, body: &str) -> Result<Leg, Refusal> {
        let config = EngineConfig { kv_connector: Some(connector), kv_role: role, ..EngineConfig::new("m") };
        Leg::of(&config, &serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_prefill_must_be_one_whatever_the_connector() {
        use KvConnector::{Http, MooncakeAscend, Nixl, Sglang};
        let held = Ok(Leg::Prefill(Handover::Held(None)));
        for (case, connector, role, body, expected) in [
            (
                "one token",
                Nixl,
                KvRole::Prefill,
                r#"{"max_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"remote_host":null}}"#,
                held.clone(),
            ),
            (
                "by either role",
                MooncakeAscend,
                KvRole::Both,
                r#"{"max_output_tokens":1,"kv_transfer_params":{"do_remote_decode":true}}"#,
                held,
            ),
            (
                "not by a decode engine",
                Nixl,
                KvRole::Decode,
                r#"{"max_tokens":1,"kv_transfer_params":{"do_remote_decode":true}}"#,
                Err(Refusal::Role(KvRole::Decode)),
            ),
            ("all of a request", Http, KvRole::Prefill, r#"{"max_tokens":9}"#, Ok(Leg::Whole)),
            ("a lower bound", Http, KvRole::Prefill, r#"{"max_tokens":1,"min_tokens":2}"#, Err(Refusal::MinTokens)),
            (
                "options without a stream",
                Http,
                KvRole::Prefill,
                r#"{"max_tokens":1,"stream_options":{}}"#,
                Err(Refusal::StreamOptions),
            ),
            (
                "samples",
                Nixl,
                KvRole::Prefill,
                r#"{"n":2,"max_tokens":1,"kv_transfer_params":{"do_remote_decode":true}}"#,
                Err(Refusal::Sequences),
            ),
            (
                "rooms are counted on",
                Sglang,
                KvRole::Prefill,
                r#"{"n":2,"max_tokens":1,"bootstrap_host":"h","bootstrap_port":1,"bootstrap_room":7}"#,
                Ok(Leg::Prefill(Handover::Rooms(vec![7, 8]))),
            ),
            (
                "a room for each",
                Sglang,
                KvRole::Prefill,
                r#"{"n":2,"max_tokens":1,"bootstrap_host":"h","bootstrap_port":1,"bootstrap_room":[7]}"#,
                Err(Refusal::Rooms),
            ),
            ("no room", Sglang, KvRole::Prefill, r#"{"max_tokens":1}"#, Err(Refusal::NoField("bootstrap_host"))),
        ] {
            assert_eq!(leg(connector, role, body), expected, "{case}");
        }
    }

    #[test]
    fn a_prefill_is_one_token_without_a_stream() {
        for more in [r#""max_tokens":9,"#, "", r#""max_tokens":1,"stream":true,"#] {
            let body = format!(r#"{{{more}"kv_transfer_params":{{"do_remote_decode":true}}}}"#);
            let refused = Err(Refusal::LongPrefill);
            assert_eq!(leg(KvConnector::Nixl, KvRole::Prefill, &body), refused, "{body}");
        }
    }

    #[test]
    fn a_decode_must_name_whose_blocks_it_wants() {
        use KvConnector::{Mooncake, Nixl};
        let ticket = r#"{"do_remote_prefill":true,"remote_engine_id":"e","remote_request_id":"r","remote_block_ids":[0],"remote_host":"h","remote_port":1}"#;
        let body = |params: &str| format!(r#"{{"kv_transfer_params":{params}}}"#);
        let source = Source::Engine { host: "h".to_owned(), port: 1, engine: "e".to_owned(), id: "r".to_owned() };
        assert_eq!(leg(Nixl, KvRole::Decode, &body(ticket)), Ok(Leg::Decode(source.clone())));
        assert_eq!(leg(Nixl, KvRole::Prefill, &body(ticket)), Err(Refusal::Role(KvRole::Prefill)));
        assert_eq!(leg(Nixl, KvRole::Decode, "{}"), Ok(Leg::Whole));
        for field in ["remote_engine_id", "remote_request_id", "remote_block_ids", "remote_host", "remote_port"] {
            let without = body(&ticket.replace(field, "other"));
            assert_eq!(leg(Nixl, KvRole::Decode, &without), Err(Refusal::NoParam(field)));
        }
        let met = r#"{"do_remote_prefill":true,"transfer_id":"r","remote_engine_id":"e","remote_bootstrap_addr":"http://h:1"}"#;
        assert_eq!(leg(Mooncake, KvRole::Decode, &body(met)), Ok(Leg::Decode(source)));
        for field in ["transfer_id", "remote_engine_id", "remote_bootstrap_addr"] {
            let without = body(&met.replace(field, "other"));
            assert_eq!(leg(Mooncake, KvRole::Decode, &without), Err(Refusal::NoParam(field)));
        }
    }
}
