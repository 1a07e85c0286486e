//! What a packet is, on the way out and on the way back, in the words of a caller. Cutting and writing are
//! evenkeel-wire's; nothing here may look for the end of a packet by itself.

use std::borrow::Cow;

use bytes::Bytes;
use evenkeel_wire::{DELIMITER_MAX, LengthField, LengthKind, PacketCut, PacketRefusal, Packets};

use crate::error::Error;

/// Bytes of the largest packet, unless told otherwise.
const PACKET_MAX: usize = 2 * 1024 * 1024;

/// Bytes of the longest id.
const ID_MAX: usize = 16;

/// How a stream is cut into packets, and what of them a caller gives and gets.
///
/// By default callers give and get bodies: the header or delimiter is added on sending and taken off on receiving.
/// Framing is looked at as a whole when a connection is made; what cannot be is [`Error::Unusable`] then.
///
/// ```
/// use evenkeel_client::Framing;
///
/// // A magic word, four bytes of length that count the body, the body.
/// let framing = Framing::length("u32be")?.offset(2).header(*b"EK").max(64 * 1024);
/// # Ok::<(), evenkeel_client::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Framing {
    sent: Packets,
    received: PacketCut,
    reply_max: Option<usize>,
    header: Vec<u8>,
    whole: bool,
    id: Option<IdPlace>,
}

/// Where packets carry their id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IdPlace {
    offset: usize,
    size: usize,
}

/// An id of 16 bytes at most, filled up with zeros: all ids of a connection have the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id([u8; ID_MAX]);

