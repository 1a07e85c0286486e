//! The part of a request that decides which backend it goes to, as bytes: what the client sent, never what was made
//! of it. A part that is absent or empty decides nothing, so that those who lack it do not all meet one backend.

use evenkeel_wire::{Known, Request};

use super::session::host_of;
use crate::upstream::KeyPart;

/// The bytes of this part of a request.
pub(super) fn key_part<'r>(request: &'r Request, part: &KeyPart) -> Option<&'r [u8]> {
    let mut halves = request.target.splitn(2, |byte| *byte == b'?');
    let path = halves.next();
    let found = match part {
        KeyPart::Source | KeyPart::Packet(_) | KeyPart::FirstPacket(_) => None,
        // What clients of TLS name in their handshake, those of HTTP name in each request.
        KeyPart::Name => Some(host_of(&request.authority)),
        // It has a place of its own.
        KeyPart::Header(name) if Known::of(name) == Known::Host => Some(&request.authority[..]),
        KeyPart::Header(name) => {
            let mut same =
                request.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            same.next().map(|field| field.value)
        }
        KeyPart::Cookie(name) => cookie(request, name),
        KeyPart::Path => path,
        KeyPart::Uri => Some(&request.target[..]),
        KeyPart::Query(name) => {
            let pairs = halves.next().unwrap_or_default().split(|byte| *byte == b'&');
            named(pairs, name)
        }
    };
    found.filter(|bytes| !bytes.is_empty())
}

/// The value of the first cookie of this name (RFC 6265 4.2.1).
pub(super) fn cookie<'r>(request: &'r Request, name: &[u8]) -> Option<&'r [u8]> {
    request.fields.all(Known::Cookie).find_map(|value| named(cookies(value), name))
}

/// Takes every cookie of this name out of a request; the others stay as they were sent.
pub(super) fn remove_cookie(request: &mut Request, name: &[u8]) {
    if cookie(request, name).is_none() {
        return;
    }
    let is_other = |pair: &&[u8]| named([*pair], name).is_none();
    let kept = |value: &[u8]| cookies(value).filter(is_other).collect::<Vec<_>>().join(&b"; "[..]);
    let values: Vec<Vec<u8>> = request.fields.all(Known::Cookie).map(kept).collect();
    request.fields.remove(Known::Cookie);
    for value in values.iter().filter(|value| !value.is_empty()) {
        request.fields.push(b"Cookie", value);
    }
}

fn cookies(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

/// The value of the first pair `NAME=VALUE` of this name; a name without a value has an empty one.
fn named<'a>(pairs: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    pairs.into_iter().find_map(|pair| match pair.strip_prefix(name)? {
        [] => Some(&[][..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(target: &str, fields: &[(&str, &str)]) -> Request {
        let mut request = Request {
            target: target.as_bytes().to_vec(),
            authority: b"app.test:80".to_vec(),
            ..Request::default()
        };
        for (name, value) in fields {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        request
    }

    fn bytes(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    fn found(request: &Request, part: KeyPart) -> Option<String> {
        key_part(request, &part).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    #[test]
    fn each_part_is_found_where_it_stands() {
        let fields = [("X-User", "ann"), ("cookie", "a=1; id=7"), ("x-user", "bob")];
        let request = request("/a/b?user=x&User=y&flag", &fields);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found(&request, KeyPart::Header(bytes("x-USER"))), some("ann"));
        assert_eq!(found(&request, KeyPart::Header(bytes("Host"))), some("app.test:80"));
        assert_eq!(found(&request, KeyPart::Cookie(bytes("id"))), some("7"));
        assert_eq!(found(&request, KeyPart::Path), some("/a/b"));
        assert_eq!(found(&request, KeyPart::Uri), some("/a/b?user=x&User=y&flag"));
        assert_eq!(found(&request, KeyPart::Query(bytes("User"))), some("y"));
    }

    #[test]
    fn what_is_absent_or_empty_decides_nothing() {
        let request = request("/?a=&flag", &[("X-Empty", ""), ("Cookie", "b=; ab=1")]);
        for part in [
            KeyPart::Source,
            KeyPart::Header(bytes("X-User")),
            KeyPart::Header(bytes("X-Empty")),
            KeyPart::Cookie(bytes("a")),
            KeyPart::Cookie(bytes("b")),
            KeyPart::Query(bytes("a")),
            KeyPart::Query(bytes("flag")),
            KeyPart::Query(bytes("fla")),
        ] {
            assert_eq!(found(&request, part.clone()), None, "{part:?}");
        }
    }

    #[test]
    fn the_first_cookie_of_a_name_counts_over_all_fields() {
        let request =
            request("/", &[("Cookie", " x=0;\tid=1;id=2 "), ("Cookie", "id=3; y=\"q=r\"")]);
        assert_eq!(cookie(&request, b"id"), Some(&b"1"[..]));
        assert_eq!(cookie(&request, b"y"), Some(&b"\"q=r\""[..]));
        assert_eq!(cookie(&request, b"ID"), None);
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_a_cookie_taken_out_is_gone_and_all_others_stay(
            values in proptest::collection::vec("[ab=;, \t\"\\xff]{0,20}", 0..4),
        ) {
            let fields: Vec<_> = values.iter().map(|value| ("Cookie", value.as_str())).collect();
            let mut request = request("/", &fields);
            let pairs = |request: &Request| {
                let all = request.fields.all(Known::Cookie).flat_map(cookies);
                all.filter(|pair| named([*pair], b"a").is_none()).map(<[u8]>::to_vec).collect::<Vec<_>>()
            };
            let before = pairs(&request);
            remove_cookie(&mut request, b"a");
            prop_assert_eq!(cookie(&request, b"a"), None);
            prop_assert_eq!(pairs(&request), before);
        }
    }

    #[test]
    fn a_cookie_that_is_taken_out_leaves_the_others_as_they_were() {
        let mut request = request(
            "/",
            &[
                ("Cookie", "a=1; ours=x; b=2"),
                ("Cookie", "ours=y"),
                ("Accept", "z"),
                ("Cookie", "ours; c"),
            ],
        );
        remove_cookie(&mut request, b"ours");
        let left: Vec<_> = request.fields.all(Known::Cookie).collect();
        assert_eq!(left, [&b"a=1; b=2"[..], b"c"]);
        assert!(request.fields.first(Known::Accept).is_some());
        let before = request.clone();
        remove_cookie(&mut request, b"ours");
        assert_eq!(request, before);
    }
}
