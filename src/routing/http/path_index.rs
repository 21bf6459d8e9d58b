//! Finds the first of many matches that a request satisfies, without asking all of them.
//!
//! Exact paths are looked up as a whole, prefixes element by element in a tree, and what one path or prefix leads to is
//! a list in the order of precedence. The work is bounded by the length of the path, not by the number of routes.

use foldhash::{HashMap, HashMapExt};

use super::candidates::Candidates;
use super::precedence::Candidate;
use super::predicate::PathMatcher;
use crate::request_head::RequestHead;

/// The matches that share a hostname.
#[derive(Debug)]
pub(super) struct PathIndex {
    exact: HashMap<String, Candidates>,
    regex: Candidates,
    prefixes: PrefixTree,
}

/// Prefixes by their elements; the root is the prefix `/`.
#[derive(Debug)]
struct PrefixTree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    candidates: Candidates,
    /// The node of the longest shorter prefix that has candidates.
    shorter: Option<usize>,
}

impl PathIndex {
    /// Makes an index of matches in any order.
    pub(super) fn new(candidates: Vec<Candidate>) -> Self {
        let mut exact: HashMap<String, Vec<Candidate>> = HashMap::new();
        let mut prefixes: HashMap<String, Vec<Candidate>> = HashMap::new();
        let mut regex = Vec::new();
        for candidate in candidates {
            match &candidate.predicate.path {
                PathMatcher::Exact(path) => exact.entry(path.clone()).or_default().push(candidate),
                PathMatcher::Regex(_) => regex.push(candidate),
                PathMatcher::Prefix(prefix) => prefixes.entry(prefix.clone()).or_default().push(candidate),
            }
        }
        let exact = exact.into_iter().map(|(path, candidates)| (path, Candidates::of_one_path(candidates)));
        Self { exact: exact.collect(), regex: Candidates::new(regex), prefixes: PrefixTree::new(prefixes) }
    }

    /// Returns the match with the least rank that the request, whose host matches, satisfies.
    pub(super) fn find(&self, head: &RequestHead<'_>) -> Option<&Candidate> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(head.path) };
        exact
            .and_then(|candidates| candidates.find(head))
            .or_else(|| self.regex.find(head))
            .or_else(|| self.prefixes.find(head))
    }
}

impl PrefixTree {
    fn new(prefixes: HashMap<String, Vec<Candidate>>) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        for (prefix, candidates) in prefixes {
            let node = tree.grow(&prefix);
            tree.nodes[node].candidates = Candidates::of_one_path(candidates);
        }
        tree.link();
        tree
    }

    /// Returns the node of a prefix, which has no slash at its end; makes those on the way that are missing.
    fn grow(&mut self, prefix: &str) -> usize {
        elements(prefix).fold(0, |node, element| {
            if let Some(child) = self.nodes[node].children.get(element) {
                return *child;
            }
            self.nodes.push(Node::default());
            let child = self.nodes.len() - 1;
            self.nodes[node].children.insert(element.into(), child);
            child
        })
    }

    /// Tells every node which one to ask after it. A node always comes after its parent.
    fn link(&mut self) {
        for parent in 0..self.nodes.len() {
            let Node { children, candidates, shorter } = &self.nodes[parent];
            let shorter = if candidates.is_empty() { *shorter } else { Some(parent) };
            let children: Vec<usize> = children.values().copied().collect();
            for child in children {
                self.nodes[child].shorter = shorter;
            }
        }
    }

    fn find(&self, head: &RequestHead<'_>) -> Option<&Candidate> {
        let mut node = self.nodes.first()?;
        for element in elements(head.path) {
            let Some(child) = node.children.get(element).and_then(|child| self.nodes.get(*child)) else { break };
            node = child;
        }
        loop {
            if let Some(candidate) = node.candidates.find(head) {
                return Some(candidate);
            }
            node = self.nodes.get(node.shorter?)?;
        }
    }
}

/// Returns the elements of a path: what follows each of its slashes, up to the next.
///
/// A path that begins otherwise, like the `*` of an OPTIONS request, has none, and only the prefix `/` matches it.
fn elements(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|path| path.split('/'))
}
