//! PROXY headers as we write them, for backends that want to know for whom we connect.

use std::net::{IpAddr, SocketAddr};

use super::{FIXED, PROXY_HEADER_MAX, SIGNATURE, crc32c, tlv};

/// Appends the line of version 1. Addresses of two families, or of no TCP connection (`None`), are `UNKNOWN` to it.
pub fn write_proxy_v1(out: &mut Vec<u8>, endpoints: Option<(SocketAddr, SocketAddr)>) {
    let known = endpoints.map(|(source, destination)| {
        (canonical(source), canonical(destination), source.port(), destination.port())
    });
    let line = match known {
        Some((source @ IpAddr::V4(_), destination @ IpAddr::V4(_), from, to)) => {
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Some((source @ IpAddr::V6(_), destination @ IpAddr::V6(_), from, to)) => {
            format!("PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    };
    out.extend_from_slice(line.as_bytes());
}

/// Appends a header of version 2 with these facts, as type and value, and a checksum. Without endpoints it says `LOCAL`:
/// the connection is our own, as a health check is. Facts that find no room are left out.
pub fn write_proxy_v2(
    out: &mut Vec<u8>,
    endpoints: Option<(SocketAddr, SocketAddr)>,
    facts: &[(u8, &[u8])],
) {
    let begin = out.len();
    out.extend_from_slice(SIGNATURE);
    match endpoints {
        None => out.extend_from_slice(&[0x20, 0x00, 0, 0]),
        Some((source, destination)) => {
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()];
            match (canonical(source), canonical(destination)) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    out.extend_from_slice(&[0x21, 0x11, 0, 0]);
                    out.extend_from_slice(&source.octets());
                    out.extend_from_slice(&destination.octets());
                }
                // A connection has one family; where it is told of in two, the wider one holds both (RFC 4291 2.5.5.2).
                (source, destination) => {
                    out.extend_from_slice(&[0x21, 0x21, 0, 0]);
                    out.extend_from_slice(&wide(source));
                    out.extend_from_slice(&wide(destination));
                }
            }
            ports.iter().for_each(|port| out.extend_from_slice(port));
        }
    }
    for (kind, value) in facts {
        // With room for the checksum.
        if out.len() - begin + 3 + value.len() + 7 <= PROXY_HEADER_MAX {
            push_tlv(out, *kind, value);
        }
    }
    push_tlv(out, tlv::CRC32C, &[0; 4]);
    let header = out.get_mut(begin..).unwrap_or_default();
    let end = header.len();
    let length = u16::try_from(end - FIXED).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(place) = header.get_mut(FIXED - 2..FIXED) {
        place.copy_from_slice(&length);
    }
    let sum = crc32c(header, 0..0).to_be_bytes();
    if let Some(place) = header.get_mut(end - 4..) {
        place.copy_from_slice(&sum);
    }
}

fn push_tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value.get(..usize::from(length)).unwrap_or_default());
}

/// Without the spelling of IPv4 in IPv6, which nobody else knows for the same client.
fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn wide(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
