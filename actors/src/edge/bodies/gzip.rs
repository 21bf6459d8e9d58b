//! Decodes at once what is small and plain gzip, as most of what agents send is.
//!
//! A decoder that takes a body in pieces needs a third more instructions. One that takes it whole cannot
//! pause: what may decode to more than one turn is left to the other, and so is all that is not one member and nothing
//! else, which the other knows to put into words.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use kthena_router_downstream::Charge;
use libdeflater::Decompressor;
use memchr::memmem;

use super::segments::SPARE;

/// The most bytes that are decoded at once: about half a millisecond's work.
const MOST: usize = 512 << 10;
/// The longest body that is read whole before it is decoded, in bytes.
const MOST_CODED: u64 = 256 << 10;
/// How many bytes one byte may decode to: 258 for a symbol of two bits, and a quarter byte is two bits.
const MOST_FOR_ONE: usize = 1032;
/// The bytes that end a member: its length, behind its check sum.
const END: usize = 4;

thread_local! {
    /// It has 12 KiB, which every use sets anew.
    static DECODER: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// Returns whether a body of this length is worth to be read before it is decoded.
pub(super) fn is_small(coded: u64) -> bool {
    coded <= MOST_CODED
}

/// Decodes a body, if that is done at once, and charges for what it decodes to.
pub(super) fn decode(coded: &[u8], limit: usize, charge: &mut Charge) -> Option<Bytes> {
    let length = length(coded).filter(|length| *length <= limit)?;
    charge.grow(length).ok()?;
    let decoded = decoded(coded, length);
    if decoded.is_none() {
        charge.shrink(length);
    }
    decoded
}

/// Returns how many bytes a body says that it decodes to, if it can be that many and they are few enough.
fn length(coded: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::from_le_bytes(*coded.last_chunk()?)).ok()?;
    (length <= MOST && length / MOST_FOR_ONE <= coded.len()).then_some(length)
}

/// Decodes a body that is one member of this length.
fn decoded(coded: &[u8], length: usize) -> Option<Bytes> {
    let end: &[u8; END] = coded.last_chunk()?;
    let mut decoded = BytesMut::zeroed(length + SPARE);
    let written = DECODER.with_borrow_mut(|decoder| decoder.gzip_decompress(coded, &mut decoded[..length]).ok())?;
    decoded.truncate(written);
    // The decoder has found the length at the end of the first member to be that, and is silent about what follows. If
    // the length is found at the end of the body and nowhere else, nothing follows.
    (written == length && memmem::find(coded, end) == Some(coded.len() - END)).then(|| decoded.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::Compression;
    use flate2::read::MultiGzDecoder;
    use flate2::write::GzEncoder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Decodes as the body's end says.
    fn at_once(coded: &[u8]) -> Option<Bytes> {
        length(coded).and_then(|length| decoded(coded, length))
    }

    #[test]
    fn what_is_one_member_and_nothing_else_is_decoded_at_once() {
        let text = b"{\"model\":\"m\"}".repeat(3);
        let (one, largest) = (zipped(&text), vec![b'x'; MOST]);
        let cut = |from: usize| one[..from].to_vec();
        let with = |at: usize, byte: u8| one.iter().enumerate().map(|(i, b)| if i == at { byte } else { *b }).collect();
        for (case, coded, expected) in [
            ("one member", one.clone(), Some(text.clone())),
            ("nothing in it, so that its end is like its beginning", zipped(b""), None),
            ("as much as is done at once", zipped(&largest), Some(largest.clone())),
            ("more than that", zipped(&[&largest[..], b"x"].concat()), None),
            ("the same member twice", one.repeat(2), None),
            ("another member", [one.clone(), zipped(b"and more")].concat(), None),
            ("an empty member", [one.clone(), zipped(b"")].concat(), None),
            ("something else behind it", [&one[..], b"and more, a lot of it"].concat(), None),
            ("something else, and the same end", [&one[..], b"x", &one[one.len() - 8..]].concat(), None),
            ("something else, and the same length", [&one[..], b"x", &one[one.len() - END..]].concat(), None),
            ("cut in the end", cut(one.len() - 1), None),
            ("cut in the middle", cut(one.len() / 2), None),
            ("no end", cut(3), None),
            ("nothing", Vec::new(), None),
            ("a wrong check sum", with(one.len() - 8, !one[one.len() - 8]), None),
            ("a length that is too large", with(one.len() - 3, 1), None),
            ("a length that cannot be", with(one.len() - 2, 7), None),
            ("no gzip", b"{\"model\":\"m\"}\0\0\0\0".to_vec(), None),
        ] {
            assert!(at_once(&coded).map(Vec::from) == expected, "{case}");
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_at_once_is_what_others_decode(
            members in vec(vec(0_u8..4, 0..300), 0..3),
            tail in prop::option::of(vec(any::<u8>(), 0..20)),
            flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut coded: Vec<u8> = members.iter().flat_map(|member| zipped(member)).collect();
            coded.extend(tail.unwrap_or_default());
            if let (Some((at, bits)), false) = (flip, coded.is_empty()) {
                let at = at.index(coded.len());
                coded[at] ^= bits;
            }
            if let Some(decoded) = at_once(&coded) {
                let mut others = Vec::new();
                MultiGzDecoder::new(&coded[..]).read_to_end(&mut others).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(decoded, others);
            }
        }
    }
}
