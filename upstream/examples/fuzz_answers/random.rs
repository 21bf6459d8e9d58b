//! Random choices that a seed repeats.

/// A generator after Steele, Lea and Flood (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Makes another generator, whose choices do not depend on how many this one makes later.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Returns a number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Returns true once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns a length that is mostly small, and less than `limit`.
    pub(crate) fn length(&mut self, limit: usize) -> usize {
        let limit = [4, 40, 400, limit][self.below(4)].min(limit);
        self.below(limit)
    }

    /// Returns one of these.
    pub(crate) fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// Changes some of the bytes: other values, parts that are missing, doubled or out of place, and these words.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>, words: &[&[u8]]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.length(64)).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] = self.next() as u8,
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let (part, to) = (bytes[at..end].to_vec(), self.below(bytes.len() + 1));
                    bytes.splice(to..to, part);
                }
                4 => bytes.truncate(at),
                _ => {
                    let word = self.of(words);
                    bytes.splice(at..if self.once_in(2) { end } else { at }, word.iter().copied());
                }
            }
        }
    }
}
