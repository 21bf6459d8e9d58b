//! Notes where the responses are that engines keep.

use std::sync::Arc;

use kthena_router::inference::response_id::{IdSearch, Search};
use kthena_router::pool::response_holders::{Mark, ResponseHolders};
use kthena_router::scheduling::endpoint::Endpoint;

/// Notes which endpoint has a response, as soon as an answer gives its id.
pub(in crate::edge) struct Naming {
    search: IdSearch,
    holders: Arc<ResponseHolders>,
}

impl Naming {
    /// Begins with an answer that may give an id.
    pub(in crate::edge) fn new(holders: &Arc<ResponseHolders>) -> Self {
        Self { search: IdSearch::default(), holders: Arc::clone(holders) }
    }

    /// Takes the next piece of the answer of an endpoint, and returns whether that was all that matters.
    pub(super) fn is_over(&mut self, piece: &[u8], endpoint: &Endpoint) -> bool {
        let found = self.search.feed(piece);
        if let Search::Found(id) = &found {
            self.holders.note(id, Mark::of(endpoint));
        }
        found != Search::Open
    }
}
