//! Clients of HTTP/2 that take or send next to nothing: each holds little, and not for ever.
//! The pace of an attack is a sleep of ours; what is judged is never waited for by time.

use std::time::{Duration, Instant};

use crate::support::attacked::{Ground, MEMORY_MOST, streams};
use crate::support::frames::*;
use crate::support::http::{Recorder, ok};
use crate::support::until;

#[test]
fn a_slow_reader_holds_little_and_not_for_ever() {
    let big = Recorder::answering(|asked| match asked.line.contains("/big") {
        true => ok(&vec![b'x'; 1_000_000]),
        false => ok(b"other"),
    });
    let ground = Ground::over(big, "idle-timeout = \"1s\"");
    let door = ground.program.address("web");
    until("idle connections are gone", || ground.program.descriptors() < 64);
    // No room on any stream; room on all, but nothing is read.
    for window in [0, 0x7fff_ffff] {
        let lines = ground.program.output().matches("idle-timeout").count();
        let mut peer = Peer::greeting(door, &[(4, window)]);
        peer.send(window_update(0, 0x7000_0000));
        for stream in streams(100) {
            peer.send(headers(stream, get("/big"), true));
        }
        until("the backend has been asked", || ground.reached().len() >= 100);
        let memory = ground.program.memory().saturating_sub(ground.memory);
        assert!(memory < MEMORY_MOST, "{memory} bytes more");
        until("a time limit ends what is not taken", || {
            ground.program.output().matches("idle-timeout").count() > lines + 50
        });
        ground.serves();
        peer.rest();
    }
    ground.is_unharmed();
}

#[test]
fn answers_that_nobody_takes_are_not_kept_alive_by_pings() {
    let ground =
        Ground::over(Recorder::answering(|_| ok(&[b'x'; 60_000])), "idle-timeout = \"1s\"");
    let mut peer = Peer::greeting(ground.program.address("web"), &[(4, 0)]);
    for stream in streams(100) {
        peer.send(headers(stream, get("/untaken"), true));
    }
    until("all are answered as far as we can see", || ground.reached().len() == 100);
    let began = Instant::now();
    while peer.send([frame(PING, 0, 0, [1; 8]), window_update(0, 1)].concat()) {
        assert!(began.elapsed() < Duration::from_secs(8), "kept alive");
        // The pace of the attack.
        std::thread::sleep(Duration::from_millis(100));
    }
    ground.is_unharmed();
}

#[test]
fn slowloris_is_cut_off_wherever_it_stops() {
    let ground = Ground::new("head-timeout = \"1s\"");
    let open = [PREFACE, &settings(&[])].concat();
    let with = |more: &[u8]| [&open, more].concat();
    let silent: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("half a preface", PREFACE[..10].to_vec()),
        ("a preface that looks like a request", PREFACE[..18].to_vec()),
        ("a preface but for its last byte", PREFACE[..23].to_vec()),
        ("a head that goes on", with(&frame(HEADERS, 1, 1, get("/slow")))),
        ("half the head of a frame", with(&headers(1, get("/slow"), true)[..5])),
        ("half a frame", with(&headers(1, get("/slow"), true)[..20])),
        ("half a frame of settings", with(&settings(&[(4, 1)])[..12])),
    ];
    let began = Instant::now();
    let door = ground.program.address("web");
    let peers: Vec<_> = silent
        .iter()
        .map(|(name, bytes)| {
            let mut peer = Peer { stream: crate::support::client::connect(door) };
            peer.send(bytes);
            (name, peer)
        })
        .collect();
    for (name, mut peer) in peers {
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut peer.stream, &mut rest);
        assert!(began.elapsed() < Duration::from_secs(8), "{name}");
    }
    ground.logs("head-timeout");
    assert!(ground.reached().is_empty());
    ground.is_unharmed();
}

#[test]
fn slowloris_with_a_byte_now_and_then_is_cut_off_too() {
    let ground = Ground::new("head-timeout = \"1s\"");
    let slow = literal("x-slow", "s".repeat(1_000));
    let head = [get("/slow"), slow].concat();
    let whole = headers(1, &head, true);
    let parts: Vec<u8> = head.iter().flat_map(|byte| frame(CONTINUATION, 0, 1, [*byte])).collect();
    let cases = [whole, [frame(HEADERS, 1, 1, []), parts].concat()];
    std::thread::scope(|scope| {
        for bytes in &cases {
            let mut peer = ground.attack();
            scope.spawn(move || {
                let began = Instant::now();
                for byte in bytes {
                    if !peer.send([*byte]) {
                        return;
                    }
                    assert!(began.elapsed() < Duration::from_secs(8), "still taken");
                    // The pace of the attack.
                    std::thread::sleep(Duration::from_millis(10));
                }
                panic!("all of it was taken");
            });
        }
    });
    assert!(ground.reached().is_empty());
    ground.is_unharmed();
}

#[test]
fn an_upload_may_last_although_every_piece_ends_within_a_frame() {
    let ground = Ground::new("head-timeout = \"1s\"");
    let mut peer = ground.attack();
    peer.send(headers(1, request("POST", "/long"), false));
    let piece = data(1, [b'u'; 1_000], false);
    let (first, second) = piece.split_at(500);
    peer.send(first);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        assert!(peer.send([second, first].concat()), "cut off after {:?}", began.elapsed());
        // The pace of the upload.
        std::thread::sleep(Duration::from_millis(10));
    }
    // One frame may take its time as well: it is a body, and idle-timeout is for bodies.
    for part in second.chunks(250) {
        assert!(peer.send(part));
        std::thread::sleep(Duration::from_millis(700));
    }
    peer.send(data(1, "", true));
    assert_eq!(peer.outcome(1), Outcome::Status(200));
    ground.is_unharmed();
}
