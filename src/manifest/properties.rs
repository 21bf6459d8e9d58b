//! What holds for every text, and for texts that are large or made to do harm.

use proptest::prelude::*;

use super::read::count_lines;
use super::{MAX_DEPTH, read};

/// Objects with most of what a manifest can hold.
const SEED: &str = "\
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: r, labels: &labels {app: r}}
spec:
  modelName: m
  loraAdapters: [a, \"b\"]
  parentRefs:
  - {name: g, port: 80}
  rules:
  - modelMatch:
      headers:
        x-user: {exact: u}
      uri: {regex: ^/v1}
    targetModels:
    - modelServerName: s
      weight: 70
--- # another
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: p, labels: {app: m}}
  spec:
    containers: []
- {apiVersion: v1, kind: Namespace, metadata: {name: ns}}
...
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata:
  name: s
spec:
  inferenceEngine: vLLM
  workloadSelector: {matchLabels: &x {app: s}, pdGroup: {groupKey: k, prefillLabels: *x, decodeLabels: *x}}
  workloadPort: {port: 8000}
  trafficPolicy: {timeout: 1m30s, retry: {attempts: 1}}
";

/// The lines of [`SEED`] with some changes that people and editors make.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(""),
        Just("---"),
        Just("..."),
        Just("- "),
        Just("  "),
        Just("\t"),
        Just("\r"),
        Just(": "),
        Just("*x"),
        Just("&x "),
        Just("{"),
        Just("]"),
        Just("'"),
        Just("|\n"),
        Just("null"),
        Just("<<: *x"),
        Just("-1"),
        Just("\u{feff}"),
        Just("? "),
        Just("!!int "),
        Just("name: "),
        Just("99999999999999999999"),
        Just("%A"),
    ];
    proptest::collection::vec((0..SEED.len(), 0..30_usize, piece), 0..6).prop_map(|edits| {
        let mut text: Vec<char> = SEED.chars().collect();
        for (position, removed, piece) in edits {
            let start = position.min(text.len());
            let end = (start + removed).min(text.len());
            text.splice(start..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

/// Checks what holds for every text.
fn check(text: &str) -> Result<(), TestCaseError> {
    let lines = count_lines(text);
    let manifest = read(text);
    let mut last = 0;
    for fault in &manifest.faults {
        prop_assert!((1..=lines).contains(&fault.line), "{} of {} lines: {}", fault.line, lines, fault);
        prop_assert!(fault.line >= last, "faults are in order");
        prop_assert!(!fault.message.is_empty() && !fault.message.contains('\n'), "{:?}", fault);
        last = fault.line;
    }
    for located in &manifest.objects {
        prop_assert!((1..=lines).contains(&located.line), "{} of {} lines", located.line, lines);
        prop_assert!(!located.object.name().is_empty(), "an object has a name");
    }
    for ignored in &manifest.ignored {
        prop_assert!((1..=lines).contains(&ignored.line), "{} of {} lines", ignored.line, lines);
    }
    Ok(())
}

proptest! {
    #[test]
    fn lines_are_counted_alike_for_every_line_end(text in mutated(), end in "\r\n|\r") {
        let text = text.replace('\r', "");
        let other = read(&text.replace('\n', &end));
        prop_assert_eq!(read(&text).faults, other.faults);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*|[-\\[\\]{}:,#&*!|>'\"%@`? a\n\t\r\u{feff}\u{85}\u{2028}]{0,60}") {
        check(&text)?;
    }

    #[test]
    fn a_manifest_with_mistakes_is_read_without_a_panic(text in mutated()) {
        check(&text)?;
    }

    #[test]
    fn a_document_with_mistakes_does_not_hide_another(text in mutated()) {
        let text = format!("{text}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: last}}\n");
        let manifest = read(&text);
        let names: Vec<&str> = manifest.objects.iter().map(|located| located.object.name()).collect();
        prop_assert_eq!(names.last().copied(), Some("last"), "{:?}", manifest.faults);
    }
}

#[test]
fn the_seed_is_read_whole() {
    let manifest = read(SEED);
    assert_eq!((manifest.objects.len(), manifest.faults), (4, Vec::new()));
}

#[test]
fn a_manifest_of_ten_thousand_lines_is_read_whole() {
    let (documents, lines) = (1000, SEED.lines().count());
    assert!(documents / 3 * lines >= 10_000);
    let text = vec![SEED; documents / 3].join("---\n");
    let manifest = read(&text);
    assert_eq!(manifest.faults, Vec::new());
    assert_eq!(manifest.objects.len(), 4 * (documents / 3));
    let last = manifest.objects.last().expect("there are objects");
    assert_eq!(last.line_of("spec.trafficPolicy.retry"), text.lines().count());
}

#[test]
fn values_may_be_nested_up_to_a_limit() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("apiVersion: v1\nkind: ReplicationController\ndata: {open}{close}\n")
    };
    let too_deep = "lists and mappings may be 128 levels deep, not more";
    assert_eq!(read(&nested(MAX_DEPTH - 1)).faults, Vec::new());
    for depth in [MAX_DEPTH, 250, 10_000] {
        let faults = read(&nested(depth)).faults;
        assert_eq!(faults.len(), 1, "{depth}");
        assert_eq!((faults[0].line, &faults[0].message[..]), (3, too_deep), "{depth}");
    }
}

#[test]
fn aliases_cannot_blow_a_small_text_up() {
    let levels: Vec<String> = (1..9)
        .map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")))
        .collect();
    let bomb = format!("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{}", levels.concat());
    let text = vec![bomb; 200].join("---\n") + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ns}\n";
    let manifest = read(&text);
    assert_eq!(manifest.faults.len(), 200);
    assert!(manifest.faults[0].message.starts_with("the aliases of a file may add"), "{}", manifest.faults[0]);
    assert_eq!(manifest.objects.len(), 1);

    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(", "));
    let manifest = read(&long);
    assert_eq!(manifest.faults.len(), 1);
    assert!(manifest.faults[0].message.starts_with("the aliases of a file may add"), "{}", manifest.faults[0]);
}

#[test]
fn an_anchor_may_be_used_many_times() {
    let names: Vec<String> = (0..2000)
        .map(|index| format!("- {{apiVersion: v1, kind: Namespace, metadata: {{name: n{index}, labels: *l}}}}\n"))
        .collect();
    let text =
        format!("apiVersion: v1\nkind: List\nmetadata: {{labels: &l {{app: a, tier: b}}}}\nitems:\n{}", names.concat());
    let manifest = read(&text);
    assert_eq!((manifest.objects.len(), manifest.faults), (2000, Vec::new()));
}
