//! Packets as the benchmark sends them: a length of four bytes, most significant first, that does not
//! count itself, then their number, so that one in the place of another is noticed, then filling.

use crate::wire;

const LENGTH: usize = 4;
const HEAD: usize = 8;

/// So many packets, one behind the other, of `size` bytes each with their length.
pub fn several(count: usize, size: usize) -> Vec<u8> {
    let size = size.max(HEAD);
    let mut bytes = Vec::with_capacity(count.max(1) * size);
    for number in 0..count.max(1) {
        bytes.extend_from_slice(&((size - LENGTH) as u32).to_be_bytes());
        bytes.extend_from_slice(&(number as u32).to_be_bytes());
        bytes.resize((number + 1) * size, wire::ECHO);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_what_follows_it() {
        let bytes = several(2, 10);
        assert_eq!(bytes[..10], [0, 0, 0, 6, 0, 0, 0, 0, b'e', b'e']);
        assert_eq!(bytes[10..], [0, 0, 0, 6, 0, 0, 0, 1, b'e', b'e']);
    }
}
