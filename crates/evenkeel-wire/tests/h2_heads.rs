//! Heads of HTTP/2 as tables: what could be read differently by a backend of HTTP/1 is refused for its reason, and
//! what is good means what it says. What cannot be said to this crate at all (a field twice that is no list, fields
//! before pseudo-fields) is tried in the proxy, frame by frame.

use evenkeel_wire::{Fields, Framing, Known, Method, Pseudo, Request, Response, Scheme};

use crate::support::LIMITS;

/// What a row changes in `GET http://a.test/`: pseudo-fields are replaced, fields are added.
type Changes<'a> = &'a [(&'a str, &'a str)];

/// As a value: there is no such pseudo-field.
const NONE: &str = "<none>";

fn request(changes: Changes<'_>, ends: bool) -> Result<Request, &'static str> {
    let pseudo = |name: &str, usual: Option<&'static str>| {
        let changed = changes.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
        changed.map_or(usual, |value| Some(value).filter(|value| *value != NONE)).map(str::as_bytes)
    };
    let head = Pseudo {
        method: pseudo(":method", Some("GET")).unwrap_or_default(),
        scheme: pseudo(":scheme", Some("http")),
        authority: pseudo(":authority", Some("a.test")),
        path: pseudo(":path", Some("/")),
        protocol: pseudo(":protocol", None),
    };
    let fields = changes.iter().filter(|(name, _)| !name.starts_with(':'));
    let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let mut request = Request::default();
    let taken = request.take_h2(&head, fields, ends, &LIMITS);
    taken.map(|()| request).map_err(|refusal| refusal.reason.as_str())
}

