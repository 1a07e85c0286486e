//! Backpressure: whoever reads slowly slows its own sender down, and nobody else.
//! What we hold for a slow reader stays within `buffer-max`, however much its sender would like to send.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::client::{PATIENCE, assert_echo, connect};
use crate::support::program::Program;
use crate::support::{config, noise, serve, until};

const CONNECTIONS: usize = 20;

/// What the kernels on both sides of us may take of one connection: two send buffers of at most 4 MiB
/// (`tcp_wmem`) and two receive windows, which grow while reading goes well.
pub(crate) const KERNELS: usize = 32 << 20;

/// Writes until nothing has been taken for a second; how much was.
pub(crate) fn fill(mut stream: TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a write timeout");
    let chunk = noise(1, 65_536);
    let mut taken = 0;
    while taken < 2 * KERNELS {
        match stream.write(&chunk) {
            Ok(count) => taken += count,
            Err(_) => break,
        }
    }
    // Stays open until the memory has been looked at.
    std::mem::forget(stream.try_clone());
    taken
}

fn quiet(config: &str) -> String {
    format!("{config}[log]\naccess = \"off\"\n")
}

/// Our memory may grow by what is kept and some for the connections themselves, not by what was sent.
fn assert_small(before: u64, after: u64) {
    let most = (CONNECTIONS * 16 * 1024 + (2 << 20)) as u64;
    let grown = after.saturating_sub(before);
    assert!(grown < most, "{grown} bytes more memory for {CONNECTIONS} stuck connections");
}

#[test]
fn a_backend_that_never_reads_costs_no_more_than_the_buffer() {
    let backend = Backend::never_reading();
    let program = Program::run(&quiet(&config(&[backend.address], "", "buffer-max = \"16KiB\"")));
    let door = program.address("public");
    let before = program.memory();
    let writers: Vec<_> =
        (0..CONNECTIONS).map(|_| std::thread::spawn(move || fill(connect(door)))).collect();
    for writer in writers {
        let taken = writer.join().unwrap();
        assert!(taken < KERNELS, "a backend that reads nothing took {taken} bytes");
    }
    assert_small(before, program.memory());
}

#[test]
fn a_client_that_never_reads_costs_no_more_than_the_buffer() {
    let (taken, takes) = mpsc::channel();
    let backend = Backend::serving(move |stream| {
        taken.send(fill(stream)).expect("the test waits");
        Ok(())
    });
    let program = Program::run(&quiet(&config(&[backend.address], "", "buffer-max = \"16KiB\"")));
    let before = program.memory();
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(program.address("public"))).collect();
    for _ in &clients {
        let taken = takes.recv_timeout(PATIENCE).unwrap();
        assert!(taken < KERNELS, "a client that reads nothing was sent {taken} bytes");
    }
    assert_small(before, program.memory());
}

#[test]
fn a_stuck_backend_does_not_hold_up_its_neighbours() {
    let (stuck, steady) = (Backend::never_reading(), Backend::echo());
    let own = config(&[stuck.address], "", "");
    let other = format!(
        "[upstream.b]\nbackends = [\"{}\"]\n[tcp.b]\nlisten = \"127.0.0.1:0\"\nupstream = \"b\"\n",
        steady.address
    );
    let (running, door) = serve(&format!("{own}{other}[process]\nworkers = 1\n"));
    let writers: Vec<_> = (0..4).map(|_| std::thread::spawn(move || fill(connect(door)))).collect();
    let neighbour = connect(running.addresses("b")[0]);
    let began = Instant::now();
    for round in 0..100 {
        assert_echo(&neighbour, &noise(round, 1000));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "100 echoes took {:?}", began.elapsed());
    writers.into_iter().for_each(|writer| assert!(writer.join().unwrap() > 0));
}

#[test]
fn clients_that_send_byte_by_byte_get_every_byte_and_hurt_nobody() {
    let backend = Backend::echo();
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let slow: Vec<_> = (0..50).map(|_| connect(door)).collect();
    let fast = connect(door);
    until("all are served", || running.backends()[0].open == 51);
    for byte in 0..20 {
        for client in &slow {
            let mut client: &TcpStream = client;
            client.write_all(&[byte]).unwrap();
        }
        assert_echo(&fast, &noise(byte.into(), 100_000));
    }
    let wanted: Vec<u8> = (0..20).collect();
    for mut client in slow {
        let mut got = [0; 20];
        std::io::Read::read_exact(&mut client, &mut got).unwrap();
        assert_eq!(got[..], wanted[..]);
    }
}
