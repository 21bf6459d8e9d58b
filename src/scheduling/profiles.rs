//! The ways to pick endpoints that a configuration file has: the scheduler's own, and those that pools name.
//!
//! ```yaml
//! scheduler: {plugins: {Score: {enabled: [{name: least-request, weight: 1}]}}}
//! profiles:
//!   documents: {plugins: {Score: {enabled: [{name: prefix-cache, weight: 2}, {name: least-request, weight: 1}]}}}
//!   default: {}
//! ```
//!
//! A profile has the keys of `scheduler`, and without a word about plugins it is the default. The Go router's file has
//! no profiles. A pool names one by the annotation [`SCHEDULER_PROFILE`](crate::controller::SCHEDULER_PROFILE).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::{SchedulerConfig, SchedulerConfigError};
use super::picker::Picker;

/// The ways to pick endpoints.
#[derive(Clone, Debug)]
pub struct Profiles {
    own: Profile,
    named: BTreeMap<Arc<str>, Profile>,
}

/// One way to pick endpoints.
#[derive(Clone, Debug)]
struct Profile {
    config: SchedulerConfig,
    picker: Arc<Picker>,
}

impl Profiles {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`SchedulerConfig::parse`].
    pub fn parse(text: &str) -> Result<Self, SchedulerConfigError> {
        let (own, named) = SchedulerConfig::parse_all(text)?;
        let named = named.into_iter().map(|(name, config)| (name, Profile::of(config))).collect();
        Ok(Self { own: Profile::of(own), named })
    }

    /// Returns how the endpoints of a pool are picked that names this profile; one that is not there is the scheduler's
    /// own.
    pub fn picker(&self, name: Option<&str>) -> &Arc<Picker> {
        let named = name.and_then(|name| self.named.get(name));
        &named.unwrap_or(&self.own).picker
    }

    /// Returns the names of the profiles.
    pub fn names(&self) -> BTreeSet<Arc<str>> {
        self.named.keys().cloned().collect()
    }

    /// Returns what the file asks for and does not get, each as a sentence.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        let named = self.named.values().flat_map(|profile| &profile.config.warnings);
        self.own.config.warnings.iter().chain(named)
    }

    /// Returns each profile by its name, in words; the scheduler's own has none.
    pub fn words(&self) -> BTreeMap<String, String> {
        let words = |(name, profile): (&str, &Profile)| (name.to_owned(), format!("{:?}", profile.picker));
        let named = self.named.iter().map(|(name, profile)| (&**name, profile));
        std::iter::once(("", &self.own)).chain(named).map(words).collect()
    }
}

impl Profile {
    fn of(config: SchedulerConfig) -> Self {
        Self { picker: Arc::new(config.picker()), config }
    }
}

impl Default for Profiles {
    /// Picks as without a configuration file.
    fn default() -> Self {
        Self { own: Profile::of(SchedulerConfig::default()), named: BTreeMap::new() }
    }
}

impl PartialEq for Profiles {
    fn eq(&self, other: &Self) -> bool {
        let configs = |profiles: &Self| {
            profiles.named.iter().map(|(name, profile)| (Arc::clone(name), profile.config.clone())).collect::<Vec<_>>()
        };
        self.own.config == other.own.config && configs(self) == configs(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_may_have_a_profile_of_its_own() {
        let profiles = Profiles::parse(
            "scheduler: {plugins: {Score: {enabled: [{name: random, weight: 1}]}}}\n\
             profiles:\n  documents: {plugins: {Score: {enabled: [{name: prefix-cache, weight: 2}]}}}\n  plain: {}\n",
        )
        .unwrap();
        assert_eq!(profiles.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["documents", "plain"]);
        for (name, score) in [
            (None, "random"),
            (Some("documents"), "prefix-cache"),
            (Some("plain"), "expected-wait"),
            (Some("missing"), "random"),
        ] {
            let picker = format!("{:?}", profiles.picker(name));
            assert!(picker.contains(score), "{name:?}: {picker}");
        }
        assert_eq!(profiles, profiles.clone());
        assert_ne!(profiles, Profiles::default());
    }

    #[test]
    fn a_fault_of_a_profile_has_its_line() {
        let text = "profiles:\n  a:\n    plugins:\n      Score:\n        enabled: [{name: nonsense, weight: 1}]\n";
        let fault = Profiles::parse(text).unwrap_err().to_string();
        assert!(fault.starts_with("line 5: ") && fault.contains("`nonsense`"), "{fault}");
        let fault = Profiles::parse("profiles:\n  a:\n    plugin: {}\n").unwrap_err().to_string();
        assert!(fault.contains("line 3"), "{fault}");
    }
}
