//! Session tickets: what a client keeps so that it need not begin anew, sealed so that only we can read it. A ticket is
//! bound to what was demanded of its client: whatever changes about that, a CA or a list of revoked certificates, makes it void.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;

use super::files::{self, Flaw, Part, quoted};

/// How long keys of our own seal; they open for as long again.
const SEALS_FOR: Duration = Duration::from_secs(6 * 3600);

/// How long a ticket is of use, as clients are told, in seconds.
const LIFETIME: u32 = 12 * 3600;

/// Bytes of a key in a file.
const SECRET: std::ops::RangeInclusive<usize> = 32..=128;

/// The most keys in a file.
const KEYS_MAX: usize = 16;

/// Bytes that say which key a ticket was sealed with.
const NAME: usize = 4;

/// Bytes that make the key of each ticket its own.
const SALT: usize = 16;

/// One secret, from which the key of each ticket is made.
#[derive(Debug)]
struct Secret {
    name: [u8; NAME],
    key: hmac::Key,
}

/// The keys at one time.
#[derive(Debug)]
struct Ring {
    /// The one that seals.
    sealing: usize,
    secrets: Vec<Secret>,
}

/// The keys of a listener, of which one seals and all open.
#[derive(Debug)]
pub(super) struct TicketKeys {
    file: Option<PathBuf>,
    ring: ArcSwap<Ring>,
}

/// Seals and opens the tickets of clients of whom the same is demanded.
#[derive(Debug)]
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    /// Stands for what is demanded.
    demand: [u8; 32],
}

impl TicketKeys {
    /// Keys from a file, or fresh ones that never leave the process.
    pub(super) fn load(file: Option<&Path>) -> Result<TicketKeys, Flaw> {
        let ring = match file {
            Some(file) => read(file)?,
            None => Ring { sealing: 0, secrets: vec![Secret::fresh()?] },
        };
        Ok(TicketKeys { file: file.map(Path::to_owned), ring: ArcSwap::from_pointee(ring) })
    }

    /// Reads the file anew. Without one there is nothing to do.
    pub(super) fn reload(&self) -> Result<(), Flaw> {
        if let Some(file) = &self.file {
            self.ring.store(Arc::new(read(file)?));
        }
        Ok(())
    }

    /// Makes a fresh key of our own if the last one is of this age. Keys from a file change with it.
    pub(super) fn keep_fresh(&self, age: Duration) -> Result<bool, Flaw> {
        if self.file.is_some() || age < SEALS_FOR {
            return Ok(false);
        }
        let fresh = Secret::fresh()?;
        let old = self.ring.load();
        let kept = old.secrets.first().map(Secret::again);
        let secrets = [fresh].into_iter().chain(kept).collect();
        self.ring.store(Arc::new(Ring { sealing: 0, secrets }));
        Ok(true)
    }
}

/// Reads keys from a file: base64, one on each line. Of three or more the last but one seals, as HAProxy has it, so that a
/// new one can be put at the end before any node seals with it; of fewer, the first.
fn read(path: &Path) -> Result<Ring, Flaw> {
    let flawed = |cause: String| {
        let message = format!("the file of ticket keys {} {cause}", quoted(path));
        let advice = "write keys of 32 to 128 bytes in base64, one on each line: `openssl rand -base64 48 >> FILE`";
        Flaw::new(Part::TicketKeys, message, advice)
    };
    let bytes = files::read(path, Part::TicketKeys)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| flawed("is no text".to_owned()))?;
    let mut secrets = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let secret = STANDARD.decode(line).ok().filter(|secret| SECRET.contains(&secret.len()));
        let secret = secret.ok_or_else(|| flawed(format!("has no key on line {}", number + 1)))?;
        secrets.push(Secret::of(&secret));
    }
    if secrets.is_empty() || secrets.len() > KEYS_MAX {
        return Err(flawed(format!("has {} keys, and may have 1 to {KEYS_MAX}", secrets.len())));
    }
    let sealing = if secrets.len() >= 3 { secrets.len() - 2 } else { 0 };
    Ok(Ring { sealing, secrets })
}

/// Whether keys can be read from a file.
pub(crate) fn check(path: &Path) -> Result<(), Flaw> {
    read(path).map(drop)
}

