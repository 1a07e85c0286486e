//! Which route a request takes: the first in written order whose every condition holds.
//! It must never look at anything but what it is handed: the same code is to explain decisions later.
//! Hosts and paths are looked up in `index`, which only leaves out what cannot match; conditions alone decide.

mod index;
mod stream;
mod unmet;

use std::borrow::Cow;
use std::net::IpAddr;

use evenkeel_wire::Fields;
use ipnet::IpNet;

use self::index::Index;
pub(crate) use self::stream::{StreamAsk, StreamConditions};
use self::unmet::Unmet;
use crate::config::{HostPattern, PathPattern};
use crate::tls::Shown;

/// The conditions of one route; an empty list is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) host: Vec<HostPattern>,
    pub(crate) path: Vec<PathPattern>,
    pub(crate) method: Vec<Box<[u8]>>,
    pub(crate) header: Vec<(Box<[u8]>, Wanted)>,
    pub(crate) query: Vec<(Box<[u8]>, Wanted)>,
    pub(crate) client: Vec<IpNet>,
    /// None where no certificate is asked for.
    pub(crate) certificate: Option<Certified>,
}

/// What the certificate of a client must say; an empty list is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Certified {
    /// A name, or `*.` and what one label more stands before.
    pub(crate) names: Vec<String>,
    pub(crate) subjects: Vec<String>,
    pub(crate) issuers: Vec<String>,
    /// In hexadecimal.
    pub(crate) fingerprints: Vec<String>,
}

impl Certified {
    fn is(&self, shown: &Shown) -> bool {
        any(&self.subjects, |wanted| *wanted == shown.subject)
            && any(&self.issuers, |wanted| *wanted == shown.issuer)
            && any(&self.fingerprints, |wanted| *wanted == shown.fingerprint)
            && any(&self.names, |wanted| shown.names.iter().any(|name| is_named(wanted, name)))
    }
}

/// Whether a name is the one that is wanted, or of those that are.
fn is_named(wanted: &str, name: &str) -> bool {
    match wanted.strip_prefix("*.") {
        None => wanted.eq_ignore_ascii_case(name),
        Some(below) => {
            let above = name.split_once('.').filter(|(label, _)| !label.is_empty());
            above.is_some_and(|(_, above)| above.eq_ignore_ascii_case(below))
        }
    }
}

fn any<T>(list: &[T], holds: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(holds)
}

/// The value that a header or parameter must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Present,
    Is(Box<[u8]>),
}

impl Wanted {
    fn is(&self, value: &[u8]) -> bool {
        match self {
            Wanted::Present => true,
            Wanted::Is(wanted) => **wanted == *value,
        }
    }
}

/// What is known of a request when its route is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Without its port.
    pub(crate) host: &'a [u8],
    /// Made normal by [`normal_path`], without the query.
    pub(crate) path: &'a [u8],
    pub(crate) query: &'a [u8],
    pub(crate) method: &'a [u8],
    pub(crate) fields: &'a Fields,
    pub(crate) client: Option<IpAddr>,
    /// The certificate that the client has shown.
    pub(crate) shown: Option<&'a Shown>,
}

/// The routes of one listener.
#[derive(Debug)]
pub(crate) struct Routes {
    in_order: Vec<Conditions>,
    index: Index,
}

impl Routes {
    pub(crate) fn compile(routes: Vec<Conditions>) -> Routes {
        Routes { index: Index::of(&routes), in_order: routes }
    }

    /// The number of the first route that takes the request.
    pub(crate) fn find(&self, ask: &Ask<'_>) -> Option<usize> {
        let host = HostPattern::normal(ask.host);
        let ask = Ask { host: &host, ..*ask };
        let holds = |route: usize| self.in_order.get(route).is_some_and(|when| when.hold(&ask));
        self.index.first(&host, ask.path, holds)
    }

    /// The part of a path that the `*` of a route stands for; the whole path where no path was asked for.
    pub(crate) fn rest<'p>(&self, route: usize, path: &'p [u8]) -> &'p [u8] {
        let patterns = self.in_order.get(route).map_or(&[][..], |conditions| &conditions.path);
        patterns.iter().find_map(|pattern| pattern.rest_of(path)).unwrap_or(path)
    }
}

impl Conditions {
    fn hold(&self, ask: &Ask<'_>) -> bool {
        self.unmet(ask).is_none()
    }

