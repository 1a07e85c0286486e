//! Two hundred reloads in twenty seconds while wrk, pgbench and a thousand idle connections go on: nobody notices, and nothing
//! piles up.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::real_postgres::{pgbench, transactions};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::program::Program;
use crate::support::servers::{self, program, run};
use crate::support::until;

const RELOADS: usize = 200;
const EVERY: Duration = Duration::from_millis(100);

fn descriptors(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.pid())).expect("its descriptors").count()
}

/// Each of the two has other weights, rules and a listener that the other has not.
fn config(odd: bool, web: [SocketAddr; 2], postgres: SocketAddr, echo: SocketAddr) -> String {
    let (weight, balance) = if odd { (3, "random") } else { (1, "round-robin") };
    let other = if odd { "[tcp.other]\nlisten = \"127.0.0.1:0\"\nupstream = \"db\"\n" } else { "" };
    format!(
        "[process]\nworkers = 2\n[log]\naccess = \"off\"\n\
         [upstream.web]\nbackends = [\"{}\", {{ address = \"{}\", weight = {weight} }}]\n\
         balance = \"{balance}\"\n\
         [upstream.db]\nbackends = \"{}\"\nretries = {weight}\n\
         [upstream.echo]\nbackends = \"{}\"\nconnect-timeout = \"{weight}0s\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"web\"\n\
         [[http.web.route]]\npath = \"/route-{weight}\"\nreply = 204\n\
         [tcp.db]\nlisten = \"127.0.0.1:0\"\nupstream = \"db\"\nbuffer-max = \"{weight}MiB\"\n\
         [tcp.idle]\nlisten = \"127.0.0.1:0\"\nupstream = \"echo\"\n{other}",
        web[0], web[1], postgres, echo
    )
}

#[test]
fn two_hundred_reloads_under_load_close_nothing_and_leave_nothing_behind() {
    let (one, two) = (servers::nginx("one", b""), servers::nginx("two", b""));
    let postgres = servers::postgres();
    run(pgbench(postgres.address).args(["-i", "-q"]), Duration::from_secs(60));
    let echo = Backend::echo();
    let config = |odd| config(odd, [one.address, two.address], postgres.address, echo.address);

    let running = Program::run(&config(false));
    let file = running.folder().join("evenkeel.toml");
    let idle_door = running.address("idle");
    let idle: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let client = connect(idle_door);
            assert_echo(&client, b"hello");
            client
        })
        .collect();
    let mut wrk = Command::new(program("wrk"));
    wrk.args(["-t", "1", "-c", "16", "-d", "22s", "--timeout", "20s"]);
    wrk.arg(format!("http://{}/name", running.address("web")));
    let mut bench = pgbench(running.address("db"));
    bench.args(["-n", "-c", "4", "-T", "22", "-S"]);
    let wrk = std::thread::spawn(move || run(&mut wrk, Duration::from_secs(60)));
    let bench = std::thread::spawn(move || run(&mut bench, Duration::from_secs(60)));
    until("the load", || descriptors(&running) > 2000 + 16);
    std::thread::sleep(Duration::from_secs(1));
    let (memory, open) = (running.memory_kib(), descriptors(&running));

    let began = Instant::now();
    for number in 1..=RELOADS {
        std::fs::write(&file, config(number % 2 == 1)).expect("write the config");
        running.signal(Signal::HUP);
        running.until_said_times("reloaded ", number);
        std::thread::sleep((EVERY * number as u32).saturating_sub(began.elapsed()));
    }
    let took = began.elapsed();
    let (wrk, bench) = (wrk.join().expect("wrk"), bench.join().expect("pgbench"));
    for wrong in ["Socket errors", "Non-2xx"] {
        assert!(!wrk.contains(wrong), "{wrk}");
    }
    assert!(transactions(&bench) > 1000, "{bench}");
    assert!(
        !bench.contains("failed transactions:") || bench.contains("transactions: 0 "),
        "{bench}"
    );
    assert!(took < Duration::from_secs(40), "{took:?}");
    idle.iter().for_each(|client| assert_echo(client, b"still here"));

    // Load has come and gone, so that there may be less than before.
    let memory_max = (memory + memory / 10).max(memory + 4 * 1024);
    let is_as_before = || descriptors(&running) <= open && running.memory_kib() <= memory_max;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_as_before() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    let now = (running.memory_kib(), descriptors(&running));
    assert!(is_as_before(), "{now:?} after {:?}", (memory, open));
    assert!(!running.diagnostics().contains("refused"), "{}", running.diagnostics());
}
