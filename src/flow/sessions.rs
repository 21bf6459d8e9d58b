//! The sessions that had an answer of late, whose prompts are likely to be cached.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};

use super::identity::FlowId;

/// The sessions, of which the one goes first that had no answer for the longest time.
#[derive(Debug)]
pub struct RecentSessions {
    /// When each had its last answer, as a number.
    last: HashMap<FlowId, u64>,
    order: BTreeMap<u64, FlowId>,
    next: u64,
}

impl Default for RecentSessions {
    fn default() -> Self {
        Self { last: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }
}

impl RecentSessions {
    /// Notes an answer; no more than `most` sessions are remembered.
    pub fn note(&mut self, session: FlowId, most: usize) {
        self.next += 1;
        if let Some(before) = self.last.insert(session, self.next) {
            self.order.remove(&before);
        }
        self.order.insert(self.next, session);
        while self.order.len() > most {
            let Some((_, gone)) = self.order.pop_first() else { break };
            self.last.remove(&gone);
        }
    }

    /// Returns whether a session had an answer.
    pub fn knows(&self, session: FlowId) -> bool {
        self.last.contains_key(&session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_that_was_away_for_the_longest_time_is_forgotten() {
        let mut sessions = RecentSessions::default();
        for session in [1, 2, 1, 3] {
            sessions.note(FlowId(session), 2);
        }
        let known = [1, 2, 3].map(|session| sessions.knows(FlowId(session)));
        assert_eq!(known, [true, false, true]);
        for session in 0..10_000 {
            sessions.note(FlowId(session), 2);
        }
        assert_eq!((sessions.last.len(), sessions.order.len()), (2, 2));
    }
}
