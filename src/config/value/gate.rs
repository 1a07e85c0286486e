//! Words of what a route demands of a request and what it tells a backend: by what requests are counted, whose host
//! is asked for, what becomes of forwarding headers. Each knows how to be read and written, none what it leads to.

use std::fmt;
use std::str::FromStr;

use super::choice::choice;
use super::{Spelled, spelled};
use crate::config::problem::{Misread, shown};

choice! {
    /// What becomes of headers that say for whom a request is forwarded.
    pub enum Forwarding ("a way of forwarding") {
        /// What a trusted proxy says stays, and we add to it.
        Append = "append",
        /// The same, but only where a trusted proxy said something.
        Keep = "keep",
        /// Only what we say ourselves goes on.
        Replace = "replace",
        /// None goes on.
        Drop = "drop",
    }
}

/// By what requests are counted: `"client"`, `"header:NAME"` or `"cookie:NAME"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CountBy {
    /// The client's address, of IPv6 its /64.
    Client,
    /// The value of a header.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
}

impl fmt::Display for CountBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CountBy::Client => f.write_str("client"),
            CountBy::Header(name) => write!(f, "header:{name}"),
            CountBy::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

impl FromStr for CountBy {
    type Err = Misread;

    fn from_str(text: &str) -> Result<CountBy, Misread> {
        let named = match text.split_once(':') {
            Some((kind, name)) if evenkeel_wire::is_name(name.as_bytes()) => Some((kind, name)),
            _ => None,
        };
        match (text, named) {
            ("client", _) => Ok(CountBy::Client),
            (_, Some(("header", name))) => Ok(CountBy::Header(name.to_owned())),
            (_, Some(("cookie", name))) => Ok(CountBy::Cookie(name.to_owned())),
            _ => Err(Misread::new(format!("\"{}\" is nothing to count by", shown(text)))
                .advise("write \"client\", \"header:NAME\" or \"cookie:NAME\"")),
        }
    }
}

impl Spelled for CountBy {
    const WORDS: &'static str = "\"client\", \"header:NAME\" or \"cookie:NAME\"";
    const PATTERN: Option<&'static str> = Some("^(client|(header|cookie):.+)$");
}

/// The `Host` that a backend is asked for: one that is written, or `"{backend}"` for its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostHeader {
    /// The name, or the address, and the port of the backend that was picked.
    Backend,
    /// A host with an optional port.
    Fixed(String),
}

impl fmt::Display for HostHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostHeader::Backend => f.write_str("{backend}"),
            HostHeader::Fixed(host) => f.write_str(host),
        }
    }
}

impl FromStr for HostHeader {
    type Err = Misread;

    fn from_str(text: &str) -> Result<HostHeader, Misread> {
        if text == "{backend}" {
            return Ok(HostHeader::Backend);
        }
        // The form that requests are read in is the form that may be sent.
        if evenkeel_wire::is_authority(text.as_bytes()) {
            return Ok(HostHeader::Fixed(text.to_owned()));
        }
        Err(Misread::new(format!("\"{}\" is not a host", shown(text))).advise(
            "write a host with an optional port, \"www.example.com:8080\", or \"{backend}\"",
        ))
    }
}

impl Spelled for HostHeader {
    const WORDS: &'static str = "host with an optional port, or \"{backend}\"";
}

spelled!(CountBy, HostHeader);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_gates_are_read_and_written_back() {
        for text in ["client", "header:X-Key", "cookie:session"] {
            assert_eq!(text.parse::<CountBy>().unwrap().to_string(), text);
        }
        for text in ["", "Client", "header", "header:", "header:a b", "query:a", "cookie:a;b"] {
            assert!(text.parse::<CountBy>().is_err(), "{text}");
        }
        for text in ["{backend}", "a.test", "a.test:80", "[::1]:8080"] {
            assert_eq!(text.parse::<HostHeader>().unwrap().to_string(), text);
        }
        for text in ["", "{host}", "a b", "a:b", "a/b", "::1", "a\r\nb"] {
            assert!(text.parse::<HostHeader>().is_err(), "{text}");
        }
    }
}
