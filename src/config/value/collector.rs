//! Where spans go: a collector of OpenTelemetry, by its URL.

use std::fmt;
use std::str::FromStr;

use super::{Address, Spelled, spelled};
use crate::config::problem::{Misread, shown};

/// The path that collectors listen on for traces (OTLP 1.5, "OTLP/HTTP request").
const PATH: &str = "/v1/traces";

/// `http://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// `HOST:PORT`.
    pub authority: String,
    /// With its slash.
    pub path: String,
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl FromStr for Collector {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Collector, Misread> {
        let misread = || {
            let message = format!("\"{}\" is not the URL of a collector", shown(text));
            Misread::new(message).advise("write \"http://HOST:PORT\", as \"http://127.0.0.1:4318\"")
        };
        let rest = text.strip_prefix("http://").ok_or_else(misread)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, PATH),
        };
        let path = if path == "/" { PATH } else { path };
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        match authority.parse() {
            Ok(Address::Ip(_) | Address::Name { .. }) if is_plain => {
                Ok(Collector { authority: authority.to_owned(), path: path.to_owned() })
            }
            _ => Err(misread()),
        }
    }
}

impl Spelled for Collector {
    const WORDS: &'static str = "the URL of a collector, as \"http://127.0.0.1:4318\"";
    const PATTERN: Option<&'static str> = Some("^http://.");
}

spelled!(Collector);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_written_as_a_url_with_a_port() {
        let written = |text: &str| text.parse::<Collector>().map(|it| it.to_string()).ok();
        for text in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/"] {
            assert_eq!(written(text).unwrap(), "http://127.0.0.1:4318/v1/traces");
        }
        assert_eq!(written("http://otel.test:80/x").unwrap(), "http://otel.test:80/x");
        assert!(written("http://[::1]:4318").is_some());
        for text in ["https://a:1", "127.0.0.1:4318", "http://a", "http://", "http://a:1/ x"] {
            assert_eq!(written(text), None, "{text}");
        }
    }
}
