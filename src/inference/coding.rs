//! The content codings of requests' bodies that the router decodes to read a body.
//!
//! Engines decode none: what was decoded is sent on without its coding. Sources: RFC 9110, section 8.4; RFC 9659, which
//! bounds the window of `zstd` to 8 MiB; RFC 7932, whose largest window has 16 MiB.

use super::understood::NotUnderstood;

/// What a refused client is told to send, in the form of `Accept-Encoding` (RFC 9110, section 15.5.16).
pub const ACCEPTED: &str = "gzip, deflate, br, zstd";

/// How many codings a body may have, one within the other: each costs its own memory, and nobody means more.
const DEEPEST: usize = 3;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, RFC 1952; also called `x-gzip`.
    Gzip,
    /// `deflate`: RFC 1950, or RFC 1951 alone, which some clients take it for.
    Deflate,
    /// `br`, RFC 7932.
    Brotli,
    /// `zstd`, RFC 8878.
    Zstd,
}

impl Coding {
    fn of(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () if is("br") => Some(Self::Brotli),
            () if is("zstd") => Some(Self::Zstd),
            () => None,
        }
    }

    /// Returns its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Returns how many bytes of what was decoded a decoder may keep for what follows.
    pub fn window(self) -> usize {
        match self {
            Self::Gzip | Self::Deflate => 32 << 10,
            Self::Brotli => 16 << 20,
            Self::Zstd => 8 << 20,
        }
    }
}

/// Reads the values of `Content-Encoding`, and returns the codings of a body in the order in which they were applied.
///
/// # Errors
///
/// Returns an error that names a coding which is not known here, or says that there are too many.
pub fn codings<'h>(values: impl IntoIterator<Item = &'h str>) -> Result<Vec<Coding>, NotUnderstood> {
    let mut found = Vec::new();
    for name in values.into_iter().flat_map(|value| value.split(',')).map(str::trim) {
        if name.is_empty() || name.eq_ignore_ascii_case("identity") {
            continue;
        }
        let coding = Coding::of(name).filter(|_| found.len() < DEEPEST);
        found.push(coding.ok_or_else(|| NotUnderstood::Encoded { encoding: name.chars().take(64).collect() })?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::Coding::{Brotli, Deflate, Gzip, Zstd};
    use super::*;

    #[test]
    fn codings_are_read_as_the_standard_has_them() {
        for (values, expected) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&["identity"], &[]),
            (&[" Identity ,"], &[]),
            (&["gzip"], &[Gzip]),
            (&["X-GZip"], &[Gzip]),
            (&[" deflate\t"], &[Deflate]),
            (&["br, ZSTD"], &[Brotli, Zstd]),
            (&["gzip", "identity, gzip"], &[Gzip, Gzip]),
        ] {
            assert_eq!(codings(values.iter().copied()).as_deref(), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (values, expected) in [
            (&["foo"][..], "foo"),
            (&["gzip, compress"], "compress"),
            (&["gzip;q=1"], "gzip;q=1"),
            (&["gzip, gzip", "gzip, br"], "br"),
        ] {
            let refused = codings(values.iter().copied()).unwrap_err();
            assert_eq!(refused, NotUnderstood::Encoded { encoding: expected.to_owned() }, "{values:?}");
        }
    }

    #[test]
    fn every_coding_that_clients_are_told_of_is_known() {
        let told: Vec<_> = codings(ACCEPTED.split(", ").take(3)).unwrap();
        assert_eq!((told, Coding::of("zstd")), (vec![Gzip, Deflate, Brotli], Some(Zstd)));
        for coding in [Gzip, Deflate, Brotli, Zstd] {
            assert_eq!(Coding::of(coding.name()), Some(coding));
        }
    }
}
