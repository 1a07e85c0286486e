//! The chunked coding, taken off a body as it passes (RFC 9112 section 7.1): the decoder says which
//! bytes are data and keeps what is cut off in the middle. It holds no data, never skips a byte it
//! has not judged, and drops chunk extensions, since whoever writes the body on frames it anew.

use crate::chars::is_text;
use crate::head::{measure, read_fields};
use crate::{Fields, Known, Limits, Reason, Refusal};

/// A size is at most this many digits, leading zeros counted.
const SIZE_DIGITS_MAX: u8 = 16;

/// Extensions of this many chunks may be as long as allowed, whatever the data; beyond that, they
/// are allowed one byte for each [`DATA_PER_EXTENSION_BYTE`] of data. Signed uploads send about 85
/// bytes with each 8 to 64 KiB; a flood of extensions (CVE-2023-39326) sends hardly any data.
const LONG_EXTENSIONS: usize = 64;
const DATA_PER_EXTENSION_BYTE: u64 = 16;

/// How large the framing of a chunked body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of the extensions of one chunk. All chunks together may have 64 times that, and one
    /// byte more for each 16 bytes of data.
    pub extension_max: usize,
    /// For the trailers; the limit for a first line means nothing here.
    pub trailers: Limits,
}

/// Takes the chunked coding off one body.
#[derive(Clone, Debug)]
pub struct Chunked {
    limits: ChunkLimits,
    state: State,
    /// Bytes of extensions so far, of this chunk and of all.
    extension: usize,
    extensions: u64,
    /// Bytes of data announced so far.
    data: u64,
    /// The trailer section so far, behind an empty first line; bounded by its limit.
    held: Vec<u8>,
    trailers: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Within the digits of a size.
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind the digits, up to the end of the line.
    Extension {
        size: u64,
    },
    /// Behind the carriage return of that line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// Behind the last chunk.
    Trailers,
    Done,
}

const AT_SIZE: State = State::Size { value: 0, digits: 0 };

/// What the decoder found at the beginning of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is data: the caller goes on behind `skip + length`.
    Data {
        /// Bytes of framing before the data.
        skip: usize,
        /// Bytes of data in this input; not zero.
        length: usize,
    },
    /// All of the input was framing, and more has to come.
    More {
        /// The length of the input.
        consumed: usize,
    },
    /// The body is over, and the trailers are whole.
    End {
        /// Bytes up to the end; what follows is the next message.
        consumed: usize,
    },
}

impl Chunked {
    /// A decoder for one body.
    pub fn new(limits: ChunkLimits) -> Chunked {
        Chunked {
            limits,
            state: AT_SIZE,
            extension: 0,
            extensions: 0,
            data: 0,
            held: Vec::new(),
            trailers: Fields::default(),
        }
    }

    /// Makes it ready for another body; the trailers are gone.
    pub fn restart(&mut self) {
        self.state = AT_SIZE;
        self.extension = 0;
        self.extensions = 0;
        self.data = 0;
        crate::fields::empty(&mut self.held);
        self.trailers.clear();
    }

