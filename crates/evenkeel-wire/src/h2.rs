//! Heads of HTTP/2, taken over into the same values as those of HTTP/1 (RFC 9113 section 8).
//! Frames and HPACK are somebody else's work; what the decoded fields may say is decided here, as strictly as for
//! HTTP/1, because they go on to backends that read HTTP/1: nothing may pass that would be read differently there.

use crate::authority::Authority;
use crate::chars::{is_name, is_value};
use crate::chunked::may_come_late;
use crate::framing::Facts;
use crate::head::is_look_alike;
use crate::target::Target;
use crate::{
    Fields, Framing, Known, Limits, Method, Reason, Refusal, Request, Response, Scheme, Version,
};

/// The pseudo-fields of a request, as they were sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pseudo<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:scheme`; none only for a plain CONNECT.
    pub scheme: Option<&'a [u8]>,
    /// `:authority`.
    pub authority: Option<&'a [u8]>,
    /// `:path`; none only for a plain CONNECT.
    pub path: Option<&'a [u8]>,
    /// `:protocol` of an extended CONNECT (RFC 8441 section 4).
    pub protocol: Option<&'a [u8]>,
}

impl Request {
    /// Takes over the head of a request of HTTP/2. `ends` says that no body follows.
    ///
    /// Several Cookie fields become one (RFC 9113 section 8.2.3). A body without a Content-Length is
    /// [`Framing::Chunked`], which says that its end shows only when it comes.
    pub fn take_h2<'a>(
        &mut self,
        pseudo: &Pseudo<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        ends: bool,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        self.clear();
        self.version = Version::Http2;
        self.persistent = true;
        self.method = Method::of(pseudo.method).ok_or(Reason::MethodInvalid)?;
        let line = pseudo.method.len() + pseudo.path.map_or(0, <[u8]>::len);
        if line > limits.line_max {
            return Err(Reason::RequestLineTooLong.into());
        }
        // As in HTTP/1, where all of it is the head.
        let before = line + pseudo.authority.map_or(0, <[u8]>::len);
        take_fields(&mut self.fields, fields, before, limits)?;
        self.take_target(pseudo)?;
        self.take_host(pseudo)?;
        join_cookies(&mut self.fields);
        // What comes after the head of a CONNECT is no body, and has no length (RFC 9113 section 8.5).
        let is_tunnel = self.upgrade || self.method == Method::Connect;
        self.framing = match framing(&self.fields, self.version, ends)? {
            Framing::Chunked if is_tunnel => Framing::None,
            framing if is_tunnel && framing != Framing::None => {
                return Err(Reason::BodyNotAllowed.into());
            }
            framing => framing,
        };
        self.check_body()?;
        self.settle_expectation()?;
        Ok(())
    }

    fn take_target(&mut self, pseudo: &Pseudo<'_>) -> Result<(), Reason> {
        let is_connect = self.method == Method::Connect;
        if let Some(protocol) = pseudo.protocol {
            if !is_connect || !is_name(protocol) {
                return Err(Reason::TargetInvalid);
            }
            // It is the Upgrade of HTTP/1 in other words: its body is what comes after the switch.
            self.protocol.extend_from_slice(protocol);
            self.upgrade = true;
        } else if is_connect {
            let is_plain = pseudo.scheme.is_none() && pseudo.path.is_none();
            return if is_plain { Ok(()) } else { Err(Reason::TargetInvalid) };
        }
        self.scheme = Some(pseudo.scheme.and_then(Scheme::of).ok_or(Reason::TargetScheme)?);
        let path = pseudo.path.ok_or(Reason::TargetInvalid)?;
        // The path alone: an absolute target has no place here.
        let asks_for_all = path == b"*" && self.method == Method::Options;
        if !asks_for_all && !path.starts_with(b"/") {
            return Err(Reason::TargetInvalid);
        }
        if is_connect {
            self.method = Method::Get;
        }
        let target = Target::read(path, &self.method)?;
        self.target.extend_from_slice(target.path);
        Ok(())
    }

    /// `:authority`, and Host where it says the same (RFC 9113 section 8.3.1).
    fn take_host(&mut self, pseudo: &Pseudo<'_>) -> Result<(), Reason> {
        let read = |bytes| match Authority::read(bytes) {
            _ if bytes.contains(&b'@') => Err(Reason::TargetUserinfo),
            Some(authority) => Ok(authority),
            None => Err(Reason::HostInvalid),
        };
        let asked = pseudo.authority.map(read).transpose()?;
        let host = self.fields.first(Known::Host).map(read).transpose()?;
        if self.fields.all(Known::Host).nth(1).is_some() {
            return Err(Reason::HostRepeated);
        }
        let default_port = self.scheme.map(Scheme::default_port);
        if let (Some(asked), Some(host)) = (&asked, &host)
            && !asked.is_same(host, default_port)
        {
            return Err(Reason::HostContradicts);
        }
        if self.method == Method::Connect && !asked.is_some_and(|asked| asked.has_port()) {
            return Err(Reason::TargetInvalid);
        }
        match (pseudo.authority, self.fields.first(Known::Host)) {
            (Some(authority), _) | (None, Some(authority)) => {
                self.authority.extend_from_slice(authority);
            }
            (None, None) => return Err(Reason::HostMissing),
        }
        self.fields.remove(Known::Host);
        Ok(())
    }
}

