//! Label selectors.
//!
//! Source: Kubernetes API, `LabelSelector`: `matchLabels` and `matchExpressions` are all required to hold; `NotIn` and
//! `DoesNotExist` also hold for an object that lacks the key.

use std::collections::BTreeMap;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// One entry of `matchExpressions`.
#[derive(Clone, Copy, Debug)]
pub struct Expression<'a> {
    /// The label's key.
    pub key: &'a str,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`; an expression with any other operator holds for nothing.
    pub operator: &'a str,
    /// The values of `In` and `NotIn`.
    pub values: &'a [String],
}

impl Expression<'_> {
    /// Returns whether the expression holds for an object with these labels.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(self.key);
        match self.operator {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// Returns whether `labels` has every pair of `required`; an empty requirement holds for every object.
pub fn has_all(labels: &Labels, required: &Labels) -> bool {
    required.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn expressions_follow_the_kubernetes_operators() {
        let labels = labels(&[("team", "a")]);
        let values = ["a".to_owned(), "b".to_owned()];
        for (key, operator, expected) in [
            ("team", "In", true),
            ("team", "NotIn", false),
            ("team", "Exists", true),
            ("team", "DoesNotExist", false),
            ("zone", "In", false),
            ("zone", "NotIn", true),
            ("zone", "Exists", false),
            ("zone", "DoesNotExist", true),
            ("team", "Like", false),
        ] {
            let expression = Expression { key, operator, values: &values };
            assert_eq!(expression.holds(&labels), expected, "{key} {operator}");
        }
    }

    #[test]
    fn every_required_label_must_be_there() {
        let object = labels(&[("app", "x"), ("role", "leader")]);
        assert!(has_all(&object, &labels(&[])));
        assert!(has_all(&object, &labels(&[("app", "x")])));
        assert!(!has_all(&object, &labels(&[("app", "x"), ("role", "worker")])));
        assert!(!has_all(&object, &labels(&[("zone", "a")])));
    }
}
