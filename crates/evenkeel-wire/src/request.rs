//! The head of a request, read whole or not at all (RFC 9112 sections 2 and 3). Everything that a
//! later step could read differently is settled here: which host, which path, where the body ends.

use crate::authority::Authority;
use crate::chars::token_length;
use crate::fields::empty;
use crate::framing::Facts;
use crate::head::{Extent, measure, read_fields};
use crate::target::Target;
use crate::{Fields, Framing, Known, Limits, Method, Read, Reason, Refusal, Version};

/// The head of one request; read into the same value again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What is asked to be done.
    pub method: Method,
    /// The version it was sent in.
    pub version: Version,
    /// From a target in absolute form; `None` for all others.
    pub scheme: Option<Scheme>,
    /// Host and optional port as sent, from an absolute target or from Host, which never name
    /// different ones. Empty only for HTTP/1.0 without Host.
    pub authority: Vec<u8>,
    /// Path and query, beginning with `/`; `*` for OPTIONS of the whole server, empty for CONNECT.
    pub target: Vec<u8>,
    /// All fields as sent, but for Host.
    pub fields: Fields,
    /// Where the body ends; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client wants to send another request on this connection.
    pub persistent: bool,
    /// Whether the client waits for a 100 before it sends the body. False when no body is coming.
    pub expects_continue: bool,
    /// Whether the client offers to change the protocol: by Connection and Upgrade on HTTP/1.1, by an extended
    /// CONNECT on HTTP/2, which is read as the GET that it stands for (RFC 8441 section 5).
    pub upgrade: bool,
    /// The protocol of an extended CONNECT; empty on HTTP/1, where Upgrade names it.
    pub protocol: Vec<u8>,
}

/// The scheme of an absolute target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`, port 80 unless another is named.
    Http,
    /// `https`, port 443 unless another is named.
    Https,
}

impl Scheme {
    /// The scheme of this name in any case of letters, when it is one of the two.
    pub fn of(name: &[u8]) -> Option<Scheme> {
        match name {
            _ if name.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
            _ if name.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
            _ => None,
        }
    }

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that is meant when none is named.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Request {
    /// Reads the head at the beginning of `bytes`, which is all that has come since the end of
    /// the last request. One empty line before it is skipped and counted (RFC 9112 section 2.2).
    ///
    /// Only a whole head changes the value. What a refusal leaves in it is what was read before
    /// the fault: good for a log, and for nothing else.
    pub fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Read, Refusal> {
        let head = match bytes {
            b"\r" => return Ok(Read::Partial),
            [b'\r', b'\n', head @ ..] => head,
            head => head,
        };
        match measure(head, limits, Reason::RequestLineTooLong)? {
            Some(extent) => {
                self.clear();
                self.read_whole(head, extent)?;
                Ok(Read::Whole { length: bytes.len() - head.len() + extent.whole })
            }
            None => {
                check_beginning(head)?;
                Ok(Read::Partial)
            }
        }
    }

    /// Makes it as good as new; buffers of ordinary size keep their room.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.version = Version::default();
        self.scheme = None;
        empty(&mut self.authority);
        empty(&mut self.target);
        self.fields.clear();
        self.framing = Framing::None;
        self.persistent = false;
        self.expects_continue = false;
        self.upgrade = false;
        empty(&mut self.protocol);
    }

    fn read_whole(&mut self, head: &[u8], extent: Extent) -> Result<(), Reason> {
        let line = head.get(..extent.line).unwrap_or_default();
        let section = head.get(extent.line + 2..extent.whole).unwrap_or_default();
        let target = self.read_line(line)?;
        read_fields(section, extent.fields, &mut self.fields)?;
        self.settle_authority(&target)?;
        let facts = Facts::of(&self.fields, self.version)?;
        self.framing = facts.framing().unwrap_or(Framing::None);
        self.check_body()?;
        self.persistent = facts.is_persistent(self.version);
        self.upgrade = facts.offers_upgrade(self.version);
        self.settle_expectation()
    }

    fn read_line<'a>(&mut self, line: &'a [u8]) -> Result<Target<'a>, Reason> {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let name = parts.next().unwrap_or_default();
        self.method = Method::of(name).ok_or(Reason::MethodInvalid)?;
        let (Some(target), Some(version)) = (parts.next(), parts.next()) else {
            return Err(Reason::RequestLineInvalid);
        };
        self.version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Reason::VersionUnsupported);
            }
            _ => return Err(Reason::RequestLineInvalid),
        };
        if target.is_empty() {
            return Err(Reason::RequestLineInvalid);
        }
        let target = Target::read(target, &self.method)?;
        self.scheme = target.scheme;
        if target.lacks_slash {
            self.target.push(b'/');
        }
        self.target.extend_from_slice(target.path);
        Ok(target)
    }

    /// Brings Host and target together and takes Host out of the fields.
    fn settle_authority(&mut self, target: &Target<'_>) -> Result<(), Reason> {
        let host = match self.fields.first(Known::Host) {
            Some(host) => Some((host, Authority::read(host).ok_or(Reason::HostInvalid)?)),
            None if self.version == Version::Http10 => None,
            None => return Err(Reason::HostMissing),
        };
        if self.fields.all(Known::Host).nth(1).is_some() {
            return Err(Reason::HostRepeated);
        }
        let default_port = target.scheme.map(Scheme::default_port);
        if let (Some((_, asked)), Some((_, host))) = (&target.authority, &host)
            && !asked.is_same(host, default_port)
        {
            return Err(Reason::HostContradicts);
        }
        if let Some((bytes, _)) = target.authority.or(host) {
            self.authority.extend_from_slice(bytes);
        }
        self.fields.remove(Known::Host);
        Ok(())
    }

    pub(crate) fn check_body(&self) -> Result<(), Reason> {
        let may = match self.method {
            Method::Connect => self.framing == Framing::None,
            Method::Trace => matches!(self.framing, Framing::None | Framing::Length(0)),
            _ => true,
        };
        if may { Ok(()) } else { Err(Reason::BodyNotAllowed) }
    }

    pub(crate) fn settle_expectation(&mut self) -> Result<(), Reason> {
        if self.version == Version::Http10 {
            return Ok(());
        }
        let mut expects = false;
        for value in self.fields.all(Known::Expect) {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Reason::ExpectUnknown);
            }
            expects = true;
        }
        self.expects_continue =
            expects && !matches!(self.framing, Framing::None | Framing::Length(0));
        Ok(())
    }
}

/// Refuses what cannot become a request line, so that a client of another protocol is not waited
/// for until it gives up.
fn check_beginning(head: &[u8]) -> Result<(), Reason> {
    let name = token_length(head.get(..=Method::BYTES_MAX).unwrap_or(head));
    match head.get(name) {
        Some(b' ') if name > 0 => Ok(()),
        None if name <= Method::BYTES_MAX => Ok(()),
        _ => Err(Reason::MethodInvalid),
    }
}
