//! The messages in which vLLM and SGLang tell of their KV caches.
//!
//! Source: `KVEventBatch` in vLLM's `vllm/distributed/kv_events.py`, and in SGLang's
//! `srt/disaggregation/kv_events.py`. A message is msgpack: a batch of a time, events, and the data-parallel rank. Batches
//! and events are arrays in older engines and in SGLang, and maps in newer vLLMs; both may stand in one batch. Fields are
//! added at the end of arrays and anywhere in maps, so that whatever is not known here is passed over, and an event that
//! cannot be read does not spoil the others of its batch.

use std::iter;

use rmpv::Value;
use rmpv::decode::read_value_with_max_depth;
use thiserror::Error;

/// The largest message that is read, in bytes: a batch of a million new tokens.
pub const MOST_BYTES: usize = 16 << 20;
/// How deep values may lie in each other; what engines send is five deep.
const MOST_DEPTH: usize = 16;

/// The events of one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// When the engine sent it, in seconds since 1970 by the engine's clock.
    pub time: f64,
    /// Which of the engine's data-parallel ranks it tells of; `None` where it does not say.
    pub rank: Option<u32>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Events that could not be read.
    pub unread: u32,
}

/// What happened to a cache.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Blocks were stored, one after the other.
    Stored(Stored),
    /// Blocks are no longer in a place.
    Removed {
        /// The blocks.
        hashes: Vec<EngineHash>,
        /// The place.
        place: Place,
    },
    /// The cache is empty.
    Cleared,
}

/// A run of stored blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The blocks, each the parent of the one after it.
    pub blocks: Vec<StoredBlock>,
    /// The block before the first one; `None` at the beginning of a prompt.
    pub parent: Option<EngineHash>,
    /// Tokens of a block.
    pub block_size: u32,
    /// The LoRA adapter that the blocks were computed with.
    pub adapter: Option<Box<str>>,
    /// Where they are.
    pub place: Place,
    /// How much of what comes before a token its layers look at.
    pub attention: Attention,
}

/// A stored block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredBlock {
    /// The engine's name for it.
    pub hash: EngineHash,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What else it depends on: the `cache_salt` of its first block, the digests of images.
    pub extras: Vec<Box<str>>,
}

/// The name that an engine has for a block: the last 64 bits of its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EngineHash(pub u64);

/// Where blocks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The group of layers whose values the blocks hold; models whose layers are all alike have the group 0 only.
    pub group: u32,
    /// The memory.
    pub tier: Tier,
}

/// The memory that blocks are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The accelerator's own memory, from where a prompt goes on at once.
    #[default]
    Device,
    /// Any other, from where blocks have to be fetched: of the host, a disk, another machine.
    Elsewhere,
}

/// How much of what comes before a token its layers look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attention {
    /// All of it, so that all blocks of a prefix are needed.
    #[default]
    Full,
    /// So many tokens, so that only the last blocks of a prefix are needed.
    Window(u32),
}

/// Why a message tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// It is too large.
    #[error("message of {0} bytes is too large")]
    TooLarge(usize),
    /// It is not msgpack.
    #[error("message is not msgpack")]
    Unreadable,
    /// It is no batch of events.
    #[error("message is not a batch of events")]
    NoBatch,
}

