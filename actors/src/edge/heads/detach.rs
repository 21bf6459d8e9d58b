//! Takes a request that waits out of the bytes that it was read as.
//!
//! The values of a head, and a body, are parts of what arrived together, which stays as long as any of them: with it the body
//! as the client sent it, when only the one that is sent on is needed.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

/// Bytes of which more than that are the better part of what they are in.
const SMALL: usize = 8 << 10;

/// Has a header's value be a copy.
pub(in crate::edge) fn value(value: &mut HeaderValue) {
    if let Ok(mut copied) = HeaderValue::from_bytes(value.as_bytes()) {
        copied.set_sensitive(value.is_sensitive());
        *value = copied;
    }
}

/// Has bytes be a copy, if they are few.
pub(in crate::edge) fn bytes(bytes: &mut Bytes) {
    if bytes.len() <= SMALL {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}

/// Returns a target whose path and query are copies. Its authority is one already.
pub(in crate::edge) fn target(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = parts.path_and_query.map(|path| PathAndQuery::try_from(path.as_str()).unwrap_or(path));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether two texts are at different places.
    fn is_elsewhere(one: &[u8], other: &[u8]) -> bool {
        one == other && one.as_ptr() != other.as_ptr()
    }

    #[test]
    fn what_is_detached_is_the_same_elsewhere() {
        let buffer = Bytes::from_static(b"/v1/completions?x=y");
        let mut header = HeaderValue::from_maybe_shared(buffer.clone()).unwrap();
        header.set_sensitive(true);
        value(&mut header);
        assert!(is_elsewhere(header.as_bytes(), &buffer) && header.is_sensitive());
        let uri = Uri::from_maybe_shared(buffer.clone()).unwrap();
        assert!(is_elsewhere(target(&uri).path_and_query().unwrap().as_str().as_bytes(), &buffer));
        let whole = Uri::from_static("http://a.org:80/x");
        assert_eq!(target(&whole), whole);
        let mut few = buffer.clone();
        bytes(&mut few);
        assert!(is_elsewhere(&few, &buffer));
        let many = Bytes::from(vec![0; SMALL + 1]);
        let mut same = many.clone();
        bytes(&mut same);
        assert_eq!(same.as_ptr(), many.as_ptr());
    }
}