impl Secret {
    fn fresh() -> Result<Secret, Flaw> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(Flaw::of_library)?;
        Ok(Secret::of(&secret))
    }

    fn of(secret: &[u8]) -> Secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let digest = hmac::sign(&key, b"evenkeel: name of a ticket key");
        let mut name = [0; NAME];
        name.copy_from_slice(&digest.as_ref()[..NAME]);
        Secret { name, key }
    }

    fn again(&self) -> Secret {
        Secret { name: self.name, key: self.key.clone() }
    }

    /// The key of one ticket. It is used once, so that no nonce is ever used twice with a key.
    fn key(&self, demand: &[u8; 32], salt: &[u8]) -> Option<LessSafeKey> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(demand);
        context.update(salt);
        UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok().map(LessSafeKey::new)
    }
}

impl Tickets {
    pub(super) fn new(keys: Arc<TicketKeys>, demand: [u8; 32]) -> Tickets {
        Tickets { keys, demand }
    }
}

/// A key that is used once needs no nonce.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ring = self.keys.ring.load();
        let secret = ring.secrets.get(ring.sealing)?;
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).ok()?;
        let mut sealed = Vec::with_capacity(NAME + SALT + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&secret.name);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(plain);
        let key = secret.key(&self.demand, &salt)?;
        let (_, body) = sealed.split_at_mut(NAME + SALT);
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), body).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = sealed.split_at_checked(NAME)?;
        let (salt, body) = rest.split_at_checked(SALT)?;
        let ring = self.keys.ring.load();
        let secret = ring.secrets.iter().find(|secret| secret.name == *name)?;
        let key = secret.key(&self.demand, salt)?;
        let mut body = body.to_vec();
        let length = key.open_in_place(nonce(), Aad::empty(), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(keys: &Arc<TicketKeys>, demand: u8) -> Tickets {
        Tickets::new(Arc::clone(keys), [demand; 32])
    }

    fn of_file(folder: &Path, secrets: &[u8]) -> Arc<TicketKeys> {
        let lines: Vec<_> = secrets.iter().map(|byte| STANDARD.encode([*byte; 48])).collect();
        let path = folder.join("keys");
        std::fs::write(&path, lines.join("\n")).unwrap();
        Arc::new(TicketKeys::load(Some(&path)).unwrap())
    }

    #[test]
    fn a_ticket_is_opened_only_as_it_was_sealed_and_for_the_same_demand() {
        let keys = Arc::new(TicketKeys::load(None).unwrap());
        let sealed = tickets(&keys, 1).encrypt(b"a session").unwrap();
        assert_eq!(tickets(&keys, 1).decrypt(&sealed).as_deref(), Some(&b"a session"[..]));
        assert_eq!(tickets(&keys, 2).decrypt(&sealed), None);
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(tickets(&keys, 1).decrypt(&bent), None, "byte {at}");
            assert_eq!(tickets(&keys, 1).decrypt(&sealed[..at]), None, "cut at {at}");
        }
        let other = Arc::new(TicketKeys::load(None).unwrap());
        assert_eq!(tickets(&other, 1).decrypt(&sealed), None);
    }

    #[test]
    fn nodes_that_share_a_file_open_each_others_tickets_while_it_is_being_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (of_file(folder.path(), &[1, 2, 3]), of_file(folder.path(), &[2, 3, 4]));
        for (one, other) in [(&old, &new), (&new, &old)] {
            let sealed = tickets(one, 1).encrypt(b"x").unwrap();
            assert!(tickets(other, 1).decrypt(&sealed).is_some());
        }
        let far = of_file(folder.path(), &[4, 5, 6]);
        let sealed = tickets(&old, 1).encrypt(b"x").unwrap();
        assert!(tickets(&far, 1).decrypt(&sealed).is_none());
    }

    #[test]
    fn keys_of_our_own_seal_for_six_hours_and_open_for_six_more() {
        let keys = Arc::new(TicketKeys::load(None).unwrap());
        let sealed = tickets(&keys, 1).encrypt(b"x").unwrap();
        assert!(!keys.keep_fresh(SEALS_FOR / 2).unwrap());
        let old = |keys: &TicketKeys| assert!(keys.keep_fresh(SEALS_FOR).unwrap());
        old(&keys);
        assert!(tickets(&keys, 1).decrypt(&sealed).is_some());
        old(&keys);
        assert!(tickets(&keys, 1).decrypt(&sealed).is_none());
    }
}