/// Fails with every row that was not refused for its reason.
fn expect_refused<R>(
    rows: &[(Changes<'_>, &str)],
    read: impl Fn(Changes<'_>) -> Result<R, &'static str>,
) {
    let mut wrong = Vec::new();
    for (changes, reason) in rows {
        let found = read(changes).err().unwrap_or("accepted");
        if found != *reason {
            wrong.push(format!("{changes:?}: {found}, not {reason}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The same value of one name, many times over, all refused for one reason.
fn expect_values_refused(name: &str, values: &[&str], ends: bool, reason: &str) {
    for value in values {
        expect_refused(&[(&[(name, value)], reason)], |changes| request(changes, ends));
    }
}

fn good(changes: Changes<'_>, ends: bool) -> Request {
    request(changes, ends).unwrap_or_else(|reason| panic!("{changes:?}: {reason}"))
}

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
fn a_name_that_is_no_token_in_lower_case_is_refused() {
    let names = [
        "X-Upper",
        "Host",
        "cOntent-length",
        "a b",
        " a",
        "a ",
        "a\t",
        "a\r",
        "a\n",
        "a\r\nb",
        "a\0",
        "a\u{1}",
        "a\u{7f}",
        "\u{e9}",
        "a:b",
        "a:",
        "a(b)",
        "a\"b",
        "a/b",
        "a,b",
        "a;b",
        "a=b",
        "a@b",
        "a[b]",
        "a{b}",
        "a\\b",
        "a?b",
        "<a>",
        "content-length ",
        "transfer-encoding\t",
        "transfer-encoding: chunked\r\nx",
        "host:",
    ];
    for name in names {
        expect_values_refused(name, &["1"], true, "name-invalid");
    }
    expect_values_refused("", &["", "1"], true, "name-empty");
}

#[test]
fn a_value_with_controls_or_space_around_it_is_refused() {
    let values = [
        "a\r\nb: c",
        "a\nb",
        "a\rb",
        "\r\n",
        "a\r\n\r\nGET /smuggled HTTP/1.1",
        "a\0b",
        "a\u{1}b",
        "a\u{8}",
        "\u{b}a",
        "a\u{c}b",
        "a\u{1b}[0m",
        "a\u{7f}b",
        " a",
        "a ",
        "\ta",
        "a\t",
        " ",
    ];
    for name in ["x", "cookie", "content-length", "user-agent", "host"] {
        expect_values_refused(name, &values, false, "value-invalid");
    }
    for value in ["", "a\tb", "a b", "caf\u{e9}", "\"q\"", "a,b;c=d"] {
        assert_eq!(good(&[("x", value)], true).fields.named(b"x").next(), Some(value.as_bytes()));
    }
}

#[test]
fn fields_of_a_connection_are_refused() {
    let rows: &[(Changes<'_>, &str)] = &[
        (&[("connection", "close")], "connection-field"),
        (&[("connection", "keep-alive")], "connection-field"),
        (&[("connection", "x-forwarded-for")], "connection-field"),
        (&[("connection", "")], "connection-field"),
        (&[("keep-alive", "timeout=5")], "connection-field"),
        (&[("proxy-connection", "keep-alive")], "connection-field"),
        (&[("transfer-encoding", "chunked")], "connection-field"),
        (&[("transfer-encoding", "identity")], "connection-field"),
        (&[("transfer-encoding", "")], "connection-field"),
        (&[("transfer-encoding", "chunked"), ("content-length", "5")], "connection-field"),
        (&[("upgrade", "websocket")], "connection-field"),
        (&[("upgrade", "h2c")], "connection-field"),
        (&[("te", "gzip")], "connection-field"),
        (&[("te", "trailers, gzip")], "connection-field"),
        (&[("te", "gzip, trailers")], "connection-field"),
        (&[("te", "trailers;q=1")], "connection-field"),
        (&[("te", "chunked")], "connection-field"),
        (&[("te", "")], "connection-field"),
        (&[("te", "trailers"), ("te", "gzip")], "connection-field"),
        (&[("content_length", "5")], "underscore-look-alike"),
        (&[("transfer_encoding", "chunked")], "underscore-look-alike"),
        (&[("x_forwarded_for", "1.2.3.4")], "underscore-look-alike"),
        (&[("x-forwarded_for", "1.2.3.4")], "underscore-look-alike"),
        (&[("x_forwarded_host", "b.test")], "underscore-look-alike"),
        (&[("x_forwarded_proto", "https")], "underscore-look-alike"),
        (&[("x_forwarded_port", "1")], "underscore-look-alike"),
        (&[("x_request_id", "1")], "underscore-look-alike"),
    ];
    expect_refused(rows, |changes| request(changes, false));
    expect_refused(rows, |changes| request(changes, true));
    assert_eq!(good(&[("te", "trailers")], true).fields.first(Known::Te), Some(&b"trailers"[..]));
    assert_eq!(good(&[("x_own", "1")], true).fields.len(), 1);
}

#[test]
fn a_length_that_is_no_plain_number_or_not_that_of_the_frames_is_refused() {
    let invalid = [
        "", "+5", "-5", "-0", "0x5", "5.0", "5e0", "five", "\u{665}", "5;", "1_0", "5 5", "\"5\"",
        "5/5",
    ];
    for ends in [true, false] {
        expect_values_refused("content-length", &invalid, ends, "content-length-invalid");
        expect_values_refused(
            "content-length",
            &["5,5", "5, 5", "5,6", "5,", "5 ,"],
            ends,
            "content-length-repeated",
        );
        let beyond = ["18446744073709551616", "18446744073709551621", "99999999999999999999999999"];
        expect_values_refused("content-length", &beyond, ends, "content-length-overflow");
        let twice: [Changes<'_>; 3] = [
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "5"), ("content-length", "6")],
            &[("content-length", "0"), ("content-length", "0")],
        ];
        for row in twice {
            expect_refused(&[(row, "content-length-repeated")], |changes| request(changes, ends));
        }
    }
    expect_values_refused(
        "content-length",
        &["1", "5", "18446744073709551615"],
        true,
        "length-contradicts",
    );
    let framed = |changes: Changes<'_>, ends| good(changes, ends).framing;
    assert_eq!(framed(&[], true), Framing::None);
    assert_eq!(framed(&[], false), Framing::Chunked);
    assert_eq!(framed(&[("content-length", "0")], true), Framing::None);
    assert_eq!(framed(&[("content-length", "0")], false), Framing::Length(0));
    assert_eq!(framed(&[("content-length", "007")], false), Framing::Length(7));
    assert_eq!(
        framed(&[("content-length", "18446744073709551615")], false),
        Framing::Length(u64::MAX)
    );
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

#[test]
fn too_much_of_anything_is_refused() {
    let one = [("x", "")];
    let (most, more) = (one.repeat(LIMITS.fields_max), one.repeat(LIMITS.fields_max + 1));
    assert_eq!(good(&most, true).fields.len(), LIMITS.fields_max);
    let crumbs = [("cookie", "a=b")].repeat(LIMITS.fields_max + 1);
    let nameless = [("x", ""), ("", "")].repeat(LIMITS.fields_max);
    let large = "v".repeat(LIMITS.head_max);
    let half = "v".repeat(LIMITS.head_max / 2);
    let rows: [(Changes<'_>, &str); 7] = [
        (&[(":authority", &large)], "head-too-large"),
        (&[(":authority", &half), ("x", &half)], "head-too-large"),
        (&more, "fields-too-many"),
        (&crumbs, "fields-too-many"),
        (&[("x", &large)], "head-too-large"),
        (&[("x", &half), ("y", &half)], "head-too-large"),
        (&nameless, "name-empty"),
    ];
    expect_refused(&rows, |changes| request(changes, true));
}

#[test]
fn bodies_and_expectations_that_may_not_be_are_refused() {
    let rows: [(Changes<'_>, &str); 5] = [
        (&[(":method", "TRACE")], "body-not-allowed"),
        (&[(":method", "TRACE"), ("content-length", "5")], "body-not-allowed"),
        (&[("expect", "200-ok")], "expect-unknown"),
        (&[("expect", "")], "expect-unknown"),
        (&[("expect", "100-continue"), ("expect", "x")], "expect-unknown"),
    ];
    expect_refused(&rows, |changes| request(changes, false));
    assert!(good(&[("expect", "100-continue")], false).expects_continue);
    assert!(!good(&[("expect", "100-continue")], true).expects_continue);
}

#[test]
fn good_heads_say_what_was_sent() {
    let crumbs = good(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")], true);
    assert_eq!(crumbs.fields.all(Known::Cookie).collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
    assert_eq!(crumbs.fields.len(), 2);
    let empty = good(&[("cookie", ""), ("cookie", "a=1"), ("cookie", "")], true);
    assert_eq!(empty.fields.all(Known::Cookie).collect::<Vec<_>>(), [b"a=1"]);
    assert_eq!(good(&[(":method", "OPTIONS"), (":path", "*")], true).target, b"*");
    for path in
        ["/", "//", "/a?", "/?a=b&c", "/a%20b", "/{a}|^`", "/a;b=c", "/a?b?c/", "/..", "/~a'(b)"]
    {
        assert_eq!(good(&[(":path", path)], true).target, path.as_bytes());
    }
    for authority in
        ["a.test", "A.test:8080", "127.0.0.1", "[::1]", "[::1]:80", "a_b.test", "xn--a.test."]
    {
        assert_eq!(good(&[(":authority", authority)], true).authority, authority.as_bytes());
    }
}

fn response(
    status: u16,
    fields: Changes<'_>,
    to: &Method,
    ends: bool,
) -> Result<Response, &'static str> {
    let mut response = Response::default();
    let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let taken = response.take_h2(status, pairs, to, ends, &LIMITS);
    taken.map(|()| response).map_err(|refusal| refusal.reason.as_str())
}

#[test]
fn an_answer_with_two_readings_is_refused() {
    let rows: &[(Changes<'_>, &str)] = &[
        (&[("content-length", "5"), ("content-length", "5")], "content-length-repeated"),
        (&[("content-length", "5,5")], "content-length-repeated"),
        (&[("content-length", "+5")], "content-length-invalid"),
        (&[("content-length", "")], "content-length-invalid"),
        (&[("content-length", "18446744073709551616")], "content-length-overflow"),
        (&[("transfer-encoding", "chunked")], "connection-field"),
        (&[("connection", "close")], "connection-field"),
        (&[("keep-alive", "timeout=5")], "connection-field"),
        (&[("proxy-connection", "close")], "connection-field"),
        (&[("upgrade", "h2c")], "connection-field"),
        (&[("X-Upper", "1")], "name-invalid"),
        (&[("a\r\nb", "1")], "name-invalid"),
        (&[("", "1")], "name-empty"),
        (&[("x", "a\r\nset-cookie: b=c")], "value-invalid"),
        (&[("x", "a\0")], "value-invalid"),
        (&[("x", " a")], "value-invalid"),
        (&[("content_length", "5")], "underscore-look-alike"),
    ];
    for to in [Method::Get, Method::Head, Method::Post] {
        for status in [200, 304, 404, 500] {
            expect_refused(rows, |fields| response(status, fields, &to, false));
        }
    }
    let one: Changes<'_> = &[("content-length", "5")];
    assert_eq!(response(200, one, &Method::Get, true), Err("length-contradicts"));
    assert_eq!(response(101, &[], &Method::Get, false), Err("status-line-invalid"));
    assert_eq!(response(101, &[], &Method::Connect, false), Err("status-line-invalid"));
    let many = [("x", "")].repeat(LIMITS.fields_max + 1);
    assert_eq!(response(200, &many, &Method::Get, true), Err("fields-too-many"));
}

#[test]
fn the_body_of_an_answer_is_where_its_status_and_method_allow_one() {
    let five: Changes<'_> = &[("content-length", "5")];
    let framed = |status, fields, to: &Method, ends| {
        response(status, fields, to, ends).map(|response| (response.framing, response.fields.len()))
    };
    assert_eq!(framed(200, five, &Method::Get, false), Ok((Framing::Length(5), 1)));
    assert_eq!(framed(200, &[], &Method::Get, false), Ok((Framing::Chunked, 0)));
    assert_eq!(framed(200, &[], &Method::Get, true), Ok((Framing::None, 0)));
    // HEAD and 304 tell a length and have no body.
    assert_eq!(framed(200, five, &Method::Head, true), Ok((Framing::None, 1)));
    assert_eq!(framed(304, five, &Method::Get, true), Ok((Framing::None, 1)));
    // 204 and interim answers may not even tell one.
    assert_eq!(framed(204, five, &Method::Get, true), Ok((Framing::None, 0)));
    assert_eq!(framed(103, five, &Method::Get, false), Ok((Framing::None, 0)));
}

#[test]
fn trailers_cannot_change_the_message() {
    let take = |fields: Changes<'_>| {
        let mut trailers = Fields::default();
        let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let taken = trailers.take_h2_trailers(pairs, &LIMITS);
        taken.map(|()| trailers).map_err(|refusal| refusal.reason.as_str())
    };
    let (many, large) = ([("x", "")].repeat(LIMITS.fields_max + 1), "v".repeat(LIMITS.head_max));
    let rows: &[(Changes<'_>, &str)] = &[
        (&[("X-Upper", "1")], "name-invalid"),
        (&[("", "1")], "name-empty"),
        (&[("a\r\nb", "1")], "name-invalid"),
        (&[("x", "a\r\nb")], "value-invalid"),
        (&[("connection", "close")], "connection-field"),
        (&[("transfer-encoding", "chunked")], "connection-field"),
        (&[("te", "gzip")], "connection-field"),
        (&[("upgrade", "x")], "connection-field"),
        (&[("content_length", "5")], "underscore-look-alike"),
        (&many, "trailers-too-many"),
        (&[("x", &large)], "trailers-too-large"),
    ];
    expect_refused(rows, take);
    let late = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "authorization",
        "cookie",
        "set-cookie",
        "x-forwarded-for",
        "x-forwarded-host",
        "forwarded",
        "x-request-id",
        "cache-control",
        "expect",
        "trailer",
        "location",
        "vary",
        "www-authenticate",
        "age",
        "x-real-ip",
    ];
    for name in late {
        let kept = take(&[(name, "1"), ("grpc-status", "0")]).expect("left out, not refused");
        assert_eq!(kept.len(), 1, "{name}");
        assert_eq!(kept.named(b"grpc-status").next(), Some(&b"0"[..]));
    }
}
