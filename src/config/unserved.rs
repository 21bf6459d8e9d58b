//! Variables of the environment that mean something to the Go router and nothing to this one.

/// Names that are known to be the Go router's.
const NAMES: [&str; 2] = ["ENABLE_FAIRNESS_SCHEDULING", "ENABLE_SESSION_BOOST"];
/// How the others of its names begin.
const PREFIXES: [&str; 2] = ["FAIRNESS_", "SESSION_BOOST_"];

/// Returns the names of those variables that ask for something that this router does not do, in order.
///
/// Kubernetes sets variables for each Service, which may look like the Go router's own: their values are addresses.
pub fn unserved<'v>(variables: impl Iterator<Item = (&'v str, &'v str)>) -> Vec<&'v str> {
    let is_asked = |(name, value): &(&str, &str)| {
        let is_known = NAMES.contains(name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        is_known && !value.starts_with("tcp://") && !value.is_empty()
    };
    let mut names: Vec<_> = variables.filter(is_asked).map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_go_router_would_do_and_this_one_does_not_is_named() {
        let variables = [
            ("SESSION_BOOST_HEADER", "x"),
            ("PATH", "/bin"),
            ("REDIS_HOST", "redis"),
            ("FAIRNESS_PORT", "tcp://10.0.0.1:6379"),
            ("FAIRNESS_MAX_QPS", "100"),
            ("ENABLE_FAIRNESS_SCHEDULING", "true"),
            ("ENABLE_SESSION_BOOST", ""),
            ("POD_NAMESPACE", "default"),
        ];
        let expected = ["ENABLE_FAIRNESS_SCHEDULING", "FAIRNESS_MAX_QPS", "SESSION_BOOST_HEADER"];
        assert_eq!(unserved(variables.into_iter()), expected);
    }
}
