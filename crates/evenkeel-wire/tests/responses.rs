//! Heads of responses: where their bodies end, whether the connection lives on, what is refused.

use evenkeel_wire::{Framing, Known, Method, Read, Response, Version};

use crate::support::{LIMITS, expect_refusals, response};

#[test]
fn a_plain_response_reads_as_it_was_sent() {
    let head = "HTTP/1.1 200 All is well\t\u{e9}!\r\nServer: x\r\nContent-Length: 3\r\n\r\n";
    let read = response(head, &Method::Get).unwrap();
    assert_eq!((read.status, read.version), (200, Version::Http11));
    assert_eq!(read.reason, "All is well\t\u{e9}!".as_bytes());
    assert_eq!(read.framing, Framing::Length(3));
    assert_eq!(read.fields.first(Known::Server), Some(b"x".as_slice()));
    assert!(read.persistent);
}

#[test]
fn a_response_cut_anywhere_is_partial_and_then_reads_the_same() {
    let head = b"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    let mut read = Response::default();
    for cut in 0..head.len() {
        assert_eq!(read.read(&head[..cut], &Method::Get, &LIMITS), Ok(Read::Partial), "at {cut}");
    }
    let whole = Ok(Read::Whole { length: head.len() });
    assert_eq!(read.read(head, &Method::Get, &LIMITS), whole);
    assert!(read.persistent);
}

#[test]
fn the_end_of_a_body_follows_from_status_method_and_fields() {
    use Framing::{Chunked, Length, None, UntilClose};
    let (get, head, connect) = (Method::Get, Method::Head, Method::Connect);
    for (to, status, fields, framing, persistent) in [
        (&get, "200 OK", "Content-Length: 0\r\n", Length(0), true),
        (&get, "200 OK", "Transfer-Encoding: chunked\r\n", Chunked, true),
        (&get, "200 OK", "", UntilClose, false),
        (&get, "200 OK", "Connection: keep-alive\r\n", UntilClose, false),
        (&get, "200 OK", "Connection: close\r\nContent-Length: 1\r\n", Length(1), false),
        (&get, "205 Reset", "Content-Length: 0\r\n", Length(0), true),
        (&get, "999 Odd", "Content-Length: 1\r\n", Length(1), true),
        (&head, "200 OK", "Content-Length: 5\r\n", None, true),
        (&head, "200 OK", "Transfer-Encoding: chunked\r\n", None, true),
        (&head, "200 OK", "", None, true),
        (&get, "304 Not Modified", "Content-Length: 5\r\n", None, true),
        (&get, "304 Not Modified", "", None, true),
        (&get, "204 No Content", "", None, true),
        (&get, "204 No Content", "Content-Length: 0\r\n", None, true),
        (&get, "204 No Content", "Content-Length: 5\r\n", None, false),
        (&get, "204 No Content", "Transfer-Encoding: chunked\r\n", None, false),
        (&get, "100 Continue", "", None, true),
        (&get, "103 Early Hints", "Link: x\r\nContent-Length: 5\r\n", None, false),
        (&get, "101 Switching", "Connection: upgrade\r\nUpgrade: x\r\n", None, false),
        (&connect, "200 OK", "", None, false),
        (&connect, "200 OK", "Content-Length: 5\r\n", None, false),
        (&connect, "299 OK", "Transfer-Encoding: chunked\r\n", None, false),
        (&connect, "403 No", "Content-Length: 5\r\n", Length(5), true),
    ] {
        let read = response(format!("HTTP/1.1 {status}\r\n{fields}\r\n"), to).unwrap();
        let found = (read.framing, read.persistent);
        assert_eq!(found, (framing, persistent), "{to} {status} {fields:?}");
    }
}

#[test]
fn a_length_stays_only_where_it_may_be_said() {
    for (to, status, stays) in [
        (Method::Get, 200, true),
        (Method::Head, 200, true),
        (Method::Get, 304, true),
        (Method::Get, 204, false),
        (Method::Get, 103, false),
        (Method::Connect, 200, false),
    ] {
        let read = response(format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n"), &to);
        let length = read.map(|read| read.fields.first(Known::ContentLength).is_some());
        assert_eq!(length, Ok(stays), "{to} {status}");
    }
}

#[test]
fn broken_responses_are_refused_for_their_reason() {
    let cases: &[(&[u8], &str)] = &[
        (b"HTTP/1.1 200 OK\nA: b\n\n", "bare-lf"),
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", "bare-lf"),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", "bare-cr"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n", "bare-cr"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "obs-fold"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "space-before-colon"),
        (b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", "name-empty"),
        (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "value-invalid"),
        (b"HTTP/1.1 200 OK\r\nContent_Length: 1\r\n\r\n", "underscore-look-alike"),
        (b"HTTP/1.1 200 O\x00K\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 200 O\x7fK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1\t200 OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 +20 OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 200OK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 200\tOK\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1\r\n\r\n", "status-line-invalid"),
        (b"HTTP/1.1 \r\n\r\n", "status-line-invalid"),
        (b"http/1.1 200 OK\r\n\r\n", "status-line-invalid"),
        (b"ICY 200 OK\r\n\r\n", "status-line-invalid"),
        (b" HTTP/1.1 200 OK\r\n\r\n", "status-line-invalid"),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "status-line-invalid"),
        (b"garbage", "status-line-invalid"),
        (b"HTTP/1.2 200 OK\r\n\r\n", "version-unsupported"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "version-unsupported"),
        (b"HTTP/0.9 200 OK\r\n\r\n", "version-unsupported"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "content-length-repeated",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "content-length-repeated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "content-length-invalid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "content-length-invalid"),
        (b"HTTP/1.1 204 OK\r\nContent-Length: -1\r\n\r\n", "content-length-invalid"),
        (
            b"HTTP/1.1 100 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "content-length-repeated",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "content-length-overflow",
        ),
    ];
    for to in [Method::Get, Method::Head, Method::Connect] {
        expect_refusals(cases, |head| response(head, &to).err());
    }
    for head in ["HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n"] {
        assert_eq!(response(head, &Method::Get).unwrap().reason, b"");
    }
    let long = format!("HTTP/1.1 200 {}", "x".repeat(LIMITS.line_max));
    assert_eq!(response(long, &Method::Get).unwrap_err(), "status-line-too-long");
}
