//! What decides for hashing algorithms, as the number that tables are asked with: of a client's address, or of bytes
//! from a request. On the ring it is made as ketama makes it, so that other programs find the same backend.

use std::net::IpAddr;

use evenkeel_balance::{Algorithm, HashOn, hash_bytes, ring_key};

use super::Upstream;

/// The part of a request that decides for hashing algorithms; where a request lacks it, the client's address does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyPart {
    Source,
    /// The name that a TLS client asks for.
    Name,
    Header(Box<[u8]>),
    Cookie(Box<[u8]>),
    Path,
    Uri,
    Query(Box<[u8]>),
    /// Of each packet, where packets are balanced.
    Packet(Part),
    /// Of a connection's first packet, for all of them.
    FirstPacket(Part),
}

impl KeyPart {
    pub(crate) fn is_first_packet(&self) -> bool {
        matches!(self, KeyPart::FirstPacket(_))
    }
}

/// Some bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

impl Part {
    /// These bytes, or as many of them as the packet has.
    pub(crate) fn of(self, packet: &[u8]) -> &[u8] {
        let rest = packet.get(self.offset..).unwrap_or_default();
        &rest[..rest.len().min(self.size)]
    }
}

impl Upstream {
    /// The key of a client's address without its port, so that all connections of one host go together.
    pub(crate) fn source_key(&self, client: Option<IpAddr>) -> u64 {
        key_of_address(&self.rules.balance, client)
    }

    /// The key of a connection: of the name that its client asks for, where that decides and is known, or of its address.
    pub(crate) fn stream_key(&self, client: Option<IpAddr>, name: Option<&str>) -> u64 {
        match name {
            Some(name) if self.rules.key_part == KeyPart::Name => self.key_of(name.as_bytes()),
            _ => self.source_key(client),
        }
    }

    /// The key of a packet, where packets decide: its own, or what the first of its connection decided.
    pub(crate) fn packet_key(&self, packet: &[u8], first: &mut Option<u64>) -> Option<u64> {
        match &self.rules.key_part {
            KeyPart::Packet(part) => Some(self.key_of(part.of(packet))),
            KeyPart::FirstPacket(part) => {
                Some(*first.get_or_insert_with(|| self.key_of(part.of(packet))))
            }
            _ => None,
        }
    }

    /// The key of these bytes; 0 where no algorithm asks for it.
    pub(crate) fn key_of(&self, bytes: &[u8]) -> u64 {
        key_of_bytes(&self.rules.balance, bytes)
    }
}

/// The key of an address, for an algorithm.
pub(super) fn key_of_address(balance: &Algorithm, client: Option<IpAddr>) -> u64 {
    match client.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => key_of_bytes(balance, &address.octets()),
        Some(IpAddr::V6(address)) => key_of_bytes(balance, &address.octets()),
        None => 0,
    }
}

fn key_of_bytes(balance: &Algorithm, bytes: &[u8]) -> u64 {
    match balance {
        Algorithm::Hash { on: HashOn::Ring, .. } => ring_key(bytes),
        Algorithm::Hash { .. } => hash_bytes(bytes),
        _ => 0,
    }
}
