//! The records of TLS once keys are agreed on: 1.3 (RFC 8446 5), and 1.2 with the suites whose ciphers prove what they
//! carry (RFC 5246 6.2.3.3, RFC 5288, RFC 7905). The cipher is the library's; here is only what stands around it.
//! Sealing goes from the caller's bytes to the wire's in one pass. No number of a record may ever be used twice with one
//! key, and nothing may be believed of a record before its seal is proven.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};

/// Bytes in clear that a record carries at most.
pub(super) const CLEAR_MAX: usize = 16_384;

/// Bytes that a record has more than it carries, at most, among those that we make: its head, the number of a record of
/// AES-GCM in 1.2, the kind of its content in 1.3, and the seal.
pub(super) const AROUND_MAX: usize = HEAD + 8 + SEAL;

const HEAD: usize = 5;
const SEAL: usize = 16;

/// Bytes of a record from others at most, its head included: they may pad (RFC 8446 5.2, RFC 5246 6.2.3).
pub(super) const RECORD_MAX: usize = HEAD + CLEAR_MAX + 2048;

/// Kinds of content.
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// Why a record of the other side cannot be taken, and the alert that says so (RFC 8446 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) alert: u8,
    pub(super) said: &'static str,
}

pub(super) const UNEXPECTED: Refused = Refused { alert: 10, said: "an unexpected message" };
const NOT_GENUINE: Refused = Refused { alert: 20, said: "a record that is not genuine" };
const TOO_LONG: Refused = Refused { alert: 22, said: "a record that is too long" };
const DAMAGED: Refused = Refused { alert: 50, said: "a record that is damaged" };

/// How a suite lays its records out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The kind of content is sealed in.
    Tls13,
    /// With half of the nonce in each record.
    Tls12Explicit,
    Tls12,
}

/// The key of one direction.
#[derive(Debug)]
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    /// The number of the next record.
    number: u64,
    layout: Layout,
    /// Records that may be sealed with it.
    most: u64,
}

/// How long the record is that `bytes` begin with, if it can be seen.
pub(super) fn record_length(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let &[kind, major, _, high, low, ..] = bytes else { return Ok(None) };
    if major != 3 || !(20..=23).contains(&kind) {
        return Err(DAMAGED);
    }
    let length = HEAD + usize::from(u16::from_be_bytes([high, low]));
    if length > RECORD_MAX { Err(TOO_LONG) } else { Ok(Some(length)) }
}

