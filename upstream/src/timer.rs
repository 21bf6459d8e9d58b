//! The time that attempts have.
//!
//! To set a timer and to take it out again costs more than all else that an attempt does with time. So a timer outlives
//! its attempt, and is set anew only for an earlier deadline, or when it fires before that of the attempt that has it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Timers that wait for their next attempt. They are no more than there were attempts at once.
#[derive(Default)]
pub(super) struct Timers(RefCell<Vec<Pin<Box<Sleep>>>>);

impl Timers {
    /// Waits for the outcome of an attempt until `deadline`; `None` if that came first.
    pub(super) async fn within<T>(
        &self,
        deadline: Instant,
        mut attempt: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let kept = self.0.borrow_mut().pop();
        let mut timer = kept.unwrap_or_else(|| Box::pin(sleep_until(deadline)));
        let outcome = poll_fn(|context| {
            if let Poll::Ready(outcome) = attempt.as_mut().poll(context) {
                return Poll::Ready(Some(outcome));
            }
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            loop {
                ready!(timer.as_mut().poll(context));
                if timer.deadline() >= deadline {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
        });
        let outcome = outcome.await;
        self.0.borrow_mut().push(timer);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_attempt_has_its_own_time() {
        let (timers, start) = (Timers::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (deadline, is_answered, ends) in
            [(9, true, 0), (2, false, 2), (60, true, 2), (5, false, 5), (12, true, 5), (90, false, 90)]
        {
            let outcome = if is_answered {
                timers.within(at(deadline), pin!(ready(()))).await
            } else {
                timers.within(at(deadline), pin!(pending())).await
            };
            assert_eq!((outcome.is_some(), start.elapsed().as_secs()), (is_answered, ends), "until {deadline}");
        }
        assert_eq!(timers.0.borrow().len(), 1, "one timer served all of them");
    }
}
