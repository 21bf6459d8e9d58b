//! The ids of prefill engines: vLLM's own Mooncake wants decode engines to be told, and a prefill's answer does not tell.
//!
//! They are asked of the bootstrap server of the prefill engine. An engine draws its id when it starts, so that an answer is
//! good for one life of a Pod: each thread remembers it for as long, where that life can be told from the next one. A
//! decode that fails with a remembered id has it asked for again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderMap;
use kthena_router::inference::disaggregation::{BOOTSTRAP_PORT, engine_ids};
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router_downstream::Charge;
use kthena_router_upstream::{Ask, Client, Peer, Transport};
use tokio::time::timeout_at;

use super::legs::read;

/// How many engines are remembered; beyond that, all are asked again, so that those of Pods that are gone do not stay.
const MOST: usize = 1024;

/// One life of an engine's bootstrap server.
type Life = (SocketAddr, Arc<str>);

/// The ids that one thread knows; `None` for an engine with several ranks, of which it is not known which one has
/// computed a prompt.
#[derive(Default)]
pub(in crate::edge) struct EngineIds(RefCell<HashMap<Life, Option<Arc<str>>>>);

impl EngineIds {
    /// Returns the id of a prefill engine, asking it if need be; `None` if it has several, or does not tell in time.
    pub(super) async fn find(
        &self,
        client: &Client,
        prefill: &Endpoint,
        until: Instant,
        charge: Option<Charge>,
    ) -> Option<Arc<str>> {
        let life = life(prefill);
        let known = life.as_ref().and_then(|life| self.0.borrow().get(life).cloned());
        if let Some(id) = known {
            return id;
        }
        let ids = ask(client, bootstrap(prefill), until, charge).await?;
        let id = match &*ids {
            [(_, id)] => Some(Arc::from(&**id)),
            _ => None,
        };
        if let Some(life) = life {
            self.note(life, id.clone());
        }
        id
    }

    /// Forgets an id that may not be the engine's any more.
    pub(super) fn forget(&self, prefill: &Endpoint) {
        if let Some(life) = life(prefill) {
            self.0.borrow_mut().remove(&life);
        }
    }

    fn note(&self, life: Life, id: Option<Arc<str>>) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(life, id);
    }
}

/// Returns where an engine meets those that decode what it has computed.
fn bootstrap(prefill: &Endpoint) -> SocketAddr {
    SocketAddr::new(prefill.address, prefill.bootstrap_port.unwrap_or(BOOTSTRAP_PORT))
}

/// Returns which life of an engine this is; `None` where it cannot be told from the next one.
fn life(prefill: &Endpoint) -> Option<Life> {
    Some((bootstrap(prefill), Arc::clone(prefill.incarnation.as_ref()?)))
}

/// Asks a bootstrap server for the ids of the engine's ranks.
async fn ask(
    client: &Client,
    address: SocketAddr,
    until: Instant,
    mut charge: Option<Charge>,
) -> Option<Vec<(u32, String)>> {
    let peer = Peer { address, transport: Transport::Http1 };
    let (host, headers) = (address.to_string(), HeaderMap::new());
    let timeout = Some(until.saturating_duration_since(Instant::now()));
    let mut ask = Ask { timeout, ..Ask::get("/query", &host, &headers) };
    let mut answer = client.send_again(&peer, &mut ask).await.ok().filter(|answer| answer.head.status.is_success())?;
    let answer = timeout_at(until.into(), read(&mut answer.body, &mut charge)).await.ok()?.ok()?.ok()?;
    engine_ids(&answer).ok()
}

#[cfg(test)]
mod tests {
    use kthena_router::object::ObjectKey;

    use super::*;

    fn endpoint(incarnation: Option<&str>) -> Endpoint {
        let pod = ObjectKey::new("default", "p");
        let incarnation = incarnation.map(Arc::from);
        Endpoint { incarnation, ..Endpoint::new(pod, [127, 0, 0, 1].into(), 8000) }
    }

    #[test]
    fn an_id_is_good_for_one_life_of_a_pod() {
        let ids = EngineIds::default();
        let (first, second) = (life(&endpoint(Some("a"))).unwrap(), life(&endpoint(Some("b"))).unwrap());
        assert_eq!(life(&endpoint(None)), None, "one whose end is not noticed is asked each time");
        ids.note(first.clone(), Some("id".into()));
        let known = |life| ids.0.borrow().get(life).cloned().flatten();
        assert_eq!((known(&first).as_deref(), known(&second)), (Some("id"), None));
        ids.forget(&endpoint(Some("a")));
        assert_eq!(known(&first), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ids = EngineIds::default();
        for number in 0..3 * MOST {
            ids.note(life(&endpoint(Some(&number.to_string()))).unwrap(), None);
            assert!(ids.0.borrow().len() <= MOST);
        }
    }
}
