//! What backends are told of a client that cannot read it from a PROXY header: a packet in front of a connection, or some
//! bytes in front of every packet's body.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use evenkeel_wire::{PacketRefusal, Packets};

/// Bytes that the body of a packet has more, where it says who sent it.
pub(crate) const PREFIX_BYTES: usize = 26;

/// A packet that says for whom a connection is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prologue {
    /// Its body, in pieces.
    pub(crate) body: Vec<Piece>,
    /// Bytes of its header; those of its length are overwritten.
    pub(crate) header: Vec<u8>,
}

/// A piece of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    ClientIp,
    ClientPort,
    ConnectionId,
}

/// A client, as backends are told of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Who {
    pub(crate) ip: Option<IpAddr>,
    /// 0 where it is not known.
    pub(crate) port: u16,
    pub(crate) id: u64,
}

/// The number of the first connection: later than all of a process that ran before, at less than 2^20 connections a second.
static NEXT_ID: LazyLock<AtomicU64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    AtomicU64::new(now.as_secs() << 20)
});

impl Who {
    /// With a number that no other connection has.
    pub(crate) fn new(ip: Option<IpAddr>, port: u16) -> Who {
        Who { ip, port, id: NEXT_ID.fetch_add(1, Ordering::Relaxed) }
    }

    /// The address in 16 bytes, that of IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2), the port in 2 and the number in 8, each
    /// with its most significant byte first.
    pub(crate) fn prefix(&self) -> [u8; PREFIX_BYTES] {
        let address = match self.ip {
            Some(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(address)) => address.octets(),
            None => [0; 16],
        };
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..16].copy_from_slice(&address);
        prefix[16..18].copy_from_slice(&self.port.to_be_bytes());
        prefix[18..].copy_from_slice(&self.id.to_be_bytes());
        prefix
    }
}

impl Prologue {
    /// The packet for this client.
    pub(crate) fn packet(&self, packets: &Packets, who: &Who) -> Result<Vec<u8>, PacketRefusal> {
        let mut body = String::new();
        for piece in &self.body {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::ClientIp => {
                    body.push_str(
                        &who.ip.map(|ip| ip.to_canonical().to_string()).unwrap_or_default(),
                    );
                }
                Piece::ClientPort => body.push_str(&who.port.to_string()),
                Piece::ConnectionId => body.push_str(&who.id.to_string()),
            }
        }
        let mut packet = Vec::new();
        packets.write(body.as_bytes(), &self.header, &mut packet)?;
        Ok(packet)
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_wire::{LengthField, PacketCut};

    use super::*;

    #[test]
    fn a_client_is_told_in_a_packet_or_in_bytes_of_fixed_size() {
        let who = Who { ip: Some([192, 0, 2, 7].into()), port: 513, id: 3 };
        let mut wanted = [0; PREFIX_BYTES];
        wanted[10..12].fill(0xff);
        wanted[12..].copy_from_slice(&[192, 0, 2, 7, 2, 1, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(who.prefix(), wanted);

        let packets =
            Packets { cut: PacketCut::Length(LengthField::new("u16be").unwrap()), max: 100 };
        let text = |text: &str| Piece::Text(text.to_owned());
        let body =
            vec![text("{"), Piece::ClientIp, text(" "), Piece::ClientPort, Piece::ConnectionId];
        let prologue = Prologue { body, header: Vec::new() };
        assert_eq!(prologue.packet(&packets, &who).unwrap(), b"\0\x0f{192.0.2.7 5133");
        let unknown = Who { ip: None, port: 0, id: 4 };
        assert_eq!(prologue.packet(&packets, &unknown).unwrap(), b"\0\x04{ 04");
    }

    #[test]
    fn no_two_connections_have_the_same_number() {
        let ids = [(); 3].map(|()| Who::new(None, 0).id);
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    }
}
