//! Making packets out of bodies, and bodies out of packets: what the reader takes for one packet, and nothing else.

use super::{
    LengthField, LengthKind, PacketCut, PacketProgress, PacketRead, PacketRefusal, Packets,
};

/// Digits or bytes of the longest field that has no fixed width.
const WIDTH_MAX: usize = 20;

impl Packets {
    /// Appends the packet that has this body: its header in front, or its delimiter behind. Bytes of the header that are
    /// not the length are those of `template`, and 0 beyond it; so is what ends a length of
    /// digits, where digits stand in its place, else `:`.
    ///
    /// A packet of MQTT or Redis is its own body, and must be exactly one. What [`Packets::read`] would not take for this
    /// one packet is refused, and nothing is appended.
    ///
    /// ```
    /// use evenkeel_wire::{LengthField, PacketCut, Packets};
    ///
    /// let cut = PacketCut::Length(LengthField::new("u16be").unwrap());
    /// let packets = Packets { cut, max: 100 };
    /// let mut to = Vec::new();
    /// packets.write(b"hello", &[], &mut to).unwrap();
    /// assert_eq!(to, b"\0\x05hello");
    /// assert_eq!(packets.body_of(&to), b"hello");
    /// ```
    pub fn write(
        &self,
        body: &[u8],
        template: &[u8],
        to: &mut Vec<u8>,
    ) -> Result<(), PacketRefusal> {
        let start = to.len();
        let whole = if body.len() > self.max { Err(PacketRefusal::TooLong) } else { Ok(()) };
        let written = whole.and_then(|()| self.append((&[body], template), self.max, to));
        let written = written.and_then(|()| self.is_one(&to[start..]));
        if written.is_err() {
            to.truncate(start);
        }
        written
    }

    /// Appends a packet again, with more at the beginning of its body, which its length field counts too. It may become
    /// longer than is allowed; it is refused only if its field cannot say so much, or if it has none.
    ///
    /// ```
    /// use evenkeel_wire::{LengthField, PacketCut, Packets};
    ///
    /// let cut = PacketCut::Length(LengthField::new("u16be").unwrap());
    /// let mut to = Vec::new();
    /// Packets { cut, max: 100 }.write_prefixed(b"\0\x05hello", b"oh, ", &mut to).unwrap();
    /// assert_eq!(to, b"\0\x09oh, hello");
    /// ```
    pub fn write_prefixed(
        &self,
        packet: &[u8],
        prefix: &[u8],
        to: &mut Vec<u8>,
    ) -> Result<(), PacketRefusal> {
        match self.cut {
            PacketCut::Length(_) => {
                self.append((&[prefix, self.body_of(packet)], packet), usize::MAX, to)
            }
            _ => Err(PacketRefusal::Malformed),
        }
    }

    /// Whether these bytes are exactly one packet.
    pub fn is_one(&self, packet: &[u8]) -> Result<(), PacketRefusal> {
        match self.read(packet, &mut PacketProgress::default())? {
            PacketRead::Whole { length } if length == packet.len() => Ok(()),
            PacketRead::Whole { .. } | PacketRead::Partial { .. } => Err(PacketRefusal::Malformed),
        }
    }

    /// What is in a whole packet beyond its header or delimiter; all of it, where a packet is its own body.
    #[must_use]
    pub fn body_of<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        let (from, to) = match &self.cut {
            PacketCut::Length(field) => (field.header_of(packet), packet.len()),
            PacketCut::End(end) => (0, packet.len().saturating_sub(end.len())),
            PacketCut::Mqtt | PacketCut::RedisCommands | PacketCut::Redis => (0, packet.len()),
        };
        packet.get(from..to).unwrap_or_default()
    }

    fn append(
        &self,
        (body, template): (&[&[u8]], &[u8]),
        max: usize,
        to: &mut Vec<u8>,
    ) -> Result<(), PacketRefusal> {
        if let PacketCut::Length(field) = &self.cut {
            let length = body.iter().map(|part| part.len()).sum();
            field.append_header(length, template, max, to)?;
        }
        for part in body {
            to.extend_from_slice(part);
        }
        if let PacketCut::End(end) = &self.cut {
            to.extend_from_slice(end);
        }
        Ok(())
    }
}

