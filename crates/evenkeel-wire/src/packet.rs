//! Where one packet of a stream ends: by a length field, by a delimiter, or by the rules of a known protocol.
//! It must never want more bytes than the largest packet allowed has, nor look at a byte again that it has looked at. A
//! packet that cannot be is refused as soon as its header shows it, whatever of its body has come.

mod write;

use std::fmt;

/// How a stream is cut into packets, and how large one may be.
///
/// ```
/// use evenkeel_wire::{LengthField, PacketCut, PacketProgress, PacketRead, Packets};
///
/// // Four bytes of length, most significant first, and then the body.
/// let cut = PacketCut::Length(LengthField::new("u32be").unwrap());
/// let packets = Packets { cut, max: 2_000_000 };
/// let mut progress = PacketProgress::default();
/// assert_eq!(packets.read(b"\0\0\0", &mut progress), Ok(PacketRead::Partial { total: None }));
/// assert_eq!(packets.read(b"\0\0\0\x02h", &mut progress), Ok(PacketRead::Partial { total: Some(6) }));
/// assert_eq!(packets.read(b"\0\0\0\x02hi\0", &mut progress), Ok(PacketRead::Whole { length: 6 }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packets {
    /// How the end of one is found.
    pub cut: PacketCut,
    /// Bytes of the largest that is allowed, its header or delimiter included.
    pub max: usize,
}

/// How the end of a packet is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketCut {
    /// A field at a fixed place says how long it is.
    Length(LengthField),
    /// It ends with these bytes, 1 to 32 of them, which belong to it.
    End(Vec<u8>),
    /// MQTT control packets (OASIS MQTT 5.0, 2.1).
    Mqtt,
    /// Commands of Redis's clients: arrays of bulk strings, and inline commands of one line (the Redis serialization
    /// protocol specification). What Redis would not answer, or answer twice, is refused.
    RedisCommands,
    /// Values of RESP2 and RESP3, as Redis answers.
    Redis,
}

/// Bytes of a delimiter at most.
pub const DELIMITER_MAX: usize = 32;

/// A field that says how long its packet is: `total = body_offset + value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthField {
    /// How the value is written.
    pub kind: LengthKind,
    /// Bytes of the packet before the field.
    pub offset: usize,
    /// Bytes of the packet that the value does not count; those up to the end of the field if none are named.
    pub body_offset: Option<usize>,
}

/// How the value of a length field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthKind {
    /// A binary number.
    Binary {
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// Whether it may be negative, which is refused.
        signed: bool,
        /// Whether the most significant byte comes first.
        big_endian: bool,
    },
    /// Seven bits a byte, the least significant first, the top bit saying that more follow (LEB128; Protocol Buffers).
    Varint {
        /// Bytes that it may have.
        bytes_max: u8,
    },
    /// So many digits.
    Digits(u8),
    /// Digits up to any other byte, which ends the field and belongs to it.
    Decimal,
}

/// Digits that a number without a fixed width may have.
const DECIMAL_MAX: usize = 20;

/// Names of length fields with what they mean, and Swoole's letters for the same (`package_length_type`).
const KINDS: [(&str, LengthKind); 36] = {
    const fn binary(bytes: u8, signed: bool, big_endian: bool) -> LengthKind {
        LengthKind::Binary { bytes, signed, big_endian }
    }
    const NATIVE_BIG: bool = cfg!(target_endian = "big");
    [
        ("u8", binary(1, false, true)),
        ("i8", binary(1, true, true)),
        ("u16be", binary(2, false, true)),
        ("u16le", binary(2, false, false)),
        ("u16", binary(2, false, NATIVE_BIG)),
        ("i16be", binary(2, true, true)),
        ("i16le", binary(2, true, false)),
        ("i16", binary(2, true, NATIVE_BIG)),
        ("u32be", binary(4, false, true)),
        ("u32le", binary(4, false, false)),
        ("u32", binary(4, false, NATIVE_BIG)),
        ("i32be", binary(4, true, true)),
        ("i32le", binary(4, true, false)),
        ("i32", binary(4, true, NATIVE_BIG)),
        ("u64be", binary(8, false, true)),
        ("u64le", binary(8, false, false)),
        ("u64", binary(8, false, NATIVE_BIG)),
        ("i64be", binary(8, true, true)),
        ("i64le", binary(8, true, false)),
        ("i64", binary(8, true, NATIVE_BIG)),
        ("varint", LengthKind::Varint { bytes_max: 10 }),
        ("decimal", LengthKind::Decimal),
        ("c", binary(1, true, true)),
        ("C", binary(1, false, true)),
        ("s", binary(2, true, NATIVE_BIG)),
        ("S", binary(2, false, NATIVE_BIG)),
        ("n", binary(2, false, true)),
        ("v", binary(2, false, false)),
        ("l", binary(4, true, NATIVE_BIG)),
        ("L", binary(4, false, NATIVE_BIG)),
        ("N", binary(4, false, true)),
        ("V", binary(4, false, false)),
        ("q", binary(8, true, NATIVE_BIG)),
        ("Q", binary(8, false, NATIVE_BIG)),
        ("J", binary(8, false, true)),
        ("P", binary(8, false, false)),
    ]
};

