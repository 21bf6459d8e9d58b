//! Says in the words of YAML what the deserializer says in those of Rust.

/// The most fields that are listed when none is similar to an unknown one.
const MAX_LISTED: usize = 12;

/// The most edits between an unknown field and one that may be meant.
const MAX_EDITS: usize = 2;

/// The fields that hold durations, by the last part of their paths.
const DURATIONS: [&str; 11] = [
    "idleTimeout",
    "timeout",
    "retryInterval",
    "request",
    "backendRequest",
    "backoff",
    "interval",
    "connect",
    "firstToken",
    "idle",
    "total",
];

/// Rewrites a deserializer's message about the value of `field` for someone who writes YAML.
pub(super) fn type_error(field: Option<&str>, reason: &str) -> String {
    let is_range = reason.starts_with("invalid value: ");
    let found_and_expected = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|prefix| reason.strip_prefix(prefix))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match found_and_expected {
        Some((found, expected)) => {
            let expected = expectation(expected, is_range);
            let is_bare = ["integer", "boolean", "float"].iter().any(|kind| found.starts_with(kind));
            let number = found.strip_prefix("integer `").and_then(|rest| rest.strip_suffix('`'));
            let hint = match number {
                Some(number) if field.is_some_and(|field| DURATIONS.contains(&field)) => {
                    format!(": write a duration such as `{number}s`")
                }
                Some(_) | None if expected == "a string" && is_bare => ": put it in quotes".to_owned(),
                Some(_) | None => String::new(),
            };
            format!("expected {expected}, found {}{hint}", finding(found))
        }
        None => reason.trim_end_matches('.').to_owned(),
    }
}

/// Says of a field that the type does not know which known one was probably meant.
pub(super) fn unknown_field(name: &str, known: &[&str]) -> String {
    let closest = known.iter().map(|field| (edits(name, field), *field)).min();
    match closest {
        Some((edits, field)) if edits <= MAX_EDITS.min(field.len() / 2) => {
            format!("unknown field `{name}`, did you mean `{field}`?")
        }
        Some(_) if known.len() <= MAX_LISTED => {
            format!("unknown field `{name}`, expected one of `{}`", known.join("`, `"))
        }
        _ => format!("unknown field `{name}`"),
    }
}

/// Counts the characters to insert, delete or replace to make one text of the other; case does not count.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..other.len() {
            let replaced = diagonal + usize::from(other[column] != letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Says what the type wants, with the bounds of a number that is out of them.
fn expectation(expected: &str, is_range: bool) -> String {
    let bounds = match expected {
        "u8" => Some((0, i64::from(u8::MAX))),
        "u16" => Some((0, i64::from(u16::MAX))),
        "u32" => Some((0, i64::from(u32::MAX))),
        "i32" => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        _ => None,
    };
    if let (Some((least, most)), true) = (bounds, is_range) {
        return format!("a whole number from {least} to {most}");
    }
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "a mapping",
        other if other.starts_with("struct ") || other.starts_with(char::is_uppercase) => "a mapping",
        other => other,
    };
    words.to_owned()
}

/// Says what the file has.
fn finding(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string", text)) => {
            let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
            format!("the string `{inner}`")
        }
        Some(("integer" | "floating" | "float", text)) => {
            format!("the number {}", text.trim_start_matches("point "))
        }
        Some(("boolean", text)) => format!("the boolean {text}"),
        _ => match found {
            "map" => "a mapping".to_owned(),
            "sequence" => "a list".to_owned(),
            "null" | "unit value" => "nothing".to_owned(),
            other => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_errors_are_said_in_the_words_of_yaml() {
        let cases = [
            ("invalid type: string \"ten\", expected u16", "expected a whole number, found the string `ten`"),
            (
                "invalid value: integer `70000`, expected u16",
                "expected a whole number from 0 to 65535, found the number `70000`",
            ),
            ("invalid type: floating point `1.5`, expected u32", "expected a whole number, found the number `1.5`"),
            (
                "invalid type: integer `7`, expected a string",
                "expected a string, found the number `7`: put it in quotes",
            ),
            (
                "invalid type: boolean `true`, expected a string",
                "expected a string, found the boolean `true`: put it in quotes",
            ),
            ("invalid type: map, expected a sequence", "expected a list, found a mapping"),
            ("invalid type: sequence, expected struct RouteRule", "expected a mapping, found a list"),
            ("invalid type: null, expected PodSpec", "expected a mapping, found nothing"),
            (
                "invalid type: string \"a, expected b\", expected a boolean",
                "expected `true` or `false`, found the string `a, expected b`",
            ),
            ("missing field `rules`", "missing field `rules`"),
            ("unknown variant `x`, expected `http` or `https`", "unknown variant `x`, expected `http` or `https`"),
        ];
        for (reason, expected) in cases {
            assert_eq!(type_error(Some("name"), reason), expected);
        }
    }

    #[test]
    fn edits_are_counted_without_regard_to_case() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("weigth", "weight", 2),
            ("modelname", "modelName", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn an_unknown_field_gets_the_known_one_that_is_closest() {
        let many: Vec<&str> = vec!["field"; 13];
        let cases: [(&str, &[&str], &str); 5] = [
            ("weigth", &["name", "weight"], "unknown field `weigth`, did you mean `weight`?"),
            ("method", &["body", "uri"], "unknown field `method`, expected one of `body`, `uri`"),
            ("ux", &["ip", "uri"], "unknown field `ux`, expected one of `ip`, `uri`"),
            ("other", &many, "unknown field `other`"),
            ("other", &[], "unknown field `other`"),
        ];
        for (name, known, expected) in cases {
            assert_eq!(unknown_field(name, known), expected);
        }
    }
}