/// The fields of an array by their place, or of a map by their name.
#[derive(Clone, Copy)]
enum Fields<'v> {
    Array(&'v [Value]),
    Map(&'v [(Value, Value)]),
}

impl Batch {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// Returns an error if it is no batch. Events that cannot be read are counted in [`Batch::unread`].
    pub fn read(message: &[u8]) -> Result<Self, WireError> {
        if message.len() > MOST_BYTES {
            return Err(WireError::TooLarge(message.len()));
        }
        let mut rest = message;
        let value = read_value_with_max_depth(&mut rest, MOST_DEPTH).map_err(|_| WireError::Unreadable)?;
        let fields = Fields::of(&value).ok_or(WireError::NoBatch)?;
        let time = fields.get("ts", 0).and_then(Value::as_f64).ok_or(WireError::NoBatch)?;
        let events = fields.get("events", 1).and_then(Value::as_array).ok_or(WireError::NoBatch)?;
        let rank = fields.get("data_parallel_rank", 2).and_then(number);
        let mut batch = Self { time, rank, ..Self::default() };
        for event in events {
            match Event::of(event) {
                Some(event) => batch.events.push(event),
                None => batch.unread += 1,
            }
        }
        Ok(batch)
    }
}

impl Event {
    fn of(value: &Value) -> Option<Self> {
        let all = Fields::of(value)?;
        let (tag, fields) = match all {
            Fields::Array([tag, rest @ ..]) if tag.is_str() => (tag.as_str()?, Fields::Array(rest)),
            Fields::Array(_) | Fields::Map(_) => (all.tag()?, all),
        };
        match tag {
            "BlockStored" => Stored::of(fields).map(Self::Stored),
            "BlockRemoved" => {
                let place = Place::of(fields.get("medium", 1), fields.get("group_idx", 2));
                Some(Self::Removed { hashes: hashes(fields)?, place })
            }
            "AllBlocksCleared" => Some(Self::Cleared),
            _ => None,
        }
    }
}

impl Stored {
    fn of(fields: Fields<'_>) -> Option<Self> {
        let hashes = hashes(fields)?;
        let tokens: Vec<u32> = fields.get("token_ids", 2)?.as_array()?.iter().map(number).collect::<Option<_>>()?;
        let block_size = fields.get("block_size", 3).and_then(number).filter(|size| *size > 0)?;
        let parent = match fields.get("parent_block_hash", 1) {
            None => None,
            Some(parent) => Some(EngineHash::of(parent)?),
        };
        // SGLang has a map of further facts in the place where vLLM has the adapter's name.
        let (named, facts) = match fields {
            Fields::Array(_) => fields.get("", 6).map_or((None, None), |value| (value.as_str(), Fields::of(value))),
            Fields::Map(_) => {
                let named = fields.get("lora_name", 6).and_then(Value::as_str);
                (named, fields.get("metadata", 6).and_then(Fields::of))
            }
        };
        // An adapter that is told by its number only is nobody's: no request names it so.
        let numbered = || fields.get("lora_id", 4).map(|number| format!("lora_id {number}").into());
        let adapter = named.map(Box::from).or_else(numbered);
        let mut extras = extras(fields, hashes.len(), adapter.as_deref());
        if let (Some(facts @ Fields::Map(_)), None) = (facts, parent)
            && let Some(salt) = facts.get("cache_salt", 0).and_then(Value::as_str)
            && let Some(first) = extras.first_mut()
        {
            first.push(salt.into());
        }
        let blocks = blocks(fields, &hashes, &tokens, block_size, extras)?;
        let place = Place::of(fields.get("medium", 5), fields.get("group_idx", 8));
        let attention =
            Attention::of(fields.get("kv_cache_spec_kind", 9), fields.get("kv_cache_spec_sliding_window", 10));
        Some(Self { blocks, parent, block_size, adapter, place, attention })
    }
}

impl EngineHash {
    /// Reads a hash, which is a number of 64 bits with or without a sign, or bytes.
    fn of(value: &Value) -> Option<Self> {
        let of_bytes = |bytes: &[u8]| {
            let last = bytes.last_chunk::<8>().copied().or_else(|| {
                let mut padded = [0; 8];
                padded.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
                (!bytes.is_empty()).then_some(padded)
            });
            last.map(u64::from_be_bytes)
        };
        let number = || value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
        let hash = if let Value::Binary(bytes) = value { of_bytes(bytes) } else { number() };
        hash.map(Self)
    }
}

impl Place {
    fn of(medium: Option<&Value>, group: Option<&Value>) -> Self {
        let is_device = |medium: &str| ["GPU", "NPU", "XPU", "TPU", "DEVICE"].contains(&medium);
        let tier = match medium.and_then(Value::as_str) {
            Some(medium) if !is_device(&medium.to_ascii_uppercase()) => Tier::Elsewhere,
            Some(_) | None => Tier::Device,
        };
        Self { group: group.and_then(number).unwrap_or_default(), tier }
    }
}

impl Attention {
    fn of(kind: Option<&Value>, window: Option<&Value>) -> Self {
        let is_full = kind.and_then(Value::as_str).is_none_or(|kind| kind.contains("full") || kind.contains("mla"));
        match window.and_then(number) {
            Some(window) => Self::Window(window),
            None if is_full => Self::Full,
            // A state that stands for all that came before it, as Mamba's: the last block is enough.
            None => Self::Window(1),
        }
    }
}

impl<'v> Fields<'v> {
    fn of(value: &'v Value) -> Option<Self> {
        match value {
            Value::Array(values) => Some(Self::Array(values)),
            Value::Map(entries) => Some(Self::Map(entries)),
            _ => None,
        }
    }

    /// Returns a field that is there and not nil.
    fn get(self, name: &str, place: usize) -> Option<&'v Value> {
        let found = match self {
            Self::Array(values) => values.get(place),
            Self::Map(entries) => entries.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value),
        };
        found.filter(|value| !value.is_nil())
    }

    /// Returns what an event is: what it says, or else what its fields tell.
    fn tag(self) -> Option<&'v str> {
        if let Self::Map(_) = self
            && let Some(tag) = self.get("type", 0)
        {
            return tag.as_str();
        }
        self.get("block_hashes", 0)?.as_array()?;
        let is_stored = self.get("token_ids", 2).is_some_and(Value::is_array);
        Some(if is_stored { "BlockStored" } else { "BlockRemoved" })
    }
}