impl LengthKind {
    /// By its name: `u32be`, `varint`, `decimal`, `decimal4` for four digits, or a letter of Swoole's.
    #[must_use]
    pub fn named(name: &str) -> Option<LengthKind> {
        if let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) {
            return Some(*kind);
        }
        let digits: u8 = name.strip_prefix("decimal")?.parse().ok()?;
        (1..=18).contains(&digits).then_some(LengthKind::Digits(digits))
    }

    /// Every name there is, Swoole's letters last; `decimal4` stands for any number of digits.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(name, _)| *name)
    }

    /// Bytes of the field, where they are always the same.
    #[must_use]
    pub fn width(self) -> Option<usize> {
        match self {
            LengthKind::Binary { bytes, .. } | LengthKind::Digits(bytes) => {
                Some(usize::from(bytes))
            }
            LengthKind::Varint { .. } | LengthKind::Decimal => None,
        }
    }
}

impl LengthField {
    /// A field of that name at the beginning of the packet, which counts all that follows it.
    #[must_use]
    pub fn new(kind: &str) -> Option<LengthField> {
        Some(LengthField { kind: LengthKind::named(kind)?, offset: 0, body_offset: None })
    }
}

/// How far a packet that is not whole has been looked at. A fresh one stands for the beginning of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketProgress {
    /// Bytes that need not be looked at again.
    looked_at: usize,
    /// Where the line begins that is not whole, among Redis's values.
    line: usize,
    /// Values that are still to come, in Redis's aggregates.
    owed: u64,
    total: Option<usize>,
}

impl PacketProgress {
    /// Bytes of the whole packet, once they are known.
    #[must_use]
    pub fn total(&self) -> Option<usize> {
        self.total
    }
}

/// What came of looking for the end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketRead {
    /// More bytes are needed; how many in all may be known already.
    Partial {
        /// Bytes of the whole packet.
        total: Option<usize>,
    },
    /// The packet is whole, and has so many bytes.
    Whole {
        /// At least 1.
        length: usize,
    },
}

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketRefusal {
    /// Its length is negative.
    Negative,
    /// It would have no bytes at all.
    Empty,
    /// It would end within its own header.
    ShorterThanHeader,
    /// It is longer than allowed, or would be.
    TooLong,
    /// Its length is not written as it must be.
    Malformed,
}

impl PacketRefusal {
    /// In words, as they are logged.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PacketRefusal::Negative => "a packet of negative length",
            PacketRefusal::Empty => "a packet of no bytes",
            PacketRefusal::ShorterThanHeader => "a packet that is shorter than its header",
            PacketRefusal::TooLong => "a packet that is too long",
            PacketRefusal::Malformed => "a packet whose length cannot be read",
        }
    }
}

impl fmt::Display for PacketRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PacketRefusal {}

impl Packets {
    /// Looks for the end of the packet that `bytes` begin with. When more have come, it is asked again with all of them
    /// and the same `progress`, which begins anew with the next packet.
    pub fn read(
        &self,
        bytes: &[u8],
        progress: &mut PacketProgress,
    ) -> Result<PacketRead, PacketRefusal> {
        let read = match (&self.cut, progress.total) {
            (_, Some(total)) => whole_or_not(bytes, total),
            (PacketCut::Length(field), None) => self.by_length(field, bytes)?,
            (PacketCut::Mqtt, None) => {
                let kind = LengthKind::Varint { bytes_max: 4 };
                self.by_length(&LengthField { kind, offset: 1, body_offset: None }, bytes)?
            }
            (PacketCut::End(end), None) => self.by_end(end, bytes, progress)?,
            (PacketCut::Redis | PacketCut::RedisCommands, None) => {
                self.by_values(bytes, progress)?
            }
        };
        match read {
            PacketRead::Whole { .. } => *progress = PacketProgress::default(),
            PacketRead::Partial { total } => progress.total = total,
        }
        Ok(read)
    }

