//! Clients that abuse HTTP/2: each class of what attacks a proxy has a test named after it, with every byte written by us.
//! Judged by what reached the backend, what came back, the access line, memory, and whether others were served meanwhile.

use crate::support::attacked::{Ground, MEMORY_MOST, streams};
use crate::support::backend::Backend;
use crate::support::frames::*;
use crate::support::http::{Recorder, config, ok};
use crate::support::program::Program;
use crate::support::until;

#[test]
fn rapid_reset_ends_the_connection_and_few_requests_reach_a_backend() {
    let ground = Ground::new("");
    let attack: Vec<u8> = streams(10_000)
        .flat_map(|s| [headers(s, get("/rapid"), true), reset(s, 8)].concat())
        .collect();
    let rest = ground.while_serving(|| {
        let mut peer = ground.attack();
        peer.send(attack);
        peer.rest()
    });
    assert_eq!(rest.go_away(), Some(ENHANCE_YOUR_CALM));
    ground.logs("limit-frames");
    ground.logs("too many reset frames");
    assert!(ground.reached().len() <= 100, "{}", ground.reached().len());
    ground.is_unharmed();
}

#[test]
fn rapid_reset_below_the_limit_leaves_no_request_behind() {
    let held =
        Backend::serving(|stream| std::io::copy(&mut &stream, &mut std::io::sink()).map(drop));
    let config = config(
        &[held.address],
        "",
        "http2 = { resets-per-second = 1000000, pings-per-second = 1000 }\n[process]\nworkers = 1",
    );
    let program = Program::run(&config);
    let mut peer = Peer::connect(program.address("web"));
    peer.send(frame(PING, 0, 0, [6; 8]));
    peer.until("the first answer", |frame| frame.kind == PING && frame.payload == [6; 8]);
    // Its one worker has begun, and has opened all that it needs for itself.
    let descriptors = program.descriptors();
    for stream in streams(300) {
        peer.send(headers(stream, get("/held"), true));
        // What is known to have begun is what costs.
        if stream % 20 == 1 {
            peer.send(frame(PING, 0, 0, [7; 8]));
            peer.until("a PING's answer", |frame| frame.kind == PING);
        }
        peer.send(reset(stream, 8));
    }
    peer.send(frame(PING, 0, 0, [8; 8]));
    peer.until("the last answer", |frame| frame.kind == PING && frame.payload == [8; 8]);
    until("connections to the backend are closed", || program.descriptors() <= descriptors);
}

/// The frames of an attack by one stream.
type Attack = fn(u32) -> Vec<u8>;

/// What makes us give a stream up.
fn made_you_reset() -> Vec<(&'static str, Attack)> {
    vec![
        ("WINDOW_UPDATE of 0", |s| [headers(s, get("/made"), true), window_update(s, 0)].concat()),
        ("WINDOW_UPDATE beyond the most", |s| {
            let more = window_update(s, 0x7fff_ffff);
            [headers(s, get("/made"), true), more.clone(), more].concat()
        }),
        ("DATA after the end", |s| [headers(s, get("/made"), true), data(s, "x", false)].concat()),
        ("HEADERS after the end", |s| {
            [headers(s, get("/made"), true), headers(s, literal("a", "b"), true)].concat()
        }),
        ("trailers that do not end", |s| {
            [headers(s, request("POST", "/made"), false), headers(s, literal("a", "b"), false)]
                .concat()
        }),
        ("PRIORITY of a wrong length", |s| {
            [headers(s, get("/made"), true), frame(PRIORITY, 0, s, [0; 4])].concat()
        }),
        ("PRIORITY on itself", |s| {
            let own = [&s.to_be_bytes()[..], &[1]].concat();
            [headers(s, get("/made"), true), frame(PRIORITY, 0, s, own)].concat()
        }),
        ("less than the content-length", |s| {
            let head = [request("POST", "/made"), literal("content-length", "5")].concat();
            [headers(s, head, false), data(s, "abc", true)].concat()
        }),
        ("more than the content-length", |s| {
            let head = [request("POST", "/made"), literal("content-length", "5")].concat();
            [headers(s, head, false), data(s, "abcdefgh", false)].concat()
        }),
        ("a content-length and no body", |s| {
            headers(s, [request("POST", "/made"), literal("content-length", "5")].concat(), true)
        }),
        ("a malformed head", |s| {
            headers(s, [get("/made"), literal("connection", "close")].concat(), true)
        }),
        ("RST_STREAM of a wrong length", |s| {
            [headers(s, get("/made"), true), frame(RESET, 0, s, [0; 3])].concat()
        }),
    ]
}

