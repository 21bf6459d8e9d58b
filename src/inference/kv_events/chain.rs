//! A prompt of tokens as a chain of block hashes.
//!
//! Engines hash blocks in ways that differ by version and setting. The hashes here are the router's own, over the tokens
//! that events and `/tokenize` tell, so that both lead to the same chain, on every replica of the router.

use crate::inference::prompt::BlockHash;

/// What all chains of tokens begin with, so that they have nothing in common with chains of bytes.
const ROOT: &[u8] = b"tokens";
/// Blocks that are hashed of one prompt: a million tokens in blocks of 16.
const MOST_BLOCKS: usize = 64 * 1024;

/// The token blocks of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenChain {
    /// Tokens of a block.
    pub block_size: u32,
    /// The complete blocks, at most `MOST_BLOCKS`; each hash includes all before it.
    pub blocks: Vec<BlockHash>,
    /// The tokens of the prompt.
    pub tokens: u32,
}

impl TokenChain {
    /// Cuts a prompt for an adapter into blocks; `salt` is the request's `cache_salt`.
    pub fn of(tokens: &[u32], block_size: u32, adapter: Option<&str>, salt: Option<&str>) -> Self {
        let mut hasher = ChainHasher::default();
        let mut last = root(adapter);
        let length = usize::try_from(block_size).unwrap_or(usize::MAX).max(1);
        let mut blocks = Vec::with_capacity((tokens.len() / length).min(MOST_BLOCKS));
        for (place, block) in tokens.chunks_exact(length).take(MOST_BLOCKS).enumerate() {
            last = hasher.follow(last, block, salt.filter(|_| place == 0));
            blocks.push(last);
        }
        Self { block_size, blocks, tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX) }
    }
}

/// Hashes blocks; keeps the memory that it needs for that.
#[derive(Debug, Default)]
pub struct ChainHasher {
    content: Vec<u8>,
}

impl ChainHasher {
    /// Returns the hash of the block that follows another one and depends on `extras` beside its tokens.
    pub fn follow<E: AsRef<str>>(
        &mut self,
        parent: BlockHash,
        tokens: &[u32],
        extras: impl IntoIterator<Item = E>,
    ) -> BlockHash {
        self.content.clear();
        self.content.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        for extra in extras {
            // Longer than any token, so that it cannot be taken for some.
            self.content.extend(b"\xff\xff\xff\xff\xff");
            self.content.extend(extra.as_ref().as_bytes());
        }
        parent.followed_by(&self.content)
    }
}

/// Returns what the first block of a prompt for this adapter follows.
pub fn root(adapter: Option<&str>) -> BlockHash {
    BlockHash(0).followed_by(ROOT).followed_by(adapter.unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_in_common_what_they_begin_with() {
        let tokens: Vec<u32> = (0..40).collect();
        let of = |tokens: &[u32], adapter, salt| TokenChain::of(tokens, 16, adapter, salt);
        let chain = of(&tokens, None, None);
        assert_eq!((chain.blocks.len(), chain.tokens), (2, 40));
        assert_eq!(of(&tokens[..20], None, None).blocks, chain.blocks[..1]);
        for other in [of(&tokens, Some("ada"), None), of(&tokens, None, Some("salt")), of(&tokens[1..], None, None)] {
            assert!(other.blocks.iter().all(|block| !chain.blocks.contains(block)));
        }
    }
}
