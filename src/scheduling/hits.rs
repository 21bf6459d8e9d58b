//! How much of a prompt an endpoint has cached.
//!
//! ```text
//!  the endpoint's events     the prompt's tokens     what counts
//!  not heard                 any                     the ledger: what this router sent there
//!  any                       not known               the ledger
//!  some missed               known in part           the more of both
//!  all heard                 known in part           what the events tell, or what was sent a moment ago;
//!                                                    the ledger for the rest, if all of the known part is held
//! ```
//!
//! Tokens are estimated ones throughout, four bytes each, so that endpoints with and without events can be compared.

use super::ledger::Ledger;
use super::request::PickRequest;
use crate::inference::kv_events::index::{HeldBlocks, Standing};
use crate::inference::kv_events::known::Likeness;

/// How much less than all of a known part counts as all of it, as a divisor: texts are denser in tokens in some places.
const DENSITY: u32 = 8;

/// Returns how many tokens of a request's prompt an endpoint has cached, whose cache has room for `capacity` tokens.
pub fn cached(request: &PickRequest<'_>, ledger: &Ledger, held: &HeldBlocks, capacity: Option<u64>) -> u32 {
    let sent = || ledger.cached(request.prefix, capacity);
    // A prompt that was cut into blocks of another size says nothing of this endpoint.
    let is_like = |likeness: &&Likeness| held.block_size() == Some(likeness.prompt.chain.block_size);
    let Some(likeness) = request.likeness.filter(is_like) else { return sent() };
    let told = || likeness.cached(held.held(&likeness.prompt.chain));
    match held.standing() {
        Standing::Deaf => sent(),
        Standing::Partial => told().max(sent()),
        Standing::Whole => {
            let (told, shared) = (told(), likeness.shared());
            let is_held = told >= shared - shared / DENSITY;
            told.max(if is_held { sent() } else { ledger.untold(request.prefix) })
        }
    }
    .min(request.tokens)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::inference::kv_events::chain::TokenChain;
    use crate::inference::kv_events::index::Writer;
    use crate::inference::kv_events::known::KnownPrompt;
    use crate::inference::kv_events::wire::{EngineHash, Event, Stored, StoredBlock};
    use crate::inference::prompt::BlockHash;
    use crate::scheduling::request::RequestFacts;

    /// A prompt of 32 blocks of text, which are 2048 estimated tokens and 1024 true ones.
    fn request(texts: usize) -> RequestFacts {
        let prefix: Vec<_> = (0..32_u64).map(|block| BlockHash(0).followed_by(&block.to_be_bytes())).collect();
        let tokens: Vec<u32> = (0..1024).collect();
        let chain = TokenChain::of(&tokens, 16, None, None);
        let prompt = Arc::new(KnownPrompt { texts: prefix.clone(), estimate: 2048, chain });
        let likeness = (texts > 0).then_some(Likeness { prompt, texts });
        RequestFacts { prefix, tokens: 2048, likeness, ..RequestFacts::default() }
    }

    /// Makes the index of an engine that has told of so many blocks.
    fn told(blocks: u32, standing: Standing) -> (Writer, Arc<HeldBlocks>) {
        let shared: Arc<HeldBlocks> = Arc::default();
        let mut writer = Writer::new(Arc::clone(&shared));
        let block = |place: u32| StoredBlock {
            hash: EngineHash(place.into()),
            tokens: (place * 16..place * 16 + 16).collect(),
            extras: Vec::new(),
        };
        let stored = Stored { blocks: (0..blocks).map(block).collect(), block_size: 16, ..Stored::default() };
        writer.note(&Event::Stored(stored));
        writer.trust(standing);
        (writer, shared)
    }

    fn of(request: &RequestFacts, ledger: &Ledger, blocks: u32, standing: Standing) -> u32 {
        cached(&request.attempt(&[]), ledger, &told(blocks, standing).1, None)
    }

    #[test]
    fn events_are_believed_as_far_as_they_reach() {
        let (unknown, part, whole) = (request(0), request(16), request(32));
        let (idle, busy) = (Ledger::default(), Ledger::default());
        busy.open(&whole.attempt(&[]), 0, None);
        for (case, request, ledger, blocks, standing, tokens) in [
            ("deaf: what was sent", &whole, &busy, 0, Standing::Deaf, 2048),
            ("deaf and nothing sent", &whole, &idle, 64, Standing::Deaf, 0),
            ("another router's prompt", &whole, &idle, 64, Standing::Whole, 2048),
            ("half of it", &whole, &idle, 32, Standing::Whole, 1024),
            ("tokens not known", &unknown, &idle, 64, Standing::Whole, 0),
            ("known in part", &part, &idle, 64, Standing::Whole, 1024),
            ("known in part, the rest was sent", &part, &busy, 64, Standing::Whole, 2048),
            ("some missed", &whole, &busy, 32, Standing::Partial, 2048),
            ("some missed, nothing sent", &whole, &idle, 32, Standing::Partial, 1024),
        ] {
            assert_eq!(of(request, ledger, blocks, standing), tokens, "{case}");
        }
    }

    #[test]
    fn what_was_sent_counts_until_it_is_computed() {
        let (request, ledger) = (request(32), Ledger::default());
        let entry = ledger.open(&request.attempt(&[]), 0, None);
        assert_eq!(of(&request, &ledger, 0, Standing::Whole), 2048, "the prompt is being computed");
        let other = RequestFacts {
            prefix: (0..64).map(|block| BlockHash(block << 32)).collect(),
            tokens: 4096,
            ..RequestFacts::default()
        };
        let later = ledger.open(&other.attempt(&[]), 0, None);
        assert_eq!(of(&request, &ledger, 0, Standing::Whole), 2048, "another one waits behind it");
        ledger.abandon(&entry);
        ledger.abandon(&later);
        assert_eq!(of(&request, &ledger, 0, Standing::Whole), 0, "the engine says nothing of it, so it is not there");
        assert_eq!(of(&request, &ledger, 0, Standing::Deaf), 2048);
        ledger.forget_prompts();
        assert_eq!(of(&request, &ledger, 0, Standing::Deaf), 0);
    }
}
