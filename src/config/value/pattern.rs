//! What a route looks for in a host and in a path. A pattern is read once and compared often, so it is kept in
//! the form it is compared in; there is nothing in it whose cost depends on what a client sends.

use std::fmt;
use std::str::FromStr;

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
        let name = text.strip_prefix("*.").unwrap_or(text);
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        let has_port = !name.starts_with('[') && name.contains(':');
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        if name.is_empty() || has_port || !name.bytes().all(letter) {
            return Err(Misread::new(format!("\"{}\" is not a host", shown(text)))
                .advise("write a name without a port: \"www.example.com\", \"*.example.com\""));
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let below = text.starts_with("*.");
        Ok(if below { HostPattern::Below(name) } else { HostPattern::Exact(name) })
    }
}

impl Spelled for HostPattern {
    const WORDS: &'static str = "host, as \"www.example.com\" or \"*.example.com\"";
}

/// A path: `/a/b` as it stands, `/a/*` for `/a` and everything below it, or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// Any path.
    Any,
    /// This path.
    Exact(String),
    /// This path, without a slash at its end, and everything below it.
    Below(String),
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
        }
    }

    /// Whether every path that `other` means is meant here too.
    pub fn covers(&self, other: &PathPattern) -> bool {
        match (self, other) {
            (PathPattern::Any, _) => true,
            (_, PathPattern::Any) => false,
            (_, PathPattern::Exact(path)) => self.rest_of(path.as_bytes()).is_some(),
            (PathPattern::Below(_), PathPattern::Below(path)) => {
                self.rest_of(path.as_bytes()).is_some()
            }
            (PathPattern::Exact(_), PathPattern::Below(_)) => false,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Any => f.write_str("*"),
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Below(path) => write!(f, "{path}/*"),
        }
    }
}

impl FromStr for PathPattern {
    type Err = Misread;

    fn from_str(text: &str) -> Result<PathPattern, Misread> {
        if matches!(text, "*" | "/*") {
            return Ok(PathPattern::Any);
        }
        let path = text.strip_suffix("/*").unwrap_or(text);
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#*\\".contains(&byte));
        if !path.starts_with('/') || !plain {
            return Err(Misread::new(format!("\"{}\" is not a path", shown(text))).advise(
                "write \"/exact/path\", \"/below/*\" or \"*\"; a query has a key of its own",
            ));
        }
        let below = text.ends_with("/*");
        Ok(if below { PathPattern::Below(path.into()) } else { PathPattern::Exact(path.into()) })
    }
}

impl Spelled for PathPattern {
    const WORDS: &'static str = "path, as \"/exact\", \"/below/*\" or \"*\"";
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
        for bad in ["", "a:80", "a/b", "*a.b", "a b"] {
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
    fn a_pattern_covers_what_it_would_match_anyway() {
        assert!(path("/a/*").covers(&path("/a/b/*")) && path("/a/*").covers(&path("/a")));
        assert!(!path("/a/b/*").covers(&path("/a/*")) && !path("/a").covers(&path("/a/*")));
        assert!(host("*").covers(&host("a.b")) && host("*.b").covers(&host("a.b")));
        assert!(!host("*.b").covers(&host("*.a.b")) && !host("a.b").covers(&host("*.b")));
    }
}
