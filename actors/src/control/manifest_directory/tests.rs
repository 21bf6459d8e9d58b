use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use actix::{Actor, Addr};
use kthena_router::object::Kind;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::supervision_tests::until;

/// A ModelServer for each of these names.
fn manifest(names: &[&str]) -> String {
    let one = |name: &&str| {
        format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: {name}}}\nspec: \
             {{inferenceEngine: vLLM, workloadPort: {{port: 1}}, workloadSelector: {{matchLabels: {{a: b}}}}}}\n"
        )
    };
    names.iter().map(one).collect::<Vec<_>>().join("---\n")
}

struct Reading {
    directory: TempDir,
    _reader: Addr<ManifestDirectory>,
    objects: watch::Receiver<Objects>,
    metrics: Arc<Metrics>,
}

impl Reading {
    fn of(text: &str) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("a.yaml"), text).unwrap();
        let (metrics, (sender, objects)) = (Metrics::new(), watch::channel(None));
        let reader = ManifestDirectory::new(directory.path().to_owned(), sender, &metrics).start();
        Self { directory, _reader: reader, objects, metrics }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn names(&self) -> Option<Vec<String>> {
        let names = |objects: &Arc<Vec<Object>>| {
            assert!(objects.iter().all(|object| object.kind() == Kind::ModelServer));
            objects.iter().map(|object| object.name().to_owned()).collect()
        };
        self.objects.borrow().as_ref().map(names)
    }

    /// Waits until these objects are there; in the meantime none of `always` may be missing.
    async fn until(&self, names: &[&str], always: &[&str]) {
        until("the objects are there", || {
            let found = self.names().unwrap_or_default();
            let is_there = |name: &&str| found.iter().any(|found| found == name);
            assert!(found.is_empty() && always.is_empty() || always.iter().all(is_there), "{found:?} lacks {always:?}");
            found == names
        })
        .await;
    }
}

#[actix_web::test]
async fn a_file_that_is_written_in_pieces_never_loses_an_object() {
    let reading = Reading::of(&manifest(&["a", "b", "c"]));
    reading.until(&["a", "b", "c"], &[]).await;
    let text = manifest(&["a", "b", "c", "d"]);
    let mut file = File::create(reading.path().join("a.yaml")).unwrap();
    for piece in text.as_bytes().chunks(text.len() / 30) {
        file.write_all(piece).unwrap();
        tokio::task::yield_now().await;
        let found = reading.names().unwrap();
        assert!(found.len() >= 3, "{found:?}");
    }
    reading.until(&["a", "b", "c", "d"], &["a", "b", "c"]).await;
    // An object that is taken out is out.
    fs::write(reading.path().join("a.yaml"), manifest(&["a", "d"])).unwrap();
    reading.until(&["a", "d"], &["a", "d"]).await;
}

#[actix_web::test]
async fn an_emptied_or_broken_file_keeps_its_last_good_objects_and_is_a_fault() {
    for (case, text) in [
        ("empty", String::new()),
        ("blank", "\n  \n".to_owned()),
        ("cut off", manifest(&["a", "b"])[..90].to_owned()),
        ("a kind that is not there", manifest(&["a", "b"]).replacen("ModelServer", "M", 1)),
    ] {
        let reading = Reading::of(&manifest(&["a", "b"]));
        reading.until(&["a", "b"], &[]).await;
        fs::write(reading.path().join("a.yaml"), text).unwrap();
        until(case, || reading.metrics.plans.manifest_faults.get() > 0).await;
        assert_eq!(reading.names().unwrap(), ["a", "b"], "{case}");
        fs::write(reading.path().join("a.yaml"), manifest(&["b"])).unwrap();
        reading.until(&["b"], &["b"]).await;
        assert_eq!(reading.metrics.plans.manifest_faults.get(), 0, "{case}");
        fs::remove_file(reading.path().join("a.yaml")).unwrap();
        reading.until(&[], &[]).await;
    }
}

#[actix_web::test]
async fn good_and_broken_texts_in_turn_lose_nothing() {
    let reading = Reading::of(&manifest(&["a", "b"]));
    reading.until(&["a", "b"], &[]).await;
    let faults = &reading.metrics.plans.manifest_faults;
    for round in 0..3 {
        fs::write(reading.path().join("a.yaml"), &manifest(&["a", "b"])[..100]).unwrap();
        until("the broken text was read", || faults.get() > 0).await;
        assert_eq!(reading.names().unwrap(), ["a", "b"], "round {round}");
        fs::write(reading.path().join("a.yaml"), manifest(&["a", "b"])).unwrap();
        until("the good text was read", || faults.get() == 0).await;
        assert_eq!(reading.names().unwrap(), ["a", "b"], "round {round}");
    }
}

#[actix_web::test]
async fn whole_files_that_take_each_others_place_without_pause_are_read() {
    let reading = Reading::of(&manifest(&["a"]));
    reading.until(&["a"], &[]).await;
    let (file, next) = (reading.path().join("a.yaml"), reading.path().join(".next"));
    let renames = actix::spawn(async move {
        for round in 0..u64::MAX {
            fs::write(&next, manifest(&["a", "b"]) + &format!("# {round}\n")).unwrap();
            fs::rename(&next, &file).unwrap();
            tokio::task::yield_now().await;
        }
    });
    reading.until(&["a", "b"], &["a"]).await;
    renames.abort();
}
