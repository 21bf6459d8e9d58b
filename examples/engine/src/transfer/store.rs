//! A store of KV cache that engines share: which prompts are in it. One engine stands for the store's server.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The prompts of a store.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<HashSet<String>>);

impl Store {
    /// Puts a prompt into the store.
    pub(crate) fn put(&self, prompt: &str) {
        self.lock().insert(prompt.to_owned());
    }

    /// Returns whether the store has a prompt.
    pub(crate) fn has(&self, prompt: &str) -> bool {
        self.lock().contains(prompt)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