    /// Goes on with the input, up to the end of the next piece of data. After a refusal there is
    /// no way on: neither this body nor its connection can be used.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        for (at, byte) in input.iter().enumerate() {
            match self.state {
                State::Data { left } => {
                    let here = (input.len() - at) as u64;
                    let length = left.min(here);
                    self.state = match left - length {
                        0 => State::DataCr,
                        left => State::Data { left },
                    };
                    return Ok(Step::Data { skip: at, length: length as usize });
                }
                State::Done => return Ok(Step::End { consumed: at }),
                state => self.state = self.after(state, *byte)?,
            }
        }
        match self.state {
            State::Done => Ok(Step::End { consumed: input.len() }),
            _ => Ok(Step::More { consumed: input.len() }),
        }
    }

    /// The fields behind the last chunk, whole after [`Step::End`]. Those that must not come so
    /// late, as they frame, route or authorize (RFC 9110 section 6.5.1), are not among them.
    pub fn trailers(&mut self) -> &mut Fields {
        &mut self.trailers
    }

    /// The state after one byte of framing.
    fn after(&mut self, state: State, byte: u8) -> Result<State, Reason> {
        match (state, byte) {
            (State::Size { value, digits }, _) => self.after_size(value, digits, byte),
            (State::Extension { size }, b'\r') => Ok(State::SizeEnd { size }),
            (State::Extension { .. }, b'\n') => Err(Reason::BareLf),
            (State::Extension { size }, _) => self.after_extension(size, byte),
            (State::SizeEnd { size: 0 }, b'\n') => {
                self.held.extend_from_slice(b"\r\n");
                Ok(State::Trailers)
            }
            (State::SizeEnd { size }, b'\n') => {
                self.data = self.data.saturating_add(size);
                Ok(State::Data { left: size })
            }
            (State::SizeEnd { .. }, _) => Err(Reason::BareCr),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(AT_SIZE),
            (State::DataCr | State::DataLf, _) => Err(Reason::ChunkEndMissing),
            (State::Trailers, _) => self.after_trailers(byte),
            (State::Data { .. } | State::Done, _) => Ok(state),
        }
    }

    fn after_size(&mut self, value: u64, digits: u8, byte: u8) -> Result<State, Reason> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\n' if digits > 0 => return Err(Reason::BareLf),
            b'\r' if digits > 0 => return Ok(State::SizeEnd { size: value }),
            b';' if digits > 0 => {
                self.extension = 0;
                return self.after_extension(value, byte);
            }
            _ => return Err(Reason::ChunkSizeInvalid),
        };
        // Sizes stay within 63 bits, so that the next reader may count in signed numbers.
        if digits == SIZE_DIGITS_MAX || value > (i64::MAX as u64) >> 4 {
            return Err(Reason::ChunkSizeOverflow);
        }
        Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
    }

    fn after_extension(&mut self, size: u64, byte: u8) -> Result<State, Reason> {
        if !is_text(&[byte]) {
            return Err(Reason::ChunkExtensionInvalid);
        }
        self.extension += 1;
        self.extensions += 1;
        let free = self.limits.extension_max.saturating_mul(LONG_EXTENSIONS) as u64;
        let allowed = free.saturating_add(self.data / DATA_PER_EXTENSION_BYTE);
        if self.extension > self.limits.extension_max || self.extensions > allowed {
            return Err(Reason::ChunkExtensionTooLong);
        }
        Ok(State::Extension { size })
    }

    /// Holds the trailer section until its empty line has come, and then reads it at once.
    fn after_trailers(&mut self, byte: u8) -> Result<State, Reason> {
        match (self.held.last(), byte) {
            (Some(b'\r'), b'\n') => {}
            (_, b'\n') => return Err(Reason::BareLf),
            (Some(b'\r'), _) => return Err(Reason::BareCr),
            _ => {}
        }
        // The line end put before the section is not the sender's.
        let limit = self.limits.trailers.head_max.saturating_add(2);
        if self.held.len() >= limit {
            return Err(Reason::TrailersTooLarge);
        }
        self.held.push(byte);
        if !self.held.ends_with(b"\r\n\r\n") {
            return Ok(State::Trailers);
        }
        let limits = Limits { head_max: limit, line_max: 0, ..self.limits.trailers };
        let extent = measure(&self.held, &limits, Reason::TrailersTooLarge).map_err(of_trailers)?;
        // The empty line is there, so that the section is whole; were it not, it is not taken.
        let extent = extent.ok_or(Reason::TrailersTooLarge)?;
        let section = self.held.get(extent.line + 2..extent.whole).unwrap_or_default();
        read_fields(section, extent.fields, &mut self.trailers)?;
        self.trailers.retain(|field| may_come_late(field.known, field.name));
        Ok(State::Done)
    }
}

fn of_trailers(reason: Reason) -> Reason {
    match reason {
        Reason::HeadTooLarge => Reason::TrailersTooLarge,
        Reason::FieldsTooMany => Reason::TrailersTooMany,
        other => other,
    }
}

/// Names that are not worth a number and must not come as a trailer either.
const TOO_LATE: &[&[u8]] = &[
    b"www-authenticate",
    b"max-forwards",
    b"pragma",
    b"age",
    b"expires",
    b"retry-after",
    b"x-real-ip",
];

/// Whether a field may stand behind the body: of the known ones only what describes the content.
pub(crate) fn may_come_late(known: Known, name: &[u8]) -> bool {
    match known {
        Known::ETag | Known::LastModified | Known::Server => true,
        Known::Other => {
            let begins = |prefix: &[u8]| {
                name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix))
            };
            let is_late = || TOO_LATE.iter().any(|late| name.eq_ignore_ascii_case(late));
            !begins(b"content-") && !begins(b"x-forwarded-") && !is_late()
        }
        _ => false,
    }
}

/// Writes the line that comes before a chunk of data: `1f\r\n`. A size of zero ends the body.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (size >> (place * 4)) as u8 & 0x0f;
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    out.extend_from_slice(b"\r\n");
}
