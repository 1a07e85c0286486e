//! Packets for tokio-util: a decoder and an encoder that any of its `Framed` types takes. It never wants more bytes than
//! the largest packet has, and looks at no byte twice.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use evenkeel_wire::{PacketProgress, PacketRead, PacketRefusal, Packets};
use tokio_util::codec::{Decoder, Encoder};

use crate::framing::Framing;

/// Cuts a stream into packets and writes them, for [`tokio_util::codec`].
///
/// What is given and got is as the [`Framing`] says: bodies, or with [`Framing::whole`] whole packets. An end of the
/// stream within a packet is [`PacketError::EndedWithin`].
///
/// ```
/// use bytes::BytesMut;
/// use evenkeel_client::{Framing, PacketCodec};
/// use tokio_util::codec::{Decoder, Encoder};
///
/// let mut codec = PacketCodec::new(Framing::length("u16be")?);
/// let mut bytes = BytesMut::new();
/// codec.encode("hello", &mut bytes)?;
/// assert_eq!(&bytes[..], b"\0\x05hello");
/// assert_eq!(codec.decode(&mut bytes)?.unwrap(), "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PacketCodec {
    framing: Framing,
    received: Packets,
    progress: PacketProgress,
    /// Whether what is decoded is left whole, whatever the framing says.
    keeps_whole: bool,
}

/// A whole packet that has been looked at already.
pub(crate) struct Packed<'a>(pub(crate) &'a [u8]);

impl PacketCodec {
    /// A codec at the beginning of a stream.
    #[must_use]
    pub fn new(framing: Framing) -> PacketCodec {
        let received = framing.received();
        PacketCodec { framing, received, progress: PacketProgress::default(), keeps_whole: false }
    }

    /// The same, which gives packets whole: their ids are to be looked at.
    pub(crate) fn keeping_whole(framing: Framing) -> PacketCodec {
        PacketCodec { keeps_whole: true, ..PacketCodec::new(framing) }
    }

    /// What a caller gets of a packet that was kept whole.
    pub(crate) fn unpack(&self, packet: Bytes) -> Bytes {
        self.framing.unpack(&self.received, packet)
    }
}

impl Decoder for PacketCodec {
    type Item = Bytes;
    type Error = PacketError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Bytes>, PacketError> {
        if from.is_empty() {
            return Ok(None);
        }
        match self.received.read(from, &mut self.progress).map_err(PacketError::Refused)? {
            PacketRead::Whole { length } => {
                let packet = from.split_to(length.min(from.len())).freeze();
                Ok(Some(if self.keeps_whole { packet } else { self.unpack(packet) }))
            }
            PacketRead::Partial { total } => {
                // No more than the largest packet has: what is larger has been refused.
                from.reserve(total.unwrap_or_default().saturating_sub(from.len()));
                Ok(None)
            }
        }
    }

    fn decode_eof(&mut self, from: &mut BytesMut) -> Result<Option<Bytes>, PacketError> {
        match self.decode(from)? {
            None if !from.is_empty() => Err(PacketError::EndedWithin),
            packet => Ok(packet),
        }
    }
}

impl<B: AsRef<[u8]>> Encoder<B> for PacketCodec {
    type Error = PacketError;

    fn encode(&mut self, given: B, to: &mut BytesMut) -> Result<(), PacketError> {
        let packet = self.framing.pack(given.as_ref()).map_err(PacketError::Refused)?;
        self.encode(Packed(&packet), to)
    }
}

impl Encoder<Packed<'_>> for PacketCodec {
    type Error = PacketError;

    fn encode(&mut self, packet: Packed<'_>, to: &mut BytesMut) -> Result<(), PacketError> {
        to.extend_from_slice(packet.0);
        Ok(())
    }
}

/// Why a stream has no next packet, or takes none.
#[derive(Debug)]
#[non_exhaustive]
pub enum PacketError {
    /// The stream failed.
    Io(io::Error),
    /// What came, or was to be sent, is no packet.
    Refused(PacketRefusal),
    /// The stream ended in the middle of a packet.
    EndedWithin,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketError::Io(error) => error.fmt(f),
            PacketError::Refused(refusal) => refusal.fmt(f),
            PacketError::EndedWithin => f.write_str("the stream ended within a packet"),
        }
    }
}

impl std::error::Error for PacketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PacketError::Io(error) => Some(error),
            PacketError::Refused(refusal) => Some(refusal),
            PacketError::EndedWithin => None,
        }
    }
}

impl From<io::Error> for PacketError {
    fn from(error: io::Error) -> PacketError {
        PacketError::Io(error)
    }
}
