//! What engines tell of their KV caches: which blocks of tokens they store and remove.
//!
//! ```text
//!  SUB frames ──> sequence: in order? ──> wire: decode ──> index: which chains are held ──> HeldBlocks, read by picks
//!                   │ gap: replay wanted                      ^
//!                   └ jump back: restart ─────── forget ──────┘
//!  prompt ──> tokenize: /tokenize of an engine ──> chain ──> known: prompts by what they begin with ──> Likeness, likewise
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | [`wire`] | the messages of vLLM and SGLang, old and new |
//! | [`sequence`] | what the numbers of messages tell: gaps, restarts, duplicates |
//! | [`chain`] | a prompt of tokens as a chain of hashes that engines' tokens lead to as well |
//! | [`table`] | a table of hashes that one writes and many read without locks |
//! | [`index`] | which blocks an endpoint holds |
//! | [`known`] | which prompts' tokens are known |
//! | [`tokenize`] | how an engine is asked for a prompt's tokens, and for the places of its events |
//!
//! Engines name blocks by hashes of their own, which depend on their version, settings and a seed. So the hashes are only
//! used to find blocks again: what a block holds is told by the tokens in the event, and they are hashed here anew.

pub mod chain;
pub mod index;
pub mod known;
pub mod sequence;
pub mod table;
pub mod tokenize;
pub mod wire;