impl LengthField {
    /// Bytes of a packet before its body: up to the end of the field, or to where the field begins to count.
    fn header(&self, width: usize) -> usize {
        (self.offset + width).max(self.body_offset.unwrap_or_default())
    }

    fn header_of(&self, packet: &[u8]) -> usize {
        let unread = packet.get(self.offset..).unwrap_or_default();
        let width = super::value_of(self.kind, unread).ok().flatten().map_or(0, |(_, width)| width);
        self.header(width)
    }

    fn append_header(
        &self,
        body: usize,
        template: &[u8],
        max: usize,
        to: &mut Vec<u8>,
    ) -> Result<(), PacketRefusal> {
        let mut field = [0; WIDTH_MAX + 1];
        // A length that counts its own field may need a wider one for it.
        for width in self.widths() {
            let header = self.header(width);
            let total = header.checked_add(body).filter(|total| *total <= max);
            let total = total.ok_or(PacketRefusal::TooLong)?;
            let counted = self.body_offset.unwrap_or(self.offset + width);
            let value = total.checked_sub(counted).ok_or(PacketRefusal::Negative)?;
            if write_value(self.kind, value as u64, width, &mut field).is_none() {
                continue;
            }
            let start = to.len();
            to.extend(template.iter().copied().chain(std::iter::repeat(0)).take(header));
            // What ends a number without a fixed width is the protocol's own.
            let written = template.get(self.offset..).unwrap_or_default();
            let end = written.iter().position(|byte| !byte.is_ascii_digit());
            if let (LengthKind::Decimal, Some(at @ 1..)) = (self.kind, end) {
                field[width - 1] = written[at];
            }
            to[start + self.offset..start + self.offset + width].copy_from_slice(&field[..width]);
            return Ok(());
        }
        Err(PacketRefusal::TooLong)
    }

    /// Widths that the field may have, the narrowest first.
    fn widths(&self) -> std::ops::RangeInclusive<usize> {
        match self.kind {
            LengthKind::Binary { bytes, .. } => usize::from(bytes)..=usize::from(bytes),
            LengthKind::Digits(width) => usize::from(width)..=usize::from(width),
            LengthKind::Varint { bytes_max } => 1..=usize::from(bytes_max),
            LengthKind::Decimal => 2..=WIDTH_MAX + 1,
        }
    }
}

/// The value in so many bytes, if that is the way to write it.
fn write_value(
    kind: LengthKind,
    value: u64,
    width: usize,
    field: &mut [u8; WIDTH_MAX + 1],
) -> Option<&[u8]> {
    let field = field.get_mut(..width)?;
    match kind {
        LengthKind::Binary { signed, big_endian, .. } => {
            let bits = 8 * width as u32 - u32::from(signed);
            if bits < 64 && value >> bits != 0 {
                return None;
            }
            field.copy_from_slice(&value.to_be_bytes()[8 - width..]);
            if !big_endian {
                field.reverse();
            }
        }
        LengthKind::Varint { .. } => {
            let bits = 7 * width;
            if bits < 64 && value >> bits != 0 {
                return None;
            }
            for (at, byte) in field.iter_mut().enumerate() {
                let more = if at + 1 < width { 0x80 } else { 0 };
                *byte = (value >> (7 * at)) as u8 & 0x7f | more;
            }
        }
        LengthKind::Digits(_) => write_digits(value, field)?,
        LengthKind::Decimal => {
            let (end, digits) = field.split_last_mut()?;
            *end = b':';
            write_digits(value, digits)?;
        }
    }
    Some(field)
}

fn write_digits(mut value: u64, digits: &mut [u8]) -> Option<()> {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    (value == 0).then_some(())
}
