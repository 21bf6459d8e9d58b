//! What answers of both versions of HTTP have in common.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;

thread_local! {
    /// The second that was written last, and how it is written.
    static LATEST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Calls `f` with the time of this second as the field `Date` has it (RFC 9110, section 6.6.1). It is written once a second.
pub(crate) fn with_date<R>(f: impl FnOnce(&str) -> R) -> R {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LATEST.with_borrow_mut(|(second, text)| {
        if *second != since {
            *second = since;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(since));
        }
        f(text)
    })
}

/// Returns whether an answer with this status has no body, whatever its head says (RFC 9110, section 6.4.1).
pub(crate) fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_this_second() {
        for _ in 0..2 {
            let before = SystemTime::now() - Duration::from_secs(1);
            let date = httpdate::parse_http_date(&with_date(str::to_owned)).unwrap();
            assert!((before..=SystemTime::now()).contains(&date));
        }
    }
}
