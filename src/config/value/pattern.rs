//! What a route looks for in a host and in a path. A pattern is read once and compared often, so it is kept in
//! the form it is compared in; nothing in it costs more than time linear in what a client sends.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use super::address::is_host_name;
use super::{Spelled, spelled};
use crate::config::problem::{Misread, shown};

/// A host: `www.example.com`, `*.example.com` for one label more, or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any host, also none.
    Any,
    /// This host, in lower case.
    Exact(String),
    /// One label, a dot, and this host, in lower case.
    Below(String),
}

impl HostPattern {
    /// Whether a host without its port is meant, in any of its spellings.
    pub fn matches(&self, host: &[u8]) -> bool {
        let host = HostPattern::normal(host);
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(name) => *host == *name.as_bytes(),
            HostPattern::Below(name) => {
                let Some(dot) = host.iter().position(|byte| *byte == b'.') else { return false };
                dot > 0 && host.get(dot + 1..) == Some(name.as_bytes())
            }
        }
    }

    /// A host in the spelling that patterns are kept in: lower case, no dot at the end, IPv6 addresses in their shortest form
    /// (RFC 5952). A name and an address have many spellings, and no route may be missed by choosing another one.
    pub(crate) fn normal(host: &[u8]) -> Cow<'_, [u8]> {
        if let [b'[', address @ .., b']'] = host
            && let Some(address) = str::from_utf8(address).ok().and_then(|text| text.parse().ok())
        {
            let address: Ipv6Addr = address;
            return Cow::Owned(format!("[{address}]").into_bytes());
        }
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.iter().any(u8::is_ascii_uppercase) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    }

    /// Whether every host that `other` means is meant here too.
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (HostPattern::Below(_), HostPattern::Exact(name)) => self.matches(name.as_bytes()),
            _ => self == other,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = Misread;

    fn from_str(text: &str) -> Result<HostPattern, Misread> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        let wrong = |advice: &str| {
            Err(Misread::new(format!("\"{}\" is not a host", shown(text))).advise(advice))
        };
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return match address.parse::<Ipv6Addr>() {
                Ok(address) => Ok(HostPattern::Exact(format!("[{address}]"))),
                Err(_) => wrong("in the brackets stands an IPv6 address"),
            };
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return wrong(&format!("IPv6 stands in brackets: \"[{text}]\""));
        }
        let below = text.strip_prefix("*.");
        let name = below.unwrap_or(text);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !name.is_ascii() {
            return wrong("write the name as DNS knows it, in ASCII: \"xn--bcher-kva.example\"");
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if !is_host_name(&name) {
            wrong("write a name without a port: \"www.example.com\", \"*.example.com\"")
        } else if is_number && (below.is_some() || name.parse::<Ipv4Addr>().is_err()) {
            wrong("an IPv4 address is four numbers from 0 to 255, without leading zeros")
        } else if below.is_some() {
            Ok(HostPattern::Below(name))
        } else {
            Ok(HostPattern::Exact(name))
        }
    }
}

impl Spelled for HostPattern {
    const WORDS: &'static str = "host, as \"www.example.com\" or \"*.example.com\"";
}

/// A path: `/a/b` as it stands, `/a/*` for `/a` and everything below it, `*` for any, `~ REGEX` for what it matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// Any path.
    Any,
    /// This path.
    Exact(String),
    /// This path, without a slash at its end, and everything below it.
    Below(String),
    /// A regular expression that must match the whole path.
    Regex(PathRegex),
}

impl PathPattern {
    /// The part of a path that `*` stands for, if the path is meant; for an exact one it is the last segment.
    pub fn rest_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        match self {
            PathPattern::Any => Some(path),
            PathPattern::Exact(name) => (path == name.as_bytes()).then(|| {
                let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                &path[slash..]
            }),
            PathPattern::Below(name) => {
                let rest = path.strip_prefix(name.as_bytes())?;
                (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
            }
            PathPattern::Regex(regex) => regex.compiled.is_match(path).then_some(path),
        }
    }

    /// Whether it is compared by a regular expression, which no index can speed up.
    pub fn is_regex(&self) -> bool {
        matches!(self, PathPattern::Regex(_))
    }

