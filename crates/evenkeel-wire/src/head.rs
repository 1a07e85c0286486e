//! Where a head ends and which fields it has, the same way for requests, responses and trailers.
//! The raw bytes are looked at before `httparse` sees them, because it takes a bare line feed for
//! the end of a line; both must then agree on every line, or the head is refused.

use crate::chars::{is_name, is_text, trim};
use crate::{Fields, Known, Reason};

/// How large a head may be; what is larger is refused as soon as that much has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head, with the empty line that ends it.
    pub head_max: usize,
    /// Bytes of the first line, without its end.
    pub line_max: usize,
    /// How many fields.
    pub fields_max: usize,
}

/// How much of a head was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Not all of it: call again with these bytes and more behind them.
    Partial,
    /// All of it.
    Whole {
        /// Its bytes, with the empty line; what follows is the body.
        length: usize,
    },
}

/// Where the parts of a whole head are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes of the first line, without its end.
    pub(crate) line: usize,
    /// Field lines behind it.
    pub(crate) fields: usize,
    /// Bytes of everything.
    pub(crate) whole: usize,
}

/// Measures the head at the beginning of `bytes`; `None` when its end has not come yet.
///
/// `line_too_long` is the reason for a first line over its limit.
pub(crate) fn measure(
    bytes: &[u8],
    limits: &Limits,
    line_too_long: Reason,
) -> Result<Option<Extent>, Reason> {
    let within = bytes.get(..limits.head_max).unwrap_or(bytes);
    let is_over = bytes.len() > within.len();
    let (mut line, mut lines, mut start) = (None, 0, 0);
    let mut breaks = Breaks::of(within);
    while let Some(at) = breaks.next() {
        match (within.get(at), within.get(at + 1)) {
            (Some(b'\n'), _) => return Err(Reason::BareLf),
            (_, Some(b'\n')) => breaks.next(),
            (_, Some(_)) => return Err(Reason::BareCr),
            // The limit cut the bytes just here: what follows counts as too large, whatever it is.
            (_, None) if is_over => return Err(Reason::HeadTooLarge),
            (_, None) => break,
        };
        let (length, end) = (at - start, at + 2);
        match line {
            None if length > limits.line_max => return Err(line_too_long),
            None => line = Some(length),
            Some(line) if length == 0 => {
                return Ok(Some(Extent { line, fields: lines, whole: end }));
            }
            Some(_) => {
                if matches!(within.get(start), Some(b' ' | b'\t')) {
                    return Err(Reason::ObsFold);
                }
                lines += 1;
                if lines > limits.fields_max {
                    return Err(Reason::FieldsTooMany);
                }
            }
        }
        start = end;
    }
    let last = within.strip_suffix(b"\r").unwrap_or(within);
    if line.is_none() && last.len() > limits.line_max {
        return Err(line_too_long);
    }
    // A head that has not ended within its limit never will.
    if within.len() >= limits.head_max {
        return Err(Reason::HeadTooLarge);
    }
    Ok(None)
}

/// Heads with no more fields than this need no list from the heap.
const FIELDS_ON_STACK: usize = 48;

/// Reads `count` field lines and the empty line behind them, which is all of `section`.
pub(crate) fn read_fields(section: &[u8], count: usize, fields: &mut Fields) -> Result<(), Reason> {
    let mut few = [httparse::EMPTY_HEADER; FIELDS_ON_STACK];
    let mut many = Vec::new();
    let slots = match few.get_mut(..count) {
        Some(slots) => slots,
        None => {
            many.resize(count, httparse::EMPTY_HEADER);
            many.as_mut_slice()
        }
    };
    let list = match httparse::parse_headers(section, slots) {
        Ok(httparse::Status::Complete((length, list)))
            if length == section.len() && list.len() == count =>
        {
            list
        }
        _ => return Err(first_fault(section)),
    };
    for field in list {
        let name = field.name.as_bytes();
        let start = name.as_ptr().addr().wrapping_sub(section.as_ptr().addr());
        let known = Known::at_start_of(section.get(start..).unwrap_or(name), name.len());
        if known == Known::Other && is_look_alike(name) {
            return Err(Reason::UnderscoreLookAlike);
        }
        let value = trim(field.value);
        match plain_line(section, start, name, value) {
            Some(line) => fields.push_line(known, line, name.len()),
            None => fields.push_known(known, name, value),
        }
    }
    Ok(())
}

