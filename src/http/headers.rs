//! What changes in a head on its way through us: hop-by-hop fields go, forwarding fields are ours, framing is new.
//! A client can never take away what we add: what it names in `Connection` is stripped before, not after.

use evenkeel_wire::{Field, Fields, Framing, Known, Request, Response, Version, elements};

/// What we tell a backend about the request's client.
#[derive(Debug)]
pub(super) struct Forwarded<'a> {
    /// The client's address; empty for a client of a Unix socket.
    pub(super) client: &'a str,
    /// `http` or `https`, as the client asked.
    pub(super) scheme: &'static str,
    /// Whether the client may say whom it forwards for.
    pub(super) trusted: bool,
    pub(super) request_id: &'a str,
}

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
    )
}

/// Removes the fields that `Connection` names (RFC 9110 7.6.1), but for those that must not be.
fn strip_named(fields: &mut Fields) {
    let harmless: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    let names: Vec<Vec<u8>> = fields
        .all(Known::Connection)
        .flat_map(elements)
        .filter(|name| !harmless.iter().any(|word| name.eq_ignore_ascii_case(word)))
        .filter(|name| !is_protected(Known::of(name)))
        .map(<[u8]>::to_vec)
        .collect();
    names.iter().for_each(|name| fields.remove_named(name));
}

/// Strips what was said to us only, and drops forwarding fields that nobody vouches for.
pub(super) fn strip_request(request: &mut Request, trusted: bool) {
    strip_named(&mut request.fields);
    let forwarding = |known| {
        matches!(
            known,
            Known::XForwardedFor
                | Known::XForwardedProto
                | Known::XForwardedHost
                | Known::XForwardedPort
                | Known::Forwarded
                | Known::XRequestId
        )
    };
    // That a client takes trailers may be told on, where the next hop has a way to say it.
    let is_told = |field: &Field<'_>| {
        field.known == Known::Te && field.value.eq_ignore_ascii_case(b"trailers")
    };
    request.fields.retain(|field| {
        (!is_ours(field.known) || is_told(&field)) && (trusted || !forwarding(field.known))
    });
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

/// Takes fields away and puts others in their place; what frames a message is not for a route to change.
pub(super) fn edit(fields: &mut Fields, remove: &[Box<[u8]>], set: &[(&[u8], String)]) {
    remove.iter().for_each(|name| fields.remove_named(name));
    for (name, value) in set.iter().filter(|(name, _)| !is_ours(Known::of(name))) {
        fields.set(name, value.as_bytes());
    }
}

/// The same for a request, where `Host` has a place of its own. What a client sends under a name that a backend may
/// take for one of these goes too.
pub(super) fn edit_request(request: &mut Request, remove: &[Box<[u8]>], set: &[(&[u8], String)]) {
    request.fields.retain(|field| {
        let mut edited = remove.iter().map(|name| &**name).chain(set.iter().map(|(name, _)| *name));
        !field.name.contains(&b'_') || !edited.any(|name| is_alike(field.name, name))
    });
    edit(&mut request.fields, remove, set);
    let host = set.iter().find(|(name, _)| Known::of(name) == Known::Host);
    if let Some((_, host)) = host {
        request.authority = host.clone().into_bytes();
    }
}

/// Whether two names are one to a server that hands fields on as variables (RFC 3875 4.1.18), where `-` becomes `_`.
fn is_alike(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
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
pub(super) fn write_request(
    out: &mut Vec<u8>,
    request: &Request,
    host: &[u8],
    upgrade: Option<&[u8]>,
    forwarded: &Forwarded<'_>,
) {
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    let is_connect = request.target.is_empty();
    out.extend_from_slice(if is_connect { &request.authority } else { &request.target });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, b"Host", host);
    // Forwarded for is merged with our own, and TE would have to be named in Connection.
    let passes = |field: &Field<'_>| !matches!(field.known, Known::XForwardedFor | Known::Te);
    for field in request.fields.iter().filter(passes) {
        line(out, field.name, field.value);
    }
    framing_line(out, request.framing);
    if let Some(protocol) = upgrade {
        line(out, b"Connection", b"upgrade");
        line(out, b"Upgrade", protocol);
        if !request.protocol.is_empty() && protocol.eq_ignore_ascii_case(b"websocket") {
            line(out, b"Sec-WebSocket-Key", &websocket_key(forwarded.request_id));
        }
    }
    forwarded_fields(request, forwarded, |name, value| line(out, name, value));
    out.extend_from_slice(b"\r\n");
}

/// The nonce that a WebSocket handshake needs on HTTP/1 and has not on HTTP/2 (RFC 8441 5.1): 16 bytes in base64.
/// Hexadecimal digits are base64 as well; it only has to differ from request to request (RFC 6455 4.1).
fn websocket_key(request_id: &str) -> [u8; 24] {
    let mut key = *b"AAAAAAAAAAAAAAAAAAAAAA==";
    let digits = request_id.bytes().rev().take(21);
    key.iter_mut().zip(digits).for_each(|(place, digit)| *place = digit);
    key
}

/// `X-Forwarded-*` as most servers read them; a trusted client's own words stay, and it is added to their list.
pub(super) fn forwarded_fields(
    request: &Request,
    forwarded: &Forwarded<'_>,
    mut add: impl FnMut(&[u8], &[u8]),
) {
    let said = |known| forwarded.trusted && request.fields.first(known).is_some();
    if !forwarded.client.is_empty() {
        let client = forwarded.client.as_bytes();
        if request.fields.first(Known::XForwardedFor).is_none() {
            add(b"X-Forwarded-For", client);
        } else {
            let hops = request.fields.all(Known::XForwardedFor).chain([client]);
            add(b"X-Forwarded-For", &hops.collect::<Vec<_>>().join(&b", "[..]));
        }
    }
    if !said(Known::XForwardedProto) {
        add(b"X-Forwarded-Proto", forwarded.scheme.as_bytes());
    }
    if !said(Known::XForwardedHost) {
        add(b"X-Forwarded-Host", &request.authority);
    }
    if !said(Known::XRequestId) {
        add(b"X-Request-Id", forwarded.request_id.as_bytes());
    }
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
    for field in response.fields.iter().filter(|field| field.known != Known::Upgrade) {
        line(out, field.name, field.value);
    }
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
    for field in response.fields.iter() {
        line(out, field.name, field.value);
    }
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
