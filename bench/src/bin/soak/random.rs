//! Random numbers that a seed repeats, and bytes that no other place in a stream repeats.
//! Nothing here is fit for secrets.

use std::time::Duration;

/// SplitMix64: one word of state, good enough to spread load and faults.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From `low` to just below `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    pub fn pause(&mut self, low_ms: u64, high_ms: u64) -> Duration {
        Duration::from_millis(self.between(low_ms, high_ms))
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

/// Random bytes that every connection sends from a place of its own, round and round.
pub struct Bytes(Vec<u8>);

/// A prime, so that no power of two of bytes lost or doubled goes unseen.
const LENGTH: usize = 1_048_573;

impl Bytes {
    pub fn new(seed: u64) -> Bytes {
        let mut random = Random::new(seed);
        let words = std::iter::repeat_with(|| random.next().to_le_bytes());
        Bytes(words.flatten().take(LENGTH).collect())
    }

    /// What stands from `place` on, at least one byte and at most `most`.
    pub fn piece(&self, place: u64, most: usize) -> &[u8] {
        let begin = (place % LENGTH as u64) as usize;
        &self.0[begin..(begin + most.max(1)).min(LENGTH)]
    }

    /// Whether `got` is what stands from `place` on.
    pub fn matches(&self, mut place: u64, mut got: &[u8]) -> bool {
        while !got.is_empty() {
            let piece = self.piece(place, got.len());
            if piece != &got[..piece.len()] {
                return false;
            }
            place += piece.len() as u64;
            got = &got[piece.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_changed_lost_or_moved_are_noticed() {
        let bytes = Bytes::new(1);
        let place = LENGTH as u64 - 3;
        let mut stream: Vec<u8> = bytes.piece(place, 100).to_vec();
        stream.extend(bytes.piece(0, 97));
        assert_eq!(stream.len(), 100);
        assert!(bytes.matches(place, &stream));
        assert!(!bytes.matches(place + 1, &stream));
        stream.remove(50);
        assert!(!bytes.matches(place, &stream));
    }
}
