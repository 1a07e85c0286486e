//! Stopping by signal: nobody new comes in, those inside may finish, and what is cut in the end is said.
//! The real binary is stopped here, because signals and exit codes are what an operator's scripts rest on.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::client::{PATIENCE, assert_echo, connect, is_served, read_to_last};
use crate::support::program::Program;
use crate::support::{config, until};

fn started(backend: &Backend, process: &str) -> (Program, SocketAddr) {
    let process = format!("[process]\n{process}\n");
    let program = Program::run(&config(&[backend.address], "", &process));
    let door = program.address("public");
    (program, door)
}

fn until_refused(door: SocketAddr) {
    until("new connections are refused", || {
        TcpStream::connect_timeout(&door, PATIENCE)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_stop_without_connections_is_immediate_and_fine() {
    let backend = Backend::echo();
    for signal in [Signal::TERM, Signal::QUIT, Signal::INT] {
        let (mut program, _) = started(&backend, "");
        program.signal(signal);
        assert_eq!(program.until_exit(SOON).code(), Some(0), "after {signal:?}");
    }
}

#[test]
fn term_lets_open_connections_finish_and_takes_no_new_ones() {
    let backend = Backend::echo();
    for signal in [Signal::TERM, Signal::QUIT, Signal::INT] {
        let (mut program, door) = started(&backend, "drain-timeout = \"60s\"");
        let clients = [connect(door), connect(door)];
        clients.iter().for_each(|client| assert_echo(client, b"before"));
        program.signal(signal);
        until_refused(door);
        clients.iter().for_each(|client| assert_echo(client, b"still served"));
        assert!(!program.has_ended());
        drop(clients);
        assert_eq!(program.until_exit(SOON).code(), Some(0), "after {signal:?}");
        assert!(!program.output().contains("drain-cut"), "{}", program.output());
    }
}

#[test]
fn drain_timeout_cuts_the_rest_and_says_how_many() {
    let backend = Backend::echo();
    let (mut program, door) = started(&backend, "drain-timeout = \"1s\"");
    let clients = [connect(door), connect(door), connect(door)];
    clients.iter().for_each(|client| assert_echo(client, b"before"));
    program.signal(Signal::TERM);
    let began = Instant::now();
    until_refused(door);
    assert_echo(&clients[0], b"still served");
    for client in clients {
        read_to_last(client);
    }
    let took = began.elapsed().as_secs_f64();
    assert!((0.9..2.0).contains(&took), "the cut came after {took} s");
    assert_eq!(program.until_exit(SOON).code(), Some(0));
    program.until_said("cut=3");
    // The connections that found out when accepting ended may have lines too.
    let cut = program.output().matches(" drain-cut us ").count();
    assert_eq!(cut, 3, "{}", program.output());
}

#[test]
fn a_second_signal_cuts_at_once() {
    let backend = Backend::echo();
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::QUIT, Signal::TERM)]
    {
        let (mut program, door) = started(&backend, "drain-timeout = \"60s\"");
        let client = connect(door);
        assert_echo(&client, b"before");
        program.signal(first);
        until_refused(door);
        assert_echo(&client, b"still served");
        program.signal(second);
        assert_eq!(program.until_exit(SOON).code(), Some(0), "after {first:?} and {second:?}");
        program.until_said("cut=1");
        read_to_last(client);
    }
}

#[test]
fn a_second_quit_goes_on_draining() {
    let backend = Backend::echo();
    let (mut program, door) = started(&backend, "drain-timeout = \"60s\"");
    let client = connect(door);
    assert_echo(&client, b"before");
    program.signal(Signal::QUIT);
    until_refused(door);
    program.signal(Signal::QUIT);
    program.signal(Signal::HUP);
    program.until_said("nothing has changed: it is stopping");
    assert_echo(&client, b"still served");
    drop(client);
    assert_eq!(program.until_exit(SOON).code(), Some(0));
}

#[test]
fn a_lame_duck_goes_on_accepting_for_its_time() {
    let backend = Backend::echo();
    let (mut program, door) = started(&backend, "lame-duck = \"2s\"\ndrain-timeout = \"60s\"");
    program.signal(Signal::TERM);
    let began = Instant::now();
    program.until_said("still accepting");
    let late = connect(door);
    assert_echo(&late, b"came late");
    until_refused(door);
    let took = began.elapsed().as_secs_f64();
    assert!((1.8..3.0).contains(&took), "accepting ended after {took} s");
    assert_echo(&late, b"still served");
    drop(late);
    assert_eq!(program.until_exit(SOON).code(), Some(0));
}

#[test]
fn connections_that_still_wait_for_a_backend_are_cut_too() {
    let hole = crate::support::backend::BlackHole::open();
    let settings = "connect-timeout = \"60s\"";
    let process = "[process]\ndrain-timeout = \"500ms\"\n";
    let mut program = Program::run(&config(&[hole.address], settings, process));
    let mut client = connect(program.address("public"));
    client.write_all(b"early").unwrap();
    program.signal(Signal::TERM);
    assert_eq!(program.until_exit(SOON).code(), Some(0));
    program.until_said("cut=1");
    assert!(!is_served(&client));
}

#[test]
fn usr1_opens_the_access_log_anew_after_it_was_moved_away() {
    let backend = Backend::echo();
    let own = config(&[backend.address], "", "");
    let program = Program::run(&format!("{own}[log]\naccess = \"access.log\"\n"));
    let door = program.address("public");
    let (log, moved) = (program.folder().join("access.log"), program.folder().join("access.log.1"));
    let lines = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    assert!(is_served(connect(door)));
    until("the first line is written", || lines(&log) == 1);
    std::fs::rename(&log, &moved).unwrap();
    program.signal(Signal::USR1);
    until("the file is there again", || log.exists());
    for count in 1..=3 {
        assert!(is_served(connect(door)));
        until("the next line is in the new file", || lines(&log) == count);
    }
    assert_eq!(lines(&moved), 1);
}
