//! TLS to backends: what a plan asks for, made into what connections use.

use std::sync::Arc;

use kthena_router::gateway::tls::UpstreamTls;
use rustls::pki_types::ServerName;
use tracing::warn;

use crate::edge::tls::{TlsError, client_config};
use kthena_router_upstream::ClientTls;

/// What was made for the last plan.
#[derive(Debug, Default)]
pub(super) struct BackendTls {
    made: Vec<(Arc<UpstreamTls>, Option<Arc<ClientTls>>)>,
}

impl BackendTls {
    /// Returns what the connections of a plan use, in the plan's order; `None` where TLS cannot be spoken as asked for.
    ///
    /// What did not change stays the same value, so that its connections go on.
    pub(super) fn make(&mut self, plans: Vec<Arc<UpstreamTls>>) -> Vec<Option<Arc<ClientTls>>> {
        let made = plans.into_iter().map(|plan| {
            let known = self.made.iter().find(|(known, _)| *known == plan).map(|(_, tls)| tls.clone());
            let tls = known.unwrap_or_else(|| match client_tls(&plan) {
                Ok(tls) => Some(Arc::new(tls)),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    warn!(server_name = plan.server_name, error, "backends under a tls policy cannot be reached");
                    None
                }
            });
            (plan, tls)
        });
        self.made = made.collect();
        self.made.iter().map(|(_, tls)| tls.clone()).collect()
    }
}

fn client_tls(plan: &UpstreamTls) -> Result<ClientTls, TlsError> {
    let name = ServerName::try_from(plan.server_name.clone()).map_err(|_| TlsError::Name(plan.server_name.clone()))?;
    Ok(ClientTls::of_name(client_config(plan)?, name))
}