    fn by_length(&self, field: &LengthField, bytes: &[u8]) -> Result<PacketRead, PacketRefusal> {
        let unread = bytes.get(field.offset..).unwrap_or_default();
        let Some((value, width)) = value_of(field.kind, unread)? else {
            // The longest header there is may be longer than what is allowed.
            if bytes.len() >= self.max {
                return Err(PacketRefusal::TooLong);
            }
            return Ok(PacketRead::Partial { total: None });
        };
        let header = field.offset + width;
        let body_offset = field.body_offset.unwrap_or(header);
        let total = usize::try_from(value).ok().and_then(|value| value.checked_add(body_offset));
        let total = total.filter(|total| *total <= self.max).ok_or(PacketRefusal::TooLong)?;
        match total {
            0 => Err(PacketRefusal::Empty),
            total if total < header => Err(PacketRefusal::ShorterThanHeader),
            total => Ok(whole_or_not(bytes, total)),
        }
    }

    fn by_end(
        &self,
        end: &[u8],
        bytes: &[u8],
        progress: &mut PacketProgress,
    ) -> Result<PacketRead, PacketRefusal> {
        // A part of the delimiter may have been the last that was seen.
        let from = progress.looked_at.saturating_sub(end.len().saturating_sub(1));
        let allowed = &bytes[..bytes.len().min(self.max)];
        if let Some(at) = find(end, allowed.get(from..).unwrap_or_default()) {
            return Ok(PacketRead::Whole { length: from + at + end.len() });
        }
        if bytes.len() >= self.max {
            return Err(PacketRefusal::TooLong);
        }
        progress.looked_at = bytes.len();
        Ok(PacketRead::Partial { total: None })
    }

    fn by_values(
        &self,
        bytes: &[u8],
        progress: &mut PacketProgress,
    ) -> Result<PacketRead, PacketRefusal> {
        if progress.looked_at == 0 {
            progress.owed = 1;
        }
        while progress.owed > 0 {
            let seen = progress.looked_at.max(progress.line);
            // The first half of its end may have been the last that was seen.
            let from = seen.saturating_sub(usize::from(seen > progress.line));
            let Some(end) = find(b"\r\n", bytes.get(from..).unwrap_or_default()) else {
                progress.looked_at = bytes.len().max(progress.line);
                if bytes.len() >= self.max {
                    return Err(PacketRefusal::TooLong);
                }
                return Ok(PacketRead::Partial { total: None });
            };
            let line = bytes.get(progress.line..from + end).unwrap_or_default();
            let (body, more) = match (&self.cut, progress.line) {
                (PacketCut::RedisCommands, 0) => command(line)?,
                (PacketCut::RedisCommands, _) if !matches!(line, [b'$', b'0'..=b'9', ..]) => {
                    return Err(PacketRefusal::Malformed);
                }
                _ => value(line)?,
            };
            let owed = progress.owed - 1 + more;
            let after = (from + end + 2).saturating_add(body);
            // Each that is to come has a byte and an end of line at least.
            let least = usize::try_from(owed).unwrap_or(usize::MAX).saturating_mul(3);
            if after.saturating_add(least) > self.max {
                return Err(PacketRefusal::TooLong);
            }
            (progress.line, progress.looked_at, progress.owed) = (after, after, owed);
        }
        Ok(whole_or_not(bytes, progress.line))
    }
}

fn whole_or_not(bytes: &[u8], total: usize) -> PacketRead {
    if bytes.len() >= total {
        PacketRead::Whole { length: total }
    } else {
        PacketRead::Partial { total: Some(total) }
    }
}

