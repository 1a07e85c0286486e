//! Taking over a head of HTTP/2 in one line, for tables of heads.

use evenkeel_wire::{Pseudo, Request};

use crate::support::LIMITS;

/// What a row changes in `GET http://a.test/`: pseudo-fields are replaced, fields are added.
pub(crate) type Changes<'a> = &'a [(&'a str, &'a str)];

/// As a value: there is no such pseudo-field.
pub(crate) const NONE: &str = "<none>";

pub(crate) fn request(changes: Changes<'_>, ends: bool) -> Result<Request, &'static str> {
    let pseudo = |name: &str, usual: Option<&'static str>| {
        let changed = changes.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
        changed.map_or(usual, |value| Some(value).filter(|value| *value != NONE)).map(str::as_bytes)
    };
    let head = Pseudo {
        method: pseudo(":method", Some("GET")).unwrap_or_default(),
        scheme: pseudo(":scheme", Some("http")),
        authority: pseudo(":authority", Some("a.test")),
        path: pseudo(":path", Some("/")),
        protocol: pseudo(":protocol", None),
    };
    let fields = changes.iter().filter(|(name, _)| !name.starts_with(':'));
    let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let mut request = Request::default();
    let taken = request.take_h2(&head, fields, ends, &LIMITS);
    taken.map(|()| request).map_err(|refusal| refusal.reason.as_str())
}

/// Fails with every row that was not refused for its reason.
pub(crate) fn expect_refused<R>(
    rows: &[(Changes<'_>, &str)],
    read: impl Fn(Changes<'_>) -> Result<R, &'static str>,
) {
    let mut wrong = Vec::new();
    for (changes, reason) in rows {
        let found = read(changes).err().unwrap_or("accepted");
        if found != *reason {
            wrong.push(format!("{changes:?}: {found}, not {reason}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The same value of one name, many times over, all refused for one reason.
pub(crate) fn expect_values_refused(name: &str, values: &[&str], ends: bool, reason: &str) {
    for value in values {
        expect_refused(&[(&[(name, value)], reason)], |changes| request(changes, ends));
    }
}

pub(crate) fn good(changes: Changes<'_>, ends: bool) -> Request {
    request(changes, ends).unwrap_or_else(|reason| panic!("{changes:?}: {reason}"))
}
