//! Cookies that keep a client where it is: signed, so that nobody can choose for himself, and naming what they stand
//! for by a keyed hash, so that nobody learns an address. What is named and until when is all that a cookie holds:
//! nothing is remembered here, so cookies are good after a restart and on every node that has the same key.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, hmac, rand};

/// What was configured for a cookie.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CookieRules {
    pub(crate) name: String,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) max_age: Option<Duration>,
    /// As it stands in `SameSite`.
    pub(crate) same_site: &'static str,
    pub(crate) secure: SecureWhen,
}

/// When a cookie is `Secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecureWhen {
    ClientUsesTls,
    Always,
    Never,
}

/// What a cookie stands for, without saying it: a keyed hash of a name.
pub(crate) type Identity = [u8; IDENTITY];

const IDENTITY: usize = 12;
const EXPIRY: usize = 8;
/// 128 bits of the signature: as many as anybody would have to guess.
const SIGNATURE: usize = 16;
const WHOLE: usize = IDENTITY + EXPIRY + SIGNATURE;

/// A key file is a key, not a film.
const KEY_MAX: u64 = 4096;
const KEY_MIN: usize = 32;

/// One kind of cookie with the key it is signed with.
#[derive(Debug, Clone)]
pub(crate) struct Cookie {
    pub(crate) rules: CookieRules,
    key: hmac::Key,
}

/// What a good cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    /// More than half of its time is over: time for a new one.
    pub(crate) is_aging: bool,
}

impl Cookie {
    /// Reads the key, or takes that of this process.
    pub(crate) fn open(rules: CookieRules) -> io::Result<Cookie> {
        let key = match &rules.key_file {
            Some(path) => {
                let with_path = |error: io::Error| {
                    io::Error::new(error.kind(), format!("key-file {}: {error}", path.display()))
                };
                hmac::Key::new(hmac::HMAC_SHA256, &read_key(path).map_err(with_path)?)
            }
            None => key_of_this_process()?,
        };
        Ok(Cookie { rules, key })
    }

    /// What stands for a name of this kind, such as `backend` and an address.
    pub(crate) fn identity(&self, kind: &str, name: &str) -> Identity {
        let mut said = hmac::Context::with_key(&self.key);
        for part in ["evenkeel 1 ", kind, "\0", name] {
            said.update(part.as_bytes());
        }
        beginning(said.sign().as_ref())
    }

    /// What the value of a cookie says; nothing if it is not ours, was changed, or is over.
    pub(crate) fn read(&self, value: &[u8], now: Duration) -> Option<Seen> {
        let bytes = from_hex(value)?;
        let (said, signature) = bytes.split_at_checked(IDENTITY + EXPIRY)?;
        constant_time::verify_slices_are_equal(&self.sign(said), signature).ok()?;
        let (identity, expiry) = said.split_at_checked(IDENTITY)?;
        let expiry = u64::from_be_bytes(expiry.try_into().ok()?);
        let left = match expiry {
            0 => None,
            expiry => Some(Duration::from_secs(expiry.checked_sub(now.as_secs())?)),
        };
        let is_aging = match (left, self.rules.max_age) {
            (Some(left), Some(max_age)) => left < max_age / 2,
            // What holds changed in the config.
            (Some(_), None) | (None, Some(_)) => true,
            (None, None) => false,
        };
        (left != Some(Duration::ZERO))
            .then_some(Seen { identity: identity.try_into().ok()?, is_aging })
    }

    /// The value of `Set-Cookie` that names this to a client.
    pub(crate) fn set(&self, identity: &Identity, now: Duration, client_uses_tls: bool) -> String {
        let expiry = self.rules.max_age.map_or(0, |age| now.saturating_add(age).as_secs());
        let said = [&identity[..], &expiry.to_be_bytes()].concat();
        let mut text = format!("{}=", self.rules.name);
        for byte in said.iter().chain(&self.sign(&said)) {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, "; Path=/; HttpOnly; SameSite={}", self.rules.same_site);
        let secure = match self.rules.secure {
            SecureWhen::ClientUsesTls => client_uses_tls,
            SecureWhen::Always => true,
            SecureWhen::Never => false,
        };
        if secure {
            text.push_str("; Secure");
        }
        if let Some(age) = self.rules.max_age {
            let _ = write!(text, "; Max-Age={}", age.as_secs());
        }
        text
    }

    fn sign(&self, said: &[u8]) -> [u8; SIGNATURE] {
        // A cookie of one name is no cookie of another.
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"evenkeel 1 cookie\0");
        context.update(self.rules.name.as_bytes());
        context.update(b"\0");
        context.update(said);
        beginning(context.sign().as_ref())
    }
}

/// Time since 1970, which is what cookies count in: it is the same on every node.
pub(crate) fn time_of_day() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The first bytes of a signature, which is longer than anything asked for here.
fn beginning<const N: usize>(signature: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(signature).for_each(|(byte, found)| *byte = *found);
    bytes
}

fn read_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    crate::keeper::open(path)?.take(KEY_MAX + 1).read_to_end(&mut key)?;
    // An editor's newline is not part of it.
    key.truncate(key.trim_ascii_end().len());
    match key.len() {
        KEY_MIN.. if key.len() as u64 <= KEY_MAX => Ok(key),
        length => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "a key has {KEY_MIN} to {KEY_MAX} bytes, not {length}; make one with `openssl rand -hex 32`"
            ),
        )),
    }
}

