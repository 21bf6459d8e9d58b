//! What the numbers of an engine's messages tell: which are missing, which came before, and when the engine began anew.
//!
//! Source: vLLM and SGLang number their messages from 0 by 8 bytes, most significant first, in the second of three frames:
//! topic, number, batch. A publisher keeps the last messages and sends them again to whoever asks for all from a number
//! on; the number of the message that ends such a replay is -1.
//!
//! A number that is lower than expected is a message that was seen before, or the first of an engine that was started
//! anew. The time in the message tells which: an engine that starts anew sends later than it ever did before.

use std::collections::BTreeMap;

use super::wire::{Batch, WireError};

/// The number that ends a replay.
pub const END: u64 = u64::MAX;
/// How many messages wait for one before them; when there are more, that one is lost.
pub(super) const MOST_WAITING: usize = 64;

/// The order of one publisher's messages.
#[derive(Debug, Default)]
pub struct Sequence {
    /// The number of the next message; all before it were seen or are lost.
    expected: u64,
    /// The time of the message before that one.
    last: f64,
    /// The number after the highest one that was seen.
    beyond: u64,
    /// The time of the newest message.
    newest: f64,
    /// Messages whose predecessors are missing.
    waiting: BTreeMap<u64, Batch>,
    /// Whether it is not known if the engine is still the one that sent the messages before.
    unsure: bool,
}

/// What is to be done about a message.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// The engine began here with an empty cache: forget what it held before. Nothing is missing.
    Began,
    /// Messages are lost: what is known of the cache may be wrong, and is not all of it. Forget it.
    Lost,
    /// Note what a batch says.
    Apply(Batch),
}

impl Sequence {
    /// Takes a message, and returns what is to be done now. While [`Sequence::wanted`] says so, messages are missing.
    pub fn take(&mut self, number: u64, batch: Batch) -> Vec<Step> {
        let mut steps = Vec::new();
        // Later than what came after it.
        let is_newer = batch.time > if number < self.expected { self.last } else { self.newest };
        if number < self.beyond && is_newer {
            *self = Self::default();
            steps.push(Step::Lost);
        } else if number < self.expected {
            let is_last = number + 1 == self.expected && batch.time.to_bits() == self.last.to_bits();
            self.unsure &= !is_last;
            self.release(&mut steps);
            return steps;
        }
        self.newest = self.newest.max(batch.time);
        self.beyond = self.beyond.max(number.saturating_add(1));
        self.waiting.insert(number, batch);
        if self.waiting.len() > MOST_WAITING {
            steps.extend(self.give_up());
        }
        self.release(&mut steps);
        steps
    }

    /// Notes that the connection to the publisher was made anew. It may be another engine at the same place, whose number
    /// happens to be the expected one; that the last message is the same proves that it is not. What waited may be of
    /// an engine that is gone, and is told again by a replay if it is not.
    pub fn reconnect(&mut self) {
        self.unsure = self.expected > 0;
        self.waiting.clear();
    }

    /// Returns the number from which on messages are missing, if some are.
    pub fn wanted(&self) -> Option<u64> {
        if self.unsure {
            return self.expected.checked_sub(1);
        }
        (!self.waiting.is_empty()).then_some(self.expected)
    }

    /// Returns the number of the next message; 0 while the beginning of what the engine sends was not seen.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Gives up messages that are missing: nobody has them.
    pub fn give_up(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.unsure {
            *self = Self { waiting: std::mem::take(&mut self.waiting), ..Self::default() };
            steps.push(Step::Lost);
            self.release(&mut steps);
        }
        while let Some((first, batch)) = self.waiting.first_key_value() {
            self.beyond = self.beyond.max(first.saturating_add(1));
            self.newest = self.newest.max(batch.time);
            self.expected = *first;
            steps.push(Step::Lost);
            self.release(&mut steps);
        }
        steps
    }

    fn release(&mut self, steps: &mut Vec<Step>) {
        while !self.unsure
            && let Some(batch) = self.waiting.remove(&self.expected)
        {
            if self.expected == 0 {
                steps.push(Step::Began);
            }
            self.last = batch.time;
            self.newest = self.newest.max(batch.time);
            self.expected += 1;
            self.beyond = self.beyond.max(self.expected);
            steps.push(Step::Apply(batch));
        }
    }
}

