//! Which backends are left out for what they answer to requests, or for how late they do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::http::{Asked, Client, Recorder, config, ok, serve};
use crate::support::program::Program;
use crate::support::{backend_counts, until, until_state};

fn addresses(backends: &[Recorder]) -> Vec<SocketAddr> {
    backends.iter().map(Recorder::address).collect()
}

/// Three backends of which the last can be made to answer differently.
fn three(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Vec<Recorder> {
    let good = ["A", "B"].map(|name| Recorder::answering(move |_| ok(name.as_bytes())));
    good.into_iter().chain([Recorder::answering(answer)]).collect()
}

fn failing(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 1\r\n\r\nC").into_bytes()
}

#[test]
fn a_backend_that_answers_with_5xx_is_left_out_and_the_log_says_why() {
    let backends = three(|_| failing(503));
    let settings = "eject-errors = { share = \"50%\", answers = 5 }\neject-time = \"60s\"";
    let program = Program::run(&config(&addresses(&backends), settings, ""));
    program.until_said("listening on ");
    let mut client = Client::connect(program.address("web"));
    let statuses: Vec<_> = (0..15).map(|_| client.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "{statuses:?}");
    program.until_said("is ejected for 60 s: 5 of 5 answers were 5xx");
    // The new line-up is made on another thread.
    until("it gets nothing more", || (0..6).all(|_| client.get("/").status == 200));
}

#[test]
fn what_is_no_5xx_or_too_small_a_share_ejects_nobody() {
    let turn = AtomicUsize::new(0);
    let backends = three(move |_| match turn.fetch_add(1, SeqCst) % 4 {
        0 => failing(404),
        1 => failing(429),
        2 => ok(b"C"),
        _ => failing(500),
    });
    let settings = "eject-errors = { share = \"30%\", answers = 4 }";
    let (running, door) = serve(&config(&addresses(&backends), settings, ""));
    let mut client = Client::connect(door);
    // Every fourth is an error: a quarter, and never more, whenever it is judged.
    (0..60).for_each(|_| drop(client.get("/")));
    assert_eq!(backends[2].requests().len(), 20);
    assert_eq!(backend_counts(&running, backends[2].address()).state, "healthy");
}

#[test]
fn the_last_usable_backend_is_never_left_out_for_its_answers() {
    let backend = Recorder::answering(|_| failing(500));
    let settings = "eject-errors = { share = \"10%\", answers = 1 }\neject-max-percent = 100";
    let (running, door) = serve(&config(&[backend.address()], settings, ""));
    let mut client = Client::connect(door);
    assert!((0..30).all(|_| client.get("/").status == 500));
    assert_eq!(backend_counts(&running, backend.address()).state, "healthy");
}

#[test]
fn a_backend_that_gives_no_answer_counts_as_if_it_were_an_error() {
    let good = Recorder::answering(|_| ok(b"A"));
    let bad = Recorder::answering(|_| b"no HTTP at all\r\n\r\n".to_vec());
    let settings =
        "eject-errors = { share = \"50%\", answers = 4 }\neject-time = \"60s\"\neject-after = 1000";
    let (running, door) = serve(&config(&[good.address(), bad.address()], settings, ""));
    for _ in 0..8 {
        Client::connect(door).get("/");
    }
    until_state(&running, bad.address(), "ejected");
}

#[test]
fn a_backend_much_slower_than_the_others_is_left_out_until_it_is_as_fast() {
    let millis = Arc::new(AtomicU64::new(80));
    let its_millis = Arc::clone(&millis);
    let backends = three(move |_| {
        std::thread::sleep(Duration::from_millis(its_millis.load(SeqCst)));
        ok(b"C")
    });
    let settings = "eject-latency = { times = 3, answers = 4, within = \"2s\", at-least = \"40ms\" }\n\
                    eject-time = \"500ms\"";
    let (running, door) = serve(&config(&addresses(&backends), settings, ""));
    let slow = backends[2].address();
    let mut client = Client::connect(door);
    until("the slow one is ejected", || {
        assert_eq!(client.get("/").status, 200);
        backend_counts(&running, slow).state == "ejected"
    });
    for fast in &backends[..2] {
        assert_eq!(backend_counts(&running, fast.address()).state, "healthy");
    }
    millis.store(0, SeqCst);
    until_state(&running, slow, "healthy");
    until("it is asked again", || client.get("/").text() == "C");
}

#[test]
fn a_slow_upload_says_nothing_about_the_backend_that_waits_for_it() {
    let backends = three(|_| ok(b"C"));
    let settings = "balance = { hash = \"path\" }\n\
                    eject-latency = { times = 2, answers = 2, within = \"1s\", at-least = \"40ms\" }";
    let path_to = |door| {
        let mut client = Client::connect(door);
        let met = (0..60).map(|n| (client.get(&format!("/{n}")).text(), format!("/{n}")));
        met.collect::<BTreeMap<_, _>>()
    };
    // Another proxy finds out who is asked by which path, so that this one knows nothing but uploads of C.
    let paths = path_to(serve(&config(&addresses(&backends), settings, "")).1);
    let (running, door) = serve(&config(&addresses(&backends), settings, ""));
    let mut client = Client::connect(door);
    for _ in 0..8 {
        assert_eq!(
            (client.get(&paths["A"]).text(), client.get(&paths["B"]).text()),
            ("A".into(), "B".into())
        );
        let head = format!("POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx", paths["C"]);
        client.send(head);
        // A client that takes its time is what this is about; meanwhile backends are compared, every 100 ms.
        std::thread::sleep(Duration::from_millis(80));
        assert_eq!(client.send("y").answer().text(), "C");
        assert_eq!(backend_counts(&running, backends[2].address()).state, "healthy");
    }
}
