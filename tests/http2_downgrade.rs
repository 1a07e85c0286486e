//! Requests of HTTP/2 on their way to a backend of HTTP/1: whatever is said in frames, only well-formed requests arrive,
//! each once. The bytes that a backend got are read by a second parser, which knows nothing of ours.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use crate::support::backend::Backend;
use crate::support::client::PATIENCE;
use crate::support::frames::*;
use crate::support::http::{config, serve};
use crate::support::until;

/// A request as the second parser read it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Seen {
    fn all(&self, name: &str) -> Vec<&[u8]> {
        let these = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        these.map(|(_, value)| &**value).collect()
    }
}

/// The requests at the beginning of some bytes, and what is left: the beginning of one more. Anything that is not a
/// request is a panic.
fn read_all(mut bytes: &[u8]) -> (Vec<Seen>, usize) {
    let mut all = Vec::new();
    while let Some((seen, length)) = read_one(bytes) {
        all.push(seen);
        bytes = &bytes[length..];
    }
    (all, bytes.len())
}

fn read_one(bytes: &[u8]) -> Option<(Seen, usize)> {
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut slots);
    let status = request.parse(bytes).unwrap_or_else(|e| panic!("{e}: {}", bytes.escape_ascii()));
    let httparse::Status::Complete(mut at) = status else { return None };
    let line = format!("{} {}", request.method?, request.path?);
    assert_eq!(request.version, Some(1));
    let fields: Vec<_> =
        request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    let mut seen = Seen { line, fields, body: Vec::new() };
    assert_eq!(seen.all("host").len(), 1, "{seen:?}");
    assert!(!seen.line.contains(['#', '\\']) && seen.line.split(' ').count() == 2, "{seen:?}");
    match (&seen.all("content-length")[..], &seen.all("transfer-encoding")[..]) {
        ([], []) => {}
        ([length], []) => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().expect("a length");
            seen.body = bytes.get(at..at + length)?.to_vec();
            at += length;
        }
        ([], [b"chunked"]) => loop {
            let httparse::Status::Complete((skip, size)) =
                httparse::parse_chunk_size(&bytes[at..]).expect("a chunk")
            else {
                return None;
            };
            at += skip;
            if size == 0 {
                let mut slots = [httparse::EMPTY_HEADER; 200];
                let end = httparse::parse_headers(&bytes[at..], &mut slots).expect("trailers");
                let httparse::Status::Complete((length, trailers)) = end else { return None };
                seen.fields
                    .extend(trailers.iter().map(|f| (format!("+{}", f.name), f.value.to_vec())));
                return Some((seen, at + length));
            }
            let size = size as usize;
            seen.body.extend(bytes.get(at..at + size)?);
            assert_eq!(bytes.get(at + size..at + size + 2)?, b"\r\n");
            at += size + 2;
        },
        _ => panic!("two ways to say where the body ends: {seen:?}"),
    }
    Some((seen, at))
}

/// What a backend got on each of its connections, and how many requests of it are answered.
type Tape = Arc<Mutex<Vec<(Vec<u8>, usize)>>>;

struct Trial {
    tape: Tape,
    _backend: Backend,
    _running: evenkeel::Running,
    door: std::net::SocketAddr,
}

impl Trial {
    fn new(listener: &str) -> Trial {
        let tape = Tape::default();
        let into = Arc::clone(&tape);
        let backend = Backend::serving(move |mut stream| {
            let connection = {
                let mut tape = into.lock().expect("no panic");
                tape.push((Vec::new(), 0));
                tape.len() - 1
            };
            let mut piece = [0; 4_096];
            loop {
                let count = stream.read(&mut piece)?;
                if count == 0 {
                    return Ok(());
                }
                let mut tape = into.lock().expect("no panic");
                let (bytes, answered) = &mut tape[connection];
                bytes.extend(&piece[..count]);
                let whole = read_all(bytes).0.len();
                for _ in *answered..whole {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                }
                *answered = whole;
            }
        });
        let (running, door) = serve(&config(&[backend.address], "", listener));
        Trial { tape, _backend: backend, _running: running, door }
    }

    /// Every whole request that arrived, but for the markers, and how many bytes are not of a whole one.
    fn arrived(&self) -> (Vec<Seen>, usize) {
        let tape = self.tape.lock().expect("no panic");
        let read: Vec<_> = tape.iter().map(|(bytes, _)| read_all(bytes)).collect();
        let left = read.iter().map(|(_, left)| left).sum();
        let all = read.into_iter().flat_map(|(seen, _)| seen);
        (all.filter(|seen| !seen.line.ends_with(" /marker")).collect(), left)
    }

    /// Sends these frames for stream 1 on a fresh connection, and says what became of it once a later request of
    /// somebody else has gone all the way.
    fn send(&self, frames: impl AsRef<[u8]>) -> Outcome {
        let mut peer = Peer::connect(self.door);
        peer.send(frames);
        let outcome = peer.outcome(1);
        let mut marker = Peer::connect(self.door);
        marker.send(headers(1, get("/marker"), true));
        assert_eq!(marker.outcome(1), Outcome::Status(200));
        outcome
    }

    /// Not one byte of it reaches the backend.
    fn refuses(&self, what: &str, frames: impl AsRef<[u8]>) {
        let outcome = self.send(frames);
        let refused = match outcome {
            Outcome::Status(status) => (400..=505).contains(&status),
            Outcome::Reset(_) | Outcome::GoAway(_) => true,
            Outcome::Ended => false,
        };
        assert!(refused, "{what}: {outcome:?}");
        assert_eq!(self.arrived(), (Vec::new(), 0), "{what}");
    }

    /// It arrives once, as this.
    fn passes(&self, frames: impl AsRef<[u8]>) -> Seen {
        let outcome = self.send(frames);
        assert_eq!(outcome, Outcome::Status(200));
        let (mut all, left) = self.arrived();
        assert_eq!((all.len(), left), (1, 0), "{all:?}");
        self.forget();
        all.remove(0)
    }

    fn forget(&self) {
        for (bytes, answered) in self.tape.lock().expect("no panic").iter_mut() {
            bytes.clear();
            *answered = 0;
        }
    }
}

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
    peer.stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    for word in ["one", "two"] {
        peer.send(data(1, word, false));
        assert_eq!(peer.until("an echo", |frame| frame.kind == DATA).payload, word.as_bytes());
    }
    peer.send(data(1, "", true));
    assert!(peer.until("the end", |frame| frame.kind == DATA).ends());
    until("its only connection is used", || far.accepted() == 1);
}
