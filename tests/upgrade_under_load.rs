//! Upgrades while wrk, pgbench, transfers at full speed, idle connections and newcomers go on: nobody notices, and every byte is
//! in its place. How long a receiver waits is measured by `make bench-upgrade`, not here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rustix::process::Signal;

use crate::real_postgres::{pgbench, transactions};
use crate::support::backend::{Backend, BlackHole};
use crate::support::client::{assert_echo, connect};
use crate::support::program::Program;
use crate::support::servers::{self, program, run};
use crate::support::{config_with, noise, until};

const UPGRADES: usize = 6;

/// Says noise and hears it back until it is told to stop, as fast as it goes; how many bytes came back, each in its place.
fn transfer(door: SocketAddr, seed: u64, stop: Arc<AtomicBool>) -> usize {
    const BLOCK: usize = 1 << 20;
    let client = connect(door);
    let block = noise(seed, BLOCK);
    let (mut writer, sent) = (client.try_clone().expect("a copy"), block.clone());
    let writing = std::thread::spawn(move || {
        let mut blocks = 0;
        while !stop.load(SeqCst) {
            writer.write_all(&sent).expect("write");
            blocks += 1;
        }
        writer.shutdown(std::net::Shutdown::Write).expect("finish");
        blocks * BLOCK
    });
    let (mut heard, mut got) = (vec![0; 64 * 1024], 0);
    loop {
        let count = (&client).read(&mut heard).expect("read");
        if count == 0 {
            break;
        }
        let mut rest = &heard[..count];
        while !rest.is_empty() {
            let expected = &block[got % BLOCK..];
            let (now, later) = rest.split_at(rest.len().min(expected.len()));
            assert!(now == &expected[..now.len()], "a byte after {got} differs");
            (got, rest) = (got + now.len(), later);
        }
    }
    assert_eq!(writing.join().expect("no panic"), got);
    got
}

#[test]
fn upgrades_under_load_close_nothing_and_lose_nothing() {
    let web = servers::nginx("one", b"");
    let postgres = servers::postgres();
    run(pgbench(postgres.address).args(["-i", "-q"]), Duration::from_secs(60));
    let echo = Backend::echo();
    let mut running = Program::run(&format!(
        "[process]\nworkers = 2\n[log]\naccess = \"off\"\n\
         [upstream.web]\nbackends = \"{}\"\n[upstream.db]\nbackends = \"{}\"\n\
         [upstream.echo]\nbackends = \"{}\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"web\"\n\
         [tcp.db]\nlisten = \"127.0.0.1:0\"\nupstream = \"db\"\n\
         [tcp.echo]\nlisten = \"127.0.0.1:0\"\nupstream = \"echo\"\n",
        web.address, postgres.address, echo.address
    ));
    let door = running.address("echo");
    let idle: Vec<TcpStream> = (0..300).map(|_| connect(door)).collect();
    idle.iter().for_each(|client| assert_echo(client, b"hello"));
    let stop = Arc::new(AtomicBool::new(false));
    let transfers: Vec<_> = (0..8)
        .map(|seed| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || transfer(door, seed, stop))
        })
        .collect();
    let came = Arc::new(AtomicUsize::new(0));
    let newcomers = {
        let (stop, came) = (Arc::clone(&stop), Arc::clone(&came));
        std::thread::spawn(move || {
            while !stop.load(SeqCst) {
                assert_echo(connect(door), b"a new one");
                came.fetch_add(1, SeqCst);
            }
        })
    };
    let mut wrk = Command::new(program("wrk"));
    wrk.args(["-t", "1", "-c", "16", "-d", "10s", "--timeout", "20s"]);
    wrk.arg(format!("http://{}/name", running.address("web")));
    let mut bench = pgbench(running.address("db"));
    bench.args(["-n", "-c", "4", "-T", "10", "-S"]);
    let wrk = std::thread::spawn(move || run(&mut wrk, Duration::from_secs(60)));
    let bench = std::thread::spawn(move || run(&mut bench, Duration::from_secs(60)));
    for _ in 0..UPGRADES {
        let before = came.load(SeqCst);
        running.upgrade();
        until("newcomers are served by the new process", || came.load(SeqCst) > before);
    }
    let (wrk, bench) = (wrk.join().expect("wrk"), bench.join().expect("pgbench"));
    stop.store(true, SeqCst);
    newcomers.join().expect("every newcomer was served");
    for transfer in transfers {
        assert!(transfer.join().expect("byte-exact") > 0);
    }
    for wrong in ["Socket errors", "Non-2xx"] {
        assert!(!wrk.contains(wrong), "{wrk}");
    }
    assert!(transactions(&bench) > 100, "{bench}");
    let failed = bench.contains("failed transactions:") && !bench.contains("transactions: 0 ");
    assert!(!failed, "{bench}");
    idle.iter().for_each(|client| assert_echo(client, b"still here"));
    // That a machine with more to do than it can lets a worker wait for a second is no fault of an upgrade's.
    let said = running.diagnostics();
    let is_fault = |line: &str| line.contains("ERROR") && !line.contains("has made no progress");
    assert!(!said.lines().any(is_fault), "{said}");
}

#[test]
fn who_is_queued_when_an_upgrade_begins_is_served() {
    let echo = Backend::echo();
    let backend = format!("\"{}\"", echo.address);
    let mut running = Program::run(&config_with(&backend, "", "backlog = 64"));
    let door = running.address("public");
    running.signal(Signal::STOP);
    // The kernel accepts them into its queues, and nobody takes them out.
    let queued: Vec<_> = (0..60).map(|_| connect(door)).collect();
    running.signal(Signal::USR2);
    running.signal(Signal::CONT);
    until("the old process has ended", || running.has_ended());
    running.follow();
    queued.iter().for_each(|client| assert_echo(client, b"served"));
    assert_eq!(echo.accepted(), 60);
}

#[test]
fn who_waits_for_a_backend_that_does_not_answer_follows_when_there_is_another() {
    let (hole, echo) = (BlackHole::open(), Backend::echo());
    let backends =
        format!("\"{}\", {{ address = \"{}\", backup = true }}", hole.address, echo.address);
    let upstream = "connect-timeout = \"1s\"\nhealth = \"off\"";
    let mut running = Program::run(&config_with(&backends, upstream, ""));
    let waiting: Vec<_> = (0..5).map(|_| connect(running.address("public"))).collect();
    running.begin_upgrade();
    assert!(!running.has_ended(), "they are still being connected");
    waiting.iter().for_each(|client| assert_echo(client, b"at last"));
    until("the old process has ended", || running.has_ended());
    running.follow();
    waiting.iter().for_each(|client| assert_echo(client, b"and on"));
    let lines = {
        drop(waiting);
        running.until_lines(5)
    };
    assert!(lines.iter().all(|line| line.contains("tried=2")), "{lines:?}");
}
