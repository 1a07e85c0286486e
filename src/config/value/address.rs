//! Where to listen and where to connect: `IP:PORT`, `NAME:PORT`, `:PORT`, `unix:/path`. What cannot
//! be meant is refused here with what was expected, not later by a resolver that has no line number.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Spelled, spelled};
use crate::config::problem::{Misread, shown};

/// Where to listen or connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `192.0.2.1:80` or `[2001:db8::1]:80`.
    Ip(SocketAddr),
    /// `name:80`; every address behind the name is meant.
    Name {
        /// The name, as written.
        host: String,
        /// The port.
        port: u16,
    },
    /// `:80`: all addresses to listen on, loopback (127.0.0.1) to connect to.
    Port(u16),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Ip(address) => Some(address.port()),
            Address::Name { port, .. } | Address::Port(port) => Some(*port),
            Address::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
            Address::Port(port) => write!(f, ":{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Address, Misread> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() || path.contains(char::is_control) {
                Err(wrong(text)
                    .advise("write unix: and the path of a socket: \"unix:/run/x.sock\""))
            } else {
                Ok(Address::Unix(path.into()))
            };
        }
        if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
            return Err(wrong(text)
                .advise(format!("IPv6 stands in brackets, followed by a port: \"[{text}]:80\"")));
        }
        let Some((host, digits)) = text.rsplit_once(':') else { return Err(portless(text)) };
        let port = port(digits).ok_or_else(|| {
            wrong(text).advise("after the last \":\" stands a port, a number up to 65535")
        })?;
        match host {
            "" => Ok(Address::Port(port)),
            "*" => {
                let advice = format!("write \":{port}\" for all addresses");
                Err(wrong(text).advise(advice))
            }
            _ => at_host(text, host, port),
        }
    }
}

fn at_host(text: &str, host: &str, port: u16) -> Result<Address, Misread> {
    if host.starts_with('[') {
        let address = text.parse().map(Address::Ip);
        return address.map_err(|_| wrong(text).advise("in the brackets stands an IPv6 address"));
    }
    if host.contains(':') {
        let advice = format!("IPv6 stands in brackets: \"[{}]:{port}\"", shown(host));
        return Err(wrong(text).advise(advice));
    }
    if let Ok(address) = text.parse() {
        return Ok(Address::Ip(address));
    }
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        let advice = "an IPv4 address is four numbers from 0 to 255, without leading zeros";
        return Err(wrong(text).advise(advice));
    }
    if !is_host_name(host) {
        let advice = "a host name is made of letters, digits, \"-\", \"_\" and \".\"";
        return Err(wrong(text).advise(advice));
    }
    Ok(Address::Name { host: host.to_owned(), port })
}

/// Whether a name server could know the name. Names within a company do hold underscores.
pub(crate) fn is_host_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn port(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

fn wrong(text: &str) -> Misread {
    Misread::new(format!("\"{}\" is not an address", shown(text)))
}

fn portless(text: &str) -> Misread {
    if port(text).is_some() {
        return wrong(text).advise(format!("write \":{text}\" for a port on its own"));
    }
    if text.starts_with('/') {
        return wrong(text).advise(format!("write \"unix:{}\" for a Unix socket", shown(text)));
    }
    if is_host_name(text) || text.starts_with('[') {
        let advice = format!("it lacks a port: \"{}:80\"", shown(text));
        return wrong(text).advise(advice);
    }
    wrong(text).advise("write IP:PORT, [IPv6]:PORT, NAME:PORT, :PORT or unix:/path")
}

impl Spelled for Address {
    const WORDS: &'static str =
        "address, as \"192.0.2.1:80\", \"name:80\", \":80\" or \"unix:/path\"";
    const PATTERN: Option<&'static str> = Some("^unix:.|:[0-9]{1,5}$");

    fn from_integer(number: i128) -> Result<Address, Misread> {
        Err(portless(&number.to_string()))
    }

    fn placeholder() -> Option<Address> {
        Some(Address::Port(0))
    }

    fn within(self, folder: &Path) -> Address {
        match self {
            Address::Unix(path) => Address::Unix(folder.join(path)),
            other => other,
        }
    }
}

spelled!(Address);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "192.0.2.1:80",
            "[2001:db8::1]:80",
            "[::]:0",
            "[fe80::1%2]:80",
            "localhost:80",
            "game_1.internal.:9000",
            ":80",
            "unix:/run/app.sock",
            "unix:app.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(":80".parse(), Ok(Address::Port(80)));
        let name = Address::Name { host: "db".into(), port: 5432 };
        assert_eq!("db:5432".parse(), Ok(name));
    }

    #[test]
    fn what_is_not_an_address_is_told_what_was_expected() {
        for (text, advice) in [
            ("", "IP:PORT"),
            ("80", "\":80\""),
            ("localhost", "lacks a port"),
            ("::1", "\"[::1]:80\""),
            ("2001:db8::1:80", "\"[2001:db8::1:80]:80\""),
            ("::ffff:1.2.3.4:80", "\"[::ffff:1.2.3.4]:80\""),
            ("[::1]", "a port"),
            ("[1.2.3.4]:80", "IPv6"),
            ("*:80", "\":80\""),
            ("1.2.3.256:80", "IPv4"),
            ("010.0.0.1:80", "IPv4"),
            ("a:+80", "port"),
            ("a:65536", "port"),
            ("a:", "port"),
            ("a b:80", "host name"),
            ("-a:80", "host name"),
            ("http://a:80", "brackets"),
            ("/run/x.sock", "unix:"),
            ("unix:", "path"),
        ] {
            let wrong = text.parse::<Address>().unwrap_err();
            let given = wrong.advice.unwrap_or_default();
            assert!(given.contains(advice), "{text}: {given}");
        }
    }
}
