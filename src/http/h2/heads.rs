//! Heads between HTTP/2 and the values that all versions share: what one side said, in the words of the other.
//! Nothing is lost or made up: what cannot be said is refused by evenkeel-wire before it comes here.

use evenkeel_wire::{Field, Framing, Known, Limits, Pseudo, Refusal, Request, Response};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, StatusCode, Uri};

use crate::http::headers::Heading;

/// Takes over the head of a client's request.
pub(in crate::http) fn incoming_request(
    head: &http::request::Parts,
    ends: bool,
    limits: &Limits,
    into: &mut Request,
) -> Result<(), Refusal> {
    let protocol = head.extensions.get::<h2::ext::Protocol>();
    let is_connect = head.method == http::Method::CONNECT && protocol.is_none();
    let path = head.uri.path_and_query().map(|path| path.as_str().as_bytes());
    // Without an authority, the crate drops the scheme after having checked that there is one.
    let scheme = head.uri.scheme_str().or(Some("http")).filter(|_| !is_connect);
    let pseudo = Pseudo {
        method: head.method.as_str().as_bytes(),
        scheme: scheme.map(str::as_bytes),
        authority: head.uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: path.filter(|_| !is_connect),
        protocol: protocol.map(|protocol| protocol.as_str().as_bytes()),
    };
    into.take_h2(&pseudo, pairs(&head.headers), ends, limits)
}

/// The fields of a map, one by one.
pub(super) fn pairs(map: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// Fields as a map; those that the crate cannot hold are left out, and there are none in a message that was read.
pub(super) fn field_map<'a>(fields: impl Iterator<Item = Field<'a>>) -> HeaderMap {
    // With room for a length; a map that grows hashes everything anew.
    let mut map = HeaderMap::with_capacity(fields.size_hint().1.unwrap_or(0) + 1);
    for field in fields {
        append(&mut map, field.name, field.value);
    }
    map
}

fn append(map: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        // A map has room for 32,768 fields; a head was limited to far fewer.
        let _ = map.try_append(name, value);
    }
}

/// The head of a stripped request for a backend; none where it cannot be said in HTTP/2.
pub(super) fn outgoing_request(
    request: &Request,
    Heading { target, host, upgrade }: Heading<'_>,
) -> Option<http::Request<()>> {
    let authority = Authority::try_from(host).ok()?;
    let is_connect = request.method == evenkeel_wire::Method::Connect;
    let mut parts = http::uri::Parts::default();
    parts.authority = Some(authority);
    if !is_connect {
        let path = PathAndQuery::try_from(target).ok()?;
        (parts.scheme, parts.path_and_query) = (Some(http::uri::Scheme::HTTP), Some(path));
    }
    let method = if upgrade.is_some() { b"CONNECT" } else { request.method.as_bytes() };
    let mut head = http::Request::new(());
    *head.method_mut() = http::Method::from_bytes(method).ok()?;
    *head.uri_mut() = Uri::from_parts(parts).ok()?;
    *head.version_mut() = http::Version::HTTP_2;
    if let Some(protocol) = upgrade {
        let protocol = std::str::from_utf8(protocol).ok()?;
        head.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    let is_handshake = |field: &Field<'_>| upgrade.is_some() && is_websocket_key(field.name);
    let passed = request.fields.iter().filter(|field| !is_handshake(field));
    let map = head.headers_mut();
    *map = field_map(passed);
    length(map, request.framing);
    Some(head)
}

/// The head of a stripped answer for a client.
pub(super) fn outgoing_response(response: &Response, framing: Framing) -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *head.version_mut() = http::Version::HTTP_2;
    let passed = response.fields.iter().filter(|field| field.known != Known::Upgrade);
    *head.headers_mut() = field_map(passed);
    length(head.headers_mut(), framing);
    head
}

fn length(map: &mut HeaderMap, framing: Framing) {
    if let Framing::Length(length) = framing {
        map.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Fields of the WebSocket handshake that HTTP/2 does without (RFC 8441 5.1).
fn is_websocket_key(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-key")
}
