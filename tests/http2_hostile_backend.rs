//! Backends that abuse HTTP/2: whoever asked is told so or sees a broken answer, and nobody else is harmed.
//! Every byte of the backend is written by us; judged by answers, by memory, and by what is left open.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::frames::*;
use crate::support::http::{Answer, Client, Recorder};
use crate::support::program::Program;
use crate::support::until;

/// More memory than this is not for one backend to take.
const MEMORY_MOST: u64 = 16_000_000;

/// A proxy of one worker before a hostile backend, and a good one at `/other`.
struct Ground {
    program: Program,
    good: Recorder,
    hostile: Backend,
    memory: u64,
}

impl Ground {
    /// What the hostile backend does with the stream of a request.
    fn answering(
        answer: impl Fn(&mut TcpStream, u32) -> io::Result<()> + Send + Sync + 'static,
    ) -> Ground {
        Ground::over(Backend::serving(move |stream| serve_frames(stream, &answer)))
    }

    fn over(hostile: Backend) -> Ground {
        Ground::limited(hostile, "")
    }

    /// The same with a line more in the config of the hostile upstream.
    fn limited(hostile: Backend, line: &str) -> Ground {
        let good = Recorder::echoing();
        let config = format!(
            "[process]\nworkers = 1\n\
             [upstream.hostile]\nbackends = [\"{}\"]\nh2 = true\nresponse-timeout = \"2s\"\n{line}\n\
             [upstream.good]\nbackends = [\"{}\"]\n\
             [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"hostile\"\nidle-timeout = \"2s\"\n\
             [[http.web.route]]\npath = \"/other\"\nupstream = \"good\"\n",
            hostile.address,
            good.address()
        );
        let program = Program::run(&config);
        let mut ground = Ground { program, good, hostile, memory: 0 };
        ground.serves_others();
        ground.memory = ground.program.memory();
        ground
    }

    fn client(&self) -> Client {
        Client::connect(self.program.address("web"))
    }

    fn serves_others(&self) {
        let began = Instant::now();
        assert_eq!(self.client().get("/other").status, 200);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    fn is_unharmed(&self, what: &str) {
        self.serves_others();
        let memory = self.program.memory().saturating_sub(self.memory);
        assert!(memory < MEMORY_MOST, "{what}: {memory} bytes more");
        let said = self.program.diagnostics();
        assert!(!said.contains("panic"), "{what}: {said}");
        assert!(self.good.requests().iter().all(|asked| asked.line.contains(" /other ")));
    }
}

/// The final answer, with none before it counted.
fn final_answer(client: &mut Client) -> io::Result<Answer> {
    loop {
        let answer = client.try_answer(false)?;
        if answer.status >= 200 {
            return Ok(answer);
        }
    }
}

/// A whole answer with this body.
fn answer(stream: u32, body: &str) -> Vec<u8> {
    [headers(stream, block(&[(":status", "200")]), false), data(stream, body, true)].concat()
}

/// Writes the same again and again, at most so often, until the proxy has had enough.
fn flood(stream: &mut TcpStream, times: usize, bytes: &[u8]) -> io::Result<()> {
    (0..times).try_for_each(|_| stream.write_all(bytes))
}

#[test]
fn an_upstream_may_set_its_own_limits() {
    let fifty_pings = |stream: &mut TcpStream, asked: u32| {
        flood(stream, 50, &frame(PING, 0, 0, [1; 8]))?;
        stream.write_all(&answer(asked, "done"))
    };
    for (line, status) in
        [("", 200), ("h2-limits = { pings-per-second = 10 }", 502), ("h2-limits = { }", 200)]
    {
        let hostile = Backend::serving(move |stream| serve_frames(stream, fifty_pings));
        let ground = Ground::limited(hostile, line);
        assert_eq!(ground.client().get("/").status, status, "{line:?}");
        if status == 502 {
            ground.program.until_said("sent too many ping frames");
        }
    }
}

#[test]
fn a_flood_of_frames_from_a_backend_ends_its_connection() {
    let interim = block(&[(":status", "103")]);
    let floods: Vec<(&str, Vec<u8>)> = vec![
        ("settings", settings(&[(4, 65_535)])),
        ("ping", frame(PING, 0, 0, [1; 8])),
        ("answers to no ping", frame(PING, ACK, 0, [1; 8])),
        ("priority", frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])),
        ("window updates", window_update(0, 1)),
        ("unknown frames", frame(0x42, 0, 0, [])),
        ("resets of what is over", reset(1, 8)),
        ("interim answers", headers(1, interim, false)),
        ("goaway", go_away(0x7fff_ffff, 0)),
        ("empty data", data(1, "", false)),
    ];
    for (name, part) in floods {
        let (part, first) = (part.repeat(1_000), name == "empty data");
        let over = Arc::new(AtomicUsize::new(0));
        let ended = Arc::clone(&over);
        let ground = Ground::answering(move |stream, asked| {
            if first {
                stream.write_all(&headers(asked, block(&[(":status", "200")]), false))?;
            }
            let outcome = flood(stream, 3_000, &part);
            ended.fetch_add(usize::from(outcome.is_err()), SeqCst);
            outcome
        });
        let mut client = ground.client();
        client.send("GET /flooded HTTP/1.1\r\nHost: app.test\r\n\r\n");
        ground.serves_others();
        let asked = final_answer(&mut client);
        assert!(asked.is_err() || asked.is_ok_and(|answer| answer.status >= 502), "{name}");
        until(&format!("the flood of {name} is cut off"), || over.load(SeqCst) > 0);
        ground.is_unharmed(name);
    }
}

