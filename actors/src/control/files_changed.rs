//! Has the file system tell of changes of certain files in a directory.
//!
//! Directories are watched, and not files: editors and Kubernetes put another file in a file's place, and a watch of the
//! old one would tell nothing more.

use std::path::Path;

use actix::{Message, Recipient, WeakRecipient};
use notify::event::Event;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// Something that the files say may have changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FilesChanged;

/// Tells `reader` of changes in a directory, for as long as what is returned is kept. Files that are not `wanted` are
/// passed over: a log may be written beside them, thousands of times a second.
pub(super) fn watch(
    directory: &Path,
    wanted: impl Fn(&Path) -> bool + Send + 'static,
    reader: WeakRecipient<FilesChanged>,
) -> notify::Result<RecommendedWatcher> {
    let place = directory.to_owned();
    let tell = move |event: notify::Result<Event>| {
        let is_change = event.is_ok_and(|event| concerns(&event, &place, &wanted));
        if let Some(reader) = reader.upgrade().filter(|_| is_change) {
            Recipient::do_send(&reader, FilesChanged);
        }
    };
    let mut watcher = notify::recommended_watcher(tell)?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Returns whether an event may change what is read of a directory.
fn concerns(event: &Event, directory: &Path, wanted: &impl Fn(&Path) -> bool) -> bool {
    // Reading a file is an event, too.
    if event.kind.is_access() {
        return false;
    }
    // Kubernetes swaps a hidden link, `..data`, by way of which all files of a mounted ConfigMap are reached.
    let is_swap = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
    let is_any_wanted = event.paths.iter().any(|path| wanted(path) || is_swap(path) || path == directory);
    event.paths.is_empty() || event.need_rescan() || is_any_wanted
}

#[cfg(test)]
mod tests {
    use notify::EventKind;
    use notify::event::{AccessKind, CreateKind, Flag, ModifyKind};

    use super::*;

    #[test]
    fn a_log_beside_the_files_is_no_change_and_all_else_is() {
        let wanted = |path: &Path| path.ends_with("a.yaml");
        let seen = |event: Event| concerns(&event, Path::new("/m"), &wanted);
        let changed = |path: &str| Event::new(EventKind::Modify(ModifyKind::Any)).add_path(path.into());
        assert!(!seen(changed("/m/access.log")));
        for (case, event) in [
            ("the file", changed("/m/a.yaml")),
            ("a ConfigMap's link", changed("/m/..data")),
            (
                "what a ConfigMap's link is made of",
                Event::new(EventKind::Create(CreateKind::Any)).add_path("/m/..data_tmp".into()),
            ),
            ("the directory", changed("/m")),
            ("one of two", changed("/m/b").add_path("/m/a.yaml".into())),
            ("lost events", Event::new(EventKind::Other).set_flag(Flag::Rescan).add_path("/m/b".into())),
            ("an event of no file", Event::new(EventKind::Any)),
        ] {
            assert!(seen(event), "{case}");
        }
        assert!(!seen(Event::new(EventKind::Access(AccessKind::Any)).add_path("/m/a.yaml".into())), "it was read");
    }
}
