//! The target of a request in its four forms (RFC 9112 section 3.2). Each form belongs to certain
//! methods, and any other pairing is refused: no form is ever guessed from another.

use crate::authority::Authority;
use crate::chars::is_path;
use crate::{Method, Reason, Scheme};

/// A target taken apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: Option<Scheme>,
    /// From the absolute form or of a CONNECT, as it was sent.
    pub(crate) authority: Option<(&'a [u8], Authority<'a>)>,
    /// Where the path is missing and has to begin with a slash of ours.
    pub(crate) lacks_slash: bool,
    /// Path and query as they were sent; `*` for OPTIONS, empty for CONNECT.
    pub(crate) path: &'a [u8],
}

impl<'a> Target<'a> {
    /// Takes a target apart, in the form that the method allows.
    pub(crate) fn read(bytes: &'a [u8], method: &Method) -> Result<Target<'a>, Reason> {
        match (method, bytes) {
            (Method::Connect, _) => read_authority_form(bytes),
            (Method::Options, b"*") => Ok(Target { path: bytes, ..Target::default() }),
            (_, [b'/', ..]) if is_path(bytes) => Ok(Target { path: bytes, ..Target::default() }),
            (_, [b'/' | b'*', ..]) => Err(Reason::TargetInvalid),
            _ => read_absolute_form(bytes, method),
        }
    }
}

fn read_authority_form(bytes: &[u8]) -> Result<Target<'_>, Reason> {
    if bytes.contains(&b'@') {
        return Err(Reason::TargetUserinfo);
    }
    match Authority::read(bytes) {
        Some(authority) if authority.has_port() => {
            Ok(Target { authority: Some((bytes, authority)), ..Target::default() })
        }
        _ => Err(Reason::TargetInvalid),
    }
}

fn read_absolute_form<'a>(bytes: &'a [u8], method: &Method) -> Result<Target<'a>, Reason> {
    let colon = bytes.iter().position(|byte| *byte == b':').ok_or(Reason::TargetInvalid)?;
    let (name, rest) = bytes.split_at(colon);
    let rest = rest.strip_prefix(b"://").ok_or(Reason::TargetInvalid)?;
    let scheme = Scheme::of(name).ok_or(Reason::TargetScheme)?;
    let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    let (host, path) = rest.split_at(length);
    if host.contains(&b'@') {
        return Err(Reason::TargetUserinfo);
    }
    let authority = Authority::read(host).ok_or(Reason::TargetInvalid)?;
    if !is_path(path) {
        return Err(Reason::TargetInvalid);
    }
    // RFC 9112 section 3.2.4: OPTIONS for no path at all asks about the server as a whole.
    let asks_for_all = path.is_empty() && *method == Method::Options;
    let path = if asks_for_all { b"*".as_slice() } else { path };
    let lacks_slash = !asks_for_all && !path.starts_with(b"/");
    Ok(Target { scheme: Some(scheme), authority: Some((host, authority)), lacks_slash, path })
}
