//! Whom a request of HTTP/2 asks and for what, as tables: one method, one host and one path, or a refusal.

use evenkeel_wire::{Framing, Method, Scheme};

use crate::h2_support::{Changes, NONE, expect_refused, expect_values_refused, good, request};
use crate::support::LIMITS;

#[test]
fn a_method_that_is_no_token_is_refused() {
    let long = "A".repeat(33);
    let methods = [
        NONE,
        "",
        " ",
        "GE T",
        " GET",
        "GET ",
        "GET\t",
        "GET\r\n",
        "GET\n",
        "GET\0",
        "GET:",
        "G/T",
        "G{T}",
        "GÉT",
        "GET /x HTTP/1.1\r\nHost: b.test\r\n\r\nGET",
        "GET /x",
        ":GET",
        "\"GET\"",
        "GET,POST",
        &long,
    ];
    expect_values_refused(":method", &methods, true, "method-invalid");
    assert_eq!(good(&[(":method", "get")], true).method, Method::Other((*b"get").into()));
}

#[test]
fn a_path_with_a_second_reading_is_refused() {
    let paths = [
        NONE,
        "",
        "*",
        "**",
        "a",
        "a/b",
        "?a",
        "#a",
        "#",
        "//a b",
        "/a b",
        " /",
        "/ ",
        "/a\tb",
        "/a\r\nX: y",
        "/a\n",
        "/a\r",
        "/\0",
        "/\u{1}",
        "/\u{7f}",
        "/\u{e9}",
        "/a#b",
        "/#",
        "/a?b#c",
        "/a\\b",
        "\\a",
        "/\\",
        "/%",
        "/%2",
        "/%zz",
        "/a%",
        "/a?%g1",
        "http://a.test/",
        "https://b.test/x",
        "http:/x",
        "a.test:80",
        "*/",
        "/x HTTP/1.1\r\nHost: b.test\r\n\r\nGET /smuggled",
    ];
    expect_values_refused(":path", &paths, true, "target-invalid");
    let long = format!("/{}", "a".repeat(LIMITS.line_max));
    expect_values_refused(":path", &[&long], true, "request-line-too-long");
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        expect_refused(&[(&[(":method", method), (":path", "*")], "target-invalid")], |c| {
            request(c, true)
        });
    }
    for path in ["", "**", "*a", "*?a", " *", "a"] {
        let row: Changes<'_> = &[(":method", "OPTIONS"), (":path", path)];
        expect_refused(&[(row, "target-invalid")], |changes| request(changes, true));
    }
}

#[test]
fn a_scheme_that_is_not_ours_is_refused() {
    let schemes = [
        NONE,
        "",
        "ftp",
        "file",
        "ws",
        "wss",
        "javascript",
        "http:",
        "http://",
        "http://b.test/",
        " http",
        "http ",
        "ht tp",
        "http\r\n",
        "http\0",
        "https, http",
        "httpss",
        "h2",
        "http/1.1",
    ];
    expect_values_refused(":scheme", &schemes, true, "target-scheme");
    assert_eq!(good(&[(":scheme", "HTTPS")], true).scheme, Some(Scheme::Https));
}

#[test]
fn an_authority_that_is_no_host_is_refused() {
    let authorities = [
        "",
        " ",
        ":",
        ":80",
        "a.test:",
        "a.test:x",
        "a.test:0x50",
        "a.test:65536",
        "a.test:999999",
        "a.test:-1",
        "a.test:+80",
        "a.test:80:80",
        "a test",
        "a.test ",
        " a.test",
        "a.test\t",
        "a.test\r\nX: y",
        "a.test\n",
        "a.test\0",
        "a.test/",
        "a.test/x",
        "a.test?x",
        "a.test#x",
        "a.test\\b",
        "a.test,b.test",
        "a.test, b.test",
        "[::1",
        "[::1]x",
        "[]",
        "[zz]",
        "::1",
        "[::1]:",
        "[::1]:x",
        "a%2etest",
        "http://a.test",
        "\u{e1}.test",
        "a.test\u{7f}",
        "\"a.test\"",
        "<a>",
        "a|b",
        "a.test:80 ",
        "a.test: 80",
    ];
    expect_values_refused(":authority", &authorities, true, "host-invalid");
    let users = ["u@a.test", "u:p@a.test", "@a.test", "a.test@", "a.test:80@b.test", "@"];
    expect_values_refused(":authority", &users, true, "target-userinfo");
    expect_values_refused("host", &users, true, "target-userinfo");
}