impl Key {
    /// For the records from `number` on.
    pub(super) fn new(
        suite: SupportedCipherSuite,
        number: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<Key, rustls::Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(unusable()),
        };
        let layout = match suite.version().version {
            ProtocolVersion::TLSv1_3 => Layout::Tls13,
            _ if *algorithm == CHACHA20_POLY1305 => Layout::Tls12,
            _ => Layout::Tls12Explicit,
        };
        let most = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?;
        let iv = iv.as_ref().try_into().map_err(|_| unusable())?;
        Ok(Key { key: LessSafeKey::new(key), iv, number, layout, most })
    }

    /// Whether another must take its place before anything more is sealed.
    pub(super) fn is_spent(&self) -> bool {
        self.number >= self.most
    }

    #[cfg(test)]
    pub(super) fn spend(&mut self) {
        self.most = self.number;
    }

    /// Makes a record of at most [`CLEAR_MAX`] bytes; gives its length. There is none if there is no room, or if the key
    /// is spent, with which only the words may be said that end it.
    pub(super) fn seal(&mut self, kind: u8, clear: &[u8], into: &mut [u8]) -> Option<usize> {
        if kind == DATA && self.is_spent() || clear.len() > CLEAR_MAX {
            return None;
        }
        let nonce = self.nonce();
        let length = clear.len() + SEAL + self.explicit().max(usize::from(self.hides_kind()));
        let (head, rest) = into.get_mut(..HEAD + length)?.split_at_mut(HEAD);
        let outer = if self.hides_kind() { DATA } else { kind };
        head.copy_from_slice(&[outer, 3, 3, (length >> 8) as u8, length as u8]);
        let (number, rest) = rest.split_at_mut(self.explicit());
        number.copy_from_slice(&nonce[NONCE_LEN - number.len()..]);
        let (sealed, seal) = rest.split_at_mut(clear.len());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let extra: &[u8] = if self.hides_kind() { &[kind] } else { &[] };
        match self.layout {
            Layout::Tls13 => {
                let head = Aad::from(&*head);
                self.key.seal_out_of_place_scatter(nonce, head, clear, sealed, extra, seal)
            }
            Layout::Tls12 | Layout::Tls12Explicit => {
                let told = Aad::from(self.told(kind, clear.len()));
                self.key.seal_out_of_place_scatter(nonce, told, clear, sealed, extra, seal)
            }
        }
        .ok()?;
        self.number += 1;
        Some(HEAD + length)
    }

    /// Takes a whole record; gives the kind of its content, and the content, which takes the place of what was sealed.
    pub(super) fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<(u8, &'r [u8]), Refused> {
        let (head, body) = record.split_at_mut_checked(HEAD).ok_or(DAMAGED)?;
        let outer = head[0];
        let mut nonce = self.nonce();
        let (number, sealed) = body.split_at_mut_checked(self.explicit()).ok_or(NOT_GENUINE)?;
        nonce[NONCE_LEN - number.len()..].copy_from_slice(number);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = sealed.len().checked_sub(SEAL).ok_or(NOT_GENUINE)?;
        let clear = match self.layout {
            // Nothing else is sent once keys are agreed on.
            Layout::Tls13 if outer != DATA => return Err(UNEXPECTED),
            Layout::Tls13 => {
                if sealed.len() > CLEAR_MAX + 256 {
                    return Err(TOO_LONG);
                }
                self.key.open_in_place(nonce, Aad::from(&*head), sealed)
            }
            Layout::Tls12 | Layout::Tls12Explicit => {
                self.key.open_in_place(nonce, Aad::from(self.told(outer, length)), sealed)
            }
        };
        let clear: &'r [u8] = clear.map_err(|_| NOT_GENUINE)?;
        self.number = self.number.checked_add(1).ok_or(NOT_GENUINE)?;
        let (kind, clear) = match self.layout {
            // The kind and the padding count too (RFC 8446 5.4).
            Layout::Tls13 if clear.len() > CLEAR_MAX + 1 => return Err(TOO_LONG),
            Layout::Tls13 => {
                let end = clear.iter().rposition(|byte| *byte != 0).ok_or(UNEXPECTED)?;
                (clear[end], &clear[..end])
            }
            Layout::Tls12 | Layout::Tls12Explicit => (outer, clear),
        };
        if clear.len() > CLEAR_MAX { Err(TOO_LONG) } else { Ok((kind, clear)) }
    }

    fn hides_kind(&self) -> bool {
        self.layout == Layout::Tls13
    }

    /// Bytes of its nonce that a record carries.
    fn explicit(&self) -> usize {
        if self.layout == Layout::Tls12Explicit { 8 } else { 0 }
    }

    /// RFC 8446 5.3; what is sent of it in 1.2 with AES-GCM need only never come again (RFC 5288 3).
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, part) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= part;
        }
        nonce
    }

    /// What the seal proves besides the content (RFC 5246 6.2.3.3).
    fn told(&self, kind: u8, length: usize) -> [u8; 13] {
        let mut told = [0; 13];
        told[..8].copy_from_slice(&self.number.to_be_bytes());
        told[8..].copy_from_slice(&[kind, 3, 3, (length >> 8) as u8, length as u8]);
        told
    }
}

