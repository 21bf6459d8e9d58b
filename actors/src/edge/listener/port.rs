//! One inference port: what its connections are served with, on each worker thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kthena_router::config::LimitConfig;
use kthena_router::object::Bind;
use kthena_router::plan::BindPlan;
use kthena_router_downstream::{CancellationToken, ChooseTls, Chosen, Limits, Server};

use crate::edge::proxy::{Door, InferenceService, Serving, Worker};
use crate::edge::tls::PORT_IDENTITY;
use crate::edge::workers::Port;
use crate::ops::requests::decisions::Recent;

/// One inference port, as all threads share it.
pub struct InferencePort {
    door: Arc<Door>,
    tls: bool,
    closing: CancellationToken,
}

impl InferencePort {
    /// Makes the port of a bind.
    pub(super) fn new(plan: BindPlan, serving: Arc<Serving>) -> Arc<Self> {
        Arc::new(Self { door: Door::new(plan.bind, serving), tls: plan.tls, closing: CancellationToken::new() })
    }
}

impl Port for InferencePort {
    type Service = InferenceService;
    type Context = Rc<Recent>;

    fn context() -> Self::Context {
        Rc::default()
    }

    fn server(self: &Arc<Self>, recent: &Self::Context) -> Rc<Server<InferenceService>> {
        let serving = &self.door.serving;
        let tls = self.tls.then(|| Rc::new(Chooser { bind: self.door.bind, serving: Arc::clone(serving) }) as Rc<_>);
        Rc::new(Server {
            service: Rc::new(InferenceService(Worker::new(Arc::clone(&self.door), Rc::clone(recent)))),
            limits: limits(&serving.config.limits),
            budget: serving.budget.clone(),
            tls,
            closing: self.closing.clone(),
        })
    }

    fn closing(&self) -> &CancellationToken {
        &self.closing
    }
}

fn limits(config: &LimitConfig) -> Limits {
    Limits {
        head_time: config.client_timeout,
        keep_alive: config.client_keep_alive,
        // The proxy has its own timer for bodies, which is to be the first.
        body_pause: config.client_timeout + Duration::from_secs(1),
        write_stall: config.client_timeout,
        ..Limits::default()
    }
}

/// Chooses what handshakes of a port are done with: as its listeners say, else with the certificate of the port.
struct Chooser {
    bind: Bind,
    serving: Arc<Serving>,
}

impl ChooseTls for Chooser {
    fn choose(&self, server_name: Option<&str>) -> Option<Chosen> {
        let table = self.serving.tls.load();
        match table.of(self.bind) {
            Some(names) => names.find(server_name).cloned(),
            None => self.serving.server_tls.clone().map(|config| Chosen { config, identity: PORT_IDENTITY }),
        }
    }
}
