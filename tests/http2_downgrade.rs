//! Requests of HTTP/2 on their way to a backend of HTTP/1: whatever is said in frames, only well-formed requests arrive,
//! each once. The bytes that a backend got are read by a second parser, which knows nothing of ours.

use std::io::Write;

use crate::support::backend::Backend;
use crate::support::downgrade::Trial;
use crate::support::frames::*;
use crate::support::http::{config, serve};
use crate::support::until;

/// The pseudo-fields of a GET, changed and with more behind.
fn changed(name: &str, value: &str) -> Vec<u8> {
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
    block(&usual.map(|(known, usual)| (known, if known == name { value } else { usual })))
}

fn with(name: &str, value: &str) -> Vec<u8> {
    [get("/"), literal(name, value)].concat()
}

#[test]
fn pseudo_fields_that_are_missing_doubled_late_or_unknown_reach_nobody() {
    let trial = Trial::new("");
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
    for (at, (name, value)) in usual.iter().enumerate() {
        let others =
            || usual.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, f)| *f);
        let fields = |more: &[(&str, &str)]| block(&[&others().collect::<Vec<_>>(), more].concat());
        trial.refuses(&format!("no {name}"), headers(1, fields(&[]), true));
        trial.refuses(&format!("an empty {name}"), headers(1, fields(&[(name, "")]), true));
        trial.refuses(
            &format!("{name} late"),
            headers(1, fields(&[("x", "y"), (name, value)]), true),
        );
        for second in [*value, "other", "/other", "", "b.test", "POST"] {
            let doubled = fields(&[(name, value), (name, second)]);
            trial.refuses(&format!("{name} twice, {second:?}"), headers(1, doubled, true));
        }
    }
    for name in [
        ":status",
        ":unknown",
        ":",
        "::path",
        ":Path",
        ":path ",
        ":host",
        ":protocol",
        ":authority:",
    ] {
        trial.refuses(name, headers(1, with(name, "200"), true));
        trial.refuses(name, headers(1, [literal(name, "200"), get("/")].concat(), true));
    }
    for reference_to in [8, 14, 0, 62, 70, 1_000_000] {
        trial
            .refuses("a reference", headers(1, [get("/"), reference(reference_to)].concat(), true));
    }
}

#[test]
fn bytes_that_would_split_a_request_reach_nobody() {
    let trial = Trial::new("");
    let smuggled = " HTTP/1.1\r\nHost: b.test\r\n\r\nGET /smuggled";
    for value in ["\r\n", "\n", "\r", "\0", " ", "\t", "\u{7f}", "\u{1}", smuggled] {
        for (name, good) in
            [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a.test")]
        {
            for bad in
                [format!("{good}{value}"), format!("{value}{good}"), format!("{good}{value}x")]
            {
                trial.refuses(&format!("{name} {bad:?}"), headers(1, changed(name, &bad), true));
            }
        }
        for bad in
            [format!("x{value}"), format!("{value}x"), format!("x{value}y"), format!("x:{value}")]
        {
            trial.refuses(&format!("name {bad:?}"), headers(1, with(&bad, "1"), true));
        }
        if value != " " && value != "\t" {
            trial.refuses(
                &format!("value {value:?}"),
                headers(1, with("x", &format!("a{value}b")), true),
            );
        }
        trial.refuses(
            &format!("value {value:?}"),
            headers(1, with("x", &format!("a{value}")), true),
        );
        trial.refuses(
            &format!("value {value:?}"),
            headers(1, with("x", &format!("{value}a")), true),
        );
    }
}

#[test]
fn targets_and_hosts_with_two_meanings_reach_nobody() {
    let trial = Trial::new("");
    let paths = [
        "*",
        "a",
        "?a",
        "http://b.test/",
        "https://b.test/",
        "//b.test\\x",
        "/a\\b",
        "/%zz",
        "/%",
        "/a/%2e%2e/%2e%2e/b",
        "/../..",
        "/a%00b",
        "/a%2fb",
        "/a%5cb",
        "a.test:80",
        "/\u{e9}",
    ];
    for path in paths {
        trial.refuses(path, headers(1, changed(":path", path), true));
    }
    for scheme in ["ftp", "ws", "http:", "http://b.test/", "https, http", "javascript"] {
        trial.refuses(scheme, headers(1, changed(":scheme", scheme), true));
    }
    let authorities = [
        "u@a.test",
        "u:p@a.test",
        "a.test/",
        "a.test/x?",
        "a.test#",
        "a.test?",
        "a.test,b.test",
        "a.test:x",
        "a.test:",
        "a.test:99999",
        "[::1",
        "[zz]",
        "http://a.test",
        "a.test:80:80",
        "a%2etest",
    ];
    for authority in authorities {
        trial.refuses(authority, headers(1, changed(":authority", authority), true));
    }
    for host in ["b.test", "app.test:81", "app.test.", "u@app.test", "app.test, b.test", ""] {
        trial.refuses(host, headers(1, with("host", host), true));
    }
    let twice = [with("host", "app.test"), literal("host", "app.test")].concat();
    trial.refuses("two hosts", headers(1, twice, true));
    let hidden = [with("host", "app.test"), literal("Host", "b.test")].concat();
    trial.refuses("a host in capitals", headers(1, hidden, true));
    for (method, path) in [("GET", "*"), ("POST", "*"), ("OPTIONS", "**"), ("OPTIONS", "*a")] {
        trial.refuses(method, headers(1, request(method, path), true));
    }
}

#[test]
fn connect_reaches_nobody_where_it_is_not_allowed_or_not_whole() {
    let trial = Trial::new("");
    for connect in [
        block(&[(":method", "CONNECT"), (":authority", "a.test:80")]),
        block(&[(":method", "CONNECT"), (":authority", "a.test")]),
        request("CONNECT", "/"),
        request("CONNECT", "a.test:80"),
        [request("CONNECT", "*"), literal(":protocol", "websocket")].concat(),
        block(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":authority", "a.test"),
            (":path", "/"),
        ]),
        block(&[
            (":method", "GET"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/"),
        ]),
    ] {
        trial.refuses("CONNECT", headers(1, connect, false));
    }
}