/// Reads a message of frames: topic, number, batch. What was replayed has no topic, or an empty frame in its place.
///
/// # Errors
///
/// Returns an error if it is none. The end of a replay has an empty batch.
pub fn read(frames: &[impl AsRef<[u8]>]) -> Result<(u64, Batch), WireError> {
    let (Some([.., number, batch]), 2..=3) = (frames.last_chunk::<2>(), frames.len()) else {
        return Err(WireError::NoBatch);
    };
    let number = number.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| WireError::NoBatch)?;
    if number == END {
        return Ok((END, Batch::default()));
    }
    Batch::read(batch.as_ref()).map(|batch| (number, batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(time: f64) -> Batch {
        Batch { time, ..Batch::default() }
    }

    /// Takes messages, each with a time, and writes what is to be done as a line.
    fn run(sequence: &mut Sequence, messages: &[(u64, f64)]) -> String {
        written(messages.iter().flat_map(|(number, time)| sequence.take(*number, batch(*time))))
    }

    fn written(steps: impl IntoIterator<Item = Step>) -> String {
        let write = |step| match step {
            Step::Began => "began".to_owned(),
            Step::Lost => "lost".to_owned(),
            Step::Apply(batch) => batch.time.to_string(),
        };
        steps.into_iter().map(write).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn messages_in_order_are_applied() {
        let mut sequence = Sequence::default();
        assert_eq!(run(&mut sequence, &[(0, 1.0), (1, 2.0), (2, 2.0)]), "began, 1, 2, 2");
        assert_eq!(sequence.wanted(), None);
    }

    #[test]
    fn a_gap_waits_for_what_is_missing() {
        let mut sequence = Sequence::default();
        assert_eq!(run(&mut sequence, &[(0, 1.0), (2, 3.0), (3, 4.0)]), "began, 1");
        assert_eq!(sequence.wanted(), Some(1));
        assert_eq!(run(&mut sequence, &[(1, 2.0)]), "2, 3, 4", "it came late, or was replayed");
        assert_eq!(run(&mut sequence, &[(2, 3.0), (3, 4.0)]), "", "and the rest of the replay is known");
        assert_eq!(sequence.wanted(), None);
    }

    #[test]
    fn what_nobody_has_is_lost() {
        let mut sequence = Sequence::default();
        assert_eq!(run(&mut sequence, &[(5, 1.0), (7, 3.0)]), "");
        assert_eq!((sequence.wanted(), written(sequence.give_up())), (Some(0), "lost, 1, lost, 3".to_owned()));
        assert_eq!(sequence.wanted(), None);
        let many: Vec<_> = (0..65).map(|number| (number + 10, 4.0)).collect();
        assert!(run(&mut sequence, &many).starts_with("lost, 4, 4"), "a queue of {MOST_WAITING} is the longest");
    }

    #[test]
    fn a_number_that_jumps_back_is_a_restart_if_it_is_newer() {
        let mut sequence = Sequence::default();
        run(&mut sequence, &[(0, 1.0), (1, 2.0), (2, 3.0)]);
        assert_eq!(run(&mut sequence, &[(1, 2.0), (0, 1.0), (2, 3.0)]), "", "seen before");
        assert_eq!(run(&mut sequence, &[(0, 9.0), (1, 9.5)]), "lost, began, 9, 9.5");
        run(&mut sequence, &[(2, 10.0)]);
        assert_eq!(run(&mut sequence, &[(1, 20.0)]), "lost", "whose first message was missed");
        assert_eq!(sequence.wanted(), Some(0));
        assert_eq!(run(&mut sequence, &[(0, 19.0)]), "began, 19, 20");
        run(&mut sequence, &[(9, 21.0)]);
        assert_eq!(run(&mut sequence, &[(2, 30.0)]), "lost", "what waited is of the engine before");
        assert_eq!(written(sequence.give_up()), "lost, 30");
    }

    #[test]
    fn a_new_connection_may_lead_to_a_new_engine() {
        let mut sequence = Sequence::default();
        run(&mut sequence, &[(0, 1.0), (1, 2.0)]);
        sequence.reconnect();
        assert_eq!((run(&mut sequence, &[(2, 3.0)]), sequence.wanted()), (String::new(), Some(1)));
        assert_eq!(
            run(&mut sequence, &[(1, 2.0), (2, 3.0)]),
            "3",
            "the replay begins with the message that was the last"
        );
        sequence.reconnect();
        run(&mut sequence, &[(3, 9.0)]);
        assert_eq!(sequence.wanted(), Some(2));
        assert_eq!(run(&mut sequence, &[(2, 8.0)]), "lost", "it was 3.0: another engine's");
        assert_eq!(sequence.wanted(), Some(0));
        assert_eq!(run(&mut sequence, &[(0, 6.0), (1, 7.0), (3, 9.0)]), "began, 6, 7, 8, 9");
        sequence.reconnect();
        run(&mut sequence, &[(4, 20.0)]);
        assert_eq!(written(sequence.give_up()), "lost, lost, 20", "nobody can prove that it is the same engine");
        sequence.reconnect();
        run(&mut sequence, &[(6, 21.0)]);
        sequence.reconnect();
        run(&mut sequence, &[(7, 90.0)]);
        assert_eq!(written(sequence.give_up()), "lost, lost, 90", "what waited may be of an engine that is gone");
    }

    #[test]
    fn frames_are_read_with_and_without_a_topic() {
        let message = [0x92, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0x90];
        let number = 7_u64.to_be_bytes();
        for frames in
            [vec![&b"kv-events"[..], &number, &message], vec![&b""[..], &number, &message], vec![&number, &message]]
        {
            assert_eq!(read(&frames), Ok((7, batch(1.5))));
        }
        assert_eq!(read(&[&b""[..], &END.to_be_bytes(), b""]), Ok((END, Batch::default())));
        for frames in
            [vec![], vec![&message[..]], vec![&b""[..], b"7", &message], vec![&b""[..], b"", &number, &message]]
        {
            assert_eq!(read(&frames), Err(WireError::NoBatch));
        }
    }
}
