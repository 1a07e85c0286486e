//! What has to hold for any bytes whatever: one function for each fuzz target. The targets in
//! `fuzz/` include this file by its path; `fuzzed.rs` runs the same on changed samples, so that
//! it is exercised without a fuzzer too. A function here panics when a promise is broken.

use std::convert::Infallible;

use evenkeel_wire::{
    ChunkLimits, Chunked, ClientHelloRead, Fields, FrameHead, Frames, Framing, Known, LengthField,
    LengthKind, Limits, Method, PacketCut, PacketProgress, PacketRead, Packets, ProxyOrigin,
    ProxyRead, Pseudo, Read, Request, Response, Step, TraceParent, Version, is_name, is_value,
    read_client_hello, read_proxy_header, write_chunk_size, write_proxy_v1, write_proxy_v2,
};

const LIMITS: Limits = Limits { head_max: 2_048, line_max: 512, fields_max: 20 };
const CHUNKS: ChunkLimits = ChunkLimits { extension_max: 32, trailers: LIMITS };

/// A request that is accepted has one plain reading: written anew it reads the same, and it does
/// not depend on how the bytes were cut.
pub(crate) fn request_head(bytes: &[u8]) {
    let mut request = Request::default();
    let read = request.read(bytes, &LIMITS);
    let Ok(Read::Whole { length }) = read else { return };
    assert!(length <= bytes.len() && length <= LIMITS.head_max + 2);
    check_fields(&request.fields);
    assert_eq!(request.fields.first(Known::Host), None);
    assert_ne!(request.framing, Framing::UntilClose);
    assert_eq!(request.target.is_empty(), request.method == Method::Connect);
    assert!(request.version == Version::Http10 || !request.authority.is_empty());
    let mut again = Request::default();
    for cut in 0..length {
        assert_eq!(again.read(&bytes[..cut], &LIMITS), Ok(Read::Partial), "cut at {cut}");
    }
    assert_eq!(again.read(&bytes[..length], &LIMITS), Ok(Read::Whole { length }));
    assert_eq!(request, again);
    let written = write_request(&request);
    let wide = Limits { head_max: 2 * LIMITS.head_max, line_max: 2 * LIMITS.line_max, ..LIMITS };
    let wide = Limits { fields_max: LIMITS.fields_max + 1, ..wide };
    let whole = Ok(Read::Whole { length: written.len() });
    assert_eq!(again.read(&written, &wide), whole, "{}", written.escape_ascii());
    again.scheme = request.scheme;
    assert_eq!(request, again);
}

/// The head as a proxy would write it on: authority as Host, path as target.
pub(crate) fn write_request(request: &Request) -> Vec<u8> {
    let target = match request.method {
        Method::Connect => &request.authority,
        _ => &request.target,
    };
    let version: &[u8] =
        if request.version == Version::Http10 { b" HTTP/1.0" } else { b" HTTP/1.1" };
    let mut out = [request.method.as_bytes(), b" ", target, version, b"\r\n"].concat();
    if !request.authority.is_empty() {
        out.extend_from_slice(&[b"Host: ", request.authority.as_slice(), b"\r\n"].concat());
    }
    write_fields(&request.fields, &mut out);
    out
}

