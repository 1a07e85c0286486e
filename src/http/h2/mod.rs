//! HTTP/2 on one connection, on either side of us (RFC 9113): frames and HPACK are the `h2` crate's, what a message
//! may say is decided in evenkeel-wire. It knows no routes and no backends.

mod guarded;
mod heads;
mod shared;
mod stream;

pub(crate) use guarded::Floods;
pub(super) use guarded::{Guarded, Watch};
pub(super) use heads::incoming_request;
pub(super) use shared::{Opening, Place, Shared};
pub(super) use stream::Stream;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};

use crate::link::Link;

/// Payload of one DATA frame that every peer takes (RFC 9113 6.5.2, SETTINGS_MAX_FRAME_SIZE).
pub(super) const FRAME: usize = 16 * 1024;

/// Bytes of a body that one stream may hold for a peer that gives no room for them.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of one answer that may be under way from a backend before they are taken.
const BACKEND_STREAM_WINDOW: u32 = 128 * 1024;

/// The same for all streams of a connection to a backend, so that one slow client does not hold up the others.
const BACKEND_CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Begins HTTP/2 on a connection to a backend, without asking whether it speaks it (RFC 9113 3.3).
pub(super) async fn greet(
    link: Link,
    head_max: usize,
) -> Result<(SendRequest<Bytes>, Connection<Link, Bytes>), h2::Error> {
    Builder::new()
        .enable_push(false)
        .initial_window_size(BACKEND_STREAM_WINDOW)
        .initial_connection_window_size(BACKEND_CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(head_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(link)
        .await
}