#[test]
fn fields_that_belong_to_http1_reach_nobody() {
    let trial = Trial::new("");
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-forwarded-for"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer_encoding", "chunked"),
        ("content_length", "5"),
        ("x_forwarded_for", "1.2.3.4"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("Content-Length", "5"),
        ("content-length ", "5"),
        ("content-length:", "5"),
        ("transfer-encoding ", "chunked"),
        ("transfer-encoding: chunked\r\nx", "y"),
        ("", "x"),
    ] {
        let block = [request("POST", "/"), literal(name, value)].concat();
        let hidden = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n";
        trial.refuses(name, [headers(1, &block, false), data(1, hidden, true)].concat());
        trial.refuses(name, headers(1, &block, true));
    }
}

#[test]
fn lengths_that_are_not_those_of_the_frames_make_no_whole_request() {
    let trial = Trial::new("");
    let post = |lengths: &[&str]| {
        let fields = lengths.iter().flat_map(|length| literal("content-length", length));
        [request("POST", "/"), fields.collect()].concat()
    };
    for lengths in [
        &["5", "5"][..],
        &["5", "6"],
        &["5,5"],
        &["5, 6"],
        &["+5"],
        &["-5"],
        &[""],
        &["0x5"],
        &["5.0"],
        &["five"],
        &["5 5"],
        &["18446744073709551616"],
        &["18446744073709551621"],
        &["99999999999999999999999999"],
        &["0", "5"],
    ] {
        for ends in [true, false] {
            let body = if ends { Vec::new() } else { data(1, "abcde", true) };
            trial
                .refuses(&format!("{lengths:?}"), [headers(1, post(lengths), ends), body].concat());
        }
    }
    trial.refuses("a length and no body", headers(1, post(&["5"]), true));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n";
    let bodies: [(&str, &[&str], bool); 7] = [
        ("5", &["abc"], true),
        ("5", &["abc", "d"], true),
        ("5", &["abc", "def"], true),
        ("3", &["abcdef"], true),
        ("0", &[smuggled], true),
        ("5", &[""], true),
        ("1", &["a", smuggled], false),
    ];
    for (length, parts, ends) in bodies {
        let last = parts.len() - 1;
        let parts =
            parts.iter().enumerate().flat_map(|(at, part)| data(1, part, ends && at == last));
        let outcome = trial.send([headers(1, post(&[length]), false), parts.collect()].concat());
        assert!(!matches!(outcome, Outcome::Status(200..=299)), "{length}: {outcome:?}");
        let (whole, _) = trial.arrived();
        assert!(whole.is_empty(), "{length}: {whole:?}");
    }
}

