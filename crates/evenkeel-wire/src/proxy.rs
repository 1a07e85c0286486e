//! The header with which a proxy in front says for whom it connects: PROXY protocol, versions 1 and 2, as HAProxy's
//! `proxy-protocol.txt` defines them. Sections named here are that text's.
//! A header is whole and right or it is refused: it must never be skipped, nor taken for a part of what follows it.

mod write;

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use write::{write_proxy_v1, write_proxy_v2};

/// What every header of version 2 begins with (2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What every header of version 1 begins with (2.1).
const WORD: &[u8] = b"PROXY ";

/// The longest line of version 1, with its end (2.1).
const LINE_MAX: usize = 107;

/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;

/// The longest header of version 2 that is read; what is sent of it in practice takes a few hundred bytes.
pub const PROXY_HEADER_MAX: usize = 4096;

/// Types of further facts in a header of version 2 (2.2.1 to 2.2.7).
pub mod tlv {
    /// The protocol that the client negotiated (ALPN).
    pub const ALPN: u8 = 0x01;
    /// The host that the client asked for (SNI).
    pub const AUTHORITY: u8 = 0x02;
    /// A checksum over all of the header.
    pub const CRC32C: u8 = 0x03;
    /// Nothing: room that was left.
    pub const NOOP: u8 = 0x04;
    /// A name of the connection, of at most 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What is known of the client's TLS, with facts of its own in it.
    pub const SSL: u8 = 0x20;
    /// The name of the network namespace.
    pub const NETNS: u8 = 0x30;
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRead<'a> {
    /// Not all of it: call again with these bytes and more behind them.
    Partial,
    /// All of it.
    Whole {
        /// What it says.
        header: ProxyHeader<'a>,
        /// Its bytes; what follows is the client's.
        length: usize,
    },
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader<'a> {
    /// Whose connection it is.
    pub origin: ProxyOrigin<'a>,
    tlvs: &'a [u8],
}

/// Whose connection a header stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyOrigin<'a> {
    /// The proxy's own, such as a health check, or nobody knows (`LOCAL`, `UNKNOWN`, `AF_UNSPEC`): the addresses are
    /// those of the connection that the header came over.
    Own,
    /// A client's over TCP.
    Tcp {
        /// Where the client connected from.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// A client's over a Unix socket; names may be empty.
    Unix {
        /// The name of the client's socket.
        source: &'a [u8],
        /// The name of the socket that it connected to.
        destination: &'a [u8],
    },
}

/// Why bytes are no header, or none that may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRefusal {
    /// They begin like neither version.
    Missing,
    /// A line that does not end within 107 bytes, or a header of version 2 over 4096.
    TooLong,
    /// A line that is not as version 1 writes it.
    Line,
    /// An address or port that is not in its one spelling, or not of the family that was named.
    Address,
    /// A version, command, family or transport that is not defined, or is not for a stream.
    Unsupported,
    /// Lengths that contradict each other.
    Length,
    /// A checksum that is not that of the header.
    Checksum,
}

impl ProxyRefusal {
    /// One line for a person.
    pub fn as_str(self) -> &'static str {
        match self {
            ProxyRefusal::Missing => "no PROXY header",
            ProxyRefusal::TooLong => "a PROXY header that is too long",
            ProxyRefusal::Line => "a malformed PROXY line",
            ProxyRefusal::Address => "a PROXY header with an address that is none",
            ProxyRefusal::Unsupported => "a PROXY header of an unknown version, command or family",
            ProxyRefusal::Length => "a PROXY header whose lengths contradict each other",
            ProxyRefusal::Checksum => "a PROXY header with a wrong checksum",
        }
    }
}

impl fmt::Display for ProxyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error for ProxyRefusal {}

/// Reads the header at the beginning of `bytes`, of either version. Bytes that begin like no header are refused with
/// the first one that shows it.
pub fn read_proxy_header(bytes: &[u8]) -> Result<ProxyRead<'_>, ProxyRefusal> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(found, wanted)| found == wanted);
    if begins(SIGNATURE) {
        return match bytes.len() < FIXED {
            true => Ok(ProxyRead::Partial),
            false => read_v2(bytes),
        };
    }
    if begins(WORD) {
        return read_v1(bytes);
    }
    Err(ProxyRefusal::Missing)
}

fn read_v1(bytes: &[u8]) -> Result<ProxyRead<'_>, ProxyRefusal> {
    let within = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if within.len() == LINE_MAX {
            Err(ProxyRefusal::TooLong)
        } else {
            Ok(ProxyRead::Partial)
        };
    };
    match within.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r']) if end + 1 < LINE_MAX => return Ok(ProxyRead::Partial),
        Some([b'\r']) => return Err(ProxyRefusal::TooLong),
        _ => return Err(ProxyRefusal::Line),
    }
    let line = within.get(WORD.len()..end).unwrap_or_default();
    let origin = origin_of_line(line)?;
    Ok(ProxyRead::Whole { header: ProxyHeader { origin, tlvs: &[] }, length: end + 2 })
}