#[test]
fn a_host_that_says_something_else_than_the_authority_is_refused() {
    for host in ["b.test", "a.test.", "a.test:81", "a.test:443", "www.a.test", "a.tes", "[::1]"] {
        expect_values_refused("host", &[host], true, "host-contradicts");
    }
    for host in ["", "a b", "a.test/", "a.test, b.test", "a.test:"] {
        expect_values_refused("host", &[host], true, "host-invalid");
        let alone: Changes<'_> = &[(":authority", NONE), ("host", host)];
        expect_refused(&[(alone, "host-invalid")], |changes| request(changes, true));
    }
    let rows: [(Changes<'_>, &str); 4] = [
        (&[("host", "a.test"), ("host", "a.test")], "host-repeated"),
        (&[("host", "a.test"), ("host", "b.test")], "host-repeated"),
        (&[(":authority", NONE), ("host", "a.test"), ("host", "a.test")], "host-repeated"),
        (&[(":authority", NONE)], "host-missing"),
    ];
    expect_refused(&rows, |changes| request(changes, true));
    for host in ["a.test", "A.Test", "a.test:80"] {
        let request = good(&[("host", host)], true);
        assert_eq!(request.authority, b"a.test");
        assert!(request.fields.is_empty(), "one host is enough");
    }
    let alone = good(&[(":authority", NONE), ("host", "b.test:81")], true);
    assert_eq!(alone.authority, b"b.test:81");
    assert_eq!(good(&[(":scheme", "https"), ("host", "a.test:443")], true).authority, b"a.test");
}

#[test]
fn connect_has_an_authority_with_a_port_and_nothing_else() {
    const PLAIN: [(&str, &str); 3] = [(":method", "CONNECT"), (":scheme", NONE), (":path", NONE)];
    let connect = |more: Changes<'_>, ends| {
        let changes: Vec<_> = more.iter().chain(&PLAIN).copied().collect();
        request(&changes, ends)
    };
    let rows: &[(Changes<'_>, &str)] = &[
        (&[], "target-invalid"),
        (&[(":authority", "a.test:80"), (":scheme", "http")], "target-invalid"),
        (&[(":authority", "a.test:80"), (":path", "/")], "target-invalid"),
        (&[(":authority", "a.test:80"), (":path", "/"), (":scheme", "http")], "target-invalid"),
        (&[(":authority", "a.test:")], "host-invalid"),
        (&[(":authority", "u@a.test:80")], "target-userinfo"),
        (&[(":authority", "http://a.test:80")], "host-invalid"),
        (&[(":authority", NONE)], "target-invalid"),
        (&[(":authority", NONE), ("host", "a.test:80")], "target-invalid"),
        (&[(":authority", "a.test:80"), ("host", "b.test:80")], "host-contradicts"),
        (&[(":authority", "a.test:80"), ("content-length", "5")], "body-not-allowed"),
        (&[(":authority", "a.test:80"), ("content-length", "x")], "content-length-invalid"),
    ];
    expect_refused(rows, |changes| connect(changes, false));
    // What comes after the head is for whoever is at the other end.
    for ends in [false, true] {
        let taken = connect(&[(":authority", "a.test:80")], ends).expect("a plain CONNECT");
        assert_eq!((taken.method, taken.framing), (Method::Connect, Framing::None));
        assert_eq!((&taken.authority[..], &taken.target[..]), (&b"a.test:80"[..], &b""[..]));
        assert!(!taken.upgrade);
    }
}

#[test]
fn an_extended_connect_is_the_upgrade_of_a_get() {
    let extended = |more: Changes<'_>| {
        let usual = [(":method", "CONNECT"), (":protocol", "websocket")];
        let changes: Vec<_> = more.iter().copied().chain(usual).collect();
        request(&changes, false)
    };
    let rows: &[(Changes<'_>, &str)] = &[
        (&[(":method", "GET")], "target-invalid"),
        (&[(":method", "POST")], "target-invalid"),
        (&[(":protocol", "")], "target-invalid"),
        (&[(":protocol", "web socket")], "target-invalid"),
        (&[(":protocol", "websocket\r\nX: y")], "target-invalid"),
        (&[(":protocol", "websocket, h2c")], "target-invalid"),
        (&[(":protocol", "web/socket")], "target-invalid"),
        (&[(":path", NONE)], "target-invalid"),
        (&[(":path", "*")], "target-invalid"),
        (&[(":path", "")], "target-invalid"),
        (&[(":path", "a.test:80")], "target-invalid"),
        (&[(":scheme", NONE)], "target-scheme"),
        (&[(":scheme", "ws")], "target-scheme"),
        (&[(":authority", NONE)], "host-missing"),
        (&[("host", "b.test")], "host-contradicts"),
        (&[("upgrade", "websocket")], "connection-field"),
        (&[("content-length", "5")], "body-not-allowed"),
        (&[("content-length", "+5")], "content-length-invalid"),
    ];
    expect_refused(rows, extended);
    let taken = extended(&[(":path", "/chat?room=1")]).expect("a WebSocket");
    assert_eq!((taken.method, taken.framing, taken.upgrade), (Method::Get, Framing::None, true));
    assert_eq!((&taken.protocol[..], &taken.target[..]), (&b"websocket"[..], &b"/chat?room=1"[..]));
}
