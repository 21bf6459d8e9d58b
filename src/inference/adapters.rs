//! Which LoRA adapters an engine has, as it tells itself.
//!
//! vLLM shows on its metrics page which adapters its requests use, and how many fit at once:
//!
//! ```text
//! vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters="c"} 1.7e9
//! ```
//!
//! The value is when that was so; of several series the newest counts. Which adapters an engine could serve stands in its
//! list of models, `/v1/models`.

use std::collections::BTreeSet;
use std::str;
use std::sync::Arc;

use serde::Deserialize;

/// The family of vLLM's metrics that tells of adapters.
const FAMILY: &str = "vllm:lora_requests_info{";

/// The adapters of an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adapters {
    /// The models and adapters that it lists; `None` while it was not asked.
    pub listed: Option<BTreeSet<Arc<str>>>,
    /// Those that its requests use at the moment.
    pub used: BTreeSet<Arc<str>>,
    /// How many can be used at once; `None` if the engine does not say.
    pub slots: Option<usize>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl Adapters {
    /// Reads a page of metrics; `None` where it says nothing of adapters.
    pub fn of_metrics(page: &[u8]) -> Option<Self> {
        let mut newest: Option<(f64, &str)> = None;
        let mut rest = page;
        while let Some(found) = memchr::memmem::find(rest, FAMILY.as_bytes()) {
            rest = &rest[found + FAMILY.len()..];
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let Some((labels, value)) = str::from_utf8(line).ok().and_then(|line| line.rsplit_once('}')) else {
                continue;
            };
            let Ok(moment) = value.trim().parse::<f64>() else { continue };
            if newest.is_none_or(|(before, _)| moment >= before) {
                newest = Some((moment, labels));
            }
        }
        let (_, labels) = newest?;
        let used =
            ["running_lora_adapters", "waiting_lora_adapters"].into_iter().filter_map(|name| label(labels, name));
        let names = used.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
        Some(Self {
            listed: None,
            used: names.map(Arc::from).collect(),
            slots: label(labels, "max_lora").and_then(|slots| slots.parse().ok()),
        })
    }

    /// Reads a list of models; `None` for what is none.
    pub fn list(body: &[u8]) -> Option<BTreeSet<Arc<str>>> {
        let models: Models = serde_json::from_slice(body).ok()?;
        Some(models.data.into_iter().map(|model| Arc::from(model.id)).collect())
    }

    /// Returns whether the engine can serve an adapter; an engine that was not asked can.
    pub fn serves(&self, adapter: &str) -> bool {
        self.listed.as_ref().is_none_or(|listed| listed.contains(adapter))
    }

    /// Returns whether requests with another adapter have to wait until one of those that are used is not any more.
    pub fn is_full(&self) -> bool {
        self.slots.is_some_and(|slots| self.used.len() >= slots)
    }
}

/// Returns the value of a label; names of adapters have no quotes.
fn label<'l>(labels: &'l str, name: &str) -> Option<&'l str> {
    let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
    labels[start..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn the_newest_series_counts() {
        let page = "# HELP vllm:lora_requests_info Running stats\n# TYPE vllm:lora_requests_info gauge\n\
            vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"old\",waiting_lora_adapters=\"\"} 1.0e9\n\
            vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"a,b\",waiting_lora_adapters=\"c\"} 1.7e9\n\
            vllm:num_requests_running 3\n";
        let adapters = Adapters::of_metrics(page.as_bytes()).unwrap();
        assert_eq!(adapters, Adapters { listed: None, used: set(&["a", "b", "c"]), slots: Some(2) });
        assert!(adapters.is_full() && adapters.serves("x"), "an engine that was not asked may have it");
    }

    #[test]
    fn a_page_without_adapters_says_nothing() {
        for page in ["", "vllm:num_requests_running 3\n", "vllm:lora_requests_info{max_lora=\"2\"} x\n"] {
            assert_eq!(Adapters::of_metrics(page.as_bytes()), None, "{page}");
        }
        let idle = "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 1";
        let idle = Adapters::of_metrics(idle.as_bytes()).unwrap();
        assert_eq!((idle.used.len(), idle.is_full()), (0, false));
    }

    #[test]
    fn a_list_of_models_tells_what_is_served() {
        let body = br#"{"object":"list","data":[{"id":"base","parent":null},{"id":"lora-a","parent":"base"}]}"#;
        let adapters = Adapters { listed: Adapters::list(body), ..Adapters::default() };
        assert!(adapters.serves("lora-a") && !adapters.serves("lora-b"));
        assert_eq!(Adapters::list(b"404 page not found"), None);
    }
}