#[test]
fn what_comes_after_a_body_changes_nothing() {
    let trial = Trial::new("");
    let begun = || [headers(1, request("POST", "/"), false), data(1, "abc", false)].concat();
    for (name, value) in [
        ("X", "1"),
        ("a\r\nb", "1"),
        ("x", "a\r\nb"),
        ("", "1"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
    ] {
        let outcome = trial.send([begun(), headers(1, literal(name, value), true)].concat());
        assert!(!matches!(outcome, Outcome::Status(200..=299)), "{name:?}: {outcome:?}");
        assert_eq!(trial.arrived().0, Vec::new(), "{name:?}");
    }
    trial.forget();
    for name in ["host", "content-length", "authorization", "x-forwarded-for", "cookie", ":path"] {
        let late = [literal(name, "7"), literal("grpc-status", "0")].concat();
        let seen = trial.passes([begun(), headers(1, late, true)].concat());
        assert_eq!(seen.body, b"abc");
        assert!(seen.all(&format!("+{name}")).is_empty(), "{seen:?}");
    }
}

#[test]
fn a_good_request_arrives_once_as_it_was_meant() {
    let trial = Trial::new("");
    let crumbs = [
        ("cookie", "a=1"),
        ("x-a", "1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("host", "APP.test:80"),
    ];
    let seen = trial.passes(headers(1, [get("/a?b=c"), block(&crumbs)].concat(), true));
    assert_eq!(seen.line, "GET /a?b=c");
    assert_eq!(seen.all("host"), [b"app.test"]);
    assert_eq!(seen.all("cookie"), [b"a=1; b=2"]);
    assert!(seen.all("te").is_empty() && seen.all("content-length").is_empty());
    assert_eq!(trial.passes(headers(1, request("OPTIONS", "*"), true)).line, "OPTIONS *");
    assert_eq!(trial.passes(headers(1, request("get", "/"), true)).line, "get /");
    // The library cuts a fragment off before we see it: then nobody sees it.
    assert_eq!(trial.passes(headers(1, get("/a#b"), true)).line, "GET /a");
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n";
    let padded = [&[3], smuggled.as_bytes(), &[0; 3]].concat();
    let body = [data(1, smuggled, false), frame(DATA, 8 | END_STREAM, 1, padded)].concat();
    let seen = trial.passes([headers(1, request("POST", "/"), false), body].concat());
    assert_eq!(seen.body, [smuggled, smuggled].concat().as_bytes());
    let length = smuggled.len().to_string();
    let head = [request("POST", "/"), literal("content-length", &length)].concat();
    let parts: Vec<u8> = smuggled.bytes().flat_map(|byte| data(1, [byte], false)).collect();
    let seen = trial.passes([headers(1, head, false), parts, data(1, "", true)].concat());
    assert_eq!(seen.body, smuggled.as_bytes());
    let most = [get("/most"), entry("x", "y"), reference(NEWEST).repeat(99)].concat();
    assert_eq!(trial.passes(headers(1, most, true)).all("x").len(), 100);
}

#[test]
fn many_requests_of_one_connection_arrive_once_each() {
    let trial = Trial::new("");
    let mut peer = Peer::connect(trial.door);
    for stream in (0..60).map(|at| 2 * at + 1) {
        let bad = [get("/bad"), literal("x-bad", " bad")].concat();
        let body = [
            headers(stream, request("POST", &format!("/{stream}")), false),
            data(stream, "abc", true),
        ];
        peer.send(if stream % 3 == 0 { headers(stream, bad, true) } else { body.concat() });
    }
    for _ in 0..60 {
        peer.until("an answer", |frame| frame.status().is_some());
    }
    let (all, left) = trial.arrived();
    assert_eq!((all.len(), left), (40, 0));
    assert!(all.iter().all(|seen| seen.body == b"abc"));
}

#[test]
fn connect_over_http2_is_a_tunnel_where_it_is_allowed() {
    let far = Backend::serving(|stream| {
        let mut reader = std::io::BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            std::io::BufRead::read_line(&mut reader, &mut head)?;
        }
        assert!(head.starts_with("CONNECT far.test:7 HTTP/1.1\r\n"), "{head}");
        (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        crate::support::backend::echo(stream.try_clone()?)
    });
    let (_running, door) = serve(&config(&[far.address], "", "connect = true"));
    let mut peer = Peer::connect(door);
    let connect = block(&[(":method", "CONNECT"), (":authority", "far.test:7")]);
    peer.send(headers(1, connect, false));
    assert_eq!(peer.outcome(1), Outcome::Status(200));
    for word in ["one", "two"] {
        peer.send(data(1, word, false));
        assert_eq!(peer.until("an echo", |frame| frame.kind == DATA).payload, word.as_bytes());
    }
    peer.send(data(1, "", true));
    assert!(peer.until("the end", |frame| frame.kind == DATA).ends());
    until("its only connection is used", || far.accepted() == 1);
}