/// The value of a field and its width, if it has come.
fn value_of(kind: LengthKind, bytes: &[u8]) -> Result<Option<(u64, usize)>, PacketRefusal> {
    match kind {
        LengthKind::Binary { bytes: width, signed, big_endian } => {
            let width = usize::from(width);
            let Some(field) = bytes.get(..width) else { return Ok(None) };
            let mut value = [0; 8];
            if big_endian {
                value[8 - width..].copy_from_slice(field);
            } else {
                value[8 - width..].copy_from_slice(field);
                value[8 - width..].reverse();
            }
            let value = u64::from_be_bytes(value);
            if signed && value >> (8 * width - 1) == 1 {
                return Err(PacketRefusal::Negative);
            }
            Ok(Some((value, width)))
        }
        LengthKind::Varint { bytes_max } => varint(bytes, usize::from(bytes_max)),
        LengthKind::Digits(width) => {
            let width = usize::from(width);
            let come = &bytes[..bytes.len().min(width)];
            let value = digits(come)?;
            Ok((come.len() == width).then_some((value, width)))
        }
        LengthKind::Decimal => {
            let Some(end) = bytes.iter().position(|byte| !byte.is_ascii_digit()) else {
                let is_long = bytes.len() > DECIMAL_MAX;
                return if is_long { Err(PacketRefusal::Malformed) } else { Ok(None) };
            };
            if end == 0 || end > DECIMAL_MAX {
                return Err(PacketRefusal::Malformed);
            }
            Ok(Some((digits(&bytes[..end])?, end + 1)))
        }
    }
}

fn varint(bytes: &[u8], bytes_max: usize) -> Result<Option<(u64, usize)>, PacketRefusal> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(bytes_max).enumerate() {
        let part = u64::from(byte & 0x7f);
        let shifted = part << (7 * at);
        if shifted >> (7 * at) != part {
            return Err(PacketRefusal::TooLong);
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= bytes_max { Err(PacketRefusal::Malformed) } else { Ok(None) }
}

fn digits(text: &[u8]) -> Result<u64, PacketRefusal> {
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        let digit = digit.ok_or(PacketRefusal::Malformed)?;
        let value = value.checked_mul(10).and_then(|value| value.checked_add(digit));
        value.ok_or(PacketRefusal::TooLong)
    })
}

/// The same of a command.
fn command(line: &[u8]) -> Result<(usize, u64), PacketRefusal> {
    match line.first() {
        Some(b'*') => match count(&line[1..])? {
            // Redis passes over them without a word.
            None | Some(0) => Err(PacketRefusal::Malformed),
            Some(words) => Ok((0, words)),
        },
        Some(byte) if byte.is_ascii_alphabetic() && !line.contains(&b'\n') => Ok((0, 0)),
        _ => Err(PacketRefusal::Malformed),
    }
}

/// What the first line of a value says: bytes that follow it, and values that are owed in its place.
fn value(line: &[u8]) -> Result<(usize, u64), PacketRefusal> {
    let Some((kind, text)) = line.split_first() else { return Ok((0, 0)) };
    match kind {
        b'$' | b'!' | b'=' => match count(text)? {
            Some(bytes) => {
                let bytes = usize::try_from(bytes).map_err(|_| PacketRefusal::TooLong)?;
                Ok((bytes.saturating_add(2), 0))
            }
            None => Ok((0, 0)),
        },
        b'*' | b'~' | b'>' => Ok((0, count(text)?.unwrap_or_default())),
        b'%' => Ok((0, 2 * count(text)?.unwrap_or_default())),
        // Attributes stand before the value that they are of.
        b'|' => Ok((0, 2 * count(text)?.unwrap_or_default() + 1)),
        // What is simple has a line.
        _ if text.contains(&b'\n') => Err(PacketRefusal::Malformed),
        _ => Ok((0, 0)),
    }
}

/// A length or number of Redis's; none for the `-1` of what is not there.
fn count(text: &[u8]) -> Result<Option<u64>, PacketRefusal> {
    match text {
        b"-1" => Ok(None),
        [b'-', ..] => Err(PacketRefusal::Negative),
        [] => Err(PacketRefusal::Malformed),
        // Twice of it, and one more, is a number too.
        _ if text.len() > 18 => Err(PacketRefusal::TooLong),
        _ => digits(text).map(Some),
    }
}

/// Where `wanted` begins.
fn find(wanted: &[u8], bytes: &[u8]) -> Option<usize> {
    let (&first, rest) = wanted.split_first()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == first)?;
        if bytes[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}
