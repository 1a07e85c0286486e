//! Active checks: connecting, an exchange of bytes, or an HTTP status decide who is used, after `fall` and `rise` checks.
//! The servers here change their answers while running, as real ones do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use evenkeel::{Running, Why};

use crate::support::backend::Backend;
use crate::support::client::{connect, line, visit};
use crate::support::{backend_counts, config, serve, until, until_ended, until_state};

const TIMES: &str = "every = \"50ms\", timeout = \"300ms\", rise = 2, fall = 3";

/// Answers every HTTP request with a status that can be changed; keeps the last request's head.
struct Site {
    status: Arc<AtomicU16>,
    requests: Arc<AtomicUsize>,
    head: Arc<Mutex<String>>,
    backend: Backend,
}

impl Site {
    fn at(address: SocketAddr, status: u16) -> Site {
        let status = Arc::new(AtomicU16::new(status));
        let (requests, head) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (its_status, its_requests, its_head) =
            (Arc::clone(&status), Arc::clone(&requests), Arc::clone(&head));
        let backend = Backend::serving_at(address, move |stream| {
            let request = read_head(&stream)?;
            *its_head.lock().expect("no panic") = request;
            its_requests.fetch_add(1, SeqCst);
            let status = its_status.load(SeqCst);
            write!(&stream, "HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n")
        });
        Site { status, requests, head, backend }
    }

