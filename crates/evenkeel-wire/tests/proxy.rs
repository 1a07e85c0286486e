//! PROXY headers: what is one, what is refused, and that what we write is read as it was meant.

use std::net::SocketAddr;

use evenkeel_wire::{
    ProxyHeader, ProxyOrigin, ProxyRead, ProxyRefusal, read_proxy_header, tlv, write_proxy_v1,
    write_proxy_v2,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(source: &str, destination: &str) -> ProxyOrigin<'static> {
    ProxyOrigin::Tcp { source: address(source), destination: address(destination) }
}

/// The header that these bytes are, with something behind it that is not part of it.
fn whole(bytes: &[u8]) -> Result<ProxyOrigin<'_>, ProxyRefusal> {
    for cut in 0..bytes.len() {
        match read_proxy_header(&bytes[..cut]) {
            Ok(ProxyRead::Partial) => {}
            Ok(whole) => panic!("{whole:?} after {cut} of {}", bytes.len()),
            Err(refusal) => return Err(refusal),
        }
    }
    match read_proxy_header(bytes)? {
        ProxyRead::Whole { header, length } => {
            assert_eq!(length, bytes.len());
            Ok(header.origin)
        }
        ProxyRead::Partial => panic!("{} is not whole", bytes.escape_ascii()),
    }
}

/// A header of version 2 from its command, its family, and all that follows.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

fn fact(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn a_line_of_version_1_says_both_ends() {
    for (line, origin) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            tcp("192.0.2.1:56324", "198.51.100.2:443"),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", tcp("[2001:db8::1]:1", "[::1]:65535")),
        ("PROXY TCP4 0.0.0.0 255.255.255.255 0 0\r\n", tcp("0.0.0.0:0", "255.255.255.255:0")),
        ("PROXY UNKNOWN\r\n", ProxyOrigin::Own),
        ("PROXY UNKNOWN ffff::1 whatever 0 0\r\n", ProxyOrigin::Own),
    ] {
        assert_eq!(whole(line.as_bytes()), Ok(origin), "{line}");
    }
}

#[test]
fn a_line_that_is_not_as_it_must_be_is_refused() {
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    for (line, refusal) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", ProxyRefusal::Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\rx", ProxyRefusal::Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n", ProxyRefusal::Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n", ProxyRefusal::Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", ProxyRefusal::Line),
        ("PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n", ProxyRefusal::Line),
        ("PROXY\tTCP4 192.0.2.1 198.51.100.2 1 2\r\n", ProxyRefusal::Missing),
        ("PROXY TCP4\r\n", ProxyRefusal::Line),
        ("PROXY \r\n", ProxyRefusal::Line),
        ("PROXY TCP4 192.0.2.1 ::1 1 2\r\n", ProxyRefusal::Address),
        ("PROXY TCP6 192.0.2.1 192.0.2.1 1 2\r\n", ProxyRefusal::Address),
        ("PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", ProxyRefusal::Address),
        ("PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n", ProxyRefusal::Address),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", ProxyRefusal::Address),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", ProxyRefusal::Address),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n", ProxyRefusal::Address),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n", ProxyRefusal::Address),
        ("PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", ProxyRefusal::Unsupported),
        ("PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n", ProxyRefusal::Unsupported),
        ("proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n", ProxyRefusal::Missing),
        ("GET / HTTP/1.1\r\n", ProxyRefusal::Missing),
        (" PROXY UNKNOWN\r\n", ProxyRefusal::Missing),
        (&too_long, ProxyRefusal::TooLong),
    ] {
        assert_eq!(whole(line.as_bytes()), Err(refusal), "{line:?}");
    }
}

#[test]
fn the_longest_line_is_107_bytes() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    assert_eq!(whole(line(107).as_bytes()), Ok(ProxyOrigin::Own));
    assert_eq!(whole(line(108).as_bytes()), Err(ProxyRefusal::TooLong));
    assert_eq!(whole(line(109).as_bytes()), Err(ProxyRefusal::TooLong));
    // Nothing more is waited for than that.
    assert_eq!(
        read_proxy_header(&[b"PROXY ", &[b'x'; 101][..]].concat()),
        Err(ProxyRefusal::TooLong)
    );
}