#[test]
fn made_you_reset_ends_the_connection_and_the_backend_has_no_more_than_is_allowed() {
    for (name, attack) in made_you_reset() {
        let held =
            Backend::serving(|stream| std::io::copy(&mut &stream, &mut std::io::sink()).map(drop));
        let limits = "http2 = { streams-max = 20, resets-per-second = 50 }";
        let program = Program::run(&config(&[held.address], "", limits));
        let mut peer = Peer::connect(program.address("web"));
        peer.send(streams(2_000).flat_map(attack).collect::<Vec<u8>>());
        let rest = peer.rest();
        assert!(rest.go_away().is_some_and(|error| error != 0), "{name}: {:?}", rest.go_away());
        // Those that were given up and those under way.
        assert!(held.accepted() <= 70, "{name}: {} reached the backend", held.accepted());
        assert!(rest.count(RESET) <= 2_000, "{name}");
        assert!(!program.diagnostics().contains("panic"), "{name}: {}", program.diagnostics());
    }
}

#[test]
fn a_continuation_flood_ends_the_connection_in_a_head_and_in_trailers() {
    let ground = Ground::new("");
    let filler = literal("x-filler", "y".repeat(16_000));
    let begun = |s| frame(HEADERS, 1, s, get("/continued"));
    let trailers = |s| {
        let body =
            [headers(s, request("POST", "/trailers"), false), data(s, "body", false)].concat();
        [body, frame(HEADERS, 1, s, literal("x-late", "1"))].concat()
    };
    type Begin<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    let cases: [(Begin<'_>, Vec<u8>, usize); 4] = [
        (&begun, frame(CONTINUATION, 0, 1, &filler), 4_096),
        (&begun, frame(CONTINUATION, 0, 1, []).repeat(1_000), 1_000),
        (&trailers, frame(CONTINUATION, 0, 1, &filler), 4_096),
        (&trailers, frame(CONTINUATION, 0, 1, []).repeat(1_000), 1_000),
    ];
    for (begin, part, times) in cases {
        let rest = ground.while_serving(|| {
            let mut peer = ground.attack();
            peer.send(begin(1));
            peer.flood(times, &part);
            peer.rest()
        });
        assert_eq!(rest.go_away(), Some(ENHANCE_YOUR_CALM));
    }
    ground.logs("too many continuation frames");
    assert!(ground.reached().is_empty());
    ground.is_unharmed();
}

#[test]
fn an_hpack_bomb_is_not_unpacked() {
    let ground = Ground::new("");
    let rest = ground.while_serving(|| {
        let mut peer = ground.attack();
        let big = entry("x-bomb", "b".repeat(4_000));
        let bomb = [get("/bomb"), big, reference(NEWEST).repeat(12_000)].concat();
        peer.send(headers(1, bomb, true));
        peer.rest()
    });
    assert_eq!(rest.go_away(), Some(ENHANCE_YOUR_CALM));
    // One that is only too large is answered.
    let mut peer = ground.attack();
    let big = entry("x-bomb", "b".repeat(4_000));
    peer.send(headers(1, [get("/bomb"), big, reference(NEWEST).repeat(9)].concat(), true));
    assert_eq!(peer.outcome(1), Outcome::Status(431));
    ground.logs("limit-frames");
    assert!(ground.reached().is_empty());
    ground.is_unharmed();
}

#[test]
fn an_http2_bomb_of_tiny_fields_is_counted_by_the_field() {
    let ground = Ground::over(Recorder::answering(|_| ok(&[b'x'; 200_000])), "");
    // Nothing of an answer can be sent, so that all requests stay.
    let mut peer = Peer::greeting(ground.program.address("web"), &[(4, 0)]);
    for (stream, name) in streams(100).zip(["a", "cookie", "x-y"].iter().cycle()) {
        let bomb = [get("/bomb"), entry(name, ""), reference(NEWEST).repeat(900)].concat();
        peer.send(headers(stream, bomb, true));
    }
    for stream in streams(100) {
        peer.send(window_update(stream, 1));
    }
    let answered: Vec<_> =
        (0..100).map(|_| peer.until("a 431", |f| f.status().is_some())).collect();
    assert!(answered.iter().all(|frame| frame.status() == Some(431)), "{answered:?}");
    assert!(ground.reached().is_empty());
    // What is just allowed is held, a hundred times, and kept alive byte by byte.
    let mut peer = Peer::greeting(ground.program.address("web"), &[(4, 0)]);
    let most = [get("/most"), entry("a", ""), reference(NEWEST).repeat(99)].concat();
    for stream in streams(100) {
        peer.send(headers(stream, &most, true));
    }
    for _ in 0..20 {
        for stream in streams(100) {
            peer.send(window_update(stream, 1));
        }
        peer.until("a byte", |frame| frame.kind == DATA && !frame.payload.is_empty());
    }
    until("all are asked", || ground.reached().len() == 100);
    assert!(ground.reached().iter().all(|asked| asked.fields.len() <= 100 + 8));
    ground.is_unharmed();
}

#[test]
fn floods_of_frames_that_cost_nothing_end_the_connection_with_their_answers_unread() {
    let ground = Ground::new("http2 = { control-frames-per-second = 1000 }");
    let opened = headers(1, request("POST", "/flooded"), false);
    let answered = [headers(1, get("/other"), true), reset(1, 8)].concat();
    let cases: Vec<(&str, &[u8], Vec<u8>)> = vec![
        ("settings", &[], settings(&[(4, 65_535)])),
        ("settings", &[], settings(&[])),
        ("ping", &[], frame(PING, 0, 0, [1; 8])),
        ("empty-data", &opened, data(1, "", false)),
        ("control", &opened, frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])),
        ("control", &[], frame(PRIORITY, 0, 7, [0, 0, 0, 0, 1])),
        ("control", &opened, window_update(1, 1)),
        ("control", &[], window_update(0, 1)),
        ("control", &[], frame(0x42, 0, 0, [])),
        ("control", &[], frame(PING, ACK, 0, [1; 8])),
        ("reset", &answered, reset(1, 8)),
    ];
    for (name, begin, flooding) in cases {
        let rest = ground.while_serving(|| {
            let mut peer = ground.attack();
            peer.send(begin);
            peer.flood(100, flooding.repeat(1_000));
            peer.rest()
        });
        assert_eq!(rest.go_away(), Some(ENHANCE_YOUR_CALM), "{name}");
        ground.logs(&format!("too many {name} frames"));
    }
    ground.is_unharmed();
}

