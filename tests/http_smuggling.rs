//! Requests and answers with two readings: refused with the right status, and nothing of them reaches the other side.
//! Each test is named after its class in the list of what attacks a proxy; every case is judged by the bytes a backend got.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::http::{Client, Recorder, config, ok, serve};

/// A proxy over a backend that records, and a way to try one request after another against it.
struct Trial {
    recorder: Recorder,
    _running: evenkeel::Running,
    door: SocketAddr,
}

impl Trial {
    fn new() -> Trial {
        let recorder = Recorder::echoing();
        let (running, door) = serve(&config(&[recorder.address()], "", ""));
        Trial { recorder, _running: running, door }
    }

    /// Sends bytes that must be refused with one of these statuses; the connection must end, and no byte may
    /// reach the backend, neither of them nor of the request hidden behind them.
    fn refuses(&self, bytes: impl AsRef<[u8]>, statuses: &[u16]) {
        let bytes = bytes.as_ref();
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let mut client = Client::connect(self.door);
        client.send(bytes).send("GET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n");
        let answer =
            client.try_answer(false).unwrap_or_else(|error| panic!("{error} for {shown:?}"));
        assert!(statuses.contains(&answer.status), "{} for {shown:?}", answer.status);
        assert!(answer.field("x-evenkeel-cause").is_some(), "{shown:?}");
        assert!(client.is_closed(), "still open after {shown:?}");
        assert!(self.recorder.requests().is_empty(), "reached the backend: {shown:?}");
    }

    /// Refuses a request with these header lines.
    fn refuses_lines(&self, lines: &str, statuses: &[u16]) {
        self.refuses(
            format!("POST / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n\r\n0\r\n\r\n"),
            statuses,
        );
    }
}

#[test]
fn lengths_beside_encodings_and_lengths_that_repeat_are_refused() {
    let trial = Trial::new();
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "content-length: 3\r\nCONTENT-LENGTH: 3",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ] {
        trial.refuses_lines(lines, &[400, 501]);
    }
}

#[test]
fn every_other_spelling_of_chunked_is_refused() {
    let trial = Trial::new();
    let values = [
        "xchunked",
        "chunkedx",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked identity",
        "chunk",
        "",
        "\x0bchunked",
        "chunked\x0b",
        "\x0cchunked",
        "\x00chunked",
        "chunked\x00",
        "'chunked'",
        "chunked chunked",
        "cow",
        "cow, chunked",
        "identity, chunked",
        "chunked, identity",
        "ch\u{fc}nked",
        "\u{a0}chunked",
    ];
    for value in values {
        trial.refuses_lines(&format!("Transfer-Encoding: {value}"), &[400, 501]);
    }
    let lines = [
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: x\r\n\tchunked",
        "Transfer_Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "\x00Transfer-Encoding: chunked",
        "Transfer-Encoding chunked",
        "Transfer Encoding: chunked",
        ": chunked",
        "Trans\x00fer-Encoding: chunked",
    ];
    for line in lines {
        trial.refuses_lines(&format!("Content-Length: 5\r\n{line}"), &[400]);
    }
}

#[test]
fn lengths_that_are_not_plain_numbers_are_refused() {
    let trial = Trial::new();
    let values = [
        "+5",
        "-5",
        "-0",
        "",
        "5 5",
        "0x5",
        "5.0",
        "5e0",
        "5;",
        "five",
        "٥",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999",
        "5\t5",
        "\"5\"",
        "1_0",
        "5\x0b",
    ];
    for value in values {
        trial.refuses_lines(&format!("Content-Length: {value}"), &[400, 413]);
    }
    trial.refuses_lines("Content_Length: 5", &[400]);
}

#[test]
fn heads_with_stray_bytes_and_lines_are_refused() {
    let trial = Trial::new();
    for head in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n X: a\r\n\r\n",
        "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno-colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX(y): a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n",
        "G{T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nHost: a\r\n\r\n",
    ] {
        trial.refuses(head, &[400]);
    }
    for version in
        ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3", "http/1.1", "HTTP/1.10", "HTTP/11"]
    {
        trial.refuses(format!("GET / {version}\r\nHost: a\r\n\r\n"), &[400, 505]);
    }
}