#[test]
fn what_begins_like_no_header_is_refused_with_its_first_byte() {
    for bytes in [&b"G"[..], b"\x16\x03\x01", b"P1", b"PROXX", b"\r\n\r\n\r", b"\n"] {
        assert_eq!(
            read_proxy_header(bytes),
            Err(ProxyRefusal::Missing),
            "{}",
            bytes.escape_ascii()
        );
    }
    for bytes in [&b""[..], b"P", b"PROXY", b"\r", b"\r\n\r\n\0\r\nQUIT"] {
        assert_eq!(read_proxy_header(bytes), Ok(ProxyRead::Partial), "{}", bytes.escape_ascii());
    }
}

#[test]
fn version_2_says_both_ends_in_every_family() {
    assert_eq!(whole(&v2(0x21, 0x11, V4)), Ok(tcp("192.0.2.1:56324", "198.51.100.2:443")));
    let mut v6 = [0_u8; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 81);
    assert_eq!(whole(&v2(0x21, 0x21, &v6)), Ok(tcp("[::1]:80", "[::2]:81")));
    let mut unix = [0_u8; 216];
    unix[..4].copy_from_slice(b"/a/b");
    unix[108..111].copy_from_slice(b"\0ab");
    let named = ProxyOrigin::Unix { source: b"/a/b", destination: b"\0ab" };
    assert_eq!(whole(&v2(0x21, 0x31, &unix)), Ok(named));
    // Nobody's, and the proxy's own, whatever stands behind that.
    for bytes in
        [v2(0x21, 0x00, b""), v2(0x20, 0x00, b""), v2(0x20, 0x11, V4), v2(0x20, 0xff, b"x")]
    {
        assert_eq!(whole(&bytes), Ok(ProxyOrigin::Own));
    }
}

#[test]
fn a_header_of_version_2_that_is_not_as_it_must_be_is_refused() {
    let four = |rest: &[u8]| [V4, rest].concat();
    for (bytes, refusal) in [
        (v2(0x22, 0x11, V4), ProxyRefusal::Unsupported),
        (v2(0x11, 0x11, V4), ProxyRefusal::Unsupported),
        (v2(0x31, 0x11, V4), ProxyRefusal::Unsupported),
        (v2(0x21, 0x12, V4), ProxyRefusal::Unsupported),
        (v2(0x21, 0x41, V4), ProxyRefusal::Unsupported),
        (v2(0x21, 0x10, V4), ProxyRefusal::Unsupported),
        (v2(0x21, 0x11, &V4[..11]), ProxyRefusal::Length),
        (v2(0x21, 0x21, V4), ProxyRefusal::Length),
        (v2(0x21, 0x31, &[0; 215]), ProxyRefusal::Length),
        (v2(0x21, 0x11, &four(&[4])), ProxyRefusal::Length),
        (v2(0x21, 0x11, &four(&[4, 0, 2, 0])), ProxyRefusal::Length),
        (v2(0x21, 0x11, &four(&fact(tlv::CRC32C, &[0; 3]))), ProxyRefusal::Length),
        (v2(0x21, 0x11, &four(&fact(tlv::CRC32C, &[0; 4]))), ProxyRefusal::Checksum),
        (v2(0x21, 0x11, &four(&fact(tlv::UNIQUE_ID, &[0; 129]))), ProxyRefusal::Length),
        (v2(0x21, 0x11, &four(&fact(tlv::NOOP, &[0; 5_000]))), ProxyRefusal::TooLong),
    ] {
        assert_eq!(whole(&bytes), Err(refusal), "{}", bytes.escape_ascii());
    }
}

