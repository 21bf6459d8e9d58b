//! How engines of one fleet hand computed prompts over to each other.
//!
//! | | the router tells the engine that prefills | it answers with | the engine that decodes is told |
//! |---|---|---|---|
//! | vLLM's `NixlConnector` | `kv_transfer_params.do_remote_decode` | `kv_transfer_params` | the same |
//! | SGLang | `bootstrap_room` | nothing | the same room, at the same time |
//!
//! An engine that decodes refuses what nobody has computed (vLLM), or waits for it (SGLang). What nobody asks for stays until
//! the end of the process: runs are short.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use tokio::sync::watch;

/// Whose protocol a fleet speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// vLLM's, with its `NixlConnector`.
    #[default]
    Nixl,
    /// SGLang's.
    Sglang,
}

/// Computed prompts by the names of their transfers: whether each is there.
#[derive(Default)]
pub(super) struct Transfers(Mutex<HashMap<String, watch::Sender<bool>>>);

impl Protocol {
    /// Returns the name of the engine, as `/v1/models` has it.
    pub fn engine(self) -> &'static str {
        match self {
            Self::Nixl => "vllm",
            Self::Sglang => "sglang",
        }
    }

    /// Returns a path that only the other engine serves; routers tell the two apart by it.
    pub fn foreign_path(self) -> &'static str {
        match self {
            Self::Nixl => "/server_info",
            Self::Sglang => "/version",
        }
    }
}

impl Transfers {
    /// Offers a computed prompt.
    pub(super) fn offer(&self, name: String) {
        self.lock().entry(name).or_default().send_replace(true);
    }

    /// Returns whether a computed prompt is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.lock().get(name).is_some_and(|prompt| *prompt.borrow())
    }

    /// Waits for a computed prompt, and takes it.
    pub(super) async fn take(&self, name: &str) {
        let mut prompt = self.lock().entry(name.to_owned()).or_default().subscribe();
        // Its sender stays until it is taken.
        drop(prompt.wait_for(|is_there| *is_there).await);
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
