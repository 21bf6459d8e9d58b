//! The series of routes and backends: which there are, who uses them, and how they go when their objects are gone.
//!
//! Workers enter each series that they begin to use; the one reader of the entries is the RouteRegistry, which knows the
//! objects. A series is removed when its route or backend is gone and no worker uses it any more, so that an answer that
//! takes minutes is still counted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{BackendLabels, DurationLabels, Metrics, ModelLabel, RequestLabels, Text, TokenLabels, UpstreamLabels};

/// The entries that nobody has read yet.
#[derive(Debug)]
pub struct Ledger {
    entries: Sender<Used>,
    unread: Receiver<Used>,
}

/// A series that a worker begins to use.
#[derive(Clone, Debug)]
pub struct Used {
    /// Its labels.
    pub labels: SeriesLabels,
    /// It is in use for as long as this can be upgraded.
    pub users: Weak<()>,
}

/// The labels of series that begin and end together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SeriesLabels {
    /// Those of requests in flight.
    Active {
        /// The model that they ask for.
        model: Text,
        /// Where they go.
        backend: BackendLabels,
    },
    /// Those of requests that have ended.
    Ended(RequestLabels),
}

/// The names of the objects that there are.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// The routes.
    pub routes: HashSet<String>,
    /// The backends, each with the model that it serves.
    pub backends: HashSet<(String, String)>,
}

/// All series that were ever entered and not removed; its one owner is the RouteRegistry.
#[derive(Debug, Default)]
pub struct Books {
    users: HashMap<SeriesLabels, Vec<Weak<()>>>,
    /// Whether a series may be left to remove.
    is_unsettled: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        let (entries, unread) = unbounded();
        Self { entries, unread }
    }
}

impl Ledger {
    /// Enters a series. The reader lives as long as the process.
    pub fn enter(&self, labels: SeriesLabels, users: &Arc<()>) {
        drop(self.entries.send(Used { labels, users: Arc::downgrade(users) }));
    }
}

impl SeriesLabels {
    fn backend(&self) -> &BackendLabels {
        match self {
            Self::Active { backend, .. } | Self::Ended(RequestLabels { backend, .. }) => backend,
        }
    }

    fn remove(&self, metrics: &Metrics) {
        match self {
            Self::Active { backend, .. } => {
                let model_server = backend.backend_name.clone();
                metrics.active_upstream.remove(&UpstreamLabels { model_server, backend: backend.clone() });
            }
            Self::Ended(labels) => {
                metrics.requests.remove(labels);
                let RequestLabels { model, path, status_code, backend, .. } = labels.clone();
                for token_type in ["input", "output"] {
                    let (model, backend) = (model.clone(), backend.clone());
                    metrics.tokens.remove(&TokenLabels { model, path, token_type, backend });
                }
                metrics.request_seconds.remove(&DurationLabels { model, path, status_code, backend });
            }
        }
    }
}

impl Existing {
    fn has(&self, labels: &BackendLabels) -> bool {
        let BackendLabels { model_route, backend_name, upstream_model, .. } = labels;
        let is_route = &*model_route.0 == super::NONE || self.routes.contains(&*model_route.0);
        // A pair of texts cannot be looked up by borrowed ones.
        let backend = || (backend_name.0.to_string(), upstream_model.0.to_string());
        is_route && (&*backend_name.0 == super::NONE || self.backends.contains(&backend()))
    }
}

impl Books {
    /// Notes that objects came or went.
    pub fn note_change(&mut self) {
        self.is_unsettled = true;
    }