#[test]
fn names_of_no_length_are_refused_and_leave_nothing_behind() {
    let ground = Ground::new("");
    for field in [literal("", "x"), entry("", "x"), literal("", "")] {
        let mut peer = ground.attack();
        peer.send(
            streams(2_000)
                .flat_map(|stream| {
                    headers(stream, [get("/nameless"), field.clone()].concat(), true)
                })
                .collect::<Vec<u8>>(),
        );
        assert_eq!(peer.rest().go_away(), Some(PROTOCOL_ERROR));
    }
    assert!(ground.reached().is_empty());
    ground.is_unharmed();
}

#[test]
fn streams_beyond_the_limit_are_refused_and_a_flood_of_them_ends_the_connection() {
    let held =
        Backend::serving(|stream| std::io::copy(&mut &stream, &mut std::io::sink()).map(drop));
    let program = Program::run(&config(&[held.address], "", "http2 = { streams-max = 10 }"));
    let begin = |count| {
        let mut peer = Peer::connect(program.address("web"));
        peer.send(streams(count).flat_map(|s| headers(s, get("/many"), true)).collect::<Vec<u8>>());
        peer
    };
    // A client may begin as many as it likes before it has read our SETTINGS.
    let mut peer = begin(500);
    for _ in 10..500 {
        // REFUSED_STREAM: they may come again.
        assert_eq!(peer.until("a reset", |frame| frame.kind == RESET).error(), Some(7));
    }
    until("those within the limit are asked", || held.accepted() == 10);
    let memory = program.memory();
    assert_eq!(begin(20_000).rest().go_away(), Some(ENHANCE_YOUR_CALM));
    assert!(held.accepted() <= 20, "{}", held.accepted());
    assert!(program.memory().saturating_sub(memory) < MEMORY_MOST);
    peer.send(frame(PING, 0, 0, [1; 8]));
    peer.until("others are served", |frame| frame.kind == PING);
}

#[test]
fn what_comes_for_a_stream_after_its_reset_is_nobodys() {
    let ground = Ground::new("");
    let attack = |stream| {
        let begun = [headers(stream, request("POST", "/after"), false), data(stream, "one", false)];
        [begun.concat(), reset(stream, 8), data(stream, "two", false), data(stream, "", true)]
            .concat()
    };
    let mut peer = ground.attack();
    peer.send(streams(50).flat_map(attack).collect::<Vec<u8>>());
    peer.send(headers(1_001, get("/still"), true));
    let outcome = peer.outcome(1_001);
    assert_eq!(outcome, Outcome::Status(200));
    let whole = ground.reached().iter().filter(|asked| asked.line.contains("/after")).count();
    assert_eq!(whole, 0, "a request that was given up looked whole");
    ground.is_unharmed();
}
