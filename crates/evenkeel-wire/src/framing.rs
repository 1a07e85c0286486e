//! Where a body ends, and whether the connection lives on after it (RFC 9112 sections 6 and 9).
//! This is where requests are smuggled, so nothing is repaired: a length or a transfer coding
//! that is not written in the one plain way is refused, even when all readers might agree on it.

use crate::chars::is_name;
use crate::{Fields, Known, Reason, elements};

/// The version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// After this many bytes.
    Length(u64),
    /// By the last chunk, for which see [`crate::Chunked`]; in HTTP/2 by the end of the stream.
    Chunked,
    /// By the end of the connection; only for responses.
    UntilClose,
}

/// What the fields of a message say about its body and its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) length: Option<u64>,
    pub(crate) is_chunked: bool,
    closes: bool,
    keeps: bool,
    names_upgrade: bool,
    has_upgrade: bool,
}

impl Facts {
    /// Gathers the facts, or says which field leaves room for a second reading.
    pub(crate) fn of(fields: &Fields, version: Version) -> Result<Facts, Reason> {
        let mut facts = Facts::default();
        for field in fields.iter() {
            match field.known {
                Known::ContentLength if facts.length.is_some() => {
                    return Err(Reason::ContentLengthRepeated);
                }
                Known::ContentLength => facts.length = Some(content_length(field.value)?),
                Known::TransferEncoding if version == Version::Http10 => {
                    return Err(Reason::TransferEncodingOnOldVersion);
                }
                Known::TransferEncoding if facts.is_chunked => {
                    return Err(Reason::TransferEncodingRepeated);
                }
                Known::TransferEncoding => {
                    check_coding(field.value)?;
                    facts.is_chunked = true;
                }
                Known::Connection => facts.take_connection(field.value),
                Known::Upgrade => facts.has_upgrade |= !field.value.is_empty(),
                _ => {}
            }
        }
        if facts.is_chunked && facts.length.is_some() {
            return Err(Reason::TeWithLength);
        }
        Ok(facts)
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
            self.names_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// How the body ends by the fields alone.
    pub(crate) fn framing(&self) -> Option<Framing> {
        match (self.is_chunked, self.length) {
            (true, _) => Some(Framing::Chunked),
            (false, Some(length)) => Some(Framing::Length(length)),
            (false, None) => None,
        }
    }

    /// Whether another message may follow on the connection; `close` outweighs `keep-alive`.
    pub(crate) fn is_persistent(&self, version: Version) -> bool {
        !self.closes && (self.keeps || version != Version::Http10)
    }

    /// Whether the sender offers to change the protocol.
    pub(crate) fn offers_upgrade(&self, version: Version) -> bool {
        self.names_upgrade && self.has_upgrade && version == Version::Http11
    }
}

/// A row of digits and nothing else: no sign, no list, not empty.
fn content_length(value: &[u8]) -> Result<u64, Reason> {
    if value.is_empty() {
        return Err(Reason::ContentLengthInvalid);
    }
    let is_list =
        || value.contains(&b',') && elements(value).all(|e| e.iter().all(u8::is_ascii_digit));
    value.iter().try_fold(0_u64, |sum, byte| {
        if !byte.is_ascii_digit() {
            let is_repeated = is_list();
            return Err(if is_repeated {
                Reason::ContentLengthRepeated
            } else {
                Reason::ContentLengthInvalid
            });
        }
        let digit = u64::from(byte - b'0');
        let longer = sum.checked_mul(10).and_then(|sum| sum.checked_add(digit));
        longer.ok_or(Reason::ContentLengthOverflow)
    })
}

/// `chunked` alone is let through. Other codings before it would be a body we cannot pass on
/// unread, and anything that does not end in `chunked` has no end.
fn check_coding(value: &[u8]) -> Result<(), Reason> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut parts = value.rsplit(|byte| *byte == b',').map(crate::chars::trim);
    let is_chunked = |part: &[u8]| part.eq_ignore_ascii_case(b"chunked");
    let ends_well = parts.next().is_some_and(is_chunked);
    match ends_well && parts.all(|part| is_name(part) && !is_chunked(part)) {
        true => Err(Reason::TransferCodingUnknown),
        false => Err(Reason::TransferEncodingInvalid),
    }
}
