//! What changes in a head on its way through us: hop-by-hop fields go, forwarding fields are ours, framing is new.
//! A client can never take away what we add: what it names in `Connection` is stripped before, not after.

use std::collections::HashSet;

use evenkeel_wire::{Field, Fields, Framing, Known, Request, Response, Version, elements};

/// Whether a field ends at the next hop (RFC 9110 7.6.1) or is written anew by us.
fn is_ours(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::TransferEncoding
            | Known::ContentLength
            | Known::Upgrade
            | Known::Host
            | Known::Http2Settings
    )
}

/// Fields that `Connection` must not take away from a request: the message would change its meaning.
fn is_protected(known: Known) -> bool {
    matches!(
        known,
        Known::Host
            | Known::ContentType
            | Known::Cookie
            | Known::Authorization
            | Known::Expect
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::Forwarded
            | Known::XRequestId
            | Known::XRealIp
    )
}

/// Removes the fields that `Connection` names (RFC 9110 7.6.1), but for those that must not be. The list may be as long
/// as a head, so each of its names is looked at once, and so is each field.
fn strip_named(fields: &mut Fields) {
    if fields.first(Known::Connection).is_none() {
        return;
    }
    let harmless: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    let names: HashSet<Vec<u8>> = fields
        .all(Known::Connection)
        .flat_map(elements)
        .filter(|name| !harmless.iter().any(|word| name.eq_ignore_ascii_case(word)))
        .filter(|name| !is_protected(Known::of(name)))
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    if !names.is_empty() {
        fields.retain(|field| !names.contains(&field.name.to_ascii_lowercase()));
    }
}

/// Strips what `Connection` names now, and `Connection` with it: what is added afterwards is safe from it.
pub(super) fn strip_connection(fields: &mut Fields) {
    strip_named(fields);
    fields.remove(Known::Connection);
}

/// Strips what was said to us only.
pub(super) fn strip_request(request: &mut Request) {
    strip_named(&mut request.fields);
    // That a client takes trailers may be told on, where the next hop has a way to say it.
    let is_told = |field: &Field<'_>| {
        field.known == Known::Te && field.value.eq_ignore_ascii_case(b"trailers")
    };
    request.fields.retain(|field| !is_ours(field.known) || is_told(&field));
}

/// Strips what the backend said to us only. `keep_length` is for answers that tell a length and have no body.
pub(super) fn strip_response(response: &mut Response, keep_length: bool) {
    strip_named(&mut response.fields);
    response.fields.retain(|field| match field.known {
        Known::ContentLength => keep_length,
        Known::Upgrade => true,
        known => !is_ours(known),
    });
}

/// What stands at the beginning of a request to a backend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading<'a> {
    /// Path and query, which a route may have changed; empty for CONNECT.
    pub(super) target: &'a [u8],
    pub(super) host: &'a [u8],
    /// The protocol to switch to.
    pub(super) upgrade: Option<&'a [u8]>,
}

pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn framing_line(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => {
            let mut digits = [0; 20];
            line(out, b"Content-Length", decimal(length, &mut digits));
        }
        Framing::Chunked => line(out, b"Transfer-Encoding", b"chunked"),
        Framing::None | Framing::UntilClose => {}
    }
}

/// A number in decimal, at the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// Writes the head of a stripped request, as HTTP/1.1.
pub(super) fn write_request(out: &mut Vec<u8>, request: &Request, heading: Heading<'_>) {
    let Heading { target, host, upgrade } = heading;
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(if target.is_empty() { &request.authority } else { target });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, b"Host", host);
    // TE would have to be named in Connection.
    request.fields.write_lines(out, Known::Te);
    framing_line(out, request.framing);
    if let Some(protocol) = upgrade {
        line(out, b"Connection", b"upgrade");
        line(out, b"Upgrade", protocol);
        if !request.protocol.is_empty() && protocol.eq_ignore_ascii_case(b"websocket") {
            line(out, b"Sec-WebSocket-Key", &websocket_key(request));
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The nonce that a WebSocket handshake needs on HTTP/1 and has not on HTTP/2 (RFC 8441 5.1): 16 bytes in base64.
/// Letters and digits are base64 as well; it only has to differ from request to request (RFC 6455 4.1).
fn websocket_key(request: &Request) -> [u8; 24] {
    let mut key = *b"AAAAAAAAAAAAAAAAAAAAAA==";
    let id = request.fields.first(Known::XRequestId).unwrap_or_default();
    let letters = id.iter().rev().filter(|byte| byte.is_ascii_alphanumeric()).take(21);
    key.iter_mut().zip(letters).for_each(|(place, letter)| *place = *letter);
    key
}

/// How an answer goes to the client: what follows its head, and whether the connection goes on after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Onward {
    pub(super) framing: Framing,
    pub(super) version: Version,
    pub(super) persistent: bool,
}

/// Writes the head of a stripped answer.
pub(super) fn write_response(out: &mut Vec<u8>, response: &Response, onward: Onward) {
    status_line(out, response.status, &response.reason);
    response.fields.write_lines(out, Known::Upgrade);
    framing_line(out, onward.framing);
    connection_line(out, onward);
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim answer (1xx), or the switch to another protocol.
pub(super) fn write_interim(out: &mut Vec<u8>, response: &Response) {
    status_line(out, response.status, &response.reason);
    if response.status == 101 {
        line(out, b"Connection", b"upgrade");
    }
    response.fields.write_lines(out, Known::Connection);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    out.extend_from_slice(&digits);
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// `Connection`, where it must be said: HTTP/1.1 goes on by itself, HTTP/1.0 does not (RFC 9112 9.3).
pub(super) fn connection_line(out: &mut Vec<u8>, onward: Onward) {
    match (onward.version, onward.persistent) {
        (Version::Http11, false) => line(out, b"Connection", b"close"),
        (Version::Http10, true) => line(out, b"Connection", b"keep-alive"),
        _ => {}
    }
}
