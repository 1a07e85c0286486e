//! The `packet` table: how the packets of a framed protocol are cut, and what may be said of them.

use super::TcpListener;
use super::value::{BalancePer, Bytes, Bytestring, PacketLength, PacketProtocol, PacketRetry};

section! {
    /// How a stream is cut into packets: by a field that says how long each is, by what each ends with, or by the rules of a known protocol.
    pub struct Packet from protocol {
        /// A protocol whose rules are known here. In its place: `length` or `end`.
        protocol: Option<PacketProtocol> = None,
        /// The type of the field that says how long a packet is. A packet has `body-offset` bytes and as many as it says.
        length: Option<PacketLength> = None,
        /// Bytes of a packet before that field.
        offset: u32 = 0,
        /// Bytes of a packet that the field does not count; 0 where it counts everything. Default: those up to the end of the field.
        body_offset: Option<u32> = None,
        /// What every packet ends with: 1 to 32 bytes, as text or as `hex:...`. It belongs to the packet.
        end: Option<Bytestring> = None,
        /// The largest packet from a client, header or end included. A larger one ends the connection as soon as its header is there.
        max: Bytes = Bytes::kib(2048),
        /// The largest reply. Default: `max`.
        reply_max: Option<Bytes> = None,
        /// Where connections are balanced: pass a packet on as soon as its length is known, before it is whole. Then it is not held.
        stream_large: bool = false,
    }
}

section! {
    /// The packet that a backend gets before those of a client.
    pub struct Prologue from body {
        /// What is in it: text with `{client.ip}`, `{client.port}` and `{connection.id}`. Other braces are braces.
        body: String = required,
        /// The bytes of its header, as text or as `hex:...`; its length is written over them. Default: zeros.
        header: Option<Bytestring> = None,
    }
}

section! {
    /// What the last reply to a packet is told by.
    pub struct LastReply from bytes {
        /// The bytes, as text or as `hex:...`; any of several.
        bytes: Vec<Bytestring> = required,
        /// Bytes of a reply before them, those of its header included.
        offset: u32 = 0,
    }
}

section! {
    /// Where packets and their replies have the id that they are matched by.
    pub struct PacketId {
        /// Bytes of a packet before its id.
        offset: u32 = required,
        /// Bytes of the id, 1 to 16.
        size: u32 = required,
    }
}

section! {
    /// A packet of clients that is answered here, and reaches no backend.
    pub struct Ping {
        /// The whole packet, as text or as `hex:...`.
        packet: Bytestring = required,
        /// The whole reply, as text or as `hex:...`.
        reply: Bytestring = required,
    }
}

/// What one read may bring.
const READ: u64 = 64 * 1024;

impl TcpListener {
    /// The most that Evenkeel holds of packets and replies for one connection; none where packets are not known.
    pub fn packets_held_max(&self) -> Option<Bytes> {
        let packet = self.packet.as_ref()?;
        let (max, buffer) = (packet.max.0, self.buffer_max.0);
        let reply_max = packet.reply_max.unwrap_or(packet.max).0;
        if self.balance_per == BalancePer::Connection {
            let (up, down) = if packet.stream_large { (0, 0) } else { (max, reply_max) };
            // Each way a packet, what came with its end, and what a slow reader has not taken.
            return Some(Bytes(up + down + 2 * (READ + buffer.min(READ))));
        }
        let copies = if self.retry == PacketRetry::Idempotent { 2 } else { 1 };
        let waiting = match self.r#match {
            // They wait for nobody, but each may come in parts, over a connection of its own.
            Some(_) => reply_max * u64::from(self.in_flight_max),
            None => buffer + 2 * reply_max,
        };
        Some(Bytes(max + copies * max.max(buffer) + waiting + 4 * READ))
    }
}