    /// Whether every path that `other` means is meant here too. A regular expression is known to cover only what is
    /// written like it.
    pub fn covers(&self, other: &PathPattern) -> bool {
        match (self, other) {
            (PathPattern::Any, _) => true,
            (_, PathPattern::Any) => false,
            (PathPattern::Regex(_), _) | (_, PathPattern::Regex(_)) => self == other,
            (PathPattern::Exact(_), PathPattern::Below(_)) => false,
            (_, PathPattern::Exact(path) | PathPattern::Below(path)) => {
                self.rest_of(path.as_bytes()).is_some()
            }
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Any => f.write_str("*"),
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Below(path) => write!(f, "{path}/*"),
            PathPattern::Regex(regex) => write!(f, "~ {}", regex.written),
        }
    }
}

impl FromStr for PathPattern {
    type Err = Misread;

    fn from_str(text: &str) -> Result<PathPattern, Misread> {
        if matches!(text, "*" | "/*") {
            return Ok(PathPattern::Any);
        }
        if let Some(written) = text.strip_prefix('~') {
            return PathRegex::compile(written.trim_start()).map(PathPattern::Regex);
        }
        let path = text.strip_suffix("/*").unwrap_or(text);
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#*\\".contains(&byte));
        if !path.starts_with('/') || !plain {
            return Err(Misread::new(format!("\"{}\" is not a path", shown(text))).advise(
                "write \"/exact/path\", \"/below/*\", \"*\" or \"~ REGEX\"; a query has a key of its own",
            ));
        }
        if !is_normal(path) {
            let wrong =
                format!("no request has the path \"{}\" once it is made normal", shown(text));
            return Err(Misread::new(wrong).advise(
                "escape only what must be, with digits in capitals (\"%C3%A9\"), never a slash; write no \".\" or \"..\"",
            ));
        }
        let below = text.ends_with("/*");
        Ok(if below { PathPattern::Below(path.into()) } else { PathPattern::Exact(path.into()) })
    }
}

/// Whether the path of a request can look like this after it was made normal (`route::normal_path`).
fn is_normal(path: &str) -> bool {
    let escape_is_normal = |rest: &str| {
        let digits = rest.get(..2).unwrap_or_default();
        let Ok(byte) = u8::from_str_radix(digits, 16) else { return false };
        let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        *digits == format!("{byte:02X}") && !is_unreserved && !b"/\\\0".contains(&byte)
    };
    path.split('/').all(|segment| !matches!(segment, "." | ".."))
        && path.split('%').skip(1).all(escape_is_normal)
}

/// A regular expression over a whole path, in its normal form, byte for byte. The syntax is that of the crate `regex`, whose
/// matching takes time linear in the path.
#[derive(Debug, Clone)]
pub struct PathRegex {
    written: String,
    compiled: Regex,
}

/// The most that one expression may take, compiled. Matching costs the length of the path times the states of the
/// expression at worst, so there may be no more than some thousand of these.
const REGEX_BYTES_MAX: usize = 64 * 1024;

/// The most that is kept of it while matching.
const REGEX_CACHE_BYTES_MAX: usize = 256 * 1024;

impl PathRegex {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    fn compile(written: &str) -> Result<PathRegex, Misread> {
        let build = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder
                .unicode(false)
                .size_limit(REGEX_BYTES_MAX)
                .dfa_size_limit(REGEX_CACHE_BYTES_MAX);
            builder.build()
        };
        if written.is_empty() {
            return Err(Misread::new("the regular expression is empty")
                .advise("write one for the whole path: \"~ /users/[0-9]+\""));
        }
        // On its own first: `a)|(b` would break out of the group that anchors it.
        let anchored = build(written).and_then(|_| build(&format!(r"\A(?:{written})\z")));
        match anchored {
            Ok(compiled) => Ok(PathRegex { written: written.to_owned(), compiled }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err(Misread::new(format!("\"{}\" takes too much memory", shown(written)))
                    .advise("repeat fewer times, or write several paths"))
            }
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ").to_owned();
                Err(Misread::new(format!("\"{}\" is not a regular expression", shown(written)))
                    .advise(reason))
            }
        }
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &PathRegex) -> bool {
        self.written == other.written
    }
}