fn hashes(fields: Fields<'_>) -> Option<Vec<EngineHash>> {
    fields.get("block_hashes", 0)?.as_array()?.iter().map(EngineHash::of).collect()
}

/// Puts hashes and tokens together; `None` if it is not said which belong together.
fn blocks(
    fields: Fields<'_>,
    hashes: &[EngineHash],
    tokens: &[u32],
    block_size: u32,
    extras: Vec<Vec<Box<str>>>,
) -> Option<Vec<StoredBlock>> {
    let chunks = tokens.chunks_exact(usize::try_from(block_size).ok()?);
    let offsets = match fields {
        Fields::Array(_) => None,
        Fields::Map(_) => fields.get("block_offsets", 0).and_then(Value::as_array),
    };
    // Blocks that are not there break the chain: what follows them has a parent that nobody has seen.
    let is_dense = offsets
        .is_none_or(|offsets| offsets.iter().enumerate().all(|(place, at)| at.as_u64() == u64::try_from(place).ok()));
    if chunks.len() > hashes.len() || !is_dense {
        return None;
    }
    let block = |((hash, tokens), extras): ((&EngineHash, &[u32]), _)| StoredBlock {
        hash: *hash,
        tokens: tokens.to_vec(),
        extras,
    };
    Some(hashes.iter().zip(chunks).zip(extras).map(block).collect())
}

/// Reads what each of `count` blocks depends on beside its tokens and its adapter.
fn extras(fields: Fields<'_>, count: usize, adapter: Option<&str>) -> Vec<Vec<Box<str>>> {
    let of_block = |value: &Value| -> Vec<Box<str>> {
        let keys = value.as_array().into_iter().flatten().filter_map(extra);
        keys.filter(|key| Some(&**key) != adapter).collect()
    };
    let told = fields.get("extra_keys", 7).and_then(Value::as_array).into_iter().flatten().map(of_block);
    told.chain(iter::repeat_with(Vec::new)).take(count).collect()
}

/// Reads a key that is a text, or a text and a place; any other counts as the text that it is written as.
fn extra(value: &Value) -> Option<Box<str>> {
    match value {
        Value::Nil => None,
        Value::String(text) => text.as_str().map(Box::from),
        Value::Array(parts) => parts.first().and_then(extra),
        other => Some(other.to_string().into()),
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| number.try_into().ok())
}

#[cfg(test)]
mod tests;
