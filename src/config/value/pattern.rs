//! What a route looks for in a host and in a path. A pattern is read once and compared often, so it is kept in
//! the form it is compared in; nothing in it costs more than time linear in what a client sends.

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
    /// Whether a host without its port is meant. Case and a dot at the end say nothing.
    pub fn matches(&self, host: &[u8]) -> bool {
        let host = host.strip_suffix(b".").unwrap_or(host);
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            HostPattern::Below(name) => {
                let Some(dot) = host.iter().position(|byte| *byte == b'.') else { return false };
                dot > 0 && host[dot + 1..].eq_ignore_ascii_case(name.as_bytes())
            }
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

    /// Whether every path that `other` means is meant here too. Of two regular expressions that is known only if they
    /// are written alike.
    pub fn covers(&self, other: &PathPattern) -> bool {
        match (self, other) {
            (PathPattern::Any, _) => true,
            (_, PathPattern::Any) => false,
            (_, PathPattern::Exact(path)) => self.rest_of(path.as_bytes()).is_some(),
            (PathPattern::Below(_), PathPattern::Below(path)) => {
                self.rest_of(path.as_bytes()).is_some()
            }
            (PathPattern::Regex(one), PathPattern::Regex(other)) => one == other,
            (PathPattern::Exact(_) | PathPattern::Regex(_), PathPattern::Below(_)) => false,
            (_, PathPattern::Regex(_)) => false,
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
        let below = text.ends_with("/*");
        Ok(if below { PathPattern::Below(path.into()) } else { PathPattern::Exact(path.into()) })
    }
}

/// A regular expression over a whole path, in its normal form, byte for byte. The syntax is that of the crate `regex`, whose
/// matching takes time linear in the path.
#[derive(Debug, Clone)]
pub struct PathRegex {
    written: String,
    compiled: Regex,
}

/// The most that one expression may take, compiled and while matching: some thousand characters without counted repeats.
const REGEX_BYTES_MAX: usize = 256 * 1024;

impl PathRegex {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    fn compile(written: &str) -> Result<PathRegex, Misread> {
        let build = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder.unicode(false).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX);
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
        assert!(host("[0:0::1]").matches(b"[::1]") && host("192.0.2.1").matches(b"192.0.2.1"));
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
        for bad in ["", "a", "/a?b", "/a*", "/a b", "/*/a"] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
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
        assert!(users.covers(&path("/users/7")) && !users.covers(&path("/users/*")));
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