impl Eq for PathRegex {}

impl std::hash::Hash for PathRegex {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}

impl Spelled for PathPattern {
    const WORDS: &'static str = "path, as \"/exact\", \"/below/*\", \"*\" or \"~ REGEX\"";
}

spelled!(HostPattern, PathPattern);

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    fn path(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_is_compared_without_case_and_dot_and_a_star_is_one_label() {
        assert!(host("www.Example.com").matches(b"WWW.example.com."));
        assert!(!host("www.example.com").matches(b"example.com"));
        assert!(host("*.example.com").matches(b"a.example.com"));
        for other in ["example.com", "a.b.example.com", ".example.com", "aexample.com"] {
            assert!(!host("*.example.com").matches(other.as_bytes()), "{other}");
        }
        assert!(host("[::1]").matches(b"[::1]"));
        assert!(host("[0:0::1]").matches(b"[::1]") && host("[::1]").matches(b"[0:0:0::0001]"));
        assert!(host("[2001:DB8::A]").matches(b"[2001:db8:0::a]"));
        assert!(host("192.0.2.1").matches(b"192.0.2.1") && host("*").matches(b""));
        for bad in [
            "",
            "a:80",
            "a/b",
            "*a.b",
            "a b",
            "*.*.b",
            "a..b",
            "::1",
            "[::1]:80",
            "[a]",
            "b\u{fc}.de",
            "1.2.3.256",
            "*.2.3.4",
            "*.",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_with_a_star_is_cut_at_segments_only() {
        let below = path("/static/*");
        assert_eq!(below.rest_of(b"/static/a/b"), Some(&b"/a/b"[..]));
        assert_eq!(below.rest_of(b"/static"), Some(&b""[..]));
        assert_eq!(below.rest_of(b"/statics"), None);
        assert_eq!(path("/a").rest_of(b"/a/"), None);
        assert_eq!(path("*").rest_of(b"/x"), Some(&b"/x"[..]));
        for bad in ["", "a", "/a?b", "/a*", "/a b", "/*/a", "/a\\b", "/caf\u{e9}"] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_that_no_request_can_have_is_refused() {
        for good in ["/a%20b", "/caf%C3%A9/*", "/a/.../b", "/.well-known/*", "//a/", "/~a"] {
            assert_eq!(path(good).to_string(), good);
        }
        for bad in
            ["/a/../b", "/a/./*", "/caf%c3%a9", "/%61", "/a%2Fb", "/a%5C", "/a%00", "/a%", "/a%+1"]
        {
            let wrong = bad.parse::<PathPattern>().unwrap_err();
            assert!(wrong.to_string().contains("no request"), "{bad}: {wrong}");
        }
    }

    #[test]
    fn a_regular_expression_is_held_against_the_whole_path() {
        let users = path("~ /users/[0-9]+|/me");
        assert!(users.is_regex() && users.to_string() == "~ /users/[0-9]+|/me");
        assert!(users.rest_of(b"/users/12").is_some() && users.rest_of(b"/me").is_some());
        for other in ["/users/12/x", "/x/users/12", "/me/", "/users/12\n"] {
            assert_eq!(users.rest_of(other.as_bytes()), None, "{other}");
        }
        assert!(users.covers(&users.clone()) && path("*").covers(&users));
        assert!(!users.covers(&path("~ /me")) && !path("/users/*").covers(&users));
        assert!(!users.covers(&path("/me")) && !users.covers(&path("/users/*")));
        for bad in ["~", "~ ", "~ (", "~ a)|(b", "~ (?x)a #", "~ ((a{99}){99}){99}"] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_would_match_anyway() {
        assert!(path("/a/*").covers(&path("/a/b/*")) && path("/a/*").covers(&path("/a")));
        assert!(!path("/a/b/*").covers(&path("/a/*")) && !path("/a").covers(&path("/a/*")));
        assert!(host("*").covers(&host("a.b")) && host("*.b").covers(&host("a.b")));
        assert!(!host("*.b").covers(&host("*.a.b")) && !host("a.b").covers(&host("*.b")));
    }
}
