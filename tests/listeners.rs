//! Listeners: several addresses, IPv4, IPv6 for itself alone, Unix sockets on either side, ports of the kernel's choice.
//! An address that is taken is an error that names the address and the listener, whoever holds it.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::backend::{Backend, echo, fresh_loopback};
use crate::support::client::{PATIENCE, assert_echo, connect};
use crate::support::{config_with, noise, start, try_start};

fn listening(listen: &str, backend: &str) -> String {
    format!(
        "[upstream.app]\nbackends = [\"{backend}\"]\n\
         [tcp.public]\nlisten = {listen}\nupstream = \"app\"\n[process]\nworkers = 2\n"
    )
}

#[test]
fn several_addresses_lead_to_the_same_place() {
    let backend = Backend::echo();
    let listen = "[\"127.0.0.1:0\", \"127.0.0.2:0\", \"[::1]:0\"]";
    let running = start(&listening(listen, &backend.address.to_string()));
    let addresses = running.addresses("public");
    assert_eq!(addresses.len(), 3);
    assert!(addresses.iter().all(|address| address.port() != 0), "{addresses:?}");
    for address in addresses {
        assert_echo(connect(address), b"hello");
    }
    assert_eq!(running.counts().accepted, 3);
    assert!(running.addresses("nobody").is_empty());
}

#[test]
fn an_ipv6_listener_takes_ipv6_only() {
    let backend = Backend::echo();
    let running = start(&listening("\"[::]:0\"", &backend.address.to_string()));
    let port = running.addresses("public")[0].port();
    assert_echo(connect((Ipv6Addr::LOCALHOST, port).into()), b"six");
    let v4 = SocketAddr::new(fresh_loopback(), port);
    let error = TcpStream::connect_timeout(&v4, PATIENCE).expect_err("not ours");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    TcpListener::bind(v4).expect("the IPv4 port of the same number stays free");
}

#[test]
fn a_port_alone_means_all_addresses_of_both_families() {
    let backend = Backend::echo();
    let running = start(&listening("\":0\"", &backend.address.to_string()));
    let port = running.addresses("public")[0].port();
    assert_echo(connect(([127, 0, 0, 9], port).into()), b"four");
    assert_echo(connect((Ipv6Addr::LOCALHOST, port).into()), b"six");
    assert!(running.addresses("public").iter().all(|address| address.port() == port));
}

#[test]
fn ipv6_backends_are_reached() {
    let backend = Backend::serving_at((Ipv6Addr::LOCALHOST, 0).into(), echo);
    let running = start(&listening("\"127.0.0.1:0\"", &backend.address.to_string()));
    assert_echo(connect(running.addresses("public")[0]), b"hello");
}

/// Echoes every connection of a Unix socket.
fn unix_echo(path: &std::path::Path) {
    let listener = UnixListener::bind(path).expect("bind");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                stream.read_to_end(&mut all)?;
                stream.write_all(&all)
            });
        }
    });
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (door, back) = (folder.path().join("door.sock"), folder.path().join("back.sock"));
    unix_echo(&back);
    let listen = format!("\"unix:{}\"", door.display());
    let running = start(&listening(&listen, &format!("unix:{}", back.display())));
    for seed in 0..4 {
        let mut client = UnixStream::connect(&door).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let said = noise(seed, 300_000);
        client.write_all(&said).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        assert!(heard == said, "the echo differs");
    }
    assert_eq!(running.counts().accepted, 4);
    running.stop();
    assert!(!door.exists(), "the socket file is gone with the listener");
    assert!(back.exists(), "a backend's socket file is none of ours");
}

#[test]
fn a_stale_socket_file_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("door.sock");
    drop(UnixListener::bind(&door).unwrap());
    assert!(door.exists(), "the file stays behind, as after a crash");
    let backend = Backend::echo();
    let listen = format!("\"unix:{}\"", door.display());
    let config = listening(&listen, &backend.address.to_string());
    let running = start(&config);
    let client = UnixStream::connect(&door).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_echo(&client, b"hello");
    let error = try_start(&config).unwrap_err().to_string();
    assert!(error.contains("tcp.public") && error.contains("door.sock"), "{error}");
    assert_echo(&client, b"still there");
    assert_echo(UnixStream::connect(&door).unwrap(), b"hello");
    drop(running);
    std::fs::write(&door, "precious").unwrap();
    let error = try_start(&config).unwrap_err().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&door).unwrap(), "precious");
}

fn assert_taken(address: SocketAddr) {
    let list = format!("\"{address}\"");
    let config = config_with("\"127.0.0.1:9\"", "", "").replace("\"127.0.0.1:0\"", &list);
    let error = try_start(&config).expect_err("the address is taken").to_string();
    assert!(error.contains("[tcp.public]"), "names the listener: {error}");
    assert!(error.contains(&address.to_string()), "names the address: {error}");
    assert!(error.to_lowercase().contains("in use"), "says what is wrong: {error}");
}

#[test]
fn an_address_in_use_is_an_error_that_names_address_and_listener() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_taken(holder.local_addr().unwrap());
}

#[test]
fn an_address_in_use_is_seen_also_when_its_owner_would_share_it() {
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    holder.set_reuse_port(true).unwrap();
    holder.set_reuse_address(true).unwrap();
    holder.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    holder.listen(16).unwrap();
    assert_taken(holder.local_addr().unwrap().as_socket().unwrap());
    let backend = Backend::echo();
    let running = start(&listening("\"127.0.0.1:0\"", &backend.address.to_string()));
    assert_taken(running.addresses("public")[0]);
}

#[test]
fn a_failed_start_leaves_nothing_open() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = crate::support::backend::dead();
    let taken = holder.local_addr().unwrap();
    let config = listening(&format!("[\"{free}\", \"{taken}\"]"), "127.0.0.1:9");
    try_start(&config).unwrap_err();
    let error = TcpStream::connect_timeout(&free, Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_stopped_proxys_address_can_be_listened_on_at_once() {
    let backend = Backend::echo();
    let running = start(&listening("\"127.0.0.1:0\"", &backend.address.to_string()));
    let address = running.addresses("public")[0];
    let client = connect(address);
    assert_echo(&client, b"hello");
    drop(running);
    let again = start(&listening(&format!("\"{address}\""), &backend.address.to_string()));
    assert_echo(connect(again.addresses("public")[0]), b"hello");
}
