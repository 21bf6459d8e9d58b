//! Maps the model that a client asks for to the model that the pool serves.
//!
//! Source: InferenceModelRewrite: a rule for the very name has precedence over one for all requests, then the rule of
//! the older object, then the earlier one of an object; one of its targets is chosen by weight.

use std::sync::Arc;

use foldhash::HashMap;

use crate::kinds::inference_policy::{InferenceModelRewriteSpec, ModelRewriteTarget};

/// The rules of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelRewrites {
    exact: HashMap<String, Targets>,
    all: Option<Targets>,
}

/// The models that requests of one rule get, each with its share.
type Targets = Arc<[(u64, String)]>;

impl ModelRewrites {
    /// Adds the rules of an object, which must be valid, after those with precedence over it.
    pub fn add(&mut self, spec: &InferenceModelRewriteSpec) {
        for rule in &spec.rules {
            let target = |target: &ModelRewriteTarget| {
                (u64::try_from(target.weight).unwrap_or_default(), target.model_rewrite.clone())
            };
            let targets: Targets = rule.targets.iter().map(target).collect();
            for model in rule.matches.iter().filter_map(|of| of.model.as_ref()) {
                self.exact.entry(model.value.clone()).or_insert_with(|| Arc::clone(&targets));
            }
            if rule.matches.is_empty() || rule.matches.iter().any(|of| of.model.is_none()) {
                self.all.get_or_insert(targets);
            }
        }
    }

    /// Returns whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.all.is_none()
    }

    /// Returns the model that a request gets which asks for `model`; `None` leaves it as it is.
    ///
    /// `draw(n)` must return a uniformly random number below `n`; it is called only where there is a choice.
    pub fn rewrite(&self, model: &str, draw: impl FnOnce(u64) -> u64) -> Option<&str> {
        let targets = self.exact.get(model).or(self.all.as_ref())?;
        let mut rest = match &targets[..] {
            [(_, only)] => return Some(only),
            several => {
                let total: u64 = several.iter().map(|(weight, _)| weight).sum();
                if total == 0 {
                    return None;
                }
                draw(total)
            }
        };
        let drawn = targets.iter().find(|(weight, _)| {
            let is_drawn = rest < *weight;
            rest = rest.saturating_sub(*weight);
            is_drawn
        });
        drawn.map(|(_, model)| model.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrites(specs: &[&str]) -> ModelRewrites {
        let mut rewrites = ModelRewrites::default();
        for rules in specs {
            let text = format!("{{poolRef: {{name: p}}, rules: [{rules}]}}");
            rewrites.add(&serde_saphyr::from_str(&text).unwrap());
        }
        rewrites
    }

    #[test]
    fn precedence_is_by_match_then_age_then_order() {
        let exact = "{matches: [{model: {type: Exact, value: food}}], targets: [{modelRewrite: exact}]}";
        let both = "{matches: [{model: {value: x}}, {model: {value: food}}], targets: [{modelRewrite: both}]}";
        let all = "{targets: [{modelRewrite: all}]}";
        let any = "{matches: [{}], targets: [{modelRewrite: any}]}";
        for (case, specs, model, expected) in [
            ("no rule", vec![], "food", None),
            ("a rule for another model", vec![exact], "cars", None),
            ("a rule for the model", vec![exact], "food", Some("exact")),
            ("the second match", vec![both], "food", Some("both")),
            ("exact before all, whatever the age", vec![all, exact], "food", Some("exact")),
            ("all the others", vec![exact, all], "cars", Some("all")),
            ("a match without a model is for all", vec![any], "cars", Some("any")),
            ("the older object", vec![both, exact], "food", Some("both")),
            ("the older one for all", vec![any, all], "food", Some("any")),
        ] {
            assert_eq!(rewrites(&specs).rewrite(model, |_| 0), expected, "{case}");
        }
        let in_order = rewrites(&[&format!("{exact}, {both}")]);
        assert_eq!(in_order.rewrite("food", |_| 0), Some("exact"), "the earlier rule of an object");
        assert!(rewrites(&[]).is_empty() && !in_order.is_empty());
    }

    #[test]
    fn targets_get_the_shares_of_their_weights() {
        let rewrites = rewrites(&["{targets: [{weight: 70, modelRewrite: a}, {weight: 30, modelRewrite: b}]}"]);
        let drawn = |ticket| rewrites.rewrite("m", |total| ticket % total);
        assert_eq!((0..100).filter(|ticket| drawn(*ticket) == Some("a")).count(), 70);
        assert_eq!((0..100).filter(|ticket| drawn(*ticket) == Some("b")).count(), 30);
    }
}
