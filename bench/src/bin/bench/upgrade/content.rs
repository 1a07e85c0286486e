//! What the transfers say: a byte is a function of whose it is, which way it goes and its place, so that a receiver knows each
//! one beforehand. Checking is comparing two slices, and must never cost more than reading them did.

/// Bytes after which a stream repeats itself: a prime, so that no buffer of a power of two fits into it.
const PERIOD: usize = 131_071;

/// The longest slice that can be asked for.
pub const BLOCK: usize = 64 * 1024;

/// The noise that all streams are cut from.
pub struct Content {
    bytes: Vec<u8>,
}

impl Content {
    pub fn new() -> Content {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // xorshift
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        bytes.extend_from_within(..BLOCK);
        Content { bytes }
    }

    /// What a stream says from a place on.
    pub fn at(&self, stream: u32, place: u64, count: usize) -> &[u8] {
        let begin = (u64::from(stream) * 7_919 + place) % PERIOD as u64;
        &self.bytes[begin as usize..][..count.min(BLOCK)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_where_it_was_and_is_no_other() {
        let content = Content::new();
        let whole = [content.at(5, 0, BLOCK), content.at(5, BLOCK as u64, BLOCK)].concat();
        assert_eq!(content.at(5, 65_000, 2_000), &whole[65_000..67_000]);
        assert_ne!(content.at(5, 0, 16), content.at(6, 0, 16));
        assert_ne!(content.at(5, 0, 16), content.at(5, BLOCK as u64, 16));
    }
}