/// The line of a field, if it is written in the plain way: one space before the value, and none after it.
fn plain_line<'a>(section: &'a [u8], start: usize, name: &[u8], value: &[u8]) -> Option<&'a [u8]> {
    let line = section.get(start..start + name.len() + value.len() + 4)?;
    let rest = line.get(name.len()..)?;
    let begins_at = value.as_ptr().addr().checked_sub(name.as_ptr().addr())?;
    let is_plain = rest.starts_with(b": ") && rest.ends_with(b"\r\n");
    (is_plain && begins_at == name.len() + 2).then_some(line)
}

pub(crate) fn is_look_alike(name: &[u8]) -> bool {
    let meant = || Known::of_underscored(name);
    name.contains(&b'_') && (meant().is_framing() || meant().is_forwarding())
}

/// What is wrong with the first bad line of a section that was not accepted.
fn first_fault(section: &[u8]) -> Reason {
    let mut start = 0;
    while let Some(length) = line_length(section.get(start..).unwrap_or_default()) {
        let line = section.get(start..start + length).unwrap_or_default();
        start += length + 2;
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Reason::ColonMissing;
        };
        let (name, value) = line.split_at(colon);
        match name {
            [] => return Reason::NameEmpty,
            [before @ .., b' ' | b'\t'] if is_name(trim(before)) => {
                return Reason::SpaceBeforeColon;
            }
            _ if !is_name(name) => return Reason::NameInvalid,
            _ if !is_text(value) => return Reason::ValueInvalid,
            _ => {}
        }
    }
    // Each line is in order by our own rules and still not taken: there is no agreement on it.
    Reason::NameInvalid
}

/// Where the first carriage return or line feed is.
fn line_length(bytes: &[u8]) -> Option<usize> {
    Breaks::of(bytes).next()
}

/// Where all carriage returns and line feeds are, found eight bytes at a time: a head is short lines, so that what
/// counts is the cost of going on, not of going far.
struct Breaks<'a> {
    words: std::slice::Iter<'a, [u8; WORD]>,
    rest: &'a [u8],
    /// Where the word at hand begins.
    start: usize,
    next: usize,
    /// The top bit of each byte of that word that is a break.
    found: u64,
}

const WORD: usize = size_of::<u64>();

impl Breaks<'_> {
    fn of(bytes: &[u8]) -> Breaks<'_> {
        let (words, rest) = bytes.as_chunks::<WORD>();
        Breaks { words: words.iter(), rest, start: 0, next: 0, found: 0 }
    }
}

impl Iterator for Breaks<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            let word = match self.words.next() {
                Some(word) => u64::from_le_bytes(*word),
                None if self.rest.is_empty() => return None,
                // Zeros behind the last bytes are no breaks.
                None => {
                    let mut padded = [0; WORD];
                    padded.iter_mut().zip(self.rest).for_each(|(to, from)| *to = *from);
                    self.rest = &[];
                    u64::from_le_bytes(padded)
                }
            };
            (self.start, self.next) = (self.next, self.next + WORD);
            self.found = line_breaks(word);
        }
        let at = self.start + self.found.trailing_zeros() as usize / 8;
        self.found &= self.found - 1;
        Some(at)
    }
}

/// The top bit of each byte that is a carriage return or line feed, and no other bit. A byte of `x ^ pattern` is zero
/// where it is one; adding 127 to the lower bits of a byte sets its top bit unless they are all zero.
fn line_breaks(word: u64) -> u64 {
    const LOWER: u64 = u64::from_ne_bytes([0x7f; WORD]);
    let zeros = |x: u64| !(((x & LOWER) + LOWER) | x | LOWER);
    zeros(word ^ u64::from_ne_bytes([b'\r'; WORD]))
        | zeros(word ^ u64::from_ne_bytes([b'\n'; WORD]))
}
