//! Blocks that wait to be fetched under the id of their request, as those of NIXL and Mooncake do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Blocks;
use crate::state::EngineState;

/// What waits, by id.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<HashMap<String, Blocks>>);

impl Holds {
    /// Holds the blocks of a prefill until they are fetched, or the time of the configuration is over.
    pub(crate) fn hold(engine: &Arc<EngineState>, id: String, tokens: u64) {
        let blocks = Blocks::hold(Arc::clone(engine), tokens);
        engine.transfers.holds.lock().insert(id.clone(), blocks);
        let engine = Arc::downgrade(engine);
        actix_web::rt::spawn(async move {
            let Some(patience) = engine.upgrade().map(|engine| engine.config.kv_hold_timeout) else { return };
            tokio::time::sleep(patience).await;
            if let Some(engine) = engine.upgrade()
                && engine.transfers.holds.take(&id).is_some()
            {
                engine.transfers.counts.expired.add(1);
            }
        });
    }

    /// Takes what is held under an id; nobody else gets it any more.
    pub(crate) fn take(&self, id: &str) -> Option<Blocks> {
        self.lock().remove(id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Blocks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
