//! What the router asked of the API server, and what its roles let it ask: from the audit log and from RBAC's objects.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::{Cluster, text};
use crate::kinds::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};

/// A request in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrived, as an RFC 3339 time.
    pub at: String,
    /// The verb, for example `list`.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, with its subresource after a slash.
    pub resource: String,
    /// The namespace; empty for objects of the cluster and for requests about all namespaces.
    pub namespace: String,
    /// The name; empty where the request names none.
    pub name: String,
    /// The path where no resource is asked for.
    pub path: String,
    /// The Pod that asked, where its token says so.
    pub pod: String,
    /// Whether it was refused for want of a permission.
    pub forbidden: bool,
    /// The status of the answer; 0 while there is none.
    pub code: u64,
}

/// One thing that a role permits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The verb.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The resource, with its subresource after a slash.
    pub resource: String,
    /// The one object that it is for; everything if empty.
    pub name: String,
    /// The namespace that it is for; all if empty.
    pub namespace: String,
}

/// Reads the requests of a ServiceAccount from an audit log.
///
/// # Errors
///
/// Returns an error when the log cannot be read.
pub fn requests(log: &Path, user: &str) -> Result<Vec<Request>> {
    let lines = std::fs::read_to_string(log).with_context(|| format!("the audit log {}", log.display()))?;
    Ok(parse(&lines, user))
}

fn parse(lines: &str, user: &str) -> Vec<Request> {
    // The last line may be half written.
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["user"]["username"] == user).map(|event| request(&event)).collect()
}

fn request(event: &Value) -> Request {
    let part = |pointer: &str| text(event, pointer).to_owned();
    let resource = match part("/objectRef/subresource") {
        subresource if subresource.is_empty() => part("/objectRef/resource"),
        subresource => format!("{}/{subresource}", part("/objectRef/resource")),
    };
    let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
    Request {
        at: part("/requestReceivedTimestamp"),
        verb: part("/verb"),
        group: part("/objectRef/apiGroup"),
        resource,
        namespace: part("/objectRef/namespace"),
        name: part("/objectRef/name"),
        path: part("/requestURI"),
        pod: part("/user/extra/authentication.kubernetes.io~1pod-name/0"),
        forbidden: code == 403 || part("/annotations/authorization.k8s.io~1decision") == "forbid",
        code,
    }
}

impl Request {
    /// Returns whether the request changes something of an object's status.
    pub fn writes_status(&self) -> bool {
        self.resource.ends_with("/status") && matches!(self.verb.as_str(), "patch" | "update")
    }
}

impl Grant {
    /// Returns whether a request needs this permission.
    pub fn permits(&self, request: &Request) -> bool {
        self.verb == request.verb
            && self.group == request.group
            && self.resource == request.resource
            && (self.name.is_empty() || self.name == request.name)
            && (self.namespace.is_empty() || self.namespace == request.namespace)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, name, namespace } = self;
        write!(formatter, "{verb} {resource}")?;
        for (preposition, part) in [("of", group), ("named", name), ("in", namespace)] {
            if !part.is_empty() {
                write!(formatter, " {preposition} {part}")?;
            }
        }
        Ok(())
    }
}

/// Lists everything that the roles bound to a ServiceAccount permit.
///
/// # Errors
///
/// Returns the API server's error.
pub async fn grants(cluster: &Cluster, namespace: &str, account: &str) -> Result<BTreeSet<Grant>> {
    let is_subject = |binding: &Value| {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.clone().any(|subject| {
            subject["kind"] == "ServiceAccount" && subject["name"] == account && subject["namespace"] == namespace
        })
    };
    let mut all = BTreeSet::new();
    for binding in cluster.list(CLUSTER_ROLE_BINDING, "", "").await?.iter().filter(|binding| is_subject(binding)) {
        let role = cluster.get(CLUSTER_ROLE, "", text(binding, "/roleRef/name")).await?;
        all.extend(grants_of(&role, ""));
    }
    for binding in cluster.list(ROLE_BINDING, "", "").await?.iter().filter(|binding| is_subject(binding)) {
        let home = text(binding, "/metadata/namespace");
        let kind = if text(binding, "/roleRef/kind") == CLUSTER_ROLE.kind { CLUSTER_ROLE } else { ROLE };
        let role = cluster.get(kind, home, text(binding, "/roleRef/name")).await?;
        all.extend(grants_of(&role, home));
    }
    anyhow::ensure!(!all.is_empty(), "no role is bound to the ServiceAccount `{namespace}/{account}`");
    Ok(all)
}

fn grants_of(role: &Value, namespace: &str) -> Vec<Grant> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut grants = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let mut names = texts(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    grants.extend(names.iter().map(|name| Grant {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        namespace: namespace.to_owned(),
                    }));
                }
            }
        }
    }
    grants
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOG: &str = concat!(
        r#"{"stage":"ResponseComplete","verb":"patch","user":{"username":"u","extra":{"authentication.kubernetes.io/pod-name":["p-1"]}},"#,
        r#""objectRef":{"resource":"gateways","subresource":"status","namespace":"a","name":"g","apiGroup":"x.io"},"#,
        r#""responseStatus":{"code":200},"annotations":{"authorization.k8s.io/decision":"allow"}}"#,
        "\n",
        r#"{"verb":"list","user":{"username":"u"},"objectRef":{"resource":"pods"},"responseStatus":{"code":403}}"#,
        "\n",
        r#"{"verb":"list","user":{"username":"other"},"objectRef":{"resource":"pods"}}"#,
        "\n{\"verb\":\"li",
    );

    #[test]
    fn the_log_says_who_asked_for_what() {
        let requests = parse(LOG, "u");
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert_eq!((requests[0].pod.as_str(), requests[0].resource.as_str()), ("p-1", "gateways/status"));
        assert!(requests[0].writes_status() && !requests[0].forbidden);
        assert!(!requests[1].writes_status() && requests[1].forbidden);
    }

    #[test]
    fn a_rule_is_as_many_grants_as_it_has_combinations() {
        let role = json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": ["x.io"], "resources": ["gateways/status", "routes/status"], "verbs": ["patch"]},
            {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"], "verbs": ["get", "list"]},
        ]});
        let grants = grants_of(&role, "a");
        assert_eq!(grants.len(), 4);
        assert_eq!(grants[3].to_string(), "list pods named p in a");
        let patched = &parse(LOG, "u")[0];
        let permitting: Vec<_> = grants.iter().filter(|grant| grant.permits(patched)).collect();
        assert_eq!(permitting, [&grants[0]]);
    }
}
