//! The actors and edges of kthena-router.
//!
//! ```text
//!  API server ───────────────────────> Watcher<K> ──Observed<K>──> RouteRegistry ──writes()──> ClusterWriter ──> API server
//!                                                                   ^     │                         ^ Leadership
//!  directory ──> ManifestDirectory ──> Watcher<K> ──Observed<K>─────┤  plan()──────────────┬─> Snapshot ───────read───┐
//!                                                                   │                      ├─> ListenerFleet          │
//!                                                     BindReported  │                      │     └─> Listener (a bind)│
//!                                                                   └──────────────────────┼──────────┘ workers ──────┤
//!                                                                                          └─> PoolKeeper (a pool)    │
//!  engine /metrics ─────────────────> MetricsScraper ──Scraped──> PoolKeeper ──PoolView──────────┐                    │
//!  engine KV events ────────────────> KvEventListener ──indexes──────────────────────────────────┤                    │
//!  engine /tokenize <───────────────> Tokenizer ──known prompts──────────────────────────────────┤                    │
//!                                                                                                v                    v
//!  client ──────────────────────────> request handler ──PickEndpoint──> Scheduler (the worker's own) ──Lease──> engine
//! ```
//!
//! | message | from, to | how | meaning |
//! |---|---|---|---|
//! | [`control::registry::Observed`] | Watcher, RouteRegistry | do_send | a fact about objects of one kind |
//! | [`control::cluster_writer::DesireWrites`] | RouteRegistry, ClusterWriter | do_send | what the API server should be told, all of it |
//! | [`control::cluster_writer::LeadershipChanged`] | Leadership, ClusterWriter | do_send | whether this replica writes |
//! | [`control::cluster_writer::ReportTrouble`] | sources, RouteRegistry, ClusterWriter | do_send | what an Event is to tell about an object |
//! | [`messages::HealthChanged`] | PoolKeeper, RouteRegistry | do_send, weak | the endpoints of a pool that are ejected, all of them |
//! | [`messages::BindReported`] | Listener, RouteRegistry | do_send, weak | a socket was opened, or could not be |
//! | [`control::name_resolver::EnsureNames`] | RouteRegistry, NameResolver | do_send | the names to look up, all of them |
//! | [`messages::NamesResolved`] | NameResolver, RouteRegistry | do_send, weak | the addresses of names, all of them |
//! | [`messages::EnsureBinds`] | RouteRegistry, ListenerFleet | do_send | the sockets to have open, all of them |
//! | [`edge::listener::Drain`] | Overseer, ListenerFleet, Listener | send | stop accepting, finish, close |
//! | [`pools::pool_keeper::SetPool`] | RouteRegistry, PoolKeeper | do_send | a pool's policy and its endpoints, all of them |
//! | [`nursery::End`] | RouteRegistry, PoolKeeper, MetricsScraper | send | stop; whoever asks waits for it |
//! | [`messages::WatchEndpoints`] | PoolKeeper, MetricsScraper | do_send | the endpoints to scrape, all of them |
//! | [`messages::Scraped`] | MetricsScraper, PoolKeeper | try_send | an engine's figures; a lost one is replaced |
//! | [`pools::kv_events::HearEndpoints`] | PoolKeeper, KvEventListener | do_send | the endpoints to listen to, all of them |
//! | [`messages::LearnPrompt`] | request handler, Tokenizer | try_send, weak | a prompt whose tokens are not known; a lost one comes again |
//! | [`messages::AttemptEnded`] | Lease, PoolKeeper | do_send, weak | an attempt that may eject an endpoint, or bring it back |
//! | [`pools::scheduler::PickEndpoint`] | request handler, Scheduler | send, same thread | choose an endpoint and reserve it |
//! | [`ops::access_logger::LogLines`] | HTTP worker, AccessLogger | do_send, bounded by bytes | lines to write |
//! | [`control::files_changed::FilesChanged`] | file system, ManifestDirectory and SchedulerFile | do_send, weak | look again |
//! | [`control::registry::SetProfiles`] | SchedulerFile, RouteRegistry | do_send | how endpoints are picked, or why a file says nothing of it |
//! | [`messages::RedisReported`] | RedisWatch, RouteRegistry | do_send | the Redis servers of limits that do not answer, all of them |
//! | [`control::overseer::Shutdown`] | signals, Overseer | do_send | drain, then end |
//! | [`ops::observe::Observe`] | admin pages, anyone | send, with timeout | a snapshot of a state |
//!
//! Only a parent holds the address of an actor that may be replaced; everyone else reaches it by way of a published
//! snapshot, or not at all.

pub mod control;
pub mod dry_run;
pub mod edge;
pub mod memory;
pub mod messages;
pub mod nursery;
pub mod ops;
pub mod origin;
pub mod pools;
pub mod router;
pub mod serve;
#[cfg(test)]
mod supervision_tests;
pub mod workshop;

/// The names of the actors that only a router in a cluster has.
pub const CLUSTER_CAST: [&str; 2] =
    [control::cluster_writer::ClusterWriter::NAME, control::leadership::Leadership::NAME];

/// The names of the actors that only pools have whose engines tell of their KV caches.
pub const KV_EVENTS_CAST: [&str; 2] = [pools::kv_events::KvEventListener::NAME, pools::kv_events::Tokenizer::NAME];

macro_rules! cast {
    ($($kind:ident $name:literal in $table:ident $facts:tt,)*) => {
        /// The names of the actors that every router has.
        pub const CAST: &[&str] = &[
            control::overseer::Overseer::NAME,
            control::manifest_directory::ManifestDirectory::NAME,
            control::registry::RouteRegistry::NAME,
            control::scheduler_file::SchedulerFile::NAME,
            control::redis_watch::RedisWatch::NAME,
            control::fleet::ListenerFleet::NAME,
            edge::listener::Listener::NAME,
            pools::scheduler::Scheduler::NAME,
            pools::pool_keeper::PoolKeeper::NAME,
            pools::scraper::MetricsScraper::NAME,
            ops::access_logger::AccessLogger::NAME,
            $(control::watcher::Watcher::<kthena_router::kinds::$kind>::name(),)*
        ];
    };
}

kthena_router::for_each_kind!(cast);
