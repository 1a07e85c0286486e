//! The head of a response, read as strictly as that of a request (RFC 9112 section 4): a backend
//! that can be read in two ways would let one client's answer reach another.

use crate::chars::is_text;
use crate::fields::empty;
use crate::framing::Facts;
use crate::head::{Extent, measure, read_fields};
use crate::{Fields, Framing, Known, Limits, Method, Read, Reason, Refusal, Version};

/// The head of one response; read into the same value again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Three digits, from 100 to 999.
    pub status: u16,
    /// The words behind the status, for people only; often empty.
    pub reason: Vec<u8>,
    /// The version it was sent in.
    pub version: Version,
    /// All fields as sent; without Content-Length and Transfer-Encoding where the status allows
    /// neither.
    pub fields: Fields,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection can be used for another request after the body.
    pub persistent: bool,
}

impl Response {
    /// Reads the head at the beginning of `bytes`, which is all that has come since the end of
    /// the last one; `to` is the method of the request that it answers.
    ///
    /// Only a whole head changes the value, and what a refusal leaves in it is of no use but for
    /// a log. The status of an error is meant for requests: a client gets a 502 for this.
    pub fn read(&mut self, bytes: &[u8], to: &Method, limits: &Limits) -> Result<Read, Refusal> {
        match measure(bytes, limits, Reason::StatusLineTooLong)? {
            Some(extent) => {
                self.clear();
                self.read_whole(bytes, extent, to)?;
                Ok(Read::Whole { length: extent.whole })
            }
            None => {
                check_beginning(bytes)?;
                Ok(Read::Partial)
            }
        }
    }

    /// Makes it as good as new; buffers of ordinary size keep their room.
    pub fn clear(&mut self) {
        self.status = 0;
        empty(&mut self.reason);
        self.version = Version::default();
        self.fields.clear();
        self.framing = Framing::None;
        self.persistent = false;
    }

    fn read_whole(&mut self, head: &[u8], extent: Extent, to: &Method) -> Result<(), Reason> {
        let line = head.get(..extent.line).unwrap_or_default();
        let section = head.get(extent.line + 2..extent.whole).unwrap_or_default();
        self.read_line(line)?;
        read_fields(section, extent.fields, &mut self.fields)?;
        let facts = Facts::of(&self.fields, self.version)?;
        self.persistent = facts.is_persistent(self.version);
        let is_tunnel =
            self.status == 101 || (*to == Method::Connect && (200..300).contains(&self.status));
        if is_tunnel || self.status < 200 || self.status == 204 {
            // A backend that announces a body here may well send one, which is not for the next
            // client: the connection is not used again.
            let announces = facts.is_chunked || facts.length.is_some_and(|length| length > 0);
            self.persistent &= !is_tunnel && !announces;
            self.fields.remove(Known::ContentLength);
            self.fields.remove(Known::TransferEncoding);
        } else if *to != Method::Head && self.status != 304 {
            self.framing = facts.framing().unwrap_or(Framing::UntilClose);
            self.persistent &= self.framing != Framing::UntilClose;
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8]) -> Result<(), Reason> {
        let (version, rest) = line.split_at_checked(8).ok_or(Reason::StatusLineInvalid)?;
        self.version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Reason::VersionUnsupported);
            }
            _ => return Err(Reason::StatusLineInvalid),
        };
        let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = rest else {
            return Err(Reason::StatusLineInvalid);
        };
        self.status = [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
        // Many servers leave out the space when they have no reason to give; it says the same.
        let reason = match rest {
            [] => rest,
            [b' ', reason @ ..] if is_text(reason) => reason,
            _ => return Err(Reason::StatusLineInvalid),
        };
        self.reason.extend_from_slice(reason);
        Ok(())
    }
}

/// Refuses at once what cannot become a status line.
fn check_beginning(head: &[u8]) -> Result<(), Reason> {
    let begun = b"HTTP/";
    let shared = head.len().min(begun.len());
    match head.get(..shared) == begun.get(..shared) {
        true => Ok(()),
        false => Err(Reason::StatusLineInvalid),
    }
}
