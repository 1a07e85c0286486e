//! A new process that fails at the worst moments of an upgrade. Until it has a connection for good, the old process has it too,
//! and goes on with it: nothing is closed and no byte is lost, whatever the new one does.
//!
//! The new process is played by a program of a few lines that says what it is told to, and then dies or says nothing.

use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::program::Program;
use crate::support::{config, until};

/// Answers as a new process does, until the moment that is named.
const PLAYED: &str = r#"#!/usr/bin/env python3
import json, os, socket, sys
moment = "MOMENT"
line = socket.socket(fileno=os.dup(0))
line.setblocking(True)
def say(**word): line.send(json.dumps(word).encode() + b"\n")
held = []
while True:
    data, fds, _, _ = socket.recv_fds(line, 1 << 18, 8)
    if not data: sys.exit(0)
    word = json.loads(data.split(b"\n")[0])
    what = word["word"]
    if what == "connection": held.append(fds)
    if what == moment == "batch": os.kill(os.getpid(), 9)
    if what == "prepare":
        if moment == "prepare": os.kill(os.getpid(), 9)
        say(word="ready", version=1, program="a new one")
    if what == "accept":
        if moment == "accept": os.kill(os.getpid(), 9)
        say(word="accepting")
    if what == "batch":
        if moment == "commit":
            # Deaf to the word that would give it the batch.
            line.shutdown(socket.SHUT_RD)
            say(word="held", number=word["number"])
            os.kill(os.getpid(), 9)
        if moment == "nonsense":
            line.send(b"\xff\x00 no word")
        if moment == "refuse":
            say(word="held", number=word["number"], refused=list(range(word["count"])))
"#;

fn played(moment: &str) -> String {
    PLAYED.replace("MOMENT", moment)
}

/// A running copy with so many open connections.
fn started(backend: &Backend, clients: usize) -> (Program, SocketAddr, Vec<TcpStream>) {
    let program = Program::run_copy(&config(&[backend.address], "", ""));
    let door = program.address("public");
    let open: Vec<_> = (0..clients).map(|_| connect(door)).collect();
    open.iter().for_each(|client| assert_echo(client, b"before"));
    (program, door, open)
}

fn goes_on(door: SocketAddr, open: &[TcpStream]) {
    open.iter().for_each(|client| assert_echo(client, b"after"));
    assert_echo(connect(door), b"a new one");
}

#[test]
fn whenever_the_new_process_dies_the_old_one_goes_on_with_everything() {
    let backend = Backend::echo();
    let (mut program, door, open) = started(&backend, 100);
    let moments = ["prepare", "accept", "batch", "commit", "nonsense"];
    for (times, moment) in moments.iter().enumerate() {
        program.replace_copy(&played(moment));
        // Some are under way while it dies.
        open.iter().for_each(|client| assert_echo(client, moment.as_bytes()));
        program.signal(Signal::USR2);
        program.until_said_times("upgrade failed, everything goes on as before", times + 1);
        goes_on(door, &open);
    }
    assert!(!program.has_ended());
    // And then one that is good.
    std::fs::copy(crate::support::program::BINARY, program.folder().join("good")).expect("copy");
    std::fs::rename(program.folder().join("good"), program.folder().join("balancer"))
        .expect("move");
    program.upgrade();
    goes_on(door, &open);
    let visitors = moments.len() + 1;
    assert_eq!(backend.accepted(), open.len() + visitors, "no backend was connected to again");
}

#[test]
fn a_new_process_that_says_nothing_any_more_is_given_up() {
    let backend = Backend::echo();
    let (program, door, open) = started(&backend, 10);
    program.replace_copy(&played("nothing"));
    program.signal(Signal::USR2);
    program.until_said("the new process took too long to take connections");
    goes_on(door, &open);
    program.until_said("upgrade failed, everything goes on as before");
}

#[test]
fn what_the_new_process_does_not_want_is_finished_by_the_old_one() {
    let backend = Backend::echo();
    let (mut program, _, open) = started(&backend, 10);
    program.replace_copy(&played("refuse"));
    program.begin_upgrade();
    open.iter().for_each(|client| assert_echo(client, b"after"));
    drop(open);
    until("the old process has ended", || program.has_ended());
    let lines = program.until_lines(10);
    assert!(lines.iter().all(|line| line.contains("client-finished client up=11")), "{lines:?}");
}
