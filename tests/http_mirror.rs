//! A share of the requests is copied to another upstream, and whatever becomes of a copy, clients never notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evenkeel::Running;

use crate::support::backend::Backend;
use crate::support::http::{Asked, Client, Recorder, config, serve};
use crate::support::{noise, until};

/// A proxy whose one route is mirrored to `shadow`.
fn mirrored(app: &Recorder, shadow: SocketAddr, more: &str) -> (Running, SocketAddr) {
    let route = format!(
        "[upstream.shadow]\nbackends = \"{shadow}\"\nresponse-timeout = \"2s\"\n[[http.web.route]]\npath = \"/a/*\"\nupstream = \"app\"\n\
         strip-prefix = \"/a\"\nrequest-headers = {{ set = {{ X-Set = \"1\" }} }}\nmirror = {{ upstream = \"shadow\"{more} }}\n"
    );
    serve(&config(&[app.address()], "", &route))
}

#[test]
fn a_copy_is_what_the_backend_got_whatever_framed_it() {
    let (app, shadow) = (Recorder::echoing(), Recorder::echoing());
    let (_running, door) = mirrored(&app, shadow.address(), "");
    let mut client = Client::connect(door);
    let body = noise(7, 40_000);
    client.get("/a/b?c");
    client.send("POST /a/length HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 40000\r\n\r\n");
    client.send(&body).answer();
    client.send("PUT /a/chunks HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.chunks(7_777) {
        client.send(format!("{:X}\r\n", part.len())).send(part).send("\r\n");
    }
    client.send("0\r\n\r\n").answer();
    until("all copies have come", || shadow.requests().len() == 3);
    let by_line = |recorder: &Recorder| -> Vec<Asked> {
        let mut all = recorder.requests();
        all.sort_by(|a, b| a.line.cmp(&b.line));
        all
    };
    for (real, copy) in by_line(&app).iter().zip(by_line(&shadow)) {
        assert_eq!((&real.line, real.body == copy.body), (&copy.line, true));
        for name in ["host", "x-set", "x-forwarded-for", "x-request-id"] {
            assert_eq!(real.field(name), copy.field(name), "{name}");
        }
        assert_eq!(copy.field("expect"), None);
    }
    assert_eq!(by_line(&shadow).iter().map(|copy| copy.body.len()).sum::<usize>(), 80_000);
}

#[test]
fn the_share_is_exact_and_other_routes_are_not_copied() {
    let (app, shadow) = (Recorder::echoing(), Recorder::echoing());
    let (_running, door) = mirrored(&app, shadow.address(), ", share = \"10%\"");
    let mut client = Client::connect(door);
    for n in 0..50 {
        assert_eq!(client.get(&format!("/a/{n}")).status, 200);
        assert_eq!(client.get("/b").status, 200);
    }
    until("the copies have come", || shadow.requests().len() == 5);
    let mut lines: Vec<_> = shadow.requests().into_iter().map(|asked| asked.line).collect();
    lines.sort();
    assert_eq!(lines, ["0", "10", "20", "30", "40"].map(|n| format!("GET /{n} HTTP/1.1")));
}

#[test]
fn a_body_over_the_limit_passes_and_is_not_copied() {
    let (app, shadow) = (Recorder::echoing(), Recorder::echoing());
    let (_running, door) = mirrored(&app, shadow.address(), ", body-max = \"10\"");
    let mut client = Client::connect(door);
    client.send("POST /a/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world").answer();
    client.send("POST /a/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n");
    client.answer();
    client.send("POST /a/3 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello worl").answer();
    until("the small one has come", || !shadow.requests().is_empty());
    assert_eq!(app.requests().len(), 3);
    let copies: Vec<_> = shadow.requests().into_iter().map(|asked| asked.line).collect();
    assert_eq!(copies, ["POST /3 HTTP/1.1"]);
}

#[test]
fn a_silent_or_dead_mirror_delays_nobody_and_copies_stay_few() {
    let app = Recorder::echoing();
    let silent =
        Backend::serving(|mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop));
    let gone = Backend::echo().stop();
    for shadow in [silent.address, gone] {
        let (running, door) = mirrored(&app, shadow, ", requests-max = 3");
        let mut client = Client::connect(door);
        let began = Instant::now();
        for n in 0..50 {
            assert_eq!(client.get(&format!("/a/{n}")).status, 200);
        }
        // Less than one copy takes to give up.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        drop(client);
        assert_eq!(running.stop().cut, 0);
    }
    assert!((1..=3).contains(&silent.accepted()), "{}", silent.accepted());
}

#[test]
fn what_a_mirror_answers_reaches_nobody() {
    let app = Recorder::echoing();
    for answer in [
        &b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nevil"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nevil",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nevil",
        b"evil",
    ] {
        let shadow = Recorder::answering(move |_| answer.to_vec());
        let (running, door) = mirrored(&app, shadow.address(), "");
        let mut client = Client::connect(door);
        for n in 0..5 {
            let text = client.get(&format!("/a/{n}")).text();
            assert_eq!(text, format!("GET /{n} HTTP/1.1"));
        }
        until("copies have come", || !shadow.requests().is_empty());
        until("only real requests are counted", || running.counts().requests[2] == 5);
        assert_eq!(running.counts().requests.iter().sum::<u64>(), 5);
    }
}