/// The same for a response; the first byte chooses the method that it answers.
pub(crate) fn response_head(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let to = match choice % 3 {
        0 => Method::Get,
        1 => Method::Head,
        _ => Method::Connect,
    };
    let mut response = Response::default();
    let Ok(Read::Whole { length }) = response.read(bytes, &to, &LIMITS) else { return };
    assert!(length <= bytes.len() && length <= LIMITS.head_max);
    check_fields(&response.fields);
    assert!((100..1_000).contains(&response.status));
    let has_body = response.framing != Framing::None;
    assert!(!has_body || (response.status >= 200 && ![204, 304].contains(&response.status)));
    assert!(!has_body || to != Method::Head);
    assert!(!response.persistent || response.framing != Framing::UntilClose);
    let mut again = Response::default();
    for cut in 0..length {
        let read = again.read(&bytes[..cut], &to, &LIMITS);
        assert_eq!(read, Ok(Read::Partial), "cut at {cut}");
    }
    let old = response.version == Version::Http10;
    let line = format!("HTTP/1.{} {} ", if old { 0 } else { 1 }, response.status);
    let mut written = [line.as_bytes(), &response.reason, b"\r\n"].concat();
    write_fields(&response.fields, &mut written);
    let wide = Limits { head_max: 2 * LIMITS.head_max, line_max: 2 * LIMITS.line_max, ..LIMITS };
    let whole = Ok(Read::Whole { length: written.len() });
    assert_eq!(again.read(&written, &to, &wide), whole, "{}", written.escape_ascii());
    // Fields that announced a body where none may be are gone, and with them the reason not to
    // use the connection again.
    again.persistent &= response.persistent;
    assert_eq!(response, again);
}

/// A chunked body gives the same data, end and refusal in one piece as in any others, and what it
/// gave can be written in chunks and read back. The first byte chooses the size of the pieces.
pub(crate) fn chunked(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let whole = decode(bytes, bytes.len().max(1));
    let in_pieces = decode(bytes, usize::from(*choice % 16) + 1);
    assert_eq!(whole, in_pieces);
    let Ok((data, Some(_), trailers)) = whole else { return };
    let mut written = Vec::new();
    if !data.is_empty() {
        write_chunk_size(&mut written, data.len());
        written.extend_from_slice(&data);
        written.extend_from_slice(b"\r\n");
    }
    write_chunk_size(&mut written, 0);
    written.extend_from_slice(&trailers);
    let end = written.len();
    assert_eq!(decode(&written, end), Ok((data, Some(end), trailers)));
}

/// The data, where the body ended, and the trailers as they would be written on.
type Decoded = (Vec<u8>, Option<usize>, Vec<u8>);

fn decode(bytes: &[u8], piece: usize) -> Result<Decoded, &'static str> {
    let (mut chunked, mut data, mut at) = (Chunked::new(CHUNKS), Vec::new(), 0);
    while at < bytes.len() {
        let input = &bytes[at..bytes.len().min(at + piece)];
        match chunked.step(input).map_err(|refusal| refusal.reason.as_str())? {
            Step::Data { skip, length } => {
                assert_ne!(length, 0);
                data.extend_from_slice(&input[skip..skip + length]);
                at += skip + length;
            }
            Step::More { consumed } => {
                assert_eq!(consumed, input.len());
                at += consumed;
            }
            Step::End { consumed } => {
                check_fields(chunked.trailers());
                let mut trailers = Vec::new();
                write_fields(chunked.trailers(), &mut trailers);
                return Ok((data, Some(at + consumed), trailers));
            }
        }
    }
    Ok((data, None, Vec::new()))
}

/// What stands behind each field of a head of HTTP/2, and between its name and its value; neither may be in them.
const FIELD_END: u8 = 0x1e;
const NAME_END: u8 = 0x1f;

