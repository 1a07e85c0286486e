//! What a backend is told before anything else: for whom a connection to it is made (PROXY protocol).

use std::net::SocketAddr;

use evenkeel_wire::{write_proxy_v1, write_proxy_v2};

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendProxy {
    V1,
    V2,
}

impl SendProxy {
    /// The header for a client's address and the one that it connected to; without them the connection is our own, or
    /// the client's address is not known.
    pub(crate) fn header(self, ends: Option<(SocketAddr, SocketAddr)>) -> Box<[u8]> {
        let mut header = Vec::new();
        match self {
            SendProxy::V1 => write_proxy_v1(&mut header, ends),
            SendProxy::V2 => write_proxy_v2(&mut header, ends, &[]),
        }
        header.into_boxed_slice()
    }
}