#[test]
fn hosts_and_targets_with_two_meanings_are_refused() {
    let trial = Trial::new();
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nhost: a.test\r\n\r\n",
        "GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://user@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://a.test@b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a\\b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /%4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:8x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        "GET /../etc/passwd HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a/%2e%2e/%2e%2e/x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a%2fb HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a%00b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        trial.refuses(head, &[400]);
    }
}

#[test]
fn chunks_with_odd_sizes_extensions_and_ends_never_make_a_whole_request() {
    for body in [
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5x\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "2;\nxx\r\nhe\r\n0\r\n\r\n",
        "2;a\rb\r\nhe\r\n0\r\n\r\n",
        "2;a\x00b\r\nhe\r\n0\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nno-colon\r\n\r\n",
        "0\r\nX: a\x00b\r\n\r\n",
    ] {
        let trial = Trial::new();
        let mut client = Client::connect(trial.door);
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(body).send("GET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n");
        let status = client.try_answer(false).map(|answer| answer.status);
        assert!(matches!(status, Ok(400 | 413 | 431)), "{status:?} for {body:?}");
        assert!(client.is_closed(), "{body:?}");
        assert!(trial.recorder.requests().is_empty(), "a whole request from {body:?}");
    }
}

#[test]
fn everything_oversized_is_refused_with_its_own_status() {
    let trial = Trial::new();
    let long = |length: usize| "x".repeat(length);
    trial.refuses(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(9_000)), &[414]);
    trial.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(40_000)), &[431]);
    trial.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\n{}: y\r\n\r\n", long(70_000)), &[431]);
    let many = "X: y\r\n".repeat(101);
    trial.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), &[431]);
    trial.refuses("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", &[413]);
    trial.refuses(
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: the-worst\r\nContent-Length: 1\r\n\r\n",
        &[417],
    );
    let extension = long(300);
    trial.refuses(
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;{extension}\r\nhello\r\n"),
        &[400, 413],
    );
}

