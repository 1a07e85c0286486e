//! The config that the proxy runs with, and the addresses in it.
//! Backends get loopback addresses of their own: no outgoing connection can take the port of one
//! that is down, as it could on 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::schedule::BACKENDS;

pub const WORKERS: usize = 2;
pub const ACCESS_LOG: &str = "access.log";

/// Where the proxy listens, once for each algorithm, and where the backends do.
pub struct Addresses {
    pub listeners: Vec<SocketAddr>,
    pub backends: Vec<SocketAddr>,
}

impl Addresses {
    pub fn choose() -> Result<Addresses, String> {
        let listeners = (0..2).map(|_| free(Ipv4Addr::new(127, 0, 3, 1)));
        let backends = (1..=BACKENDS as u8).map(|last| free(Ipv4Addr::new(127, 0, 1, last)));
        Ok(Addresses {
            listeners: listeners.collect::<Result<_, _>>()?,
            backends: backends.collect::<Result<_, _>>()?,
        })
    }
}

/// A port that was free a moment ago.
fn free(ip: Ipv4Addr) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((ip, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| format!("find a free port on {ip}: {error}"))
}

/// Retries reach every backend, so whoever finds none was let down by the proxy alone.
pub fn write(addresses: &Addresses) -> String {
    let backends: Vec<String> =
        addresses.backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    let backends = backends.join(", ");
    let upstream = |name: &str, balance: &str| {
        format!(
            r#"
[upstream.{name}]
backends = [{backends}]
balance = "{balance}"
connect-timeout = "1s"
retries = {}
eject-after = 3
eject-time = "1s"
eject-time-max = "3s"
health = {{ send = "e", expect = "e", every = "250ms", timeout = "700ms", rise = 2, fall = 2 }}
"#,
            BACKENDS - 1
        )
    };
    let listener = |name: &str, address: SocketAddr| {
        format!("\n[tcp.{name}]\nlisten = \"{address}\"\nupstream = \"{name}\"\n")
    };
    format!(
        r#"[process]
workers = {WORKERS}
connections-max = 2000
drain-timeout = "5s"

[log]
format = "json"
access = "{ACCESS_LOG}"
{}{}{}{}"#,
        upstream("least", "least-connections"),
        upstream("turns", "round-robin"),
        listener("least", addresses.listeners[0]),
        listener("turns", addresses.listeners[1]),
    )
}
