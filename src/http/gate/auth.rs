//! Basic authentication (RFC 7617) against users with bcrypt hashes. Checking a password takes long by design, so it runs
//! on threads that may wait, few at a time; a pair that was right is known again for a while by a keyed hash.
//! It must never tell by its time whether a user exists, and never let anybody in by a lack of its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use evenkeel_wire::{Fields, Known};
use tokio::sync::Semaphore;

use crate::config::Users;

/// Passwords that are checked at the same time in the whole process, on the threads that also wait for files.
static CHECKS: Semaphore = Semaphore::const_new(2);

/// Passwords that are checked or wait for it; more are a flood of guesses.
static WAITING: Semaphore = Semaphore::const_new(64);

/// How long a right pair is known without checking it again.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Pairs that are known at the same time.
const KNOWN_MAX: usize = 1024;

/// The longest user and the longest password that are looked at.
const CREDENTIALS_BYTES_MAX: usize = 1024;

/// What was configured.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) users: Arc<Users>,
    pub(crate) realm: String,
    /// Whether the backend gets the field.
    pub(crate) pass: bool,
}

/// The users of one route, and those who were let in lately.
#[derive(Debug)]
pub(super) struct Auth {
    rules: Rules,
    challenge: String,
    known: Mutex<HashMap<u128, Instant>>,
    // Two of them: a wrong pair is taken for a known one once in 2^128.
    hashers: [RandomState; 2],
}

/// What looking at the credentials of a request came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    In(String),
    /// No credentials, or wrong ones.
    Unknown,
    /// More than one field of them, of which a backend might believe another.
    Repeated,
    /// Too many are being checked.
    Busy,
}

impl Auth {
    pub(super) fn new(rules: Rules) -> Auth {
        Auth {
            challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", rules.realm),
            rules,
            known: Mutex::default(),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// What `WWW-Authenticate` says.
    pub(super) fn challenge(&self) -> &str {
        &self.challenge
    }

    pub(super) fn passes_on(&self) -> bool {
        self.rules.pass
    }

    /// The user who sent these fields.
    pub(super) async fn check(&self, fields: &Fields) -> Checked {
        let mut values = fields.all(Known::Authorization);
        let (first, more) = (values.next(), values.next());
        if more.is_some() {
            return Checked::Repeated;
        }
        let Some((user, password)) = first.and_then(credentials) else { return Checked::Unknown };
        let pair = self.hashers.each_ref().map(|hasher| hasher.hash_one((&user, &password)));
        let pair = u128::from(pair[0]) << 64 | u128::from(pair[1]);
        if self.is_known(pair) {
            return Checked::In(user);
        }
        let Ok(waiting) = WAITING.try_acquire() else { return Checked::Busy };
        let Ok(check) = CHECKS.acquire().await else { return Checked::Busy };
        // Browsers send many requests at once; the first of them may have been checked meanwhile.
        if self.is_known(pair) {
            return Checked::In(user);
        }
        let (users, name) = (Arc::clone(&self.rules.users), user.clone());
        let is_right = tokio::task::spawn_blocking(move || {
            let _held = (waiting, check);
            is_right(&users, &name, &password)
        });
        match is_right.await {
            Ok(true) => {
                self.remember(pair);
                Checked::In(user)
            }
            _ => Checked::Unknown,
        }
    }

    fn is_known(&self, pair: u128) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&pair).is_some_and(|since| since.elapsed() < KNOWN_FOR)
    }

    fn remember(&self, pair: u128) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.retain(|_, since| since.elapsed() < KNOWN_FOR);
            // Any of them: it is only checked once more.
            if let (true, Some(any)) = (known.len() >= KNOWN_MAX, known.keys().next().copied()) {
                known.remove(&any);
            }
        }
        known.insert(pair, Instant::now());
    }
}

/// Whether this is the user's password; takes as long for users that do not exist.
fn is_right(users: &Users, user: &str, password: &str) -> bool {
    let hash = users.hash_of(user);
    // The comparison in `verify` takes the same time wherever the difference is.
    let matches = hash.or(users.any_hash()).map(|hash| bcrypt::verify(password, hash));
    hash.is_some() && matches!(matches, Some(Ok(true)))
}

/// User and password of the field's value; no control characters are in them (RFC 7617 2).
fn credentials(value: &[u8]) -> Option<(String, String)> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim_ascii()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    let fits =
        |part: &str| part.len() <= CREDENTIALS_BYTES_MAX && !part.chars().any(char::is_control);
    (fits(user) && fits(password)).then(|| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Auth {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let users = Users::parse(&format!("ann:{hash}")).unwrap();
        Auth::new(Rules { users: Arc::new(users), realm: "x".to_owned(), pass: false })
    }

    fn fields(values: &[&str]) -> Fields {
        let mut fields = Fields::default();
        for value in values {
            let encoded = base64::engine::general_purpose::STANDARD.encode(value);
            fields.push(b"Authorization", format!("Basic {encoded}").as_bytes());
        }
        fields
    }

    #[tokio::test]
    async fn only_the_right_pair_is_let_in() {
        let auth = auth();
        for _ in 0..2 {
            assert_eq!(auth.check(&fields(&["ann:secret"])).await, Checked::In("ann".to_owned()));
            for wrong in ["ann:Secret", "ann:", "eve:secret", "ann", ":secret", "ann:secret\n"] {
                assert_eq!(auth.check(&fields(&[wrong])).await, Checked::Unknown, "{wrong:?}");
            }
        }
        assert_eq!(auth.check(&Fields::default()).await, Checked::Unknown);
        let twice = fields(&["ann:secret", "eve:x"]);
        assert_eq!(auth.check(&twice).await, Checked::Repeated);
        // Only what was right is known.
        assert_eq!(auth.known.lock().unwrap().len(), 1);
    }

    #[test]
    fn known_pairs_stay_within_their_limit() {
        let auth = auth();
        (0..5000).for_each(|pair| auth.remember(pair));
        assert_eq!(auth.known.lock().unwrap().len(), KNOWN_MAX);
        assert!(auth.is_known(4999));
    }

    #[test]
    fn credentials_are_read_as_the_standard_says() {
        let read = |value: &str| credentials(value.as_bytes());
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(read("bAsIc  YTpiOmM="), pair("a", "b:c"));
        for wrong in
            ["", "Basic", "Basic ", "Basic YQ==", "Bearer YTpi", "Basic YTpi!", "Basic /zo="]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_value_makes_reading_credentials_panic(value: Vec<u8>) {
            let _ = credentials(&value);
            let _ = credentials(&[b"Basic ", &value[..]].concat());
        }
    }
}