fn key_of_this_process() -> io::Result<hmac::Key> {
    static KEY: LazyLock<Option<hmac::Key>> =
        LazyLock::new(|| hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok());
    KEY.clone().ok_or_else(|| io::Error::other("no random key could be made"))
}

fn from_hex(text: &[u8]) -> Option<[u8; WHOLE]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; WHOLE];
    if text.len() != 2 * WHOLE {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn rules(name: &str, max_age: Option<u64>) -> CookieRules {
        CookieRules {
            name: name.to_owned(),
            key_file: None,
            max_age: max_age.map(Duration::from_secs),
            same_site: "Lax",
            secure: SecureWhen::ClientUsesTls,
        }
    }

    fn cookie(max_age: Option<u64>) -> Cookie {
        Cookie::open(rules("evenkeel", max_age)).unwrap()
    }

    fn value(set: &str) -> Vec<u8> {
        let after = set.split_once('=').unwrap().1;
        after.split(';').next().unwrap().as_bytes().to_vec()
    }

    #[test]
    fn a_cookie_says_what_it_was_made_for_until_its_time_is_over() {
        let cookie = cookie(Some(100));
        let identity = cookie.identity("backend", "10.0.0.1:80");
        let made = value(&cookie.set(&identity, NOW, false));
        let seen = |passed| cookie.read(&made, NOW + Duration::from_secs(passed));
        assert_eq!(seen(0), Some(Seen { identity, is_aging: false }));
        assert_eq!(seen(50), Some(Seen { identity, is_aging: false }));
        assert_eq!(seen(51), Some(Seen { identity, is_aging: true }));
        assert_eq!(seen(99), Some(Seen { identity, is_aging: true }));
        assert_eq!((seen(100), seen(1_000_000)), (None, None));
        let for_ever = super::tests::cookie(None);
        let made = value(&for_ever.set(&identity, NOW, false));
        let seen = for_ever.read(&made, NOW * 9);
        assert_eq!(seen, Some(Seen { identity, is_aging: false }));
    }

    #[test]
    fn whatever_byte_is_changed_the_cookie_is_none() {
        let cookie = cookie(Some(100));
        let made = value(&cookie.set(&cookie.identity("backend", "a"), NOW, false));
        for at in 0..made.len() {
            for other in [b'0', b'1', b'f', b'F', b'g', 0xff] {
                let mut forged = made.clone();
                forged[at] = other;
                assert!(forged == made || cookie.read(&forged, NOW).is_none(), "{at} {other}");
            }
        }
        for length in 0..made.len() {
            assert_eq!(cookie.read(&made[..length], NOW), None);
        }
        assert_eq!(cookie.read(&[&made[..], b"0"].concat(), NOW), None);
        assert!(cookie.read(&made, NOW).is_some());
    }

    #[test]
    fn another_name_or_another_key_makes_another_cookie() {
        let cookie = cookie(None);
        let made = value(&cookie.set(&cookie.identity("backend", "a"), NOW, false));
        let other = Cookie::open(rules("other", None)).unwrap();
        assert_eq!(other.read(&made, NOW), None);
        let folder = tempfile::tempdir().unwrap();
        let key_file = Some(folder.path().join("key"));
        std::fs::write(folder.path().join("key"), "k".repeat(32) + "\r\n").unwrap();
        let keyed =
            || Cookie::open(CookieRules { key_file: key_file.clone(), ..rules("evenkeel", None) });
        let (one, two) = (keyed().unwrap(), keyed().unwrap());
        assert_eq!(one.read(&made, NOW), None);
        let made = value(&one.set(&one.identity("backend", "a"), NOW, false));
        assert_eq!(two.read(&made, NOW).unwrap().identity, two.identity("backend", "a"));
        assert_ne!(one.identity("backend", "a"), one.identity("upstream", "a"));
    }

    #[test]
    fn a_key_that_is_short_long_or_missing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let opened =
            || Cookie::open(CookieRules { key_file: Some(path.clone()), ..rules("a", None) });
        assert!(opened().unwrap_err().to_string().contains("key-file /"));
        for length in [0, 31, 4097] {
            std::fs::write(&path, "k".repeat(length)).unwrap();
            assert!(opened().unwrap_err().to_string().contains("32 to 4096 bytes"), "{length}");
        }
        std::fs::write(&path, "k".repeat(4096)).unwrap();
        assert!(opened().is_ok());
    }

    #[test]
    fn its_attributes_are_those_of_the_config() {
        let identity = [0; IDENTITY];
        let set = cookie(None).set(&identity, NOW, false);
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
        let set = cookie(Some(28_800)).set(&identity, NOW, true);
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=28800"), "{set}");
        for (secure, tls, expected) in
            [(SecureWhen::Always, false, true), (SecureWhen::Never, true, false)]
        {
            let cookie = Cookie::open(CookieRules { secure, ..rules("a", None) }).unwrap();
            assert_eq!(cookie.set(&identity, NOW, tls).contains("; Secure"), expected);
        }
    }
}
