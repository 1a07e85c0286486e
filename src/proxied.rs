//! Clients that come through a proxy which says so: the PROXY header in front of all that they send. It must never be
//! read from anybody but those proxies, nor a byte behind it, which is the client's.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evenkeel_wire::{PROXY_HEADER_MAX, ProxyOrigin, ProxyRead, ProxyRefusal, read_proxy_header};
use ipnet::IpNet;

use crate::observe::ended::ClientAddress;
use crate::socket::{Arrived, Socket};

/// Which proxies are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) from: Vec<IpNet>,
    /// Whether they may also send no header.
    pub(crate) optional: bool,
    /// How long a header may take.
    pub(crate) timeout: Duration,
}

impl Rules {
    /// Whether whoever connected is one of these proxies. Who may open a Unix socket is up to its folder.
    pub(crate) fn trusts(&self, peer: ClientAddress) -> bool {
        let listed = |address: IpAddr| {
            let address = address.to_canonical();
            self.from.iter().any(|network| network.contains(&address))
        };
        match peer {
            ClientAddress::Ip(address) => listed(address.ip()),
            ClientAddress::Told(address) => listed(address),
            ClientAddress::Unix => true,
        }
    }
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Client {
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
    /// The proxy's own, it says.
    Own,
    /// It says nothing, and need not.
    Untold,
}

/// Why nobody knows whose connection it is.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It ended before its header was whole.
    Ended,
    Refused(ProxyRefusal),
    Broken(io::Error),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Ended => f.write_str("it ended within its PROXY header"),
            Failed::Refused(refusal) => refusal.fmt(f),
            Failed::Broken(error) => error.fmt(f),
        }
    }
}

/// Takes the header off a fresh connection.
pub(crate) async fn take_header(socket: &Socket, optional: bool) -> Result<Whose, Failed> {
    let mut known = 0;
    loop {
        let mut bytes = [0; PROXY_HEADER_MAX];
        let arrived = poll_fn(|cx| socket.poll_peek_beyond(cx, known, &mut bytes)).await;
        let Arrived { count, ended } = arrived.map_err(Failed::Broken)?;
        match read_proxy_header(&bytes[..count]) {
            Ok(ProxyRead::Whole { header, length }) => {
                let whose = match header.origin {
                    ProxyOrigin::Tcp { source, destination } => {
                        Whose::Client { source, destination }
                    }
                    ProxyOrigin::Own | ProxyOrigin::Unix { .. } => Whose::Own,
                };
                socket.take(&mut bytes[..length]).map_err(Failed::Broken)?;
                return Ok(whose);
            }
            Err(ProxyRefusal::Missing) if optional => return Ok(Whose::Untold),
            Err(refusal) => return Err(Failed::Refused(refusal)),
            Ok(ProxyRead::Partial) if ended && optional => return Ok(Whose::Untold),
            Ok(ProxyRead::Partial) if ended => return Err(Failed::Ended),
            Ok(ProxyRead::Partial) => known = count,
        }
    }
}
