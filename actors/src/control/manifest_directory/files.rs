//! The files of a directory of manifests: what can be seen of them, and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kthena_router::manifest::{Fingerprint, Object, Seen, read};
use kthena_router::object::{Kind, ObjectKey};

/// The files of a directory by name.
pub(super) type Files = BTreeMap<PathBuf, ManifestFile>;

/// What is known of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct ManifestFile {
    /// `None` while it cannot be read.
    text: Option<Arc<str>>,
    pub(super) objects: Arc<Vec<Object>>,
    /// What is wrong with the present text, each with its line.
    pub(super) faults: Vec<String>,
}

/// Lists the manifests of a directory; a path that is a file is its own and only manifest.
pub fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if is_manifest(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns whether a file of a directory is a manifest, by its name.
pub(super) fn is_manifest(path: &Path) -> bool {
    // Kubernetes mounts ConfigMaps by way of hidden directories, and editors keep hidden copies.
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_known =
        |extension: &OsStr| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    path.extension().is_some_and(is_known) && !is_hidden
}

/// Returns whether files were read again and are as they were.
pub(super) fn is_same(before: &Files, now: &Files) -> bool {
    let same = |before: &ManifestFile, now: &ManifestFile| {
        Arc::ptr_eq(&before.objects, &now.objects) && before.faults == now.faults
    };
    before.len() == now.len()
        && before.iter().zip(now).all(|((path, before), (other, now))| path == other && same(before, now))
}

pub(super) fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    let files = list(path)?.into_iter();
    Ok(files
        .filter_map(|file| {
            let metadata = std::fs::metadata(&file).ok()?;
            let seen = Seen { inode: metadata.ino(), modified: metadata.modified().ok(), length: metadata.len() };
            Some((file, seen))
        })
        .collect())
}

/// Reads the files of a directory. The last good objects of a file are kept while it does not parse or is empty, and of one
/// that is unfinished everything is kept.
pub(super) fn read_files(path: &Path, known: &Files, unfinished: &BTreeSet<PathBuf>) -> io::Result<Files> {
    let read = |path: PathBuf| {
        let before = known.get(&path).cloned().unwrap_or_default();
        if unfinished.contains(&path) {
            return (path, before);
        }
        let file = match std::fs::read_to_string(&path) {
            Ok(text) if before.text.as_deref() == Some(&text) => before,
            Ok(text) => parse(&text, &before),
            Err(error) => ManifestFile { text: None, faults: vec![format!("file cannot be read: {error}")], ..before },
        };
        (path, file)
    };
    Ok(list(path)?.into_iter().map(read).collect())
}

fn parse(text: &str, before: &ManifestFile) -> ManifestFile {
    let manifest = read(text);
    let mut faults: Vec<_> = manifest.faults.iter().map(ToString::to_string).collect();
    let is_emptied = text.trim().is_empty() && !before.objects.is_empty();
    if is_emptied {
        faults.push("the file is empty; to take its objects back, remove it".to_owned());
    }
    let objects = if manifest.unreadable == 0 && !is_emptied {
        Arc::new(manifest.objects.into_iter().map(|located| located.object).collect())
    } else {
        faults.push("the file's last good objects stay in use".to_owned());
        Arc::clone(&before.objects)
    };
    ManifestFile { text: Some(text.into()), objects, faults }
}

/// Returns the objects of all files; of those with one name the last is kept, and the others are faults.
pub(super) fn merge(files: &mut Files) -> Vec<Object> {
    let mut owners: BTreeMap<(Kind, ObjectKey), (PathBuf, Object)> = BTreeMap::new();
    for (path, file) in files.iter_mut() {
        file.faults.retain(|fault| !fault.starts_with(DUPLICATE));
        for object in file.objects.iter() {
            let name = (object.kind(), object.key());
            if let Some((first, _)) = owners.insert(name, (path.clone(), object.clone())) {
                file.faults.push(format!(
                    "{DUPLICATE}: {} `{}` is also in {}; this one is used",
                    object.kind(),
                    object.key(),
                    first.display()
                ));
            }
        }
    }
    owners.into_values().map(|(_, object)| object).collect()
}

/// How faults begin that are not one file's alone.
const DUPLICATE: &str = "duplicate";