#[test]
fn old_versions_with_encodings_and_connect_are_refused() {
    let trial = Trial::new();
    trial.refuses(
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    );
    trial.refuses("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nearly data", &[405]);
    trial.refuses("CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]);
    trial.refuses("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &[400]);
}

#[test]
fn what_connection_names_is_stripped_and_ours_is_not() {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client.send(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: X-Secret, X-Forwarded-For, Host, Cookie\r\n\
         X-Secret: 1\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Proto: gopher\r\nCookie: a=b\r\nTE: trailers\r\n\
         Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\n\r\n",
    );
    assert_eq!(client.answer().status, 200);
    let asked = &recorder.requests()[0];
    for gone in ["connection", "x-secret", "forwarded", "te", "keep-alive", "proxy-connection"] {
        assert_eq!(asked.field(gone), None, "{gone}");
    }
    assert_eq!(asked.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.field("x-forwarded-host"), Some("a.test"));
    assert_eq!(asked.field("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.field("cookie"), Some("a=b"));
    assert_ne!(asked.field("x-request-id"), Some("mine"));
}

#[test]
fn a_trusted_proxy_may_say_whom_it_forwards_for() {
    let recorder = Recorder::echoing();
    let trusting = "trusted-proxies = \"127.0.0.0/8\"";
    let (_running, door) = serve(&config(&[recorder.address()], "", trusting));
    Client::connect(door)
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n")
        .answer();
    let asked = &recorder.requests()[0];
    assert_eq!(asked.field("x-forwarded-for"), Some("192.0.2.7, 127.0.0.1"));
    assert_eq!(asked.field("x-forwarded-proto"), Some("https"));
}

#[test]
fn an_upgrade_to_http2_is_never_passed_on() {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    );
    assert_eq!(client.answer().status, 200);
    let asked = &recorder.requests()[0];
    assert_eq!((asked.field("upgrade"), asked.field("http2-settings")), (None, None));
}

#[test]
fn a_refused_upgrade_leaves_no_request_behind() {
    let recorder = Recorder::answering(|_| ok(b"no"));
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client.send("GET /one HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n");
    client.send("GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.answer().status, client.answer().status), (200, 200));
    // The second came as a request of its own, not as bytes of a tunnel.
    assert_eq!(recorder.requests()[1].field("x-forwarded-for"), Some("127.0.0.1"));
}

/// Asks once over a backend that gives these bytes to every request; the status, and whether the connection to the
/// backend was used again for the next request.
fn answered_with(bytes: &'static [u8]) -> (Option<u16>, bool) {
    let recorder = Recorder::answering(move |_| bytes.to_vec());
    let (_running, door) = serve(&config(&[recorder.address()], "response-timeout = \"2s\"", ""));
    let ask = || {
        let mut client = Client::connect(door);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_answer(false).ok().map(|answer| answer.status)
    };
    let first = ask();
    ask();
    (first, recorder.backend.accepted() == 1)
}

#[test]
fn answers_with_two_readings_are_a_bad_gateway_and_their_connection_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nab",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let (status, reused) = answered_with(answer);
        assert_eq!(status, Some(502), "{}", String::from_utf8_lossy(answer));
        assert!(!reused, "{}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn bytes_beyond_an_answer_poison_nothing() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"[..],
        b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 304 Not Modified\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nevil",
    ] {
        let (status, reused) = answered_with(answer);
        assert!(matches!(status, Some(200 | 204 | 304)), "{status:?}");
        assert!(!reused, "{}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn an_answer_nobody_asked_for_is_never_given_to_the_next_request() {
    let (now, is_now) = channel();
    let (written, is_written) = channel();
    let is_now = Mutex::new(is_now);
    let backend = Backend::serving(move |mut stream| {
        let mut head = [0; 2000];
        let _ = stream.read(&mut head)?;
        stream.write_all(&ok(b"mine"))?;
        // After the answer, one more: a poisoned queue.
        is_now.lock().expect("no panic").recv().map_err(std::io::Error::other)?;
        stream.write_all(&ok(b"evil"))?;
        written.send(()).expect("the test waits");
        let _ = stream.read(&mut head)?;
        stream.write_all(&ok(b"late"))
    });
    let other = Recorder::echoing();
    let more = format!(
        "[[http.web.route]]\npath = \"/other\"\nupstream = \"other\"\n\
         [upstream.other]\nbackends = [\"{}\"]\n[process]\nworkers = 1\n",
        other.address()
    );
    let (_running, door) = serve(&config(&[backend.address], "", &more));
    // What the one worker had to hear of before this, it has heard of when this is answered.
    let turn = || assert_eq!(Client::connect(door).get("/other").status, 200);
    for _ in 0..20 {
        assert_eq!(Client::connect(door).get("/").text(), "mine");
        turn();
        now.send(()).expect("the backend waits");
        is_written.recv_timeout(Duration::from_secs(10)).expect("the backend has written");
        turn();
    }
}

#[test]
fn a_flood_of_interim_answers_is_cut() {
    let flood = Box::leak("HTTP/1.1 102 Processing\r\n\r\n".repeat(200).into_boxed_str());
    assert_eq!(answered_with(flood.as_bytes()).0, Some(102));
    let recorder = Recorder::answering(|_| flood.as_bytes().to_vec());
    let (running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut interim = 0;
    let last = loop {
        match client.try_answer(false) {
            Ok(answer) if answer.status == 102 => interim += 1,
            outcome => break outcome,
        }
    };
    assert!(interim <= 32, "{interim}");
    assert_eq!(last.map(|answer| answer.status).ok(), Some(502));
    drop(running);
}

#[test]
fn a_redirect_never_leads_where_the_client_says() {
    let recorder = Recorder::echoing();
    let route = "[[http.web.route]]\npath = \"*\"\nredirect = \"{uri}\"";
    let (_running, door) = serve(&config(&[recorder.address()], "", route));
    let answer = Client::connect(door).get("//evil.test/{host}?{uri}");
    assert_eq!(answer.field("location"), Some("/evil.test/{host}?{uri}"));
}