/// Any bytes have the same frames however they are cut; and when they are the fields of a request, what goes on to a
/// backend of HTTP/1 is read there as it was meant. The first byte chooses the size of the pieces, and its top bit
/// whether a body follows. Answers whether they were a request.
pub(crate) fn h2_head(bytes: &[u8]) -> bool {
    let Some((choice, bytes)) = bytes.split_first() else { return false };
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(whole, frames(bytes, usize::from(*choice % 16) + 1));
    let mut pseudo = Pseudo::default();
    let mut fields = Vec::new();
    for field in bytes.split(|byte| *byte == FIELD_END).filter(|field| !field.is_empty()) {
        let end = field.iter().position(|byte| *byte == NAME_END).unwrap_or(field.len());
        let (name, value) = (&field[..end], field.get(end + 1..).unwrap_or_default());
        match name {
            b":method" => pseudo.method = value,
            b":scheme" => pseudo.scheme = Some(value),
            b":authority" => pseudo.authority = Some(value),
            b":path" => pseudo.path = Some(value),
            b":protocol" => pseudo.protocol = Some(value),
            _ => fields.push((name, value)),
        }
    }
    let mut request = Request::default();
    if request.take_h2(&pseudo, fields.into_iter(), *choice < 0x80, &LIMITS).is_err() {
        return false;
    }
    check_fields(&request.fields);
    assert_eq!(request.fields.first(Known::Host), None);
    assert!(request.fields.all(Known::Cookie).nth(1).is_none());
    let mut again = Request::default();
    let written = written_as_http1(&request);
    let wide =
        Limits { head_max: 2 * LIMITS.head_max, line_max: 2 * LIMITS.head_max, fields_max: 25 };
    let read = again.read(&written, &wide);
    assert_eq!(read, Ok(Read::Whole { length: written.len() }), "{}", written.escape_ascii());
    let told = |request: &Request| {
        let mut fields = request.fields.clone();
        let hop =
            [Known::ContentLength, Known::TransferEncoding, Known::Connection, Known::Upgrade];
        fields.retain(|field| !hop.contains(&field.known));
        let Request { method, authority, target, framing, upgrade, expects_continue, .. } = request;
        let said = (method.clone(), authority.clone(), target.clone());
        (said, *framing, *upgrade, *expects_continue, fields)
    };
    assert_eq!(told(&request), told(&again), "{}", written.escape_ascii());
    true
}

/// The frames in some bytes of a client, cut into pieces, and whether they end between two.
fn frames(bytes: &[u8], piece: usize) -> (Vec<FrameHead>, bool, bool) {
    let (mut frames, mut seen) = (Frames::of_client(), Vec::new());
    for part in bytes.chunks(piece) {
        let followed: Result<(), Infallible> = frames.follow(part, |head| {
            seen.push(head);
            Ok(())
        });
        assert_eq!(followed, Ok(()));
    }
    (seen, frames.is_between(), frames.is_in_payload())
}

/// A request of HTTP/2 as a proxy would write it on: framed anew, with Upgrade for what an extended CONNECT asks.
fn written_as_http1(request: &Request) -> Vec<u8> {
    let mut http1 = request.clone();
    http1.version = Version::Http11;
    http1.fields.retain(|field| field.known != Known::ContentLength);
    match request.framing {
        Framing::Length(length) => {
            http1.fields.push(b"Content-Length", length.to_string().as_bytes())
        }
        Framing::Chunked => http1.fields.push(b"Transfer-Encoding", b"chunked"),
        Framing::None | Framing::UntilClose => {}
    }
    if request.upgrade {
        http1.fields.push(b"Connection", b"upgrade");
        http1.fields.push(b"Upgrade", &request.protocol);
    }
    write_request(&http1)
}

fn check_fields(fields: &Fields) {
    assert!(fields.len() <= LIMITS.fields_max);
    for field in fields.iter() {
        assert!(is_name(field.name), "{}", field.name.escape_ascii());
        assert!(is_value(field.value), "{}", field.value.escape_ascii());
        assert_eq!(field.known, Known::of(field.name));
    }
}