    fn beside(backend: &Backend, status: u16) -> Site {
        Site::at(SocketAddr::new(backend.address.ip(), 0), status)
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    fn port(&self) -> u16 {
        self.backend.address.port()
    }
}

fn read_head(stream: &TcpStream) -> io::Result<String> {
    let mut head = String::new();
    let mut lines = BufReader::new(stream);
    while lines.read_line(&mut head)? > 2 {}
    Ok(head)
}

fn fresh() -> SocketAddr {
    SocketAddr::new(crate::support::backend::fresh_loopback(), 0)
}

fn until_only(door: SocketAddr, name: &str) {
    until(&format!("only {name} is met"), || (0..4).all(|_| visit(door) == name));
}

#[test]
fn a_backend_that_cannot_be_connected_to_is_left_out_until_it_can() {
    let (a, b) = (Backend::named("A"), Backend::named("B"));
    let checks = format!("health = {{ tcp = true, {TIMES} }}\neject-after = 1000");
    let (running, door) = serve(&config(&[a.address, b.address], &checks, ""));
    let gone = a.stop();
    until_state(&running, gone, "unhealthy");
    until_only(door, "B");
    let _again = Backend::named_at(gone, "A");
    until_state(&running, gone, "healthy");
    until("it is used again", || visit(door) == "A");
}

#[test]
fn a_wrong_answer_is_as_bad_as_none() {
    for (checks, question, good) in [
        ("send = \"PING\\r\\n\", expect = \"+PONG\"", &b"PING\r\n"[..], &b"+PONG\r\n"[..]),
        ("send = \"hex:0102ff\", expect = \"hex:00fe\"", b"\x01\x02\xff", b"\x00\xfe\x01"),
        ("expect = \"220 \"", b"", b"220 mail.example\r\n"),
    ] {
        let mood = Arc::new(AtomicUsize::new(0));
        let its_mood = Arc::clone(&mood);
        let backend = Backend::serving(move |mut stream| {
            let mut asked = vec![0; question.len()];
            stream.read_exact(&mut asked)?;
            assert_eq!(asked, question);
            match its_mood.load(SeqCst) {
                0 => stream.write_all(good)?,
                1 => stream.write_all(b"-LOADING")?,
                2 => drop(stream.read(&mut [0])),
                _ => {}
            }
            Ok(())
        });
        let checks = format!("health = {{ {checks}, {TIMES} }}");
        let (running, _) = serve(&config(&[backend.address], &checks, ""));
        until("it has been checked", || backend.accepted() > 3);
        assert_eq!(backend_counts(&running, backend.address).state, "healthy");
        for bad_mood in 1..=3 {
            mood.store(bad_mood, SeqCst);
            until_state(&running, backend.address, "unhealthy");
            mood.store(0, SeqCst);
            until_state(&running, backend.address, "healthy");
        }
    }
}

#[test]
fn an_http_check_asks_for_its_path_and_host_and_judges_by_status() {
    let site = Site::at(fresh(), 200);
    let checks = format!(
        "health = {{ http = \"/health?deep=1\", host = \"db.example\", status = [\"200-299\", 418], {TIMES} }}"
    );
    let (running, _) = serve(&config(&[site.backend.address], &checks, ""));
    until("it has been checked", || site.requests.load(SeqCst) > 3);
    let head = site.head.lock().unwrap().clone();
    assert!(head.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nHost: db.example\r\n"), "{head}");
    for (good, bad) in [(204, 500), (299, 300), (418, 417), (200, 199)] {
        site.answer_with(bad);
        until_state(&running, site.backend.address, "unhealthy");
        site.answer_with(good);
        until_state(&running, site.backend.address, "healthy");
    }
}

#[test]
fn an_http_check_sends_its_headers_and_looks_for_its_text_in_the_body() {
    let good = Arc::new(AtomicBool::new(true));
    let (its_good, asked) = (Arc::clone(&good), Arc::new(Mutex::new(String::new())));
    let its_asked = Arc::clone(&asked);
    let backend = Backend::serving(move |stream| {
        *its_asked.lock().expect("no panic") = read_head(&stream)?;
        let text = if its_good.load(SeqCst) { "I am ready." } else { "I am not yet." };
        write!(&stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        // Cut within the word: chunks are no part of the text.
        let (first, rest) = text.split_at(7);
        write!(&stream, "7\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len())
    });
    let checks = format!(
        "health = {{ http = \"/\", method = \"OPTIONS\", body = \"ready\", \
         headers = {{ Authorization = \"Basic eA==\", user-agent = \"me\" }}, {TIMES} }}"
    );
    let (running, _) = serve(&config(&[backend.address], &checks, ""));
    until("it has been checked", || backend.accepted() > 4);
    assert_eq!(backend_counts(&running, backend.address).state, "healthy");
    let head = asked.lock().unwrap().clone();
    assert!(head.starts_with("OPTIONS / HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nAuthorization: Basic eA==\r\nuser-agent: me\r\n"), "{head}");
    assert!(!head.contains("evenkeel-health"), "{head}");
    good.store(false, SeqCst);
    until_state(&running, backend.address, "unhealthy");
    good.store(true, SeqCst);
    until_state(&running, backend.address, "healthy");
}

#[test]
fn without_a_host_the_backends_address_is_asked_for_and_redirects_are_fine() {
    let site = Site::at(fresh(), 302);
    let checks = format!("health = {{ http = \"/\", {TIMES} }}");
    let (running, _) = serve(&config(&[site.backend.address], &checks, ""));
    until("it has been checked", || site.requests.load(SeqCst) > 4);
    let head = site.head.lock().unwrap().clone();
    assert!(head.contains(&format!("\r\nHost: {}\r\n", site.backend.address)), "{head}");
    assert_eq!(backend_counts(&running, site.backend.address).state, "healthy");
    site.answer_with(404);
    until_state(&running, site.backend.address, "unhealthy");
}

#[test]
fn it_takes_fall_bad_checks_to_go_down_and_rise_good_ones_to_come_back() {
    let backend = Backend::named("A");
    let site = Site::beside(&backend, 200);
    let checks = format!(
        "health = {{ http = \"/\", port = {}, every = \"100ms\", timeout = \"1s\", rise = 4, fall = 6 }}",
        site.port()
    );
    let (running, _) = serve(&config(&[backend.address], &checks, ""));
    until("it has been checked", || site.requests.load(SeqCst) > 0);
    for (status, state, checks) in [(500, "unhealthy", 6), (200, "healthy", 4)] {
        let before = site.requests.load(SeqCst);
        site.answer_with(status);
        until_state(&running, backend.address, state);
        let took = site.requests.load(SeqCst) - before;
        // One request may have been answered on either side of the change unseen by the counter.
        assert!((checks - 1..=checks + 1).contains(&took), "{state} after {took} checks");
    }
    assert_eq!(backend.accepted(), 0, "checks go to their own port only");
}

/// Two backends whose checks go to one other port and fail, while connecting to them works.
fn two_that_fail_their_checks(more: &str) -> (Vec<Backend>, Site, Running, SocketAddr) {
    let a = Backend::named("A");
    let site = Site::beside(&a, 500);
    let address = SocketAddr::new(a.address.ip(), 0);
    let b = Backend::named_at(address, "B");
    let checks = format!("health = {{ http = \"/\", port = {}, {TIMES} }}\n{more}", site.port());
    let (running, door) = serve(&config(&[a.address, b.address], &checks, ""));
    for backend in [&a, &b] {
        until_state(&running, backend.address, "unhealthy");
    }
    (vec![a, b], site, running, door)
}

#[test]
fn fail_open_is_off_by_default_and_then_all_down_means_no_backend() {
    let (_backends, site, running, door) = two_that_fail_their_checks("");
    until("nobody is met", || visit(door).is_empty());
    until_ended(&running, Why::NoBackend, 1);
    site.answer_with(200);
    until("somebody is met", || !visit(door).is_empty());
}

#[test]
fn fail_open_uses_everybody_when_too_few_are_healthy() {
    let (_backends, _site, _running, door) = two_that_fail_their_checks("fail-open = \"50%\"");
    let names: String = (0..8).map(|_| visit(door)).collect();
    assert!(names == "AB".repeat(4) || names == "BA".repeat(4), "{names}");
}

#[test]
fn a_backend_that_came_back_gets_little_at_first() {
    let (a, b) = (Backend::named("A"), Backend::named("B"));
    let site = Site::beside(&b, 200);
    // Only B has something on that port of its address; A is checked there too, so it gets its own.
    let twin = Site::at(SocketAddr::new(a.address.ip(), site.port()), 200);
    let checks = format!(
        "health = {{ http = \"/\", port = {}, {TIMES} }}\nslow-start = \"60s\"",
        site.port()
    );
    let (running, door) = serve(&config(&[a.address, b.address], &checks, ""));
    let names: String = (0..20).map(|_| visit(door)).collect();
    assert_eq!(names, "AB".repeat(10), "at the start everybody has its full weight");
    site.answer_with(500);
    until_state(&running, b.address, "unhealthy");
    until_only(door, "A");
    site.answer_with(200);
    until_state(&running, b.address, "healthy");
    let names: String = (0..100).map(|_| visit(door)).collect();
    assert!(names.matches('B').count() <= 10, "{names}");
    assert!(twin.requests.load(SeqCst) > 0);
}

#[test]
fn checks_leave_no_trace_in_the_counts() {
    let backend = Backend::named("A");
    let (running, door) =
        serve(&config(&[backend.address], &format!("health = {{ {TIMES} }}"), ""));
    until("it has been checked", || backend.accepted() > 5);
    let client = connect(door);
    assert_eq!(line(&client), "A");
    let counts = backend_counts(&running, backend.address);
    assert_eq!((counts.connections, counts.open, counts.failures), (1, 1, 0));
    assert_eq!(running.counts().accepted, 1);
}