    /// Reads new entries, and removes the series of objects that are gone, unless they are in use.
    pub fn settle(&mut self, metrics: &Metrics, existing: &Existing) {
        while let Ok(Used { labels, users }) = metrics.ledger.unread.try_recv() {
            self.is_unsettled |= !existing.has(labels.backend());
            let known = self.users.entry(labels).or_default();
            known.retain(|users| users.strong_count() > 0);
            known.push(users);
        }
        if !std::mem::take(&mut self.is_unsettled) {
            return;
        }
        let mut models = HashSet::new();
        let mut is_unsettled = false;
        self.users.retain(|labels, users| {
            if existing.has(labels.backend()) {
                return true;
            }
            let is_used = users.iter().any(|users| users.strong_count() > 0);
            is_unsettled |= is_used;
            if !is_used {
                labels.remove(metrics);
                if let SeriesLabels::Active { model, .. } = labels {
                    models.insert(model.clone());
                }
            }
            is_used
        });
        self.is_unsettled = is_unsettled;
        let is_left = |model: &Text| {
            let asks =
                |labels: &SeriesLabels| matches!(labels, SeriesLabels::Active { model: other, .. } if other == model);
            self.users.keys().any(asks)
        };
        for model in models.into_iter().filter(|model| !is_left(model)) {
            metrics.queue.forget_model(&model);
            metrics.active_downstream.remove(&ModelLabel { model });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::metrics::{Format, GoQueue};

    fn backend(route: &str) -> BackendLabels {
        BackendLabels {
            model_route: route.into(),
            backend_type: "model_server",
            backend_name: "default/s".into(),
            upstream_model: "none".into(),
        }
    }

    fn size(metrics: &Metrics) -> usize {
        metrics.encode(Format::Text).unwrap().lines().count()
    }

    /// Uses what a worker uses for a request to a route.
    fn request(metrics: &Metrics, route: &str, users: &Arc<()>) {
        let (model, backend) = (Text::from(route), backend(route));
        metrics.active_downstream.get_or_create(&ModelLabel { model: model.clone() }).inc();
        let labels = UpstreamLabels { model_server: backend.backend_name.clone(), backend: backend.clone() };
        metrics.active_upstream.get_or_create(&labels).inc();
        metrics.ledger.enter(SeriesLabels::Active { model: model.clone(), backend: backend.clone() }, users);
        let (path, status_code) = ("other", 200);
        let labels = RequestLabels { model, path, status_code, error_type: "successful_request", backend };
        metrics.requests.get_or_create(&labels).inc();
        metrics.ledger.enter(SeriesLabels::Ended(labels.clone()), users);
        let RequestLabels { model, backend, .. } = labels;
        metrics.request_seconds.get_or_create(&DurationLabels { model, path, status_code, backend }).observe(1.0);
        let model = Text::from(route);
        drop(metrics.queue.enter_go(GoQueue::Fairness, model.clone()).pass());
        drop(metrics.queue.enter_go(GoQueue::Fairness, model.clone()));
        drop(metrics.queue.enter_go(GoQueue::SessionBoost, model.clone()).pass());
        drop(metrics.queue.enter_go(GoQueue::SessionBoost, model));
    }

    #[test]
    fn the_series_of_1200_deleted_routes_go_and_those_in_use_wait() {
        let (metrics, mut books) = (Metrics::new(), Books::default());
        let names: Vec<_> = (0..1200).map(|index| format!("default/route-{index}")).collect();
        let mut existing = Existing::default();
        existing.backends.insert(("default/s".to_owned(), "none".to_owned()));
        existing.routes.insert("default/stays".to_owned());
        request(&metrics, "default/stays", &Arc::default());
        books.settle(&metrics, &existing);
        let before = size(&metrics);

        existing.routes.extend(names.iter().cloned());
        let users: Vec<Arc<()>> = names.iter().map(|_| Arc::default()).collect();
        for (name, users) in names.iter().zip(&users) {
            request(&metrics, name, users);
        }
        books.settle(&metrics, &existing);
        let (full, streaming) = (size(&metrics), users.last().cloned());
        assert!(full > before + 1200 * 10, "{before} {full}");

        existing.routes.retain(|route| route == "default/stays");
        books.note_change();
        books.settle(&metrics, &existing);
        assert_eq!(size(&metrics), full, "they are all in use");
        drop(users);
        books.settle(&metrics, &existing);
        assert!(size(&metrics) > before, "one request is still answered");
        assert!(metrics.encode(Format::Text).unwrap().contains("default/route-1199"));
        drop(streaming);
        books.settle(&metrics, &existing);
        assert_eq!(size(&metrics), before);
        // A request that ends after its route has gone leaves nothing either.
        request(&metrics, "default/route-7", &Arc::default());
        books.settle(&metrics, &existing);
        assert_eq!(size(&metrics), before);
    }
}
