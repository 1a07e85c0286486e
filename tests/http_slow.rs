//! Clients and backends that are slow, many or endless: others are served meanwhile, and nothing grows with what they do.
//! Each test is named after its class in the list of what attacks a proxy; memory is that of the real binary.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::many::raise_own_limit;
use crate::support::backend::{Backend, BlackHole};
use crate::support::client;
use crate::support::http::{Client, Recorder, config, ok};
use crate::support::program::Program;
use crate::support::{until, until_within};

/// How long somebody else may wait for an answer meanwhile, on a machine that is busy with other tests.
const OTHERS_WITHIN: Duration = Duration::from_secs(5);

/// A proxy of one worker over the backends of `app`; `/other` leads to a backend of its own.
struct Ground {
    program: Program,
    _other: Recorder,
    door: SocketAddr,
    memory: u64,
    descriptors: usize,
}

impl Ground {
    fn new(backend: SocketAddr, upstream: &str, listener: &str) -> Ground {
        let other = Recorder::echoing();
        let more = format!(
            "{listener}\n[[http.web.route]]\npath = \"/other\"\nupstream = \"other\"\n\
             [upstream.other]\nbackends = [\"{}\"]\n[process]\nworkers = 1\n",
            other.address()
        );
        let program = Program::run(&config(&[backend], upstream, &more));
        let door = program.address("web");
        let mut ground = Ground { program, _other: other, door, memory: 0, descriptors: 0 };
        // Once warm, so that what is kept for later is there already.
        ground.serves();
        ground.memory = ground.program.memory();
        ground.descriptors = ground.program.descriptors_but_pipes();
        ground
    }

    fn serves(&self) {
        let began = Instant::now();
        assert_eq!(Client::connect(self.door).get("/other").status, 200);
        assert!(began.elapsed() < OTHERS_WITHIN, "{:?}", began.elapsed());
    }

    /// Does something while somebody else asks again and again and is answered each time; the most memory it took.
    fn while_serving(&self, attack: impl FnOnce()) -> u64 {
        let over = AtomicBool::new(false);
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    self.serves();
                    most.fetch_max(self.program.memory(), SeqCst);
                    // Leaves the machine to the attack for a moment.
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let ended = Ended(&over);
            attack();
            drop(ended);
        });
        most.load(SeqCst).saturating_sub(self.memory)
    }

    fn logs(&self, text: &str, times: usize) {
        until(&format!("{times} lines with {text:?}"), || {
            self.program.output().matches(text).count() >= times
        });
    }

    /// Nothing is left behind.
    fn is_unharmed(&self) {
        self.serves();
        until("no connection is left", || {
            self.program.descriptors_but_pipes() <= self.descriptors + 2
        });
        let said = self.program.diagnostics();
        assert!(!said.contains("panic"), "{said}");
    }
}

/// Says so also when what it was waiting for has failed.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Waits for the end of every connection, whatever is said before.
fn until_all_end(streams: &[TcpStream], most: Duration) {
    let began = Instant::now();
    for mut stream in streams {
        let mut rest = Vec::new();
        // A reset is an end as well; only silence is none.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(began.elapsed() < most, "still open after {:?}", began.elapsed());
    }
}

#[test]
fn slowloris_heads_that_never_end_are_cut_off_and_hold_little() {
    const CLIENTS: usize = 300;
    let recorder = Recorder::echoing();
    let ground = Ground::new(recorder.address(), "", "head-timeout = \"1s\"");
    let head = b"GET /slow HTTP/1.1\r\nHost: a.test\r\nX-Long: aaaaaaaaaaaaaaaaaaaa\r\n";
    let grown = ground.while_serving(|| {
        let mut streams = Vec::new();
        for at in 0..CLIENTS {
            let mut stream = client::connect(ground.door);
            stream.write_all(&head[..1 + at % (head.len() - 1)]).expect("send");
            streams.push(stream);
        }
        until_all_end(&streams, Duration::from_secs(8));
    });
    assert!(grown < (CLIENTS * 8 * 1024) as u64 + (2 << 20), "{grown} bytes");
    ground.logs("head-timeout", CLIENTS);
    assert!(recorder.requests().is_empty());
    ground.is_unharmed();
}

