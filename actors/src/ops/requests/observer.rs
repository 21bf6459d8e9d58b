//! Who learns of requests: the metrics and the access log of one worker thread.
//!
//! Finding a metric by its eight labels costs more than routing the request; a worker therefore remembers the handles
//! by a few integers, for as long as the snapshot that these point into lives.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use super::access_log::LogBuffer;
use super::decisions::Recent;
use super::names::{Identity, Subject};
use super::series::Series;
use crate::ops::metrics::Metrics;
use crate::pools::published::{Reader, Snapshot};

/// How often handles of former snapshots are let go: as long as they are kept, their series are in use.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The observers of one worker thread's requests.
pub(crate) struct Observer {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Access log lines that were not sent yet; `None` when there is no access log.
    pub log: Option<Rc<LogBuffer>>,
    /// The latest decisions of the thread.
    pub recent: Rc<Recent>,
    /// The handles that were used before.
    known: RefCell<Known>,
    unrouted: Rc<Series>,
}

#[derive(Default)]
struct Known {
    generation: u64,
    series: HashMap<Identity, Rc<Series>>,
}

impl Observer {
    /// Makes an observer that knows no handles, and that forgets those that are not of the snapshot of the moment.
    pub(crate) fn start(
        metrics: Arc<Metrics>,
        log: Option<Rc<LogBuffer>>,
        recent: Rc<Recent>,
        reader: Reader,
    ) -> Rc<Self> {
        let unrouted = Rc::new(Series::new(&metrics, &Snapshot::default(), Subject::default()));
        let observer = Rc::new(Self { metrics, log, recent, known: RefCell::default(), unrouted });
        let weak = Rc::downgrade(&observer);
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                ticks.tick().await;
                let Some(observer) = weak.upgrade() else { return };
                if observer.known.borrow().generation != reader.glance().generation {
                    observer.known.take();
                }
            }
        });
        observer
    }

    /// Returns the handles of requests that no route was found for.
    pub(crate) fn unrouted(&self) -> Rc<Series> {
        Rc::clone(&self.unrouted)
    }

    /// Returns the handles of a kind of request.
    pub(crate) fn series(&self, snapshot: &Snapshot, subject: Subject<'_>) -> Rc<Series> {
        let make = || Rc::new(Series::new(&self.metrics, snapshot, subject));
        let mut known = self.known.borrow_mut();
        if known.generation > snapshot.generation {
            // A request of a former snapshot: what it needs is not needed again.
            return make();
        }
        if known.generation != snapshot.generation {
            *known = Known { generation: snapshot.generation, series: HashMap::new() };
        }
        Rc::clone(known.series.entry(subject.identity()).or_insert_with(make))
    }
}
