//! The control plane: from facts about objects to what the other wings are to do and what the API server is told.

pub mod cluster;
pub mod cluster_writer;
pub mod files_changed;
pub mod fleet;
pub mod leadership;
pub mod manifest_directory;
pub mod name_resolver;
pub mod overseer;
pub mod redis_watch;
pub mod registry;
pub mod scheduler_file;
pub mod watcher;
