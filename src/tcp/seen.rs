//! What can be seen of a connection while it lasts: who it is, what it does, how much it has carried. Its worker alone writes it and
//! reads it, so that it is a few plain cells; nothing here may cost more than a store, as some are written in each turn.

use std::cell::Cell;

use crate::observe::ended::ClientAddress;
use crate::upstream::Backend;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes from side to side, of a whole connection.
    #[default]
    Tcp,
    /// Packets, each with a backend of its own.
    Packets,
    Http1,
    Http2,
    /// HTTP that has switched to something else.
    Tunnel,
}

impl Kind {
    /// The word for people and scripts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Packets => "packets",
            Kind::Http1 => "http/1",
            Kind::Http2 => "http/2",
            Kind::Tunnel => "tunnel",
        }
    }
}

/// One connection as it is seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    client: Cell<Option<ClientAddress>>,
    kind: Cell<Kind>,
    up: Cell<u64>,
    down: Cell<u64>,
    /// Requests under way.
    under_way: Cell<u32>,
    /// The mark of the backend that has the request under way; 0 is none.
    at: Cell<usize>,
}

impl Seen {
    /// Says who has connected, as far as that is known by now.
    pub(crate) fn is_of(&self, client: ClientAddress) {
        self.client.set(Some(client));
    }

    pub(crate) fn speaks(&self, kind: Kind) {
        self.kind.set(kind);
    }

    /// Says how many bytes have been carried so far.
    pub(crate) fn has_carried(&self, up: u64, down: u64) {
        self.up.set(up);
        self.down.set(down);
    }

    /// The same of one request more.
    pub(crate) fn carried_more(&self, (up, down): (u64, u64)) {
        self.has_carried(self.up.get().saturating_add(up), self.down.get().saturating_add(down));
    }

    pub(crate) fn has_under_way(&self, requests: usize) {
        self.under_way.set(u32::try_from(requests).unwrap_or(u32::MAX));
    }

    /// Says that a request is at this backend now.
    pub(crate) fn is_at(&self, backend: &Backend) {
        self.at.set(backend.mark());
    }

    /// Says that it is at none any more.
    pub(crate) fn has_left(&self) {
        self.at.set(0);
    }

    pub(crate) fn client(&self) -> Option<ClientAddress> {
        self.client.get()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind.get()
    }

    /// From the client and to it.
    pub(crate) fn carried(&self) -> (u64, u64) {
        (self.up.get(), self.down.get())
    }

    pub(crate) fn under_way(&self) -> u32 {
        self.under_way.get()
    }

    /// The mark of the backend that has its request; 0 where there is none.
    pub(crate) fn at(&self) -> usize {
        self.at.get()
    }
}
