//! How a change of the cache is told: as vLLM does by maps, as SGLang does by arrays.

use rmpv::Value;

use super::BLOCK;
use crate::config::Dialect;

/// A change of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Blocks were stored, one after the other.
    Stored {
        /// The blocks.
        hashes: Vec<u64>,
        /// The block before the first.
        parent: Option<u64>,
        /// Their tokens.
        tokens: Vec<u32>,
        /// The adapter that they were computed with.
        adapter: Option<String>,
        /// The salt of the prompt's first block, if that is one of them.
        salt: Option<String>,
    },
    /// Blocks are gone.
    Removed {
        /// The blocks.
        hashes: Vec<u64>,
    },
    /// All are gone.
    Cleared,
}

/// Writes the message of these events, sent `time` seconds after the epoch.
pub(crate) fn message(events: &[Event], time: f64, dialect: Dialect) -> Vec<u8> {
    let events = events.iter().map(|event| match dialect {
        Dialect::Vllm => map(event),
        Dialect::Sglang => array(event),
    });
    let batch = Value::Array(vec![time.into(), Value::Array(events.collect()), 0.into()]);
    let mut message = Vec::new();
    rmpv::encode::write_value(&mut message, &batch).expect("writing to a vector does not fail");
    message
}

fn map(event: &Event) -> Value {
    let fields = match event {
        Event::Stored { hashes, parent, tokens, adapter, salt } => {
            let keys = |place: usize| {
                let keys = adapter.iter().chain(salt.iter().filter(|_| place == 0));
                let keys: Vec<Value> = keys.map(|key| key.as_str().into()).collect();
                if keys.is_empty() { Value::Nil } else { Value::Array(keys) }
            };
            vec![
                ("type", "BlockStored".into()),
                ("block_hashes", list(hashes)),
                ("parent_block_hash", parent.map_or(Value::Nil, Value::from)),
                ("token_ids", list(tokens)),
                ("block_size", BLOCK.into()),
                ("lora_id", Value::Nil),
                ("medium", "GPU".into()),
                ("lora_name", text(adapter.as_deref())),
                ("extra_keys", Value::Array((0..hashes.len()).map(keys).collect())),
                ("group_idx", 0.into()),
                ("kv_cache_spec_kind", "full_attention".into()),
            ]
        }
        Event::Removed { hashes } => {
            vec![("type", "BlockRemoved".into()), ("block_hashes", list(hashes)), ("medium", "GPU".into())]
        }
        Event::Cleared => vec![("type", "AllBlocksCleared".into())],
    };
    Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn array(event: &Event) -> Value {
    Value::Array(match event {
        Event::Stored { hashes, parent, tokens, salt, .. } => {
            let facts = salt.as_deref().map_or(Value::Nil, |salt| Value::Map(vec![("cache_salt".into(), salt.into())]));
            let parent = parent.map_or(Value::Nil, |parent| parent.cast_signed().into());
            let hashes: Vec<i64> = hashes.iter().map(|hash| hash.cast_signed()).collect();
            let (kind, size) = ("BlockStored".into(), BLOCK.into());
            vec![kind, list(&hashes), parent, list(tokens), size, Value::Nil, "GPU".into(), facts]
        }
        Event::Removed { hashes } => {
            let hashes: Vec<i64> = hashes.iter().map(|hash| hash.cast_signed()).collect();
            vec!["BlockRemoved".into(), list(&hashes)]
        }
        Event::Cleared => vec!["AllBlocksCleared".into()],
    })
}

fn list<V: Copy + Into<Value>>(values: &[V]) -> Value {
    Value::Array(values.iter().copied().map(Into::into).collect())
}

fn text(text: Option<&str>) -> Value {
    text.map_or(Value::Nil, Value::from)
}
