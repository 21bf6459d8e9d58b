//! A prompt as a chain of block hashes: two prompts that begin alike have chains that begin alike.
//!
//! What is hashed are the texts of a body in the order in which engines put them into a prompt: tools, the system's
//! instructions, then the messages. White space and punctuation of the JSON do not count, nor do hints for caches, which
//! move from turn to turn. Texts are taken as the client escaped them: a client escapes the same text in the same way. An
//! image or a sound is represented by its digest.
//!
//! No tokenizer is asked: a token is taken for four bytes. Whoever calculates with these tokens measures rates in the same
//! unit, so that only their proportions matter.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use foldhash::quality::FixedState;

/// Bytes of canonical text that make a block.
pub const BLOCK_BYTES: usize = 256;
/// Tokens that a block stands for, at four bytes each.
pub const BLOCK_TOKENS: u32 = 64;

/// The seed of all hashes; replicas of the router must agree on it.
const SEED: u64 = 0x6b74_6865_6e61;

/// The hash of a block and of all that comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(pub u64);

/// A prompt, as far as routing needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Its complete blocks, at most `MOST_BLOCKS`.
    pub blocks: Vec<BlockHash>,
    /// Its tokens.
    pub tokens: u32,
    /// What the client says that requests with this prompt have in common: OpenAI's `prompt_cache_key`, or the response
    /// that this call continues.
    pub key: Option<BlockHash>,
}

/// What a body says of its prompt: the values of some of its fields, or where they are. The first ones are those whose
/// texts make the prompt, in the order in which they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptFields<V>([V; FIELDS]);

/// How many fields tell of a prompt.
const FIELDS: usize = 9;
/// Blocks that are remembered of a prompt: a million tokens.
const MOST_BLOCKS: usize = 16 * 1024;
/// Strings from this length on that begin as `data:` URIs and Base64 do are no texts.
const BINARY: usize = 1024;
/// What an image is taken for, in bytes of text.
const IMAGE_BYTES: usize = 256 * 4;

impl<'b> PromptFields<&'b [u8]> {
    /// Takes in a field of a body, if it tells of the prompt.
    pub(super) fn note(&mut self, key: &str, value: &'b str) {
        let place = match key {
            "tools" => 0,
            "system" => 1,
            "instructions" => 2,
            "prompt" => 3,
            "messages" => 4,
            "input" => 5,
            "cache_salt" => 6,
            "prompt_cache_key" => 7,
            "previous_response_id" => 8,
            _ => return,
        };
        self.0[place] = value.as_bytes();
    }

    /// Returns where in `body`, from which they are borrowed, the values are; behind 4 GiB nothing counts.
    pub(super) fn places(&self, body: &[u8]) -> PromptFields<Range<u32>> {
        let place = |value: &[u8]| {
            let start = value.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
            Some(u32::try_from(start).ok()?..u32::try_from(start + value.len()).ok()?)
        };
        PromptFields(self.0.map(|value| place(value).filter(|_| !value.is_empty()).unwrap_or_default()))
    }
}

impl PromptFields<Range<u32>> {
    /// Returns the values, which are in `body`.
    pub(super) fn values<'b>(&self, body: &'b [u8]) -> PromptFields<&'b [u8]> {
        let value = |place: &Range<u32>| body.get(place.start as usize..place.end as usize).unwrap_or_default();
        PromptFields(self.0.each_ref().map(value))
    }
}

impl Prompt {
    /// Reads the prompt that fields of a valid body tell of.
    ///
    /// Prompts of different models or adapters have no block in common, nor do those of different `cache_salt`s.
    pub fn read(fields: &PromptFields<&[u8]>, model: &str, adapter: Option<&str>) -> Self {
        let [texts @ .., salt, prompt_key, previous] = fields.0;
        let root = BlockHash(0).followed_by(model.as_bytes()).followed_by(adapter.unwrap_or_default().as_bytes());
        let root = root.followed_by(salt);
        let mut chain = Chain::new(root, texts.iter().map(|value| value.len()).sum());
        for value in texts {
            chain.add_value(value);
        }
        // An empty text or `null` is no key.
        let key =
            [prompt_key, previous].into_iter().map(<[u8]>::trim_ascii).find(|key| key.len() > 2 && key[0] == b'"');
        Self { key: key.map(|key| root.followed_by(key)), ..chain.end() }
    }
}