/// What a backend answers, and whether a client may see the beginning of an answer.
type Broken = (&'static str, Vec<u8>, bool);

fn broken_heads() -> Vec<Broken> {
    let whole = |fields: &[(&str, &str)]| {
        let status = block(&[(":status", "200")]);
        [headers(1, [status, block(fields)].concat(), false), data(1, "abc", true)].concat()
    };
    let raw = |block: Vec<u8>| headers(1, block, true);
    let long = [block(&[(":status", "200")]), entry("x-long", "l".repeat(4_000))].concat();
    let bomb = [long.clone(), reference(NEWEST).repeat(10_000)].concat();
    let tiny =
        [block(&[(":status", "200")]), entry("a", ""), reference(NEWEST).repeat(500)].concat();
    vec![
        ("a length that is not reached", whole(&[("content-length", "5")]), true),
        ("a length that is passed", whole(&[("content-length", "2")]), true),
        ("two lengths", whole(&[("content-length", "3"), ("content-length", "4")]), false),
        ("a length twice", whole(&[("content-length", "3"), ("content-length", "3")]), false),
        ("a length of letters", whole(&[("content-length", "three")]), false),
        ("a length with a sign", whole(&[("content-length", "+3")]), false),
        ("a length beyond counting", whole(&[("content-length", "18446744073709551619")]), false),
        ("chunks", whole(&[("transfer-encoding", "chunked")]), false),
        ("a connection field", whole(&[("connection", "close")]), false),
        ("capitals", whole(&[("X-Big", "1")]), false),
        ("a line end in a value", whole(&[("x", "a\r\nSet-Cookie: b=c")]), false),
        ("a line end in a name", whole(&[("x\r\ny", "1")]), false),
        ("a colon in a name", whole(&[("x:y", "1")]), false),
        ("a NUL", whole(&[("x", "a\0b")]), false),
        ("a name of no length", whole(&[("", "1")]), false),
        ("a status too many", whole(&[(":status", "200")]), false),
        ("no status", raw(block(&[("x", "y")])), false),
        ("an empty status", raw(block(&[(":status", "")])), false),
        ("a status of two digits", raw(block(&[(":status", "99")])), false),
        ("a status of four digits", raw(block(&[(":status", "2000")])), false),
        ("a status of letters", raw(block(&[(":status", "abc")])), false),
        ("a switch that nobody asked for", raw(block(&[(":status", "101")])), false),
        ("an interim answer that ends", raw(block(&[(":status", "103")])), false),
        ("an oversized head", raw([long, reference(NEWEST).repeat(12)].concat()), false),
        ("an HPACK bomb", raw(bomb), false),
        ("too many fields", raw(tiny), false),
        ("a reference to nothing", raw(reference(90)), false),
    ]
}

fn broken_frames() -> Vec<Broken> {
    let pushed = [&2_u32.to_be_bytes()[..], &get("/pushed")].concat();
    vec![
        (
            "trailers that do not end",
            [
                headers(1, block(&[(":status", "200")]), false),
                headers(1, block(&[("late", "1")]), false),
            ]
            .concat(),
            true,
        ),
        ("DATA before the head", data(1, "abc", true), false),
        ("DATA on no stream", data(0, "abc", true), false),
        ("DATA on a stream that nobody opened", data(99, "abc", true), false),
        (
            "a head on a stream that nobody opened",
            headers(99, block(&[(":status", "200")]), true),
            false,
        ),
        ("a push", frame(5, END_HEADERS, 1, pushed), false),
        ("a frame that is too long", frame_saying(70_000, HEADERS, 5, 1, &[]), false),
        ("HTTP/1", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(), false),
        (
            "a CONTINUATION of nothing",
            frame(CONTINUATION, 4, 1, block(&[(":status", "200")])),
            false,
        ),
        (
            "a window beyond the most",
            [window_update(0, 0x7fff_ffff), window_update(0, 0x7fff_ffff)].concat(),
            false,
        ),
        ("GOAWAY with an error", go_away(0, 2), false),
        ("GOAWAY again and again", go_away(0, 0), false),
    ]
}

#[test]
fn an_answer_that_breaks_the_rules_is_a_502_or_breaks_off() {
    for (name, bytes, may_begin) in broken_heads().into_iter().chain(broken_frames()) {
        let ground = Ground::answering(move |stream, _| stream.write_all(&bytes));
        let mut client = ground.client();
        client.send("GET /broken HTTP/1.1\r\nHost: app.test\r\n\r\n");
        match final_answer(&mut client) {
            Ok(answer) => assert_eq!(answer.status, 502, "{name}: {}", answer.text()),
            Err(error) => assert!(may_begin, "{name}: {error}"),
        }
        ground.is_unharmed(name);
    }
}

#[test]
fn a_reset_with_any_error_is_a_502_before_the_answer_and_a_break_within_it() {
    for error in (0..=13).chain([0xffff_ffff]) {
        let ground = Ground::answering(move |stream, asked| {
            if asked == 1 {
                stream.write_all(&answer(1, "well"))
            } else {
                stream.write_all(&reset(asked, error))
            }
        });
        let mut client = ground.client();
        assert_eq!(client.get("/first").text(), "well");
        assert_eq!(client.get("/reset").status, 502, "{error}");
        let ground = Ground::answering(move |stream, asked| {
            let begun = headers(asked, block(&[(":status", "200")]), false);
            stream.write_all(&[begun, data(asked, "half", false), reset(asked, error)].concat())
        });
        let mut client = ground.client();
        client.send("GET /half HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert!(client.try_answer(false).is_err(), "{error}: half an answer looks whole");
        let mut peer = Peer::connect(ground.program.address("web"));
        peer.send(headers(1, get("/half"), true));
        // Its head may not be on its way yet.
        let is_reset = |frame: &Frame| frame.stream == 1 && frame.kind == RESET;
        let last = peer.until("the last of it", |frame| is_reset(frame) || frame.ends());
        assert_eq!(last.kind, RESET, "{error}: half an answer looks whole");
        ground.is_unharmed("a reset");
    }
}

#[test]
fn a_request_that_its_backend_reset_is_not_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let ground = Ground::answering(move |stream, on| {
        if count.fetch_add(1, SeqCst) == 0 {
            return stream.write_all(&answer(on, "well"));
        }
        stream.write_all(&reset(on, 2))
    });
    assert_eq!(ground.client().get("/first").text(), "well");
    assert_eq!(ground.client().get("/deadly").status, 502);
    assert_eq!(asked.load(SeqCst), 2, "it was done again");
    assert_eq!(ground.hostile.accepted(), 1, "one bad answer is no reason to leave the connection");
}

#[test]
fn a_goaway_in_the_middle_lets_the_answer_come_to_its_end() {
    let ground = Ground::answering(|stream, asked| {
        let begun = headers(asked, block(&[(":status", "200")]), false);
        stream.write_all(&[begun, data(asked, "one ", false), go_away(asked, 0)].concat())?;
        stream.write_all(&data(asked, "two", true))
    });
    for _ in 0..3 {
        assert_eq!(ground.client().get("/parting").text(), "one two");
    }
    ground.is_unharmed("GOAWAY");
}

#[test]
fn a_connection_that_hangs_takes_no_further_requests() {
    type Hang = fn(u32) -> Vec<u8>;
    let hangs: [(&str, Hang); 4] = [
        ("nothing", |_| Vec::new()),
        ("a head without an end", |asked| frame(HEADERS, 0, asked, block(&[(":status", "200")]))),
        ("half a frame", |asked| headers(asked, block(&[(":status", "200")]), true)[..12].to_vec()),
        ("half a frame of data", |asked| {
            let begun = headers(asked, block(&[(":status", "200")]), false);
            [begun, data(asked, [b'x'; 100], true)[..50].to_vec()].concat()
        }),
    ];
    for (name, hang) in hangs {
        let connections = Arc::new(AtomicUsize::new(0));
        let ground = Ground::over(Backend::serving(move |stream| {
            let is_first = connections.fetch_add(1, SeqCst) == 0;
            serve_frames(stream, |stream, asked| match is_first {
                true => stream.write_all(&hang(asked)),
                false => stream.write_all(&answer(asked, "well")),
            })
        }));
        let mut client = ground.client();
        client.send("GET /hang HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let hung = client.try_answer(false);
        assert!(hung.is_err() || hung.is_ok_and(|answer| answer.status == 504), "{name}");
        assert_eq!(ground.client().get("/next").text(), "well", "{name}");
        ground.is_unharmed(name);
    }
}

#[test]
fn a_connection_that_takes_nothing_is_closed_when_its_requests_are_over() {
    let ground = Ground::over(Backend::never_reading());
    let before = ground.program.descriptors();
    let door = ground.program.address("web");
    let body = vec![b'u'; 200_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(door);
                client.send(format!(
                    "POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                ));
                client.send(&body);
                assert_eq!(client.answer().status, 504);
            });
        }
    });
    until("nothing is left open", || ground.program.descriptors() <= before + 2);
    ground.is_unharmed("never reading");
}
