//! A request is asked again only where that does no harm, as often as its route says, and never more than its share.

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::http::{Client, Recorder, ok, serve};
use crate::support::until;

/// A listener with one route over these backends.
fn routed(backends: &[SocketAddr], upstream: &str, route: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[upstream.app]\nbackends = [{}]\n{upstream}\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\n[[http.web.route]]\nupstream = \"app\"\n{route}\n",
        backends.join(", ")
    )
}

fn failing(status: &'static str) -> Recorder {
    Recorder::answering(move |_| {
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
}

/// A backend that reads a request and ends without a word.
fn silent() -> Backend {
    Backend::serving(|mut stream| stream.read(&mut [0; 4096]).map(drop))
}

/// Always to the first backend first, and no ejection that would hide a retry.
const ORDERED: &str = "balance = \"first\"\nhealth = \"off\"";

#[test]
fn an_answer_that_a_route_calls_a_failure_is_asked_of_another_backend() {
    let (bad, good) = (failing("503 No"), Recorder::answering(|_| ok(b"good")));
    let route = "retry = { times = 1, on = [\"502-503\"] }";
    let (_running, door) = serve(&routed(&[bad.address(), good.address()], ORDERED, route));
    let mut client = Client::connect(door);
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (3, 3));
}

#[test]
fn the_last_answer_is_passed_on_when_all_fail() {
    let (one, two) = (failing("503 No"), failing("502 Bad"));
    let route = "retry = { times = 5, on = [502, 503] }";
    let (_running, door) = serve(&routed(&[one.address(), two.address()], ORDERED, route));
    assert_eq!(Client::connect(door).get("/").status, 502);
    assert_eq!(one.requests().len(), 1);
    assert!(two.requests().len() >= 2, "the only one left is asked again");
}

#[test]
fn a_backend_that_ends_without_an_answer_is_passed_over_for_requests_that_change_nothing() {
    let (bad, good) = (silent(), Recorder::answering(|_| ok(b"good")));
    let (_running, door) = serve(&routed(&[bad.address, good.address()], ORDERED, "retry = 1"));
    assert_eq!(Client::connect(door).get("/").text(), "good");
    // A POST may have been acted upon: nobody asks twice.
    let mut client = Client::connect(door);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer().status, 502);
    assert_eq!(good.requests().len(), 1);
}

#[test]
fn a_body_that_was_held_whole_goes_to_the_second_backend_as_well() {
    let (bad, good) = (silent(), Recorder::answering(|request| ok(&request.body)));
    let route = "retry = 1\nrequest-buffer = \"64KiB\"";
    let (_running, door) = serve(&routed(&[bad.address, good.address()], ORDERED, route));
    let mut client = Client::connect(door);
    client.send(
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(client.answer().text(), "hello");
    // What was held has a length.
    assert_eq!(good.requests()[0].field("content-length"), Some("5"));
    // One that is larger than what is held goes on as it comes, and only once.
    let mut client = Client::connect(door);
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .send(vec![b'x'; 100_000]);
    assert_eq!(client.answer().status, 502);
}

#[test]
fn a_backend_that_is_late_is_passed_over_within_the_time_of_the_whole() {
    let late = Backend::serving(|mut stream| {
        let _ = stream.read(&mut [0; 4096])?;
        let _ = stream.read(&mut [0; 4096]);
        Ok(())
    });
    let good = Recorder::answering(|_| ok(b"good"));
    let route = "retry = { times = 1, try-timeout = \"300ms\" }\nresponse-timeout = \"5s\"";
    let (_running, door) = serve(&routed(&[late.address, good.address()], ORDERED, route));
    let began = Instant::now();
    assert_eq!(Client::connect(door).get("/").text(), "good");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn retries_stay_within_their_share() {
    let (bad, worse) = (failing("503 No"), failing("503 No"));
    let route = "retry = { times = 1, on = [503], budget = \"10%\", at-least = 0 }";
    let (_running, door) = serve(&routed(&[bad.address(), worse.address()], ORDERED, route));
    let mut client = Client::connect(door);
    for _ in 0..100 {
        assert_eq!(client.get("/").status, 503);
    }
    let retries = worse.requests().len();
    assert!((5..=10).contains(&retries), "{retries} retries for 100 requests");
}

#[test]
fn a_slow_upload_that_is_held_keeps_no_backend_waiting() {
    let recorder = Recorder::answering(|request| ok(&request.body));
    let route = "request-buffer = \"1MiB\"";
    let (running, door) = serve(&routed(&[recorder.address()], "", route));
    let mut client = Client::connect(door);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    // Nobody behind us would say it before we have asked.
    assert_eq!(client.answer().status, 100);
    client.send("first");
    until("the request is being read", || running.counts().open == 1);
    assert_eq!(recorder.backend.accepted(), 0);
    client.send("then ");
    assert_eq!(client.answer().text(), "firstthen ");
    assert_eq!(recorder.requests()[0].field("expect"), None);
}

#[test]
fn a_body_beyond_its_limit_is_refused_also_while_it_is_held() {
    let recorder = Recorder::answering(|_| ok(b""));
    let route = "request-buffer = \"1MiB\"\nbody-max = \"10\"";
    let (_running, door) = serve(&routed(&[recorder.address()], "", route));
    let mut client = Client::connect(door);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    assert_eq!(recorder.requests().len(), 0);
}