impl Response {
    /// Takes over the head of a response of HTTP/2; `to` is the method of the request that it answers, `ends` says
    /// that no body follows.
    pub fn take_h2<'a>(
        &mut self,
        status: u16,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        to: &Method,
        ends: bool,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        self.clear();
        self.version = Version::Http2;
        self.persistent = true;
        self.status = status;
        // RFC 9113 section 8.6: there is no switching of protocols in HTTP/2.
        if status == 101 {
            return Err(Reason::StatusLineInvalid.into());
        }
        take_fields(&mut self.fields, fields, 0, limits)?;
        let has_no_body = status < 200 || status == 204 || status == 304 || *to == Method::Head;
        if status < 200 || status == 204 {
            self.fields.remove(Known::ContentLength);
        } else if !has_no_body {
            self.framing = framing(&self.fields, self.version, ends)?;
        } else {
            Facts::of(&self.fields, self.version)?;
        }
        Ok(())
    }
}

impl Fields {
    /// Takes over the trailers of HTTP/2; those that would change the meaning of the message are left out.
    pub fn take_h2_trailers<'a>(
        &mut self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        self.clear();
        take_fields(self, fields, 0, limits).map_err(|reason| match reason {
            Reason::HeadTooLarge => Reason::TrailersTooLarge,
            Reason::FieldsTooMany => Reason::TrailersTooMany,
            reason => reason,
        })?;
        self.retain(|field| may_come_late(field.known, field.name));
        Ok(())
    }
}

/// Checks fields one by one and takes them over; so many bytes of the head came `before` them.
fn take_fields<'a>(
    into: &mut Fields,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    before: usize,
    limits: &Limits,
) -> Result<(), Reason> {
    let mut size = before;
    if size > limits.head_max {
        return Err(Reason::HeadTooLarge);
    }
    for (count, (name, value)) in fields.enumerate() {
        // Each crumb of a cookie counts, and so does each empty field (CVE-2026-49975 and its like).
        if count >= limits.fields_max {
            return Err(Reason::FieldsTooMany);
        }
        size += name.len() + value.len() + FIELD_LINE_OVERHEAD;
        if size > limits.head_max {
            return Err(Reason::HeadTooLarge);
        }
        if !is_name(name) || name.iter().any(u8::is_ascii_uppercase) {
            return Err(if name.is_empty() { Reason::NameEmpty } else { Reason::NameInvalid });
        }
        if !is_value(value) {
            return Err(Reason::ValueInvalid);
        }
        let known = Known::of(name);
        match known {
            // RFC 9113 section 8.2.2.
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => return Err(Reason::ConnectionField),
            Known::Te if !value.eq_ignore_ascii_case(b"trailers") => {
                return Err(Reason::ConnectionField);
            }
            Known::Other if is_look_alike(name) => return Err(Reason::UnderscoreLookAlike),
            _ => {}
        }
        into.push_known(known, name, value);
    }
    Ok(())
}

/// What a field line of HTTP/1 has beside name and value: colon, space and line end.
const FIELD_LINE_OVERHEAD: usize = 4;

/// Where the body ends: a length that contradicts the end of the stream is refused.
fn framing(fields: &Fields, version: Version, ends: bool) -> Result<Framing, Reason> {
    match (Facts::of(fields, version)?.length, ends) {
        (None | Some(0), true) => Ok(Framing::None),
        (Some(_), true) => Err(Reason::LengthContradicts),
        (Some(length), false) => Ok(Framing::Length(length)),
        (None, false) => Ok(Framing::Chunked),
    }
}

/// Makes one field of all Cookie fields, since HTTP/1 knows only one. Empty ones say nothing, and at the end they
/// would leave a space there.
fn join_cookies(fields: &mut Fields) {
    if fields.all(Known::Cookie).nth(1).is_none() {
        return;
    }
    let crumbs = fields.all(Known::Cookie).filter(|crumb| !crumb.is_empty());
    let joined = crumbs.collect::<Vec<_>>().join(&b"; "[..]);
    fields.remove(Known::Cookie);
    fields.push_known(Known::Cookie, b"cookie", &joined);
}
