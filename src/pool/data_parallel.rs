//! How many data-parallel ranks the engines of a ModelServer have, each with a port and a KV cache of its own.
//!
//! An engine whose ranks are balanced by itself is one endpoint. Where each rank serves at a port of its own (vLLM:
//! `--data-parallel-rank` with `--port`, or one multi-port server), nothing in the API of a ModelServer says so, and an
//! annotation does. InferencePools list the ports.

use std::collections::BTreeMap;

/// The annotation: the number of ranks, whose ports follow `workloadPort.port`, that of rank 0.
pub const ANNOTATION: &str = "networking.serving.volcano.sh/data-parallel-size";

/// The most ranks of a Pod.
pub const MOST: u16 = 64;

/// Reads the annotation of an object whose rank 0 serves at `port`; 1 where it has none.
///
/// # Errors
///
/// Returns what is wrong with it.
pub fn ranks(annotations: Option<&BTreeMap<String, String>>, port: Option<u16>) -> Result<u16, String> {
    let Some(text) = annotations.and_then(|annotations| annotations.get(ANNOTATION)) else { return Ok(1) };
    let read = text.parse().ok().filter(|ranks| (1..=MOST).contains(ranks));
    let ranks = read.ok_or_else(|| format!("`{text}` is no number from 1 to {MOST}"))?;
    match port.map_or(Some(0), |port| port.checked_add(ranks - 1)) {
        Some(_) => Ok(ranks),
        None => Err(format!("the port of rank {} would be above {}", ranks - 1, u16::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_says_how_many_ranks_there_are() {
        let of = |text: &str| ranks(Some(&[(ANNOTATION.to_owned(), text.to_owned())].into()), Some(65_530));
        assert_eq!((of("1"), of("6")), (Ok(1), Ok(6)));
        for wrong in ["", "0", "7", "65", "-1", "two"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!((ranks(None, Some(8000)), ranks(Some(&BTreeMap::new()), None)), (Ok(1), Ok(1)));
    }
}