#[test]
fn slowloris_with_a_byte_now_and_then_is_cut_off_too() {
    let recorder = Recorder::echoing();
    let ground = Ground::new(recorder.address(), "", "head-timeout = \"1s\"");
    let mut streams: Vec<_> = (0..50).map(|_| client::connect(ground.door)).collect();
    let began = Instant::now();
    ground.while_serving(|| {
        for stream in &mut streams {
            let _ = stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a.test\r\nX-Long: ");
        }
        // The pace of the attack: every connection moves, until each has been told that it is over.
        while !streams.is_empty() {
            streams.retain_mut(|stream| stream.write_all(b"a").is_ok());
            assert!(began.elapsed() < Duration::from_secs(8), "{} are open", streams.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    ground.logs("head-timeout", 50);
    assert!(recorder.requests().is_empty());
    ground.is_unharmed();
}

#[test]
fn slow_post_bodies_that_stop_or_drip_are_cut_off_and_never_look_whole() {
    const CLIENTS: usize = 100;
    let recorder = Recorder::echoing();
    let limits = "idle-timeout = \"1s\"\nrequest-timeout = \"3s\"";
    let ground = Ground::new(recorder.address(), "", limits);
    let head = "POST /slow HTTP/1.1\r\nHost: a.test\r\n";
    let grown = ground.while_serving(|| {
        let mut streams = Vec::new();
        for at in 0..CLIENTS {
            let mut stream = client::connect(ground.door);
            let framing =
                ["Content-Length: 1000000\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"];
            stream.write_all(format!("{head}{}", framing[at % 2]).as_bytes()).expect("send");
            streams.push(stream);
        }
        // A quarter goes on, a byte now and then.
        let mut dripping = streams.split_off(CLIENTS * 3 / 4);
        let began = Instant::now();
        while !dripping.is_empty() {
            dripping.retain_mut(|stream| stream.write_all(b"c").is_ok());
            assert!(began.elapsed() < Duration::from_secs(10), "{} are open", dripping.len());
            std::thread::sleep(Duration::from_millis(50));
        }
        until_all_end(&streams, Duration::from_secs(5));
    });
    assert!(grown < (CLIENTS * 16 * 1024) as u64 + (2 << 20), "{grown} bytes");
    assert!(recorder.requests().is_empty(), "a cut body looked whole");
    ground.is_unharmed();
}

#[test]
fn slow_read_answers_that_nobody_takes_hold_little_and_not_for_ever() {
    const CLIENTS: usize = 60;
    let backend = Backend::serving(|mut stream| {
        let _ = stream.read(&mut [0; 1000])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        let piece = vec![7; 65_536];
        loop {
            stream.write_all(&piece)?;
        }
    });
    let ground = Ground::new(backend.address, "", "idle-timeout = \"2s\"");
    let grown = ground.while_serving(|| {
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = client::connect(ground.door);
            stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("send");
            streams.push(stream);
        }
        ground.logs("idle-timeout", CLIENTS);
    });
    // A piece that waits, and the connection itself.
    assert!(grown < (CLIENTS * 80 * 1024) as u64 + (2 << 20), "{grown} bytes");
    ground.is_unharmed();
}

/// Takes a body slowly for a second and then as fast as it comes; how much has come so far.
fn slow_at_first(taken: Arc<AtomicU64>) -> Backend {
    Backend::serving(move |mut stream| {
        let mut piece = vec![0; 65_536];
        let mut head = Vec::new();
        let begins = loop {
            let count = stream.read(&mut piece)?;
            head.extend_from_slice(&piece[..count]);
            if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        taken.fetch_add((head.len() - begins) as u64, SeqCst);
        let began = Instant::now();
        while taken.load(SeqCst) < UPLOAD {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            taken.fetch_add(count as u64, SeqCst);
            if began.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        stream.write_all(&ok(b"all of it"))
    })
}

const UPLOAD: u64 = 1 << 30;

#[test]
fn an_upload_of_a_gigabyte_to_a_slow_backend_holds_no_more_than_its_buffers() {
    let taken = Arc::new(AtomicU64::new(0));
    let backend = slow_at_first(Arc::clone(&taken));
    let ground = Ground::new(backend.address, "", "body-max = \"2GB\"");
    let grown = ground.while_serving(|| {
        let mut client = Client::connect(ground.door);
        client.stream.get_ref().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client
            .send(format!("PUT /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {UPLOAD}\r\n\r\n"));
        let piece = vec![0; 1 << 20];
        for _ in 0..UPLOAD >> 20 {
            client.stream.get_mut().write_all(&piece).expect("it is taken");
        }
        assert_eq!(client.answer().text(), "all of it");
    });
    assert_eq!(taken.load(SeqCst), UPLOAD);
    assert!(grown < 2 << 20, "{grown} bytes more for an upload");
    ground.is_unharmed();
}

/// Sends requests for these paths and hosts in big pieces, and reads all answers.
fn flood(door: SocketAddr, numbers: std::ops::Range<u32>) {
    for some in numbers.step_by(5_000) {
        let mut client = Client::connect(door);
        for few in (some..some + 5_000).step_by(250) {
            let heads: String = (few..few + 250)
                .map(|at| {
                    let path = format!("/p{at}/{}", at.wrapping_mul(2_654_435_761));
                    format!("GET {path} HTTP/1.1\r\nHost: h{at}.test\r\nX-Id: {at}\r\n\r\n")
                })
                .collect();
            client.send(heads);
            for _ in 0..250 {
                assert_eq!(client.answer().status, 200);
            }
        }
    }
}

#[test]
fn log_and_route_cardinality_a_hundred_thousand_hosts_and_paths_leave_nothing_behind() {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let recorder = Recorder::echoing();
    let more = format!(
        "[[http.web.route]]\nhost = \"*.test\"\npath = \"~ /p[0-9]+/.*\"\nreply = 200\n\
         [process]\nworkers = 1\n[log]\naccess = \"{}\"\n",
        log.path().display()
    );
    let program = Program::run(&config(&[recorder.address()], "", &more));
    let door = program.address("web");
    flood(door, 0..10_000);
    let before = program.memory();
    flood(door, 10_000..110_000);
    let grown = program.memory().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more after 100,000 hosts and paths");
    until("every request has its line", || {
        std::fs::read_to_string(log.path()).is_ok_and(|log| log.matches('\n').count() >= 110_000)
    });
}

#[test]
fn regex_blow_up_paths_made_for_it_take_no_longer_than_others() {
    let routes = ["/(a+)+b", "/(a|aa)+b", "/(.*a){12}b", "/((a*)*)*b", "/a{0,200}a{200}b"]
        .map(|regex| format!("[[http.web.route]]\npath = \"~ {regex}\"\nreply = 404\n"))
        .concat();
    let recorder = Recorder::answering(|_| ok(b"through"));
    let ground = Ground::new(recorder.address(), "", &routes);
    let path = format!("/{}", "a".repeat(8_000));
    ground.while_serving(|| {
        let mut client = Client::connect(ground.door);
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(client.get(&path).text(), "through");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
    ground.is_unharmed();
}

#[test]
fn connect_storm_two_thousand_connections_that_say_nothing_harm_nobody() {
    raise_own_limit();
    let recorder = Recorder::echoing();
    let ground = Ground::new(recorder.address(), "", "head-timeout = \"2s\"");
    let grown = ground.while_serving(|| {
        let all = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let some: Vec<_> = (0..500).map(|_| client::connect(ground.door)).collect();
                    all.lock().expect("no panic").extend(some);
                });
            }
        });
        until_all_end(&all.into_inner().expect("no panic"), Duration::from_secs(10));
    });
    assert!(grown < 2_000 * 4 * 1024 + (2 << 20), "{grown} bytes");
    ground.is_unharmed();
}

#[test]
fn a_black_hole_keeps_its_own_requests_waiting_for_the_connect_timeout_and_nobody_else() {
    const CLIENTS: usize = 50;
    let hole = BlackHole::open();
    let limits = "connect-timeout = \"500ms\"\nretries = 0\neject-after = 1000";
    let ground = Ground::new(hole.address, limits, "");
    ground.while_serving(|| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(ground.door)).collect();
        let began = Instant::now();
        for client in &mut clients {
            client.send("GET /hole HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        }
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!(answer.field("x-evenkeel-cause"), Some("connect-timeout"));
            assert!(matches!(answer.status, 503 | 504), "{}", answer.status);
        }
        let took = began.elapsed();
        assert!((500..5_000).contains(&took.as_millis()), "{took:?}");
    });
    drop(hole);
    until_within(Duration::from_secs(5), "all have their line", || {
        ground.program.output().matches("GET /hole").count() == CLIENTS
    });
    ground.is_unharmed();
}
