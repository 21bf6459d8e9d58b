//! The priority that a ModelRoute gives to its requests.
//!
//! The API of a ModelRoute has no field for it, and an annotation says it, as one with a number says it of a Pod's ranks.

use std::collections::BTreeMap;

/// The annotation: a whole number, which may be negative. What is not annotated has a priority of 0.
pub const ANNOTATION: &str = "networking.serving.volcano.sh/priority";

/// Reads the annotation of a ModelRoute; 0 where it has none.
///
/// # Errors
///
/// Returns what is wrong with it.
pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<i32, String> {
    let Some(text) = annotations.and_then(|annotations| annotations.get(ANNOTATION)) else { return Ok(0) };
    text.parse().map_err(|_| format!("`{text}` is no whole number from {} to {}", i32::MIN, i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_is_a_whole_number() {
        let read = |text: &str| of(Some(&[(ANNOTATION.to_owned(), text.to_owned())].into()));
        for (text, expected) in [("10", 10), ("0", 0), ("-1", -1), ("2147483647", i32::MAX), ("-2147483648", i32::MIN)]
        {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for wrong in ["", "high", "1.5", " 1", "2147483648", "-2147483649", "0x10"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!((of(None), of(Some(&BTreeMap::new()))), (Ok(0), Ok(0)));
    }
}
