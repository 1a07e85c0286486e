//! A host with an optional port, as in Host and in the target of a request (RFC 3986 section 3.2).
//! It knows no user: one before the host is for the caller to refuse. Two authorities are the
//! same when host and port are, the port of the scheme being the same as none.

use std::net::Ipv6Addr;

use crate::chars::is_host;

/// Whether the bytes are a host with an optional port, as Host may have them.
pub fn is_authority(bytes: &[u8]) -> bool {
    Authority::read(bytes).is_some()
}

/// The two parts of an authority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    host: &'a [u8],
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Splits and checks; `None` when it is not a host with an optional port.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Authority<'a>> {
        let host = match bytes {
            [b'[', rest @ ..] => {
                let length = rest.iter().position(|byte| *byte == b']')?;
                let address = str::from_utf8(rest.get(..length)?).ok()?;
                address.parse::<Ipv6Addr>().ok()?;
                bytes.get(..length + 2)?
            }
            _ => bytes.split(|byte| *byte == b':').next().filter(|host| is_host(host))?,
        };
        let port = match bytes.get(host.len()..)? {
            [] => None,
            [b':', digits @ ..] => Some(read_port(digits)?),
            _ => return None,
        };
        Some(Authority { host, port })
    }

    /// Whether there is a port.
    pub(crate) fn has_port(&self) -> bool {
        self.port.is_some()
    }

    /// Whether both name the same, a missing port standing for `default_port`.
    pub(crate) fn is_same(&self, other: &Authority<'_>, default_port: Option<u16>) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.or(default_port) == other.port.or(default_port)
    }
}

/// One to five digits, at most 65535.
fn read_port(digits: &[u8]) -> Option<u16> {
    let is_short = (1..=5).contains(&digits.len());
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(digits).ok().filter(|_| is_short && all_digits)?;
    text.parse().ok()
}