fn write_fields(fields: &Fields, out: &mut Vec<u8>) {
    for field in fields.iter() {
        out.extend_from_slice(&[field.name, b": ", field.value, b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
}

/// A PROXY header that is accepted is whole only with its last byte, and says the same when it is written anew.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let Ok(ProxyRead::Whole { header, length }) = read_proxy_header(bytes) else { return };
    assert!(length <= bytes.len());
    for cut in 0..length {
        assert_eq!(read_proxy_header(&bytes[..cut]), Ok(ProxyRead::Partial), "cut at {cut}");
    }
    let alone = read_proxy_header(&bytes[..length]);
    assert_eq!(alone, Ok(ProxyRead::Whole { header, length }));
    assert!(header.tlvs().all(|(kind, value)| header.tlv(kind).is_some() && value.len() < length));
    let ProxyOrigin::Tcp { source, destination } = header.origin else { return };
    let (mut written, mut line) = (Vec::new(), Vec::new());
    write_proxy_v2(&mut written, Some((source, destination)), &[]);
    write_proxy_v1(&mut line, Some((source, destination)));
    for again in [written, line] {
        let read = read_proxy_header(&again);
        let Ok(ProxyRead::Whole { header, length }) = read else { panic!("{read:?}") };
        assert_eq!(length, again.len());
        let plain = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
        match header.origin {
            ProxyOrigin::Tcp { source: from, destination: to } => {
                assert_eq!((plain(from), plain(to)), (plain(source), plain(destination)));
            }
            // A line has no word for two families.
            origin => {
                assert_eq!(origin, ProxyOrigin::Own);
                assert_ne!(plain(source).0.is_ipv4(), plain(destination).0.is_ipv4());
            }
        }
    }
}

/// A ClientHello reads the same however much of it, or of what follows, has come.
pub(crate) fn client_hello(bytes: &[u8]) {
    let whole = read_client_hello(bytes);
    for cut in 0..bytes.len() {
        match read_client_hello(&bytes[..cut]) {
            Ok(ClientHelloRead::Partial) => {}
            settled => {
                assert_eq!(settled, whole, "cut at {cut}");
                break;
            }
        }
    }
    if let Ok(ClientHelloRead::Whole(hello)) = whole {
        let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        assert!(hello.server_name.is_none_or(|name| name.bytes().all(plain)));
        assert!(hello.protocols.iter().all(|protocol| !protocol.is_empty()));
    }
}

/// A trace that is believed has numbers, and reads the same as it is passed on.
pub(crate) fn trace_parent(bytes: &[u8]) {
    let Some(read) = TraceParent::read(bytes) else { return };
    assert!(read.trace != 0 && read.span != 0);
    assert_eq!(TraceParent::read(read.to_string().as_bytes()), Some(read));
}

/// Packets end in the same places however their stream comes; the first byte picks how they are cut.
pub(crate) fn packets(bytes: &[u8]) {
    const MAX: usize = 300;
    let Some((pick, stream)) = bytes.split_first() else { return };
    let by_length = |kind: &str| LengthField::new(kind).map(PacketCut::Length);
    let names: Vec<_> = LengthKind::names().collect();
    let cut = match pick % 4 {
        0 if pick / 4 % 2 == 1 => Some(PacketCut::RedisCommands),
        0 => Some(PacketCut::Redis),
        1 => Some(PacketCut::Mqtt),
        2 => Some(PacketCut::End(b"\r\n"[usize::from(pick / 4 % 2)..].to_vec())),
        _ => by_length(names[usize::from(pick / 4) % names.len()]),
    };
    let packets = Packets { cut: cut.unwrap_or(PacketCut::Mqtt), max: MAX };
    let mut from = 0;
    while from < stream.len() {
        let rest = &stream[from..];
        let at_once = packets.read(rest, &mut PacketProgress::default());
        let mut progress = PacketProgress::default();
        let in_pieces = (0..=rest.len()).map(|come| packets.read(&rest[..come], &mut progress));
        let settled = in_pieces.into_iter().find(|read| {
            if let Ok(PacketRead::Partial { total: Some(total) }) = read {
                assert!(*total <= MAX, "{total} bytes are wanted");
            }
            !matches!(read, Ok(PacketRead::Partial { .. }))
        });
        match (at_once, settled) {
            (Ok(PacketRead::Whole { length }), Some(Ok(PacketRead::Whole { length: same }))) => {
                assert_eq!(length, same);
                assert!((1..=MAX.min(rest.len())).contains(&length));
                from += length;
            }
            (Ok(PacketRead::Partial { .. }), None) | (Err(_), Some(Err(_))) => break,
            different => panic!("{different:?} of {rest:?}"),
        }
    }
}