    /// The first condition that a request does not meet.
    fn unmet(&self, ask: &Ask<'_>) -> Option<Unmet<'_>> {
        if !any(&self.path, |path| path.rest_of(ask.path).is_some()) {
            return Some(Unmet::Path);
        }
        if !any(&self.host, |host| host.matches(ask.host)) {
            return Some(Unmet::Host);
        }
        if !any(&self.method, |method| **method == *ask.method) {
            return Some(Unmet::Method);
        }
        if !any(&self.client, |net| ask.client.is_some_and(|client| net.contains(&client))) {
            return Some(Unmet::Client);
        }
        if let Some(wanted) = &self.certificate
            && !ask.shown.is_some_and(|shown| wanted.is(shown))
        {
            return Some(Unmet::Certificate);
        }
        let lacks = |(name, wanted): &&(Box<[u8]>, Wanted)| {
            !ask.fields.named(name).any(|value| wanted.is(value))
        };
        if let Some((name, wanted)) = self.header.iter().find(lacks) {
            return Some(Unmet::Header(name, wanted));
        }
        let lacks = |(name, wanted): &&(Box<[u8]>, Wanted)| {
            let mut pairs = ask.query.split(|byte| *byte == b'&');
            !pairs.any(|pair| {
                let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
                pair[..end] == **name && wanted.is(pair.get(end + 1..).unwrap_or_default())
            })
        };
        self.query.iter().find(lacks).map(|(name, wanted)| Unmet::Query(name, wanted))
    }
}

/// A path that climbs above its root, or that can be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnclearPath;

/// The path as everybody after us will read it: escapes of unreserved characters undone, hexadecimal digits in
/// capitals, `.` and `..` resolved (RFC 3986 6.2.2). `%2F`, `%5C` and `%00` are refused: some servers read them as
/// separators or ends, others do not, and so is a backslash. Two slashes in a row stay as they are.
pub(crate) fn normal_path(path: &[u8]) -> Result<Cow<'_, [u8]>, UnclearPath> {
    let has_mark = path.iter().any(|byte| matches!(byte, b'%' | b'\\'));
    if !has_mark && !path.windows(2).any(|window| window == b"/.") {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    let mut normal: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let parent = normal.iter().rposition(|byte| *byte == b'/');
                    normal.truncate(parent.ok_or(UnclearPath)?);
                }
                if segments.peek().is_none() {
                    normal.push(b'/');
                }
            }
            segment => {
                normal.push(b'/');
                normal.extend_from_slice(segment);
            }
        }
    }
    Ok(Cow::Owned(normal))
}

/// The path with one slash where there were several in a row; none if there were not.
pub(crate) fn with_single_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let is_second = |pair: &[u8]| pair == b"//";
    if !path.windows(2).any(is_second) {
        return None;
    }
    let mut single = path.to_vec();
    single.dedup_by(|second, first| *second == b'/' && *first == b'/');
    Some(single)
}

fn decode_unreserved(path: &[u8]) -> Result<Vec<u8>, UnclearPath> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let (high, low, after) = match (first, tail) {
            (b'%', [high, low, after @ ..]) => (high, low, after),
            (b'%' | b'\\', _) => return Err(UnclearPath),
            _ => {
                decoded.push(*first);
                rest = tail;
                continue;
            }
        };
        let digit = |byte: &u8| (*byte as char).to_digit(16).ok_or(UnclearPath);
        let byte = (digit(high)? * 16 + digit(low)?) as u8;
        match byte {
            b'/' | b'\\' | 0 => return Err(UnclearPath),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(byte),
            _ => decoded.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
        }
        rest = after;
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str) -> Option<String> {
        let path = normal_path(path.as_bytes()).ok()?;
        Some(String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn a_path_is_matched_and_forwarded_in_one_form() {
        for (written, means) in [
            ("/a/b", "/a/b"),
            ("/%61/%7e", "/a/~"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/c", "/c"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("//a//b", "//a//b"),
            ("/a%20b", "/a%20b"),
            ("/...", "/..."),
        ] {
            assert_eq!(normal(written).as_deref(), Some(means), "{written}");
        }
        for unclear in
            ["/..", "/a/../..", "/%2e%2e/x", "/a%2Fb", "/a%5cb", "/a%00", "/a\\b", "/a%", "/%zz"]
        {
            assert_eq!(normal(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn several_slashes_become_one_where_that_is_asked_for() {
        for (written, single) in
            [("//a", "/a"), ("/a///b//", "/a/b/"), ("//", "/"), ("///x?", "/x?")]
        {
            assert_eq!(with_single_slashes(written.as_bytes()).as_deref(), Some(single.as_bytes()));
        }
        for written in ["/", "/a/b/", ""] {
            assert_eq!(with_single_slashes(written.as_bytes()), None, "{written}");
        }
    }

    #[test]
    fn the_first_route_whose_conditions_all_hold_takes_the_request() {
        let path =
            |text: &str| Conditions { path: vec![text.parse().unwrap()], ..Conditions::default() };
        let with_header = Conditions {
            header: vec![(b"x-version"[..].into(), Wanted::Is(b"2"[..].into()))],
            query: vec![(b"debug"[..].into(), Wanted::Present)],
            ..path("/api/*")
        };
        let hosted = Conditions { host: vec!["a.test".parse().unwrap()], ..Conditions::default() };
        let posts = Conditions { method: vec![b"POST"[..].into()], ..Conditions::default() };
        let routes = Routes::compile(vec![with_header, path("/api/*"), hosted, posts]);
        let mut fields = Fields::default();
        fields.push(b"X-Version", b"2");
        let ask = Ask {
            host: b"b.test",
            path: b"/api/users",
            query: b"a=b&debug",
            method: b"GET",
            fields: &fields,
            client: None,
            shown: None,
        };
        assert_eq!(routes.find(&ask), Some(0));
        assert_eq!(routes.find(&Ask { query: b"debugs=1", ..ask }), Some(1));
        assert_eq!(routes.find(&Ask { path: b"/", host: b"A.test", ..ask }), Some(2));
        assert_eq!(routes.find(&Ask { path: b"/", method: b"POST", ..ask }), Some(3));
        assert_eq!(routes.find(&Ask { path: b"/apis", ..ask }), None);
    }
}
