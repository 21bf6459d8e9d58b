//! Which plugins a scheduler uses: the Go kthena-router's configuration file.
//!
//! ```yaml
//! scheduler:
//!   pluginConfig:
//!     - name: least-request
//!       args: {maxWaitingRequests: 10}
//!   plugins:
//!     Filter:
//!       enabled: [least-request]
//!     Score:
//!       enabled:
//!         - {name: prefix-cache, weight: 2}
//!         - {name: least-request, weight: 1}
//! ```
//!
//! Nothing in it is passed over in silence. Without a word about plugins, the default is used. A filter is a preference:
//! while it would leave no endpoint it gives way, because engines have queues of their own.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

use super::picker::{Picker, WhenNoneIsLeft};
use super::plugins::arguments::{Arguments, BadArgument};
use super::plugins::kv_cache_source::KvCacheSource;
use super::plugins::kvcache_aware::KvcacheAware;
use super::plugins::remote_prefill::RemotePrefill;
use super::plugins::{FILTERS, OTHERS, SCORES};

/// How a scheduler chooses endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    filters: Vec<&'static str>,
    scores: Vec<(&'static str, f32)>,
    arguments: BTreeMap<String, Arguments>,
    /// What the file asks for and does not get, each as a sentence.
    pub warnings: Vec<String>,
}

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum SchedulerConfigError {
    /// It is no YAML of the right shape, or has a key that means nothing.
    #[error(transparent)]
    Shape(Box<serde_saphyr::Error>),
    /// It wants requests to be authenticated, which would not be done.
    #[error(
        "line {line}: `auth`: requests are not authenticated here, and without that the models would be open to all"
    )]
    Auth {
        /// Its line, from 1.
        line: u64,
    },
    /// It names a plugin that nobody has.
    #[error("line {line}: `{key}`: there is no plugin `{name}`, only {}", list(.known))]
    UnknownPlugin {
        /// Its line, from 1.
        line: u64,
        /// Where it is named.
        key: &'static str,
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// A weight that cannot be used.
    #[error("line {line}: the weight of `{plugin}` is {weight}, it must be finite and not negative")]
    Weight {
        /// Its line, from 1.
        line: u64,
        /// The plugin.
        plugin: String,
        /// Its weight.
        weight: f32,
    },
    /// An argument that cannot be used.
    #[error("line {line}: `args` of `{plugin}`: {fault}")]
    Argument {
        /// The line of the plugin's name, from 1.
        line: u64,
        /// The plugin.
        plugin: String,
        /// What is wrong.
        fault: BadArgument,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scheduler: Option<Scheduler>,
    profiles: Option<BTreeMap<String, Scheduler>>,
    auth: Option<Spanned<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scheduler {
    #[serde(rename = "pluginConfig")]
    plugin_config: Option<Vec<PluginConfig>>,
    plugins: Option<Plugins>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: Spanned<String>,
    args: Option<BTreeMap<String, f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugins {
    #[serde(rename = "Filter")]
    filter: Option<Chosen<Spanned<String>>>,
    #[serde(rename = "Score")]
    score: Option<Chosen<WeightedPlugin>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen<T> {
    enabled: Option<Vec<T>>,
    disabled: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightedPlugin {
    name: Spanned<String>,
    #[serde(default)]
    weight: f32,
}

impl SchedulerConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// Returns a [`SchedulerConfigError`] for a file of another shape, an unknown key, plugin or argument, a value out of
    /// bounds, and for `auth`.
    pub fn parse(text: &str) -> Result<Self, SchedulerConfigError> {
        Self::parse_all(text).map(|(own, _)| own)
    }

    /// Reads a configuration file with its profiles.
    pub(super) fn parse_all(text: &str) -> Result<(Self, BTreeMap<Arc<str>, Self>), SchedulerConfigError> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| SchedulerConfigError::Shape(Box::new(error)))?;
        if let Some(auth) = file.auth {
            return Err(SchedulerConfigError::Auth { line: auth.referenced.line() });
        }
        let named = file.profiles.unwrap_or_default().into_iter();
        let named = named.map(|(name, profile)| Ok((name.into(), Self::of(profile)?))).collect::<Result<_, _>>()?;
        Ok((Self::of(file.scheduler.unwrap_or_default())?, named))
    }

    fn of(scheduler: Scheduler) -> Result<Self, SchedulerConfigError> {
        let mut config = Self::default();
        for plugin in scheduler.plugin_config.unwrap_or_default() {
            config.configure(plugin)?;
        }
        let Some(plugins) = scheduler.plugins else { return Ok(config) };
        config.filters.clear();
        config.scores.clear();
        let (filters, left_out) = plugins.filter.map(Chosen::split).unwrap_or_default();
        let left_out: Vec<_> = left_out.into_iter().map(|name| name.value).collect();
        for name in filters {
            if let Some(name) = config.find("scheduler.plugins.Filter.enabled", &name, FILTERS, &left_out)? {
                config.filters.push(name);
            }
        }
        let (scores, left_out) = plugins.score.map(Chosen::split).unwrap_or_default();
        let left_out: Vec<_> = left_out.into_iter().map(|plugin| plugin.name.value).collect();
        for WeightedPlugin { name, weight } in scores {
            if !weight.is_finite() || weight < 0.0 {
                let line = name.referenced.line();
                return Err(SchedulerConfigError::Weight { line, plugin: name.value, weight });
            }
            if let Some(name) = config.find("scheduler.plugins.Score.enabled", &name, SCORES, &left_out)? {
                config.scores.push((name, weight));
            }
        }
        Ok(config)
    }

    /// Makes a picker that chooses endpoints in this way; without any score it picks at random.
    pub fn picker(&self) -> Picker {
        let arguments = |name: &str| self.arguments.get(name).cloned().unwrap_or_default();
        let filters = self.filters.iter().filter_map(|name| {
            let make = maker(FILTERS, name)?;
            Some((make(&mut arguments(name)).ok()?, WhenNoneIsLeft::KeepAll))
        });
        let scores = self.scores.iter().filter_map(|(name, weight)| {
            let make = maker(SCORES, name)?;
            Some((make(&mut arguments(name)).ok()?, *weight))
        });
        let remote = RemotePrefill::of(&mut arguments(RemotePrefill::NAME)).unwrap_or_default();
        let picker = Picker::new(filters.collect(), scores.collect());
        let sources = KvCacheSource::of(&mut arguments(KvCacheSource::NAME)).unwrap_or_default();
        picker.with_lookups(self.kvcache_aware()).with_remote_prefill(remote).with_sources(sources)
    }

    /// Returns how the plugin kvcache-aware looks blocks up, if it is in use.
    fn kvcache_aware(&self) -> Option<KvcacheAware> {
        let name = KvcacheAware::NAME;
        self.scores.iter().find(|(score, _)| *score == name)?;
        KvcacheAware::of(&mut self.arguments.get(name).cloned().unwrap_or_default()).ok()
    }

    /// Takes in the arguments of a plugin, once it was made of them to see whether that can be done.
    fn configure(&mut self, PluginConfig { name, args }: PluginConfig) -> Result<(), SchedulerConfigError> {
        let line = name.referenced.line();
        let mut arguments = Arguments::default();
        for (argument, value) in args.unwrap_or_default() {
            arguments.add(&argument, value);
        }
        let mut taken = arguments.clone();
        let made = match (maker(SCORES, &name.value), maker(OTHERS, &name.value)) {
            (Some(make), _) => make(&mut taken).map(drop),
            (None, Some(check)) => check(&mut taken),
            (None, None) => {
                let scores = SCORES.iter().map(|(known, _)| *known);
                let known = scores.chain(OTHERS.iter().map(|(known, _)| *known)).collect();
                let key = "scheduler.pluginConfig";
                return Err(SchedulerConfigError::UnknownPlugin { line, key, name: name.value, known });
            }
        };
        match made.and_then(|()| taken.end()) {
            Ok(()) => self.arguments.insert(name.value, arguments),
            Err(fault) => return Err(SchedulerConfigError::Argument { line, plugin: name.value, fault }),
        };
        Ok(())
    }

    /// Finds a plugin that a file enables; `None` for one that it is to do without, which is warned of.
    fn find<M>(
        &mut self,
        key: &'static str,
        name: &Spanned<String>,
        table: &'static [(&'static str, M)],
        left_out: &[String],
    ) -> Result<Option<&'static str>, SchedulerConfigError> {
        if left_out.contains(&name.value) {
            self.warnings.push(format!("the plugin `{}` is enabled and disabled, and is left out", name.value));
            return Ok(None);
        }
        if let Some((found, _)) = table.iter().find(|(known, _)| *known == name.value) {
            return Ok(Some(found));
        }
        Err(SchedulerConfigError::UnknownPlugin {
            line: name.referenced.line(),
            key,
            name: name.value.clone(),
            known: table.iter().map(|(known, _)| *known).collect(),
        })
    }
}

impl Default for SchedulerConfig {
    /// Prefers the endpoint where a request costs the least time, among those that can serve its adapter.
    fn default() -> Self {
        Self {
            filters: vec!["lora-affinity"],
            scores: vec![("expected-wait", 1.0)],
            arguments: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}

impl<T> Chosen<T> {
    fn split(self) -> (Vec<T>, Vec<T>) {
        (self.enabled.unwrap_or_default(), self.disabled.unwrap_or_default())
    }
}

fn maker<M: Copy>(table: &[(&str, M)], name: &str) -> Option<M> {
    table.iter().find(|(known, _)| *known == name).map(|(_, make)| *make)
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
