//! What decides for hashing: a part of the request, or the client's address. The name of a header, cookie or
//! parameter stands behind the kind, so that one string says it all.

use std::fmt;
use std::str::FromStr;

use super::{Spelled, chosen, spelled};
use crate::config::problem::{Misread, shown};

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address.
    Source,
    /// The name that a TLS client asks for (SNI).
    Sni,
    /// The value of this header.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The path, without the query.
    Path,
    /// Path and query.
    Uri,
    /// The value of this parameter of the query.
    Query(String),
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashBy::Source => f.write_str("source"),
            HashBy::Sni => f.write_str("sni"),
            HashBy::Header(name) => write!(f, "header:{name}"),
            HashBy::Cookie(name) => write!(f, "cookie:{name}"),
            HashBy::Path => f.write_str("path"),
            HashBy::Uri => f.write_str("uri"),
            HashBy::Query(name) => write!(f, "query:{name}"),
        }
    }
}

impl FromStr for HashBy {
    type Err = Misread;

    fn from_str(text: &str) -> Result<HashBy, Misread> {
        let named = |kind: &str, name: &str, is_fine: bool| match is_fine {
            true => Ok(name.to_owned()),
            false => Err(Misread::new(format!("\"{}\" is not the name of a {kind}", shown(name)))
                .advise("write the name as it stands in requests")),
        };
        match text.split_once(':') {
            Some(("header", name)) => {
                named("header", name, evenkeel_wire::is_name(name.as_bytes())).map(HashBy::Header)
            }
            Some(("cookie", name)) => {
                named("cookie", name, evenkeel_wire::is_name(name.as_bytes())).map(HashBy::Cookie)
            }
            Some(("query", name)) => {
                let plain = |byte: u8| byte.is_ascii_graphic() && !b"&=#".contains(&byte);
                let is_fine = !name.is_empty() && name.bytes().all(plain);
                named("parameter", name, is_fine).map(HashBy::Query)
            }
            _ => {
                let words = [("source", 0), ("path", 1), ("uri", 2), ("sni", 4)];
                let named = [("header:NAME", 3), ("cookie:NAME", 3), ("query:NAME", 3)];
                let all = [&words[..], &named[..]].concat();
                Ok(match chosen(text, &all, "something to hash")? {
                    0 => HashBy::Source,
                    1 => HashBy::Path,
                    2 => HashBy::Uri,
                    4 => HashBy::Sni,
                    _ => return Err(Misread::new("NAME stands for the name you mean")),
                })
            }
        }
    }
}

impl Spelled for HashBy {
    const WORDS: &'static str =
        "\"source\", \"sni\", \"header:NAME\", \"cookie:NAME\", \"path\", \"uri\", \"query:NAME\"";
    const PATTERN: Option<&'static str> =
        Some("^(source|sni|path|uri|header:.+|cookie:.+|query:.+)$");
}

spelled!(HashBy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed_is_read_and_written_back() {
        for text in ["source", "path", "uri", "header:X-User", "cookie:id", "query:user[id]"] {
            assert_eq!(text.parse::<HashBy>().unwrap().to_string(), text);
        }
        assert_eq!("header:A".parse(), Ok(HashBy::Header("A".to_owned())));
    }

    #[test]
    fn what_no_request_can_have_is_not_hashed() {
        for text in ["", "paht", "header", "header:", "header:a b", "cookie:a;b", "cookie:a=b"] {
            assert!(text.parse::<HashBy>().is_err(), "{text}");
        }
        for text in ["query:", "query:a=b", "query:a&b", "query:a b", "Header:x", "path:x"] {
            assert!(text.parse::<HashBy>().is_err(), "{text}");
        }
        let near = "sourc".parse::<HashBy>().unwrap_err().to_string();
        assert!(near.contains("did you mean \"source\"?"), "{near}");
    }
}
