//! Connections to endpoint pickers.
//!
//! Each worker thread has its own, one for each endpoint of a picker; a connection is made when it is first needed, and
//! again after it has broken. Pickers are asked in turn from a random one on, and the next one is asked only if the one
//! before cannot be reached: what a picker has said counts.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use kthena_router::pool::policy::ExternalPicker;
use tokio::time::timeout;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::consultation::{Consultation, Failed, Question};
use super::fault::Fault;
use super::gathering::Verdict;
use crate::edge::tls::any_certificate;

/// How long a connection is kept that is not used.
const KEPT: Duration = Duration::from_secs(300);

/// The connections of one worker thread.
pub(crate) struct Channels {
    connect_timeout: Duration,
    /// In which a picker must decide.
    limit: Duration,
    open: RefCell<HashMap<(SocketAddr, bool), Open>>,
}

struct Open {
    channel: Channel,
    used: Instant,
}

impl Channels {
    /// Makes no connection yet; a picker gets `limit` for each decision.
    pub(crate) fn new(connect_timeout: Duration, limit: Duration) -> Self {
        Self { connect_timeout, limit, open: RefCell::new(HashMap::new()) }
    }

    /// Asks a picker about a request; of its endpoints the one at `first`, counted round, is asked first.
    pub(crate) async fn consult(
        &self,
        picker: &ExternalPicker,
        first: usize,
        question: &Question<'_>,
    ) -> Result<(Verdict, Consultation), Fault> {
        timeout(self.limit, self.ask(picker, first, question)).await.unwrap_or_else(|_| {
            // A connection on which nothing is answered may be dead: those that come next make a new one.
            for address in &picker.endpoints {
                self.close(*address, picker.tls);
            }
            Err(Fault::Late)
        })
    }

    async fn ask(
        &self,
        picker: &ExternalPicker,
        first: usize,
        question: &Question<'_>,
    ) -> Result<(Verdict, Consultation), Fault> {
        let mut last = Fault::Absent;
        let endpoints = &picker.endpoints;
        for place in 0..endpoints.len() {
            let address = endpoints[(first + place) % endpoints.len()];
            let Some(channel) = self.channel(address, picker) else { continue };
            match Consultation::begin(channel, question).await {
                Ok(decided) => return Ok(decided),
                Err(Failed::Said(fault)) => return Err(fault),
                Err(Failed::Unreached(fault)) => {
                    self.close(address, picker.tls);
                    last = fault;
                }
            }
        }
        Err(last)
    }

    fn channel(&self, address: SocketAddr, picker: &ExternalPicker) -> Option<Channel> {
        let mut open = self.open.borrow_mut();
        let now = Instant::now();
        let key = (address, picker.tls);
        if let Some(known) = open.get_mut(&key) {
            known.used = now;
            return Some(known.channel.clone());
        }
        open.retain(|_, known| now.duration_since(known.used) < KEPT);
        let channel = self.dial(address, picker)?;
        open.insert(key, Open { channel: channel.clone(), used: now });
        Some(channel)
    }

    /// Makes a channel that connects when it is used; `None` if the address cannot be written as a URI.
    fn dial(&self, address: SocketAddr, picker: &ExternalPicker) -> Option<Channel> {
        let scheme = if picker.tls { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .ok()?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)));
        if !picker.tls {
            return Some(endpoint.connect_lazy());
        }
        let service = &picker.service;
        let tls = ClientTlsConfig::new()
            .domain_name(format!("{}.{}.svc", service.name, service.namespace))
            .timeout(self.connect_timeout);
        Some(endpoint.tls_config_with_verifier(tls, any_certificate()).ok()?.connect_lazy())
    }

    fn close(&self, address: SocketAddr, tls: bool) {
        self.open.borrow_mut().remove(&(address, tls));
    }
}