fn unusable() -> rustls::Error {
    rustls::Error::General("keys of a kind that is not known here".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    fn pair(suite: SupportedCipherSuite, number: u64) -> (Key, Key) {
        let (key, iv) = (AeadKey::from([7; 32]), Iv::copy(&[9; 12]));
        let secrets = match suite.suite().as_str().unwrap() {
            name if name.contains("CHACHA20") => {
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
            }
            _ => ConnectionTrafficSecrets::Aes256Gcm { key, iv },
        };
        let make = || Key::new(suite, number, &secrets).unwrap();
        (make(), make())
    }

    fn suites() -> impl Iterator<Item = SupportedCipherSuite> {
        let is_short =
            |suite: &SupportedCipherSuite| suite.suite().as_str().unwrap().contains("128");
        ALL_CIPHER_SUITES.iter().copied().filter(move |suite| !is_short(suite))
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened_once_and_in_order(
            parts in prop::collection::vec((21..24_u8, prop::collection::vec(any::<u8>(), 0..300)), 1..6),
            number in 0..u64::from(u32::MAX),
        ) {
            for suite in suites() {
                let (mut sealer, mut opener) = pair(suite, number);
                let mut records: Vec<Vec<u8>> = Vec::new();
                for (kind, clear) in &parts {
                    let mut record = vec![0; clear.len() + AROUND_MAX];
                    let Some(length) = sealer.seal(*kind, clear, &mut record) else {
                        // A key has its end.
                        prop_assert!(sealer.is_spent());
                        return Ok(());
                    };
                    record.truncate(length);
                    prop_assert_eq!(record_length(&record), Ok(Some(length)));
                    records.push(record);
                }
                for ((kind, clear), record) in parts.iter().zip(&records) {
                    let mut again = record.clone();
                    let (found, content) = opener.open(&mut again).unwrap();
                    prop_assert_eq!((found, content), (*kind, &clear[..]));
                    prop_assert!(opener.open(&mut record.clone()).is_err(), "twice");
                }
            }
        }

        #[test]
        fn a_record_with_one_bit_changed_is_refused(
            clear in prop::collection::vec(any::<u8>(), 0..100),
            place in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            for suite in suites() {
                let (mut sealer, mut opener) = pair(suite, 0);
                let mut record = vec![0; clear.len() + AROUND_MAX];
                let length = sealer.seal(DATA, &clear, &mut record).unwrap();
                record.truncate(length);
                let place = place.index(length);
                record[place] ^= 1 << bit;
                // What is said of a record's version and length is what it is cut by, and not part of what it proves in 1.2.
                let is_cut_by = suite.version().version == ProtocolVersion::TLSv1_2 && (1..5).contains(&place);
                prop_assert!(is_cut_by || opener.open(&mut record).is_err(), "{suite:?} {place}");
            }
        }

        #[test]
        fn garbage_is_refused_and_breaks_nothing(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for suite in suites() {
                let (_, mut opener) = pair(suite, 0);
                let _ = record_length(&bytes);
                prop_assert!(opener.open(&mut bytes).is_err());
            }
        }
    }

    #[test]
    fn a_record_may_be_padded_and_is_not_made_of_padding_alone() {
        let suite = suites().find(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
        let (mut sealer, mut opener) = pair(suite.unwrap(), 0);
        let mut padded = |clear: &[u8], padding: usize| {
            // The kind goes first, and what is taken for it is the last of the padding.
            let all = [clear, &vec![0; padding][..]].concat();
            let mut record = vec![0; all.len() + AROUND_MAX];
            let length = sealer.seal(0, &all, &mut record).unwrap();
            record.truncate(length);
            opener.open(&mut record).map(|(kind, clear)| (kind, clear.to_vec()))
        };
        assert_eq!(padded(b"hello\x17", 3), Ok((DATA, b"hello".to_vec())));
        assert_eq!(padded(b"\x17", 16_383), Ok((DATA, Vec::new())));
        assert_eq!(padded(b"", 3), Err(UNEXPECTED));
    }

    #[test]
    fn a_record_that_is_too_long_is_refused_by_its_head() {
        assert_eq!(record_length(&[23, 3, 3, 0x48, 0]), Ok(Some(RECORD_MAX)));
        assert_eq!(record_length(&[23, 3, 3, 0x48, 1]), Err(TOO_LONG));
        assert_eq!(record_length(&[23, 3, 3, 0]), Ok(None));
        assert_eq!(record_length(b"GET /"), Err(DAMAGED));
    }
}
