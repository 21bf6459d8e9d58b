//! The Kubernetes API server: how it is reached, watched and written to.

use std::time::Duration;

use http_body_util::BodyExt;
use kthena_router::config::ClusterConfig;
use kthena_router::object::Kind;
use kthena_router::{for_each_kind, kinds};
use kube::Client;
use kube::api::ApiResource;
use kube::client::{ClientBuilder, DynBody};
use thiserror::Error;
use tower::ServiceBuilder;
use tower::util::MapResponseLayer;

use crate::ops::metrics::Age;

pub use source::{ClusterKind, ClusterSource, Watch};

mod source;

/// How long connecting to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A Kubernetes cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    config: kube::Config,
    /// How many writes may be sent in how much time.
    rate: Option<(u64, Duration)>,
}

/// Why a cluster cannot be talked to.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Nothing says where the API server is.
    #[error(
        "there is no cluster to serve from: neither KUBECONFIG nor a Pod's service account leads to one; use --manifests DIR to serve without"
    )]
    Unknown(#[from] kube::config::InferConfigError),
    /// What says where the API server is cannot be used, for example its certificates.
    #[error("the cluster's configuration cannot be used")]
    Unusable(#[from] kube::Error),
}

impl Cluster {
    /// Finds out where the API server is: from `KUBECONFIG` or `~/.kube/config`, or else from the Pod's service account.
    ///
    /// # Errors
    ///
    /// Returns an error if there is neither. That the API server cannot be reached is none: it may come back.
    pub async fn find(options: &ClusterConfig) -> Result<Self, ClusterError> {
        Ok(Self::at(kube::Config::infer().await?, options))
    }

    /// Makes the cluster that `config` leads to.
    pub fn at(mut config: kube::Config, options: &ClusterConfig) -> Self {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Self { config, rate: rate(options) }
    }

    /// Makes a client for writes.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration cannot be used.
    pub fn writer(&self) -> Result<Client, ClusterError> {
        let builder = ClientBuilder::try_from(self.config.clone())?;
        Ok(match self.rate {
            None => builder.build(),
            Some((number, time)) => {
                let layer = ServiceBuilder::new().rate_limit(number, time);
                builder.with_layer(&layer.into_inner()).build()
            }
        })
    }

    /// Makes a client for one watch, which notes in `contact` whenever the API server says something.
    ///
    /// kube's watcher keeps bookmarks to itself, and without them a watch on which nothing happens looks like one that is
    /// dead. On the wire they differ.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration cannot be used.
    pub fn watcher(&self, contact: &Age) -> Result<Client, ClusterError> {
        let contact = contact.clone();
        let listen = move |response: http::Response<Box<DynBody>>| {
            let contact = contact.clone();
            contact.note();
            response.map(|body| {
                body.map_frame(move |frame| {
                    contact.note();
                    frame
                })
            })
        };
        let builder = ClientBuilder::try_from(self.config.clone())?;
        Ok(builder.with_layer(&MapResponseLayer::new(listen)).build())
    }
}

macro_rules! resources {
    ($($kind:ident $name:literal in $table:ident $facts:tt,)*) => {
        /// Returns how the API server calls a kind.
        pub fn resource(kind: Kind) -> ApiResource {
            match kind {
                $(Kind::$kind => ApiResource::erase::<kinds::$kind>(&()),)*
            }
        }
    };
}

for_each_kind!(resources);

/// Returns how many writes may be sent in how much time: a burst of them in the time in which the rate refills it.
fn rate(options: &ClusterConfig) -> Option<(u64, Duration)> {
    let per_second = f64::from(options.kube_api_qps);
    if per_second <= 0.0 {
        return None;
    }
    let burst = match options.kube_api_burst {
        0 => (2.0 * per_second).max(1.0).round(),
        burst => f64::from(burst),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a positive whole number")]
    let number = burst as u64;
    Some((number, Duration::from_secs_f64(burst / per_second)))
}