/// Returns whether a string is an image or a sound: long, and without a byte that Base64 and `data:` URIs do not have. Not
/// every language separates its words by spaces.
fn is_binary(text: &[u8]) -> bool {
    let is_used = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b':' | b';' | b',' | b'.')
    };
    text.len() >= BINARY && text[..BINARY / 4].iter().all(is_used)
}

/// A place in valid JSON.
struct Walk<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Walk<'t> {
    /// Goes behind the next byte of this value.
    fn find(&mut self, byte: u8) {
        self.at = memchr::memchr(byte, &self.text[self.at..]).map_or(self.text.len(), |length| self.at + length + 1);
    }

    /// Reads a string whose quote was read.
    fn string(&mut self) -> Option<&'t [u8]> {
        let start = self.at;
        loop {
            let found = self.at + memchr::memchr2(b'"', b'\\', self.text.get(self.at..)?)?;
            if self.text[found] == b'"' {
                self.at = found + 1;
                return Some(&self.text[start..found]);
            }
            self.at = found + 2;
        }
    }

    /// Goes behind a value.
    fn pass(&mut self) -> Option<()> {
        let mut depth = 0_u32;
        loop {
            match *self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    self.string()?;
                    if depth == 0 {
                        return Some(());
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' if depth == 0 => return Some(()),
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Some(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Returns whether a colon comes next, so that what came before is a key.
    fn is_key(&self) -> bool {
        self.text[self.at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
    }
}

/// A chain of blocks in the making.
struct Chain {
    blocks: Vec<BlockHash>,
    last: BlockHash,
    /// The beginning of the next block.
    rest: [u8; BLOCK_BYTES],
    filled: usize,
    bytes: usize,
}

impl Chain {
    /// Begins a chain of texts that have at most so many bytes.
    fn new(root: BlockHash, bytes: usize) -> Self {
        let blocks = Vec::with_capacity((bytes / BLOCK_BYTES).min(MOST_BLOCKS));
        Self { blocks, last: root, rest: [0; BLOCK_BYTES], filled: 0, bytes: 0 }
    }

    /// Adds the texts of a value.
    fn add_value(&mut self, value: &[u8]) {
        let mut walk = Walk { text: value, at: 0 };
        while let Some(byte) = value.get(walk.at) {
            walk.at += 1;
            match byte {
                b'"' => {
                    let start = walk.at;
                    let Some(text) = walk.string() else { return };
                    if text == b"cache_control" && walk.is_key() {
                        walk.find(b':');
                        if walk.pass().is_none() {
                            return;
                        }
                    } else {
                        self.add_text(text, &value[start..walk.at]);
                    }
                }
                b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                    let start = walk.at - 1;
                    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
                    walk.at += value[walk.at..].iter().take_while(|byte| is_part(byte)).count();
                    self.add(&value[start..walk.at]);
                    self.add(b",");
                }
                _ => {}
            }
        }
    }

    /// Adds a text; `quoted` is the same with the quote at its end.
    fn add_text(&mut self, text: &[u8], quoted: &[u8]) {
        if !is_binary(text) {
            return self.add(quoted);
        }
        let digest = BlockHash(0).followed_by(text).0.to_le_bytes();
        for _ in 0..IMAGE_BYTES / digest.len() {
            self.add(&digest);
        }
        self.add(b"\"");
    }

    fn add(&mut self, mut text: &[u8]) {
        self.bytes += text.len();
        if self.filled > 0 {
            let taken = text.len().min(BLOCK_BYTES - self.filled);
            self.rest[self.filled..self.filled + taken].copy_from_slice(&text[..taken]);
            (self.filled, text) = (self.filled + taken, &text[taken..]);
            if self.filled < BLOCK_BYTES {
                return;
            }
            let block = self.rest;
            self.push(&block);
            self.filled = 0;
        }
        let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
        for block in blocks {
            self.push(block);
        }
        self.rest[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    fn push(&mut self, block: &[u8]) {
        if self.blocks.len() < MOST_BLOCKS {
            self.last = self.last.followed_by(block);
            self.blocks.push(self.last);
        }
    }

    fn end(self) -> Prompt {
        let tokens = self.bytes / (BLOCK_BYTES / BLOCK_TOKENS as usize);
        Prompt { blocks: self.blocks, tokens: u32::try_from(tokens).unwrap_or(u32::MAX), key: None }
    }
}

impl BlockHash {
    /// Returns the hash of a block of this content that follows this one.
    pub fn followed_by(self, content: &[u8]) -> Self {
        let mut hasher = FixedState::with_seed(SEED).build_hasher();
        hasher.write_u64(self.0);
        hasher.write(content);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests;