fn origin_of_line(line: &[u8]) -> Result<ProxyOrigin<'_>, ProxyRefusal> {
    let line = str::from_utf8(line).map_err(|_| ProxyRefusal::Line)?;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // What follows it is to be ignored (2.1).
        return Ok(ProxyOrigin::Own);
    }
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ProxyRefusal::Line);
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| ProxyRefusal::Address),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| ProxyRefusal::Address),
        _ => Err(ProxyRefusal::Unsupported),
    };
    Ok(ProxyOrigin::Tcp {
        source: SocketAddr::new(address(source)?, port(from)?),
        destination: SocketAddr::new(address(destination)?, port(to)?),
    })
}

/// A port in its one spelling: no sign and no zero before it.
fn port(text: &str) -> Result<u16, ProxyRefusal> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_shortest = text.len() == 1 || !text.starts_with('0');
    match text.parse() {
        Ok(port) if is_plain && is_shortest => Ok(port),
        _ => Err(ProxyRefusal::Address),
    }
}

fn read_v2(bytes: &[u8]) -> Result<ProxyRead<'_>, ProxyRefusal> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Ok(ProxyRead::Partial);
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) {
        return Err(ProxyRefusal::Unsupported);
    }
    if length > PROXY_HEADER_MAX {
        return Err(ProxyRefusal::TooLong);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(ProxyRead::Partial) };
    let rest = whole.get(FIXED..).unwrap_or_default();
    // Of the proxy's own connections, all that follows is to be passed over (2.2).
    if command == 0x20 {
        let header = ProxyHeader { origin: ProxyOrigin::Own, tlvs: &[] };
        return Ok(ProxyRead::Whole { header, length });
    }
    let (origin, tlvs) = origin_of_block(family, rest)?;
    let header = ProxyHeader { origin, tlvs };
    check_tlvs(whole, tlvs)?;
    Ok(ProxyRead::Whole { header, length })
}

fn origin_of_block(family: u8, block: &[u8]) -> Result<(ProxyOrigin<'_>, &[u8]), ProxyRefusal> {
    let size = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(ProxyRefusal::Unsupported),
    };
    let (addresses, tlvs) = block.split_at_checked(size).ok_or(ProxyRefusal::Length)?;
    let origin = match family {
        0x11 => endpoints::<4>(addresses),
        0x21 => endpoints::<16>(addresses),
        0x31 => addresses.split_at_checked(108).map(|(source, destination)| ProxyOrigin::Unix {
            source: unix_name(source),
            destination: unix_name(destination),
        }),
        _ => Some(ProxyOrigin::Own),
    };
    Ok((origin.ok_or(ProxyRefusal::Length)?, tlvs))
}

/// Two addresses of `N` bytes and two ports.
fn endpoints<const N: usize>(block: &[u8]) -> Option<ProxyOrigin<'static>>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    Some(ProxyOrigin::Tcp {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*from)),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*to)),
    })
}

/// A name up to the zeros behind it; one that begins with a zero is of the abstract namespace (unix(7)).
fn unix_name(field: &[u8]) -> &[u8] {
    let length = field.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    field.get(..length).unwrap_or_default()
}

/// Every fact has the length it says, the checksum is right where there is one, and a name of a connection is no longer
/// than it may be.
fn check_tlvs(whole: &[u8], tlvs: &[u8]) -> Result<(), ProxyRefusal> {
    let mut rest = tlvs;
    while !rest.is_empty() {
        let (kind, value, after) = split_tlv(rest).ok_or(ProxyRefusal::Length)?;
        match kind {
            tlv::CRC32C => {
                let told = value.try_into().map(u32::from_be_bytes);
                let told = told.map_err(|_| ProxyRefusal::Length)?;
                // It is counted with zeros in its own place.
                let at = whole.len() - after.len() - value.len();
                if told != crc32c(whole, at..at + value.len()) {
                    return Err(ProxyRefusal::Checksum);
                }
            }
            tlv::UNIQUE_ID if value.len() > 128 => return Err(ProxyRefusal::Length),
            _ => {}
        }
        rest = after;
    }
    Ok(())
}

fn split_tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, after))
}

impl<'a> ProxyHeader<'a> {
    /// The further facts of version 2 as type (see [`tlv`]) and value, in their order.
    pub fn tlvs(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.tlvs;
        std::iter::from_fn(move || {
            let (kind, value, after) = split_tlv(rest)?;
            rest = after;
            Some((kind, value))
        })
    }

    /// The first fact of a type.
    pub fn tlv(&self, kind: u8) -> Option<&'a [u8]> {
        self.tlvs().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }
}

/// The checksum of iSCSI (RFC 3720 B.4), with zeros for the bytes of `blank`. A header is short: a table would cost more
/// than it saves.
fn crc32c(bytes: &[u8], blank: std::ops::Range<usize>) -> u32 {
    let add = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    };
    let all = bytes.iter().enumerate();
    !all.fold(!0, |crc, (at, byte)| add(crc, if blank.contains(&at) { 0 } else { *byte }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_one_of_iscsi() {
        // The check value of CRC-32C, and one of RFC 3720 B.4.
        assert_eq!(super::crc32c(b"123456789", 0..0), 0xe306_9283);
        assert_eq!(super::crc32c(&[0; 32], 0..0), 0x8a91_36aa);
        assert_eq!(super::crc32c(&[7; 32], 0..32), 0x8a91_36aa);
    }
}
