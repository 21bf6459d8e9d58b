//! The served model, its adapters, and the text that each of them answers.
//!
//! The text says which model answered. Its tokens are its words, each but the first with the blank before it, so that
//! they join to the text. All that an answer needs of a name is escaped for JSON once, when the model is loaded.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::gauges::Figure;

/// A model that requests can name: the served one or an adapter.
#[derive(Debug)]
pub(crate) struct Model {
    /// Name as in requests.
    pub name: String,
    /// Name as a JSON string, quotes included.
    pub name_json: String,
    /// Where the weights come from, for `/v1/models`.
    pub root: String,
    /// Name of the served model, when this is an adapter of it.
    pub parent: Option<String>,
    /// Seconds since the epoch when it was loaded.
    pub created: u64,
    /// Requests that run now.
    pub running: Figure,
    /// Requests that wait now.
    pub waiting: Figure,
    /// Words of the sentence, escaped for JSON, a blank before each.
    words: Vec<String>,
    /// The sentence, escaped for JSON.
    sentence: String,
}

impl Model {
    /// Makes a model loaded at `created`, in seconds since the epoch.
    pub(crate) fn new(name: &str, root: &str, parent: Option<&str>, created: u64) -> Self {
        let text = format!("This is simulated message from {name}!");
        let words: Vec<String> = text.split_whitespace().map(|word| format!(" {}", escape(word))).collect();
        let sentence = words.concat().split_off(1);
        Self {
            name: name.to_owned(),
            name_json: format!("\"{}\"", escape(name)),
            root: root.to_owned(),
            parent: parent.map(str::to_owned),
            created,
            running: Figure::default(),
            waiting: Figure::default(),
            words,
            sentence,
        }
    }

    /// Returns the number of words of the sentence.
    pub(crate) fn sentence_tokens(&self) -> u64 {
        self.words.len() as u64
    }

    /// Returns the token at `position` of the repeated sentence, escaped for JSON.
    pub(crate) fn token(&self, position: u64) -> &str {
        let word = &self.words[(position % self.sentence_tokens()) as usize];
        if position == 0 { &word[1..] } else { word }
    }

    /// Appends the first `tokens` of the repeated sentence, escaped for JSON.
    pub(crate) fn write_text(&self, tokens: u64, output: &mut String) {
        if tokens == self.sentence_tokens() {
            output.push_str(&self.sentence);
            return;
        }
        for position in 0..tokens {
            output.push_str(self.token(position));
        }
    }
}

/// The served model and the adapters that are loaded on it.
#[derive(Debug)]
pub(crate) struct ModelSet {
    /// The served model.
    pub base: Arc<Model>,
    adapters: ArcSwap<Vec<Arc<Model>>>,
}

impl ModelSet {
    /// Makes a set without adapters.
    pub(crate) fn new(base: Model) -> Self {
        Self { base: Arc::new(base), adapters: ArcSwap::default() }
    }

    /// Finds a model by the name in a request.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Model>> {
        if self.base.name == name {
            return Some(Arc::clone(&self.base));
        }
        let adapters = self.adapters.load();
        adapters.iter().find(|model| model.name == name).cloned()
    }

    /// Returns the adapters in the order of their loading.
    pub(crate) fn adapters(&self) -> Arc<Vec<Arc<Model>>> {
        self.adapters.load_full()
    }

    /// Loads an adapter; says whether it is new.
    pub(crate) fn load(&self, name: &str, root: &str, created: u64) -> bool {
        let adapter = Arc::new(Model::new(name, root, Some(&self.base.name), created));
        let mut is_new = false;
        self.adapters.rcu(|adapters| {
            is_new = name != self.base.name && adapters.iter().all(|model| model.name != name);
            let mut adapters = Vec::clone(adapters);
            adapters.extend(is_new.then(|| Arc::clone(&adapter)));
            adapters
        });
        is_new
    }

    /// Unloads an adapter; says whether it was loaded. Requests that run on it finish.
    pub(crate) fn unload(&self, name: &str) -> bool {
        let before = self.adapters.rcu(|adapters| {
            let mut adapters = Vec::clone(adapters);
            adapters.retain(|model| model.name != name);
            adapters
        });
        before.iter().any(|model| model.name == name)
    }
}

/// Escapes text for the inside of a JSON string.
pub(crate) fn escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, tokens: u64) -> String {
        let mut output = String::new();
        Model::new(name, name, None, 0).write_text(tokens, &mut output);
        output
    }

    #[test]
    fn the_sentence_is_cut_and_repeated_by_words() {
        let cases = [
            ("nothing", 0, ""),
            ("cut", 2, "This is"),
            ("whole", 6, "This is simulated message from m!"),
            ("repeated", 8, "This is simulated message from m! This is"),
        ];
        for (case, tokens, expected) in cases {
            assert_eq!(text("m", tokens), expected, "{case}");
        }
    }

    #[test]
    fn a_name_with_blanks_and_quotes_stays_valid_json() {
        let escaped = text("a \"b\"", 7);
        let parsed: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
        assert_eq!(parsed, "This is simulated message from a \"b\"!");
    }

    #[test]
    fn an_adapter_is_loaded_once_and_unloaded_once() {
        let models = ModelSet::new(Model::new("base", "base", None, 0));
        assert!(models.load("lora", "/path", 0));
        assert!(!models.load("lora", "/path", 0));
        assert!(!models.load("base", "/path", 0));
        assert_eq!(models.find("lora").unwrap().parent.as_deref(), Some("base"));
        assert!(models.unload("lora"));
        assert!(!models.unload("lora"));
        assert!(models.find("lora").is_none());
    }
}
