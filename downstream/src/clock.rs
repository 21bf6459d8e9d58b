//! The one timer of a connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose deadline moves with what the connection does. It is set anew only for an earlier deadline: one that
/// has moved away is found when the timer fires.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    sleep: Option<Pin<Box<Sleep>>>,
    is_set: bool,
}

impl Clock {
    /// Completes when the deadline of this moment is over.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        loop {
            if let (Some(sleep), true) = (&mut self.sleep, self.is_set)
                && sleep.as_mut().poll(context).is_ready()
            {
                self.is_set = false;
                if deadline.is_some_and(|deadline| deadline <= sleep.deadline()) {
                    return Poll::Ready(());
                }
            }
            let Some(deadline) = deadline else { return Poll::Pending };
            match &mut self.sleep {
                Some(sleep) if self.is_set && sleep.deadline() <= deadline => return Poll::Pending,
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.sleep = Some(Box::pin(sleep_until(deadline))),
            }
            self.is_set = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_of_the_moment_counts() {
        let start = Instant::now();
        let mut clock = Clock::default();
        let mut deadlines = vec![Some(start + Duration::from_secs(9)), None, Some(start + Duration::from_secs(2))];
        let deadline = |deadlines: &mut Vec<_>| {
            if deadlines.len() > 1 { deadlines.remove(0) } else { deadlines[0] }
        };
        for _ in 0..3 {
            poll_fn(|context| {
                assert!(clock.poll(context, deadline(&mut deadlines)).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        poll_fn(|context| clock.poll(context, deadline(&mut deadlines))).await;
        assert_eq!(start.elapsed().as_secs(), 2, "an earlier deadline is not passed over");
        let later = start + Duration::from_secs(5);
        poll_fn(|context| clock.poll(context, Some(later))).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
