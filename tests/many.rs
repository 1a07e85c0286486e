//! Many at once: five thousand connections are held open, all are alive, and an idle one costs next to nothing.
//! The real binary serves, so that the descriptors and the memory are its own; one thread here echoes for all.

use std::net::{SocketAddr, TcpListener};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::backend::fresh_loopback;
use crate::support::client::{assert_echo, connect};
use crate::support::program::Program;
use crate::support::{config, until};

const MANY: usize = 5000;

/// This process holds both ends of all connections but the proxy's.
pub(crate) fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("raise the limit of open descriptors");
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= 12_000, "this test needs `ulimit -Hn` to be 12000 or more, it is {most}");
}

/// An echo server with one thread for any number of connections.
fn light_echo() -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::new(fresh_loopback(), 0)).expect("bind");
    let address = listener.local_addr().expect("a bound address");
    listener.set_nonblocking(true).expect("nonblocking");
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("register");
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
    });
    address
}

#[test]
fn five_thousand_connections_are_held_open_and_all_still_echo() {
    raise_own_limit();
    let own = config(&[light_echo()], "", "");
    let program = Program::run(&format!("{own}[log]\naccess = \"off\"\n"));
    let door = program.address("public");
    let (descriptors, memory) = (program.descriptors(), program.memory());
    let clients: Vec<_> = (0..MANY).map(|_| connect(door)).collect();
    for (number, client) in clients.iter().enumerate() {
        assert_echo(client, &(number as u64).to_le_bytes());
    }
    assert_eq!(program.descriptors() - descriptors, 2 * MANY);
    for (number, client) in clients.iter().enumerate().rev() {
        assert_echo(client, &(number as u64).to_be_bytes());
    }
    let each = program.memory().saturating_sub(memory) / MANY as u64;
    // 2.5 KB are promised of a release build (`make bench`); this one is not optimised, but must not hold a buffer either.
    assert!(each < 8192, "{each} bytes for each idle connection");
    drop(clients);
    until("all descriptors are back", || program.descriptors() == descriptors);
}
