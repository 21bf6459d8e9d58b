//! When a directory of manifests is read whose files are being written.
//!
//! A file that is being written is cut off, and one that an editor or a volume replaces is away for a moment. So a change is
//! read when the directory has been quiet for a while, or after a longer one without those that are never quiet.
//!
//! ```text
//! writes     | |  | |
//! looks      l  l  l  l  l  l  l    while something may have changed
//! read                         r    QUIET after the last change, or AT_MOST after the first one
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// How long the directory must be quiet before it is read, and a file before its text is taken for whole.
const QUIET: Duration = Duration::from_millis(100);
/// How long a directory that is never quiet is waited for: then it is read without the files that are being written.
const AT_MOST: Duration = Duration::from_millis(500);
/// How long a directory that has lost all of its files is waited for: a volume may be mounted anew.
const EMPTY_PATIENCE: Duration = Duration::from_secs(2);

/// What can be seen of files without reading them.
pub type Fingerprint = BTreeMap<PathBuf, Seen>;

/// What can be seen of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number, which is another one when another file has taken its place.
    pub inode: u64,
    /// When it was written last, if the file system says so.
    pub modified: Option<SystemTime>,
    /// Its length in bytes.
    pub length: u64,
}

/// What is to be done with a directory now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing: all of it was read.
    Nothing,
    /// It is to be looked at again soon.
    Look,
    /// It is to be read, but for files that are not finished; where there are any, it is to be looked at again soon.
    Read(BTreeSet<PathBuf>),
}

/// What was seen of a directory, and what of that was not read yet.
#[derive(Debug, Default)]
pub struct Settling {
    /// `None` before the first look: an empty directory has to be read, too.
    seen: Option<Fingerprint>,
    /// When each file was last seen to grow or to be written in place.
    written: HashMap<PathBuf, Instant>,
    unread: Option<Unread>,
    has_read: bool,
}

/// Changes that were not read yet.
#[derive(Clone, Copy, Debug)]
struct Unread {
    first: Instant,
    last: Instant,
}

impl Settling {
    /// Notes that something may have changed.
    pub fn note_change(&mut self, now: Instant) {
        let first = self.unread.map_or(now, |unread| unread.first);
        self.unread = Some(Unread { first, last: now });
    }

    /// Notes what a look has found.
    pub fn compare(&mut self, found: Fingerprint, now: Instant) {
        if let Some(seen) = self.seen.take()
            && seen != found
        {
            self.note_change(now);
            for (path, file) in &found {
                match seen.get(path) {
                    Some(before) if before == file => {}
                    // Another file took its place, by a rename of a whole one as a rule.
                    Some(before) if before.inode != file.inode => drop(self.written.remove(path)),
                    _ => drop(self.written.insert(path.clone(), now)),
                }
            }
            self.written.retain(|path, _| found.contains_key(path));
        }
        self.seen = Some(found);
    }

    /// Decides what is to be done after a look. `has_files` says whether the last reading found any.
    pub fn due(&mut self, has_files: bool, now: Instant) -> Due {
        let is_first = !self.has_read;
        match self.unread {
            None if !is_first => return Due::Nothing,
            Some(Unread { first, last }) if !is_first => {
                let has_lost_all = self.seen.as_ref().is_some_and(BTreeMap::is_empty) && has_files;
                let (quiet, at_most) = if has_lost_all { (EMPTY_PATIENCE, EMPTY_PATIENCE) } else { (QUIET, AT_MOST) };
                if now.duration_since(last) < quiet && now.duration_since(first) < at_most {
                    return Due::Look;
                }
            }
            _ => {}
        }
        self.has_read = true;
        self.unread = None;
        self.written.retain(|_, written| now.duration_since(*written) < QUIET);
        let unfinished: BTreeSet<_> = self.written.keys().cloned().collect();
        if !unfinished.is_empty() {
            // They are read when they are quiet.
            self.note_change(now);
        }
        Due::Read(unfinished)
    }
}

#[cfg(test)]
mod tests;
