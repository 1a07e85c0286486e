//! What a client through TLS costs in memory: little while it is idle, and a limit while it does not read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crate::backpressure::{KERNELS, fill};
use crate::support::backend::Backend;
use crate::support::http::{Recorder, config};
use crate::support::program::Program;
use crate::support::tls::{Certificates, connect};

fn start(certificates: &Certificates, backend: SocketAddr) -> (Program, SocketAddr) {
    let tls = format!("tls = {{ {} }}\n[log]\naccess = \"off\"\n", certificates.pair());
    let program = Program::run(&config(&[backend], "", &tls));
    program.until_said("listening on ");
    let door = program.address("web");
    (program, door)
}

#[test]
fn an_idle_client_costs_a_few_pages() {
    const CLIENTS: u64 = 300;
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (program, door) = start(&certificates, recorder.address());
    let settings = certificates.trusted(&["http/1.1"]);
    // What is set up once is not counted.
    assert_eq!(connect(door, "a.test", settings.clone()).get("/").status, 200);
    let before = program.memory();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = connect(door, "a.test", settings.clone());
            assert_eq!(client.get("/").status, 200);
            client
        })
        .collect();
    let each = program.memory().saturating_sub(before) / CLIENTS;
    assert!(each < 24 * 1024, "{each} bytes for each idle client");
    drop(clients);
}

/// Answers with this head, and then as much as is taken.
fn endless(head: &'static str, taken: Sender<usize>) -> Backend {
    Backend::serving(move |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1000])?;
        stream.write_all(head.as_bytes())?;
        taken.send(fill(stream)).expect("the test waits");
        Ok(())
    })
}

#[test]
fn clients_that_never_read_cost_no_more_than_the_buffers() {
    const CLIENTS: usize = 20;
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let certificates = Certificates::new();
        let (taken, takes) = channel();
        let backend = endless(head, taken);
        let (program, door) = start(&certificates, backend.address);
        let settings = certificates.trusted(&["http/1.1"]);
        let before = program.memory();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = connect(door, "a.test", settings.clone());
                client
                    .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
                client
            })
            .collect();
        for _ in &clients {
            let taken = takes.recv_timeout(Duration::from_secs(15)).unwrap();
            assert!(taken < KERNELS, "a client that reads nothing was sent {taken} bytes");
        }
        // A piece that waits, two records of TLS, and the connection itself.
        let most = (CLIENTS * 160 * 1024 + (2 << 20)) as u64;
        let grown = program.memory().saturating_sub(before);
        assert!(grown < most, "{grown} bytes more memory for {CLIENTS} stuck clients");
    }
}
