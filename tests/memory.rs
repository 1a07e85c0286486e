//! Memory has a budget, and the process is never the one to go: near its end connections that were idle for longest make room, at
//! its end nobody new comes in, and whoever is busy notices nothing.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, is_served, read_to_last};
use crate::support::http::{Client, Recorder, ok};
use crate::support::program::Program;
use crate::support::until_within;

const MIB: u64 = 1024 * 1024;

/// A relay and a web listener that holds the bodies of requests, before a budget is set.
struct Scene {
    program: Program,
    own: String,
    relay: SocketAddr,
    web: SocketAddr,
    _echo: Backend,
    _recorder: Recorder,
}

impl Scene {
    fn new() -> Scene {
        let (echo, recorder) = (Backend::echo(), Recorder::answering(|_| ok(b"fine")));
        let own = format!(
            "[upstream.app]\nbackends = \"{}\"\n[upstream.web]\nbackends = \"{}\"\n\
             [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n\
             [http.web]\nlisten = \"127.0.0.1:0\"\nhead-timeout = \"60s\"\n\
             [[http.web.route]]\nupstream = \"web\"\nrequest-buffer = \"1MiB\"\n",
            echo.address,
            recorder.address(),
        );
        let program = Program::run(&format!("[process]\nworkers = 2\n{own}"));
        let (relay, web) = (program.address("public"), program.address("web"));
        Scene { program, own, relay, web, _echo: echo, _recorder: recorder }
    }

    /// Sets a budget while it runs.
    fn limit(&self, bytes: u64) {
        let file = self.program.folder().join("evenkeel.toml");
        let text = format!("[process]\nworkers = 2\nmemory-max = {bytes}\n{}", self.own);
        std::fs::write(file, text).unwrap();
        let before = self.program.diagnostics().matches("reloaded ").count();
        self.program.signal(Signal::HUP);
        self.program.until_said_times("reloaded ", before + 1);
    }
}

/// Goes on exchanging bytes over one connection until it is told to stop; how often it did.
fn busy(door: SocketAddr, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let (client, stop) = (connect(door), Arc::clone(stop));
    assert_echo(&client, b"before");
    std::thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Relaxed) {
            assert_echo(&client, b"during the flood");
            count += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        count
    })
}

/// A client that begins to send a body and never ends it.
fn slow(door: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(door).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(5))).ok()?;
    let head = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&[7; 200_000]));
    Some(stream)
}

#[test]
fn a_flood_of_slow_clients_stays_within_the_budget_and_busy_ones_go_on() {
    let scene = Scene::new();
    assert!(is_served(connect(scene.relay)));
    let budget = scene.program.memory() + 32 * MIB;
    scene.limit(budget);
    let stop = Arc::default();
    let busy = busy(scene.relay, &stop);
    // They want several times as much as there is, within some seconds: about 5 MiB between two looks.
    let (mut flood, mut most) = (Vec::new(), 0);
    for _ in 0..700 {
        flood.extend(slow(scene.web));
        most = most.max(scene.program.memory());
        std::thread::sleep(Duration::from_millis(10));
    }
    scene.program.until_said("that were idle for longest");
    stop.store(true, Relaxed);
    assert!(busy.join().expect("the busy one was served all the time") > 100);
    // By default the budget is 80 % of what the system would end the process for.
    let end = budget * 10 / 8;
    assert!(most < end, "{} of {} MiB", most / MIB, budget / MIB);
    assert!(scene.program.output().contains(" limit-memory limit "), "{}", scene.program.output());
    drop(flood);
    until_within(Duration::from_secs(20), "new clients are served again", || {
        Client::connect(scene.web)
            .send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .try_answer(false)
            .is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn without_memory_nobody_new_comes_in_idle_ones_go_and_busy_ones_stay() {
    let scene = Scene::new();
    let stop = Arc::default();
    let busy = busy(scene.relay, &stop);
    let idle = connect(scene.relay);
    assert_echo(&idle, b"before");
    let filled: Vec<_> = (0..80).filter_map(|_| slow(scene.web)).collect();
    until_within(Duration::from_secs(20), "they take memory", || scene.program.memory() > 20 * MIB);
    // Less than it has now; what is given back of it in the end is not enough.
    scene.limit(16 * MIB);
    scene.program.until_said("refusing new connections");
    let refused = connect(scene.relay);
    let began = Instant::now();
    assert_eq!(read_to_last(&refused).0, b"");
    assert!(began.elapsed() < Duration::from_secs(5), "at once, not by a time limit");
    assert_eq!(read_to_last(&idle).0, b"", "it was idle");
    let output = || scene.program.output();
    until_within(Duration::from_secs(10), "both have their reason", || {
        output().matches(" limit-memory limit ").count() >= 2
    });
    stop.store(true, Relaxed);
    busy.join().expect("the busy one was served all the time");
    drop(filled);
}
