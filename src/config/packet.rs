//! The `packet` table: how the packets of a framed protocol are cut, and what may be said of them.

use super::value::{Bytes, Bytestring, PacketLength, PacketProtocol};

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
