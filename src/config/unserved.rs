//! Variables of the environment that mean something to the Go router and nothing to this one.

/// Names of the Go router's that are about its own way of keeping a queue: how far it looks back, how fast it lets requests
/// pass, how often it sorts anew, and how long it waits for a session's next request.
const NAMES: [&str; 5] = [
    "FAIRNESS_MAX_QPS",
    "FAIRNESS_PRIORITY_REFRESH_RETRIES",
    "FAIRNESS_REBUILD_THRESHOLD",
    "FAIRNESS_WINDOW_SIZE",
    "SESSION_BOOST_GRACE_PERIOD",
];

/// Returns the names of those variables that ask for something that this router does not do, in order.
///
/// Kubernetes sets variables for each Service, which may look like the Go router's own: their values are addresses.
pub fn unserved<'v>(variables: impl Iterator<Item = (&'v str, &'v str)>) -> Vec<&'v str> {
    let is_asked =
        |(name, value): &(&str, &str)| NAMES.contains(name) && !value.starts_with("tcp://") && !value.is_empty();
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
            ("SESSION_BOOST_GRACE_PERIOD", "5ms"),
            ("PATH", "/bin"),
            ("REDIS_HOST", "redis"),
            ("FAIRNESS_WINDOW_SIZE", ""),
            ("FAIRNESS_MAX_QPS", "100"),
            ("ENABLE_FAIRNESS_SCHEDULING", "true"),
            ("ENABLE_SESSION_BOOST", ""),
            ("POD_NAMESPACE", "default"),
        ];
        let expected = ["FAIRNESS_MAX_QPS", "SESSION_BOOST_GRACE_PERIOD"];
        assert_eq!(unserved(variables.into_iter()), expected);
    }
}
