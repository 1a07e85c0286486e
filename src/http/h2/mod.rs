//! HTTP/2 on one connection, on either side of us (RFC 9113): frames and HPACK are the `h2` crate's, what a message
//! may say is decided in evenkeel-wire. It knows no routes and no backends.

mod backend;
mod batched;
mod guarded;
mod heads;
mod shared;
mod stream;

pub(super) use backend::{drive, greet};
pub(super) use batched::Batched;
pub(crate) use guarded::Floods;
pub(super) use guarded::{Guarded, Watch};
pub(super) use heads::incoming_request;
pub(super) use shared::{Opening, Place, Shared};
pub(super) use stream::Stream;

use std::time::Duration;

/// Payload of one DATA frame that every peer takes (RFC 9113 6.5.2, SETTINGS_MAX_FRAME_SIZE).
pub(super) const FRAME: usize = 16 * 1024;

/// Bytes of a body that one stream may hold for a peer that gives no room for them.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// How long a peer may take to end a connection after our last word (GOAWAY) before we close without it.
pub(super) const PARTING: Duration = Duration::from_secs(2);