impl Framing {
    /// A field of this type at the beginning of each packet counts the bytes that follow it.
    ///
    /// Types: `u8` to `u64` and `i8` to `i64`, from 16 bits on with `be`, `le` or nothing for the order of this machine;
    /// `varint` (Protocol Buffers); `decimal` (`5:hello`) or, with so many digits, `decimal4`; Swoole's letters
    /// `c C s S n v l L N V q Q J P`. [`Error::Unusable`] names one that there is not.
    pub fn length(kind: &str) -> Result<Framing, Error> {
        match LengthField::new(kind) {
            Some(field) => Ok(Framing::of(PacketCut::Length(field))),
            None => Err(Error::Unusable(format!(
                "`{kind}` is no type of length field; one is `u32be`, and others are {}",
                LengthKind::names().filter(|name| name.len() > 1).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Lines: each packet ends with a line feed.
    #[must_use]
    pub fn lines() -> Framing {
        Framing::of(PacketCut::End(b"\n".to_vec()))
    }

    /// Each packet ends with these bytes, which cannot be within one. There are 1 to 32 of them, else
    /// [`Error::Unusable`].
    pub fn end(delimiter: &[u8]) -> Result<Framing, Error> {
        match delimiter.len() {
            1..=DELIMITER_MAX => Ok(Framing::of(PacketCut::End(delimiter.to_vec()))),
            length => Err(Error::Unusable(format!(
                "a delimiter has 1 to {DELIMITER_MAX} bytes, not {length}"
            ))),
        }
    }

    /// MQTT control packets, given and got whole.
    #[must_use]
    pub fn mqtt() -> Framing {
        Framing::of(PacketCut::Mqtt)
    }

    /// Redis: commands are sent (arrays of bulk strings, or inline), values of RESP2 and RESP3 received, both whole.
    #[must_use]
    pub fn redis() -> Framing {
        Framing { received: PacketCut::Redis, ..Framing::of(PacketCut::RedisCommands) }
    }

    fn of(cut: PacketCut) -> Framing {
        Framing::from(Packets { cut, max: PACKET_MAX })
    }

    /// Bytes of a packet before its length field (0). Other framings have no field, and are not changed.
    #[must_use]
    pub fn offset(mut self, bytes: u32) -> Framing {
        self.change_field(|field| field.offset = bytes as usize);
        self
    }

    /// Bytes of a packet that its length field does not count; 0 where it counts the whole packet. Default: those up to
    /// the end of the field. Other framings have no field, and are not changed.
    #[must_use]
    pub fn body_offset(mut self, bytes: u32) -> Framing {
        self.change_field(|field| field.body_offset = Some(bytes as usize));
        self
    }

    fn change_field(&mut self, change: impl Fn(&mut LengthField)) {
        for cut in [&mut self.sent.cut, &mut self.received] {
            if let PacketCut::Length(field) = cut {
                change(field);
            }
        }
    }

    /// Bytes of the largest packet that is sent, its header or delimiter included (2 MiB).
    #[must_use]
    pub fn max(mut self, bytes: usize) -> Framing {
        self.sent.max = bytes;
        self
    }

    /// Bytes of the largest packet that is received (as [`Framing::max`]).
    #[must_use]
    pub fn reply_max(mut self, bytes: usize) -> Framing {
        self.reply_max = Some(bytes);
        self
    }

    /// What the header has around its length field, from the packet's first byte on: a magic word, a version. What it
    /// does not reach is 0, and where the field is, the length goes over it.
    #[must_use]
    pub fn header(mut self, template: impl Into<Vec<u8>>) -> Framing {
        self.header = template.into();
        self
    }

    /// Packets are given and got whole, header or delimiter included.
    #[must_use]
    pub fn whole(mut self) -> Framing {
        self.whole = true;
        self
    }

    /// Packets and their replies carry an id: so many bytes (1 to 16), behind the first `offset` bytes of the whole
    /// packet. Requests are then answered in any order; without it, in the order they were sent in.
    #[must_use]
    pub fn matching(mut self, offset: u32, size: usize) -> Framing {
        self.id = Some(IdPlace { offset: offset as usize, size });
        self
    }

    /// Whether packets have ids.
    pub(crate) fn has_ids(&self) -> bool {
        self.id.is_some()
    }

    /// What is received.
    pub(crate) fn received(&self) -> Packets {
        Packets { cut: self.received.clone(), max: self.reply_max.unwrap_or(self.sent.max) }
    }

    /// Finds what cannot be, before anything is connected to.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        let least = self.sent.max.min(self.reply_max.unwrap_or(self.sent.max));
        if let PacketCut::Length(field) = &self.sent.cut
            && field.offset.saturating_add(field.kind.width().unwrap_or(1)) > least
        {
            return Err(Error::Unusable(format!(
                "the length field stands behind {} bytes, and the largest packet has {least}",
                field.offset
            )));
        }
        match self.id {
            Some(IdPlace { size, .. }) if size == 0 || size > ID_MAX => {
                Err(Error::Unusable(format!("an id has 1 to {ID_MAX} bytes, not {size}")))
            }
            Some(IdPlace { offset, size }) if offset.saturating_add(size) > least => {
                Err(Error::Unusable(format!(
                    "the id stands behind {offset} bytes, and the largest packet has {least}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The whole packet of what a caller gives; what would be read back as anything else is refused.
    pub(crate) fn pack<'a>(&self, given: &'a [u8]) -> Result<Cow<'a, [u8]>, PacketRefusal> {
        if self.whole {
            self.sent.is_one(given)?;
            return Ok(Cow::Borrowed(given));
        }
        let mut packet = Vec::new();
        self.sent.write(given, &self.header, &mut packet)?;
        Ok(Cow::Owned(packet))
    }

    /// What a caller gets of a whole packet.
    pub(crate) fn unpack(&self, received: &Packets, packet: Bytes) -> Bytes {
        if self.whole { packet } else { packet.slice_ref(received.body_of(&packet)) }
    }

    /// The id of a whole packet; none if it is too short for one, or packets have none.
    pub(crate) fn id_of(&self, packet: &[u8]) -> Option<Id> {
        let IdPlace { offset, size } = self.id?;
        let bytes = packet.get(offset..)?.get(..size)?;
        let mut id = [0; ID_MAX];
        id.get_mut(..size)?.copy_from_slice(bytes);
        Some(Id(id))
    }
}

/// Packets cut in the same way in both directions.
impl From<Packets> for Framing {
    fn from(packets: Packets) -> Framing {
        let received = packets.cut.clone();
        Framing {
            sent: packets,
            received,
            reply_max: None,
            header: Vec::new(),
            whole: false,
            id: None,
        }
    }
}
