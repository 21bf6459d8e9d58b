//! Which paths are refused before any route sees them.
//!
//! Paths are matched and sent on as they came: nothing is decoded, merged or resolved, so that the router and a backend
//! never read one path in two ways. `//`, `%2f` and all other escapes are left alone and match only themselves. What
//! backends are known to resolve, so that a path could leave the prefix that let it in, is refused with 400: segments
//! `.` and `..`, also where their dots are written `%2e` or their slashes `%2f`; a backslash, which some servers take
//! for a slash, also written `%5c`; and `%00`. Source: RFC 3986, section 5.2.4, and RFC 9110, section 4.2.3; to refuse
//! instead of to resolve is this router's choice.

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// A segment is `.` or `..`.
    #[error("the path has a segment `.` or `..`")]
    DotSegment,
    /// There is a backslash.
    #[error("the path has a backslash")]
    Backslash,
    /// There is an escaped zero byte.
    #[error("the path has `%00`")]
    Zero,
}

/// Checks the path of a request, without its query.
///
/// # Errors
///
/// Returns why the path is refused.
pub fn check(path: &str) -> Result<(), PathFault> {
    let bytes = path.as_bytes();
    // Most paths have none of these bytes and are passed in one sweep.
    if memchr::memchr3(b'.', b'%', b'\\', bytes).is_none() {
        return Ok(());
    }
    if memchr::memchr(b'\\', bytes).is_some() || has_escape(bytes, *b"5c") {
        return Err(PathFault::Backslash);
    }
    if has_escape(bytes, *b"00") {
        return Err(PathFault::Zero);
    }
    let is_resolved = path.split('/').any(|segment| segments(segment).any(is_dots));
    if is_resolved { Err(PathFault::DotSegment) } else { Ok(()) }
}

/// Returns whether a byte is written as an escape; `digits` are its two digits in lower case.
fn has_escape(path: &[u8], digits: [u8; 2]) -> bool {
    let mut escapes = memchr::memchr_iter(b'%', path).filter_map(|place| path.get(place + 1..place + 3));
    escapes.any(|found| found.eq_ignore_ascii_case(&digits))
}

/// Returns the segments that a part of a path without slashes has for a server that decodes `%2f` before it splits.
fn segments(part: &str) -> impl Iterator<Item = &str> {
    part.split("%2f").flat_map(|part| part.split("%2F"))
}

/// Returns whether a segment is one or two dots, however they are written; parameters after a `;` do not change that.
fn is_dots(segment: &str) -> bool {
    let segment = segment.split(';').next().unwrap_or_default();
    let mut rest = segment;
    let mut dots = 0;
    while !rest.is_empty() {
        let after = rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E"));
        let Some(after) = after else { return false };
        rest = after;
        dots += 1;
    }
    matches!(dots, 1 | 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_servers_read_in_two_ways_are_refused() {
        for (path, expected) in [
            ("/", Ok(())),
            ("", Ok(())),
            ("*", Ok(())),
            ("/v1/models", Ok(())),
            ("/v1//models", Ok(())),
            ("/v1%2fmodels", Ok(())),
            ("/v1%2F..a", Ok(())),
            ("/a.b/..c/.d/e..", Ok(())),
            ("/.../x", Ok(())),
            ("/.well-known/x", Ok(())),
            ("/100%", Ok(())),
            ("/%5", Ok(())),
            ("/%252e%252e/x", Ok(())),
            ("/a/../b", Err(PathFault::DotSegment)),
            ("/a/..", Err(PathFault::DotSegment)),
            ("/a/.", Err(PathFault::DotSegment)),
            ("/./a", Err(PathFault::DotSegment)),
            ("/a/%2e%2E/b", Err(PathFault::DotSegment)),
            ("/a/.%2e/b", Err(PathFault::DotSegment)),
            ("/a/%2e", Err(PathFault::DotSegment)),
            ("/a/..;x=1/b", Err(PathFault::DotSegment)),
            ("/api/..%2fsecret/x", Err(PathFault::DotSegment)),
            ("/api/x%2F..%2fsecret", Err(PathFault::DotSegment)),
            ("/api/%2e%2e%2Fsecret", Err(PathFault::DotSegment)),
            ("/api%2f.", Err(PathFault::DotSegment)),
            ("/a\\b", Err(PathFault::Backslash)),
            ("/a/..\\b", Err(PathFault::Backslash)),
            ("/a/..%5cb", Err(PathFault::Backslash)),
            ("/a%5Cb", Err(PathFault::Backslash)),
            ("/a%00b", Err(PathFault::Zero)),
        ] {
            assert_eq!(check(path), expected, "{path}");
        }
    }
}
