//! Heads of requests: what is let through and how it reads, and what is refused for which reason.

use evenkeel_wire::{Framing, Known, Limits, Method, Read, Reason, Request, Scheme, Version};

use crate::support::{LIMITS, expect_refusals, post, request};

const PLAIN: &[u8] = b"GET /a/b?c=d HTTP/1.1\r\nHost: a.test:8080\r\nUser-Agent: x y\t z\r\nAccept: */*\r\nEmpty:\r\nX-Obs: \xff\xe9\r\n\r\n";

#[test]
fn a_plain_request_reads_as_it_was_sent() {
    let read = request(PLAIN).unwrap();
    assert_eq!(read.method, Method::Get);
    assert_eq!(read.version, Version::Http11);
    assert_eq!(read.scheme, None);
    assert_eq!(read.authority, b"a.test:8080");
    assert_eq!(read.target, b"/a/b?c=d");
    assert_eq!(read.framing, Framing::None);
    assert!(read.persistent && !read.expects_continue && !read.upgrade);
    let fields: Vec<_> = read.fields.iter().map(|field| (field.name, field.value)).collect();
    let expected: [(&[u8], &[u8]); 4] = [
        (b"User-Agent", b"x y\t z"),
        (b"Accept", b"*/*"),
        (b"Empty", b""),
        (b"X-Obs", b"\xff\xe9"),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_head_cut_anywhere_is_partial_and_then_reads_the_same() {
    let heads: [&[u8]; 4] = [
        PLAIN,
        b"\r\nPOST http://A.test/x HTTP/1.1\r\nHost: a.test:80\r\nTransfer-Encoding: Chunked\r\n\r\n",
        b"CONNECT a.test:443 HTTP/1.1\r\nHost: A.TEST:443\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ];
    for head in heads {
        let mut read = Request::default();
        for cut in 0..head.len() {
            assert_eq!(read.read(&head[..cut], &LIMITS), Ok(Read::Partial), "at {cut}");
        }
        let with_more = [head, b"GET / junk\n"].concat();
        assert_eq!(read.read(&with_more, &LIMITS), Ok(Read::Whole { length: head.len() }));
        assert_eq!(Ok(&read), request(head).as_ref());
    }
}

#[test]
fn one_empty_line_before_a_request_is_skipped_and_no_second() {
    let mut read = Request::default();
    let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(read.read(head, &LIMITS), Ok(Read::Whole { length: head.len() }));
    for junk in ["\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r"] {
        assert_eq!(request(junk).unwrap_err(), "method-invalid", "{junk:?}");
    }
    assert_eq!(request("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err(), "bare-lf");
    assert_eq!(request("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err(), "bare-cr");
}

#[test]
fn broken_heads_are_refused_for_their_reason() {
    let cases: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\nHost: a\n\n", "bare-lf"),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", "bare-lf"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", "bare-lf"),
        (b"GET / HTTP/1.1\r\nHost: a\r\rX: y\r\n\r\n", "bare-cr"),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", "bare-cr"),
        (b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", "bare-cr"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", "bare-cr"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", "obs-fold"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n", "obs-fold"),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "obs-fold"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "space-before-colon"),
        (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", "space-before-colon"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", "name-empty"),
        (b"GET / HTTP/1.1\r\n:\r\nHost: a\r\n\r\n", "name-empty"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "colon-missing"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA B: c\r\n\r\n", "name-invalid"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: c\r\n\r\n", "name-invalid"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: c\r\n\r\n", "name-invalid"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", "value-invalid"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n\r\n", "value-invalid"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n", "value-invalid"),
        (b"G ET / HTTP/1.1\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "method-invalid"),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "method-invalid"),
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "method-invalid"),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: a\r\n\r\n", "method-invalid"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "method-invalid"),
        (b"SSH-2.0-x@y", "method-invalid"),
        (b"GET /\r\n\r\n", "request-line-invalid"),
        (b"GET\r\n\r\n", "request-line-invalid"),
        (b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET / HTTP/11\r\nHost: a\r\n\r\n", "request-line-invalid"),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "version-unsupported"),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", "version-unsupported"),
        (b"PRI * HTTP/2.0\r\n\r\n", "version-unsupported"),
    ];
    expect_refusals(cases, |head| request(head).err());
}

#[test]
fn no_control_byte_passes_anywhere_in_a_head() {
    let forms: [(&[u8], &[u8]); 5] = [
        (b"GE", b"T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET /a", b"b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a", b"b\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX", b"Y: z\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: 0123456789abcdef0123456789abcdef", b"z\r\n\r\n"),
    ];
    for byte in (0..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
        for (before, after) in forms {
            let head = [before, &[byte], after].concat();
            assert!(request(&head).is_err(), "{}", head.escape_ascii());
        }
    }
}

#[test]
fn targets_have_the_form_that_their_method_allows() {
    let good = [
        ("GET", "/", "", "/"),
        ("GET", "/a|b[c]{d}^`\"<>~'()*,;=:@!$&+", "", "/a|b[c]{d}^`\"<>~'()*,;=:@!$&+"),
        ("GET", "/%41%ff?%00?//", "", "/%41%ff?%00?//"),
        ("GET", "//a.test/x", "", "//a.test/x"),
        ("GET", "http://a.test", "a.test", "/"),
        ("GET", "HTTP://A.test:80/x", "A.test:80", "/x"),
        ("GET", "http://a.test?q", "a.test", "/?q"),
        ("OPTIONS", "*", "", "*"),
        ("OPTIONS", "http://a.test", "a.test", "*"),
        ("OPTIONS", "http://a.test?", "a.test", "/?"),
        ("OPTIONS", "/x", "", "/x"),
        ("CONNECT", "a.test:80", "a.test:80", ""),
        ("x-own_1", "/", "", "/"),
    ];
    for (method, target, authority, path) in good {
        let host = if authority.is_empty() { "a.test" } else { authority };
        let read = request(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .unwrap_or_else(|reason| panic!("{method} {target}: {reason}"));
        assert_eq!(read.method.as_bytes(), method.as_bytes());
        assert_eq!(read.authority, host.as_bytes(), "{target}");
        assert_eq!(read.target, path.as_bytes(), "{target}");
        assert_eq!(read.scheme.is_some(), target.to_lowercase().starts_with("http"));
    }
    let bad = [
        ("GET", "*", "target-invalid"),
        ("GET", "a", "target-invalid"),
        ("GET", "a.test:80", "target-invalid"),
        ("GET", "/a#b", "target-invalid"),
        ("GET", "/a\\b", "target-invalid"),
        ("GET", "/é", "target-invalid"),
        ("GET", "/%", "target-invalid"),
        ("GET", "/%4", "target-invalid"),
        ("GET", "/%4g", "target-invalid"),
        ("GET", "/%%41", "target-invalid"),
        ("GET", "?q", "target-invalid"),
        ("GET", "#", "target-invalid"),
        ("OPTIONS", "**", "target-invalid"),
        ("OPTIONS", "*/x", "target-invalid"),
        ("GET", "ftp://a.test/", "target-scheme"),
        ("GET", "ws://a.test/", "target-scheme"),
        ("GET", "://a.test/", "target-scheme"),
        ("GET", "http:/a.test/", "target-invalid"),
        ("GET", "http:a.test", "target-invalid"),
        ("GET", "http://", "target-invalid"),
        ("GET", "http:///x", "target-invalid"),
        ("GET", "http://:80/", "target-invalid"),
        ("GET", "http://a.test#x", "target-invalid"),
        ("GET", "http://a.test/#x", "target-invalid"),
        ("GET", "http://a.test\\x/", "target-invalid"),
        ("GET", "http://u@a.test/", "target-userinfo"),
        ("GET", "http://u:p@a.test/", "target-userinfo"),
        ("GET", "http://a.test:x/", "target-invalid"),
        ("GET", "http://a.test:65536/", "target-invalid"),
        ("CONNECT", "a.test", "target-invalid"),
        ("CONNECT", "/", "target-invalid"),
        ("CONNECT", "*", "target-invalid"),
        ("CONNECT", "http://a.test:80/", "target-invalid"),
        ("CONNECT", "a.test:80/", "target-invalid"),
        ("CONNECT", "u@a.test:80", "target-userinfo"),
    ];
    let bad = bad.map(|(method, target, reason)| {
        (format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"), reason)
    });
    expect_refusals(&bad, |head| request(head).err());
}

#[test]
fn a_host_is_a_name_or_an_address_with_an_optional_port() {
    let good = [
        "a",
        "a.test",
        "A.TEST.",
        "a_b.test",
        "1.2.3.4",
        "1.2.3.4:0",
        "[::1]",
        "[::1]:80",
        "[2001:DB8::1]:65535",
        "xn--bcher-kva.test:443",
        "a-b~c!d$e&f'g(h)i*j+k;l=m",
    ];
    for host in good {
        let read = request(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(read.map(|read| read.authority), Ok(host.as_bytes().to_vec()));
    }
    let bad = [
        "",
        ":80",
        "a:",
        "a:b",
        "a:+1",
        "a:-1",
        "a:65536",
        "a:000080",
        "a:80:80",
        "a b",
        "a,b",
        "a, b",
        "a/b",
        "/",
        "a?b",
        "a#b",
        "a@b",
        "u:p@a",
        "http://a",
        "a%41",
        "[::1",
        "::1",
        "[]",
        "[1.2.3.4]",
        "[::1]x",
        "[::1]80",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "[::1]:",
        "a\tb",
        "é",
        "a\\b",
        "a\"b",
        "<a>",
        "{a}",
        "a|b",
        "a^b",
        "a`b",
        "[g::1]",
        "[[::1]]",
    ];
    let bad = bad.map(|host| (format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "host-invalid"));
    expect_refusals(&bad, |head| request(head).err());
}

#[test]
fn there_is_one_host_and_it_does_not_contradict_the_target() {
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "host-missing"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", "host-missing"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host-repeated"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: b\r\n\r\n", "host-repeated"),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "host-repeated"),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "host-contradicts"),
        ("GET http://a/ HTTP/1.0\r\nHost: b\r\n\r\n", "host-contradicts"),
        ("GET http://a/ HTTP/1.1\r\nHost: a.\r\n\r\n", "host-contradicts"),
        ("GET http://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n", "host-contradicts"),
        ("GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", "host-contradicts"),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", "host-contradicts"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:81\r\n\r\n", "host-contradicts"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", "host-contradicts"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "host-contradicts"),
    ];
    expect_refusals(&cases, |head| request(head).err());
    for (target, host) in [
        ("http://a/", "A"),
        ("http://a:80/", "a"),
        ("http://a/", "a:80"),
        ("https://a/", "a:443"),
        ("http://a:0081/", "a:81"),
        ("http://[::1]/", "[::1]"),
    ] {
        let read = request(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(read.is_ok(), "{target} {host}: {read:?}");
    }
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n").unwrap().authority, b"");
    let https = request("GET https://a/ HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((https.scheme, https.authority.as_slice()), (Some(Scheme::Https), b"a".as_slice()));
}

#[test]
fn a_content_length_is_one_row_of_digits() {
    for (value, length) in
        [("0", 0), ("5", 5), (" \t5\t ", 5), ("007", 7), ("18446744073709551615", u64::MAX)]
    {
        let read = post(format!("Content-Length:{value}\r\n")).unwrap();
        assert_eq!(read.framing, Framing::Length(length), "{value:?}");
    }
    let bad = [
        ("", "content-length-invalid"),
        ("+5", "content-length-invalid"),
        ("-5", "content-length-invalid"),
        ("-0", "content-length-invalid"),
        ("0x5", "content-length-invalid"),
        ("5 5", "content-length-invalid"),
        ("5;", "content-length-invalid"),
        ("5.0", "content-length-invalid"),
        ("5e3", "content-length-invalid"),
        ("5\x0b", "value-invalid"),
        ("5\x00", "value-invalid"),
        ("\u{665}", "content-length-invalid"),
        ("\"5\"", "content-length-invalid"),
        ("5_0", "content-length-invalid"),
        ("5,5", "content-length-repeated"),
        ("5, 5", "content-length-repeated"),
        ("5, 6", "content-length-repeated"),
        ("5,", "content-length-repeated"),
        (",5", "content-length-repeated"),
        ("18446744073709551616", "content-length-overflow"),
        ("18446744073709551621", "content-length-overflow"),
        ("99999999999999999999999999", "content-length-overflow"),
        ("5\r\nContent-Length: 5", "content-length-repeated"),
        ("5\r\nContent-Length: 6", "content-length-repeated"),
        ("5\r\nX: y\r\ncontent-lengtH: 5", "content-length-repeated"),
        ("5\r\nTransfer-Encoding: chunked", "te-with-length"),
        ("0\r\nTransfer-Encoding: chunked", "te-with-length"),
    ];
    let bad = bad.map(|(value, reason)| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\n");
        (head, reason)
    });
    expect_refusals(&bad, |head| request(head).err());
}

#[test]
fn look_alikes_with_underscores_are_refused() {
    for name in [
        "Content_Length",
        "content_length",
        "Transfer_Encoding",
        "TRANSFER_ENCODING",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_forwarded-proto",
        "X_Forwarded_Host",
        "X_FORWARDED_PORT",
        "X_Request_Id",
    ] {
        assert_eq!(post(format!("{name}: 5\r\n")).unwrap_err(), "underscore-look-alike", "{name}");
    }
    for name in ["X_Own", "User_Agent", "_", "content__length", "Content_Length_", "xHost_"] {
        assert!(post(format!("{name}: 5\r\n")).is_ok(), "{name}");
    }
}

#[test]
fn only_methods_that_may_have_a_body_come_with_one() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PATCH", "OWN"] {
        let line = format!("{method} / HTTP/1.1\r\nHost: a\r\n");
        let read = request(format!("{line}Content-Length: 3\r\n\r\n")).unwrap();
        assert_eq!(read.framing, Framing::Length(3), "{method}");
        let read = request(format!("{line}Transfer-Encoding: chunked\r\n\r\n")).unwrap();
        assert_eq!(read.framing, Framing::Chunked, "{method}");
        assert_eq!(request(format!("{line}\r\n")).unwrap().framing, Framing::None);
    }
    let cases = [
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 0\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    expect_refusals(&cases.map(|head| (head, "body-not-allowed")), |head| request(head).err());
    assert!(request("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").is_ok());
}

#[test]
fn a_connection_persists_by_version_and_close_outweighs_keep_alive() {
    for (version, connection, persists) in [
        ("1.1", "X: y", true),
        ("1.0", "X: y", false),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: Close", false),
        ("1.1", "Connection: a, ,close", false),
        ("1.1", "Connection: closed", true),
        ("1.1", "Connection: keep-alive\r\nConnection: close", false),
        ("1.1", "Connection: close, keep-alive", false),
        ("1.0", "Connection: Keep-Alive", true),
        ("1.0", "Connection: keep-alive, close", false),
        ("1.1", "Proxy-Connection: close", true),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n\r\n");
        assert_eq!(request(head).unwrap().persistent, persists, "{version} {connection}");
    }
}

#[test]
fn an_upgrade_needs_both_fields_and_the_newer_version() {
    for (head, upgrade) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: a, upgrade\r\nUpgrade: x\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false),
    ] {
        assert_eq!(request(head).unwrap().upgrade, upgrade, "{head}");
    }
}

#[test]
fn an_expectation_is_100_continue_or_refused() {
    let read = post("Expect: 100-Continue\r\nContent-Length: 1\r\n").unwrap();
    assert!(read.expects_continue);
    assert!(!post("Expect: 100-continue\r\n").unwrap().expects_continue, "no body is coming");
    for value in ["", "100", "100-continue, x", "101-continue", "100-continue;q"] {
        assert_eq!(post(format!("Expect: {value}\r\n")).unwrap_err(), "expect-unknown", "{value}");
    }
    let old = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    assert!(!request(old).unwrap().expects_continue);
    assert!(request("POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\n").is_ok());
}

#[test]
fn limits_are_exact_and_hold_before_the_end_has_come() {
    let head = b"GET /0123456789 HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
    let exact = Limits { head_max: head.len(), line_max: 24, fields_max: 2 };
    let mut read = Request::default();
    assert_eq!(read.read(head, &exact), Ok(Read::Whole { length: head.len() }));
    let more = [head.as_slice(), b"body"].concat();
    assert_eq!(read.read(&more, &exact), Ok(Read::Whole { length: head.len() }));
    let mut refused = |limits: Limits, length: usize| {
        read.read(&head[..length], &limits).map_err(|refusal| refusal.reason)
    };
    let small = Limits { head_max: head.len() - 1, ..exact };
    assert_eq!(refused(small, head.len()), Err(Reason::HeadTooLarge));
    assert_eq!(refused(small, head.len() - 1), Err(Reason::HeadTooLarge));
    assert_eq!(refused(small, head.len() - 2), Ok(Read::Partial));
    let short = Limits { line_max: 23, ..exact };
    assert_eq!(refused(short, 23), Ok(Read::Partial));
    assert_eq!(refused(short, 24), Err(Reason::RequestLineTooLong));
    assert_eq!(refused(short, head.len()), Err(Reason::RequestLineTooLong));
    let few = Limits { fields_max: 1, ..exact };
    assert_eq!(refused(few, head.len()), Err(Reason::FieldsTooMany));
    assert_eq!(Reason::FieldsTooMany.status(), 431);
    assert_eq!(Reason::RequestLineTooLong.status(), 414);
}

#[test]
fn a_head_of_very_many_fields_reads_like_a_small_one() {
    let lines: String = (0..1_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let limits = Limits { head_max: 1 << 20, line_max: 100, fields_max: 1_001 };
    let mut read = Request::default();
    assert_eq!(read.read(head.as_bytes(), &limits), Ok(Read::Whole { length: head.len() }));
    assert_eq!(read.fields.len(), 1_000);
    assert_eq!(read.fields.named(b"x-999").next(), Some(b"999".as_slice()));
    assert_eq!(read.fields.first(Known::Host), None);
}