fn header(bytes: &[u8]) -> ProxyHeader<'_> {
    match read_proxy_header(bytes) {
        Ok(ProxyRead::Whole { header, length }) if length == bytes.len() => header,
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

#[test]
fn facts_are_found_by_their_type() {
    let facts = [fact(tlv::ALPN, b"h2"), fact(tlv::AUTHORITY, b"a.test"), fact(0xe0, b"")].concat();
    let bytes = v2(0x21, 0x11, &[V4, &facts].concat());
    let header = header(&bytes);
    assert_eq!(header.tlv(tlv::AUTHORITY), Some(&b"a.test"[..]));
    assert_eq!(header.tlv(tlv::UNIQUE_ID), None);
    let all: Vec<_> = header.tlvs().collect();
    assert_eq!(all, [(tlv::ALPN, &b"h2"[..]), (tlv::AUTHORITY, b"a.test"), (0xe0, b"")]);
}

#[test]
fn what_is_written_is_read_as_it_was_meant() {
    let ends = |source: &str, destination: &str| Some((address(source), address(destination)));
    for (endpoints, v1, v2) in [
        (
            ends("192.0.2.1:1", "198.51.100.2:65535"),
            tcp("192.0.2.1:1", "198.51.100.2:65535"),
            tcp("192.0.2.1:1", "198.51.100.2:65535"),
        ),
        (
            ends("[2001:db8::1]:7", "[::1]:8"),
            tcp("[2001:db8::1]:7", "[::1]:8"),
            tcp("[2001:db8::1]:7", "[::1]:8"),
        ),
        (
            ends("[::ffff:192.0.2.1]:7", "[::ffff:192.0.2.2]:8"),
            tcp("192.0.2.1:7", "192.0.2.2:8"),
            tcp("192.0.2.1:7", "192.0.2.2:8"),
        ),
        (
            ends("192.0.2.1:7", "[2001:db8::1]:8"),
            ProxyOrigin::Own,
            tcp("[::ffff:192.0.2.1]:7", "[2001:db8::1]:8"),
        ),
        (None, ProxyOrigin::Own, ProxyOrigin::Own),
    ] {
        let mut line = Vec::new();
        write_proxy_v1(&mut line, endpoints);
        assert_eq!(whole(&line), Ok(v1));
        let mut bytes = b"before".to_vec();
        write_proxy_v2(&mut bytes, endpoints, &[(tlv::UNIQUE_ID, b"abc")]);
        let bytes = &bytes[6..];
        assert_eq!(whole(bytes), Ok(v2));
        if endpoints.is_some() {
            assert_eq!(header(bytes).tlv(tlv::UNIQUE_ID), Some(&b"abc"[..]));
            assert_eq!(header(bytes).tlv(tlv::CRC32C).map(<[u8]>::len), Some(4));
        }
    }
}

#[test]
fn a_changed_bit_is_found_out_by_the_checksum() {
    let mut bytes = Vec::new();
    let endpoints = Some((address("192.0.2.1:1"), address("198.51.100.2:2")));
    write_proxy_v2(&mut bytes, endpoints, &[(tlv::AUTHORITY, b"a.test")]);
    for at in 16..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            // One that makes the checksum something else, or a length another, is no such header any more.
            let is_same = read_proxy_header(&changed).is_ok_and(|read| match read {
                ProxyRead::Whole { header, .. } => header.tlv(tlv::CRC32C).is_some(),
                ProxyRead::Partial => true,
            });
            assert!(!is_same, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn facts_that_find_no_room_are_left_out() {
    let mut bytes = Vec::new();
    let endpoints = Some((address("192.0.2.1:1"), address("198.51.100.2:2")));
    let long = vec![b'x'; 4_050];
    write_proxy_v2(&mut bytes, endpoints, &[(0xe0, &long), (0xe1, &long), (0xe2, b"y")]);
    let header = header(&bytes);
    assert_eq!(header.tlv(0xe0).map(<[u8]>::len), Some(4_050));
    assert_eq!((header.tlv(0xe1), header.tlv(0xe2)), (None, Some(&b"y"[..])));
}
