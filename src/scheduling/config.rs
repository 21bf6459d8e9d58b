//! Which plugins a scheduler scores endpoints with: the `scheduler` part of the Go kthena-router's configuration file.
//!
//! ```yaml
//! scheduler:
//!   plugins:
//!     Score:
//!       enabled:
//!         - name: least-request
//!           weight: 1
//! ```

use serde::Deserialize;
use thiserror::Error;

use super::picker::Picker;
use super::plugins::{MakeScore, SCORES};

/// The plugins of the Go router that this one does not have; a file that names them still means something.
const ELSEWHERE: [&str; 6] = ["gpu-usage", "kvcache-aware", "least-latency", "lora-affinity", "prefix-cache", "random"];

/// How a scheduler rates endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    scores: Vec<(ScorePlugin, f32)>,
    /// What the file asks for and does not get, each as a sentence.
    pub warnings: Vec<String>,
}

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum SchedulerConfigError {
    /// It is no YAML of the right shape.
    #[error(transparent)]
    Shape(Box<serde_saphyr::Error>),
    /// It names a plugin that nobody has.
    #[error("`scheduler.plugins.Score.enabled`: there is no plugin `{0}`, only `least-request`")]
    UnknownPlugin(String),
    /// A weight that cannot be used.
    #[error(
        "`scheduler.plugins.Score.enabled`: the weight of `{plugin}` is {weight}, it must be finite and not negative"
    )]
    Weight {
        /// The plugin.
        plugin: String,
        /// Its weight.
        weight: f32,
    },
}

/// A score of the table, by its name.
type ScorePlugin = &'static str;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    scheduler: Scheduler,
}

#[derive(Default, Deserialize)]
struct Scheduler {
    plugins: Option<Plugins>,
}

#[derive(Default, Deserialize)]
struct Plugins {
    #[serde(rename = "Filter", default)]
    filter: Enabled<String>,
    #[serde(rename = "Score", default)]
    score: Enabled<WeightedPlugin>,
}

#[derive(Deserialize)]
struct Enabled<T> {
    #[serde(default = "Vec::new")]
    enabled: Vec<T>,
}

#[derive(Deserialize)]
struct WeightedPlugin {
    name: String,
    #[serde(default)]
    weight: f32,
}

impl SchedulerConfig {
    /// Reads a configuration file; without a word about plugins it is the default.
    ///
    /// # Errors
    ///
    /// Returns a [`SchedulerConfigError`] for a file of another shape, an unknown plugin or an unusable weight.
    pub fn parse(text: &str) -> Result<Self, SchedulerConfigError> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| SchedulerConfigError::Shape(Box::new(error)))?;
        let Some(plugins) = file.scheduler.plugins else { return Ok(Self::default()) };
        let mut config = Self { scores: Vec::new(), warnings: Vec::new() };
        for name in plugins.filter.enabled {
            config.warnings.push(format!("the filter plugin `{name}` does not exist here and is left out"));
        }
        for WeightedPlugin { name, weight } in plugins.score.enabled {
            if !weight.is_finite() || weight < 0.0 {
                return Err(SchedulerConfigError::Weight { plugin: name, weight });
            }
            if let Some((name, _)) = SCORES.iter().find(|(known, _)| *known == name) {
                config.scores.push((name, weight));
                continue;
            }
            match name.as_str() {
                known if ELSEWHERE.contains(&known) => {
                    config.warnings.push(format!("the score plugin `{name}` does not exist here and is left out"));
                }
                _ => return Err(SchedulerConfigError::UnknownPlugin(name)),
            }
        }
        Ok(config)
    }

    /// Makes a picker that rates endpoints in this way; without any score it picks at random.
    pub fn picker(&self) -> Picker {
        let make = |plugin: &ScorePlugin| -> Option<&MakeScore> {
            SCORES.iter().find(|(known, _)| known == plugin).map(|(_, make)| make)
        };
        let scores = self.scores.iter().filter_map(|(plugin, weight)| Some((make(plugin)?(), *weight)));
        Picker::new(Vec::new(), scores.collect())
    }
}

impl Default for SchedulerConfig {
    /// Prefers the endpoint where a request costs the least time.
    fn default() -> Self {
        Self { scores: vec![("expected-wait", 1.0)], warnings: Vec::new() }
    }
}

impl<T> Default for Enabled<T> {
    fn default() -> Self {
        Self { enabled: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(plugin: &str) -> String {
        format!("scheduler: {{plugins: {{Score: {{enabled: [{plugin}]}}}}}}")
    }

    #[test]
    fn files_mean_what_they_mean_to_the_go_router() {
        let weighted = |weight| SchedulerConfig { scores: vec![("least-request", weight)], warnings: vec![] };
        let none = SchedulerConfig { scores: vec![], warnings: vec![] };
        let cases = [
            ("no word about plugins", "scheduler: {}".to_owned(), SchedulerConfig::default()),
            ("other parts of the file", "auth: {issuer: x}".to_owned(), SchedulerConfig::default()),
            ("a weight", score("{name: least-request, weight: 2.5}"), weighted(2.5)),
            ("a weight that is left out is none", score("{name: least-request}"), weighted(0.0)),
            ("plugins, but none enabled", "scheduler: {plugins: {}}".to_owned(), none),
        ];
        for (case, text, expected) in cases {
            assert_eq!(SchedulerConfig::parse(&text).unwrap(), expected, "{case}");
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let text = "scheduler: {plugins: {Filter: {enabled: [least-request]}, Score: {enabled: [{name: prefix-cache, weight: 1}]}}}";
        assert_eq!(SchedulerConfig::parse(text).unwrap().warnings.len(), 2);
        for (text, expected) in [
            (score("{name: gues, weight: 1}"), "there is no plugin `gues`"),
            (score("{name: least-request, weight: -1}"), "must be finite and not negative"),
            ("scheduler: [".to_owned(), "line 1"),
        ] {
            let error = SchedulerConfig::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
