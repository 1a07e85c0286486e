//! Bytes in, values out: the heads and bodies of HTTP/1 by RFC 9110 and RFC 9112, read strictly, and the heads of
//! HTTP/2 by RFC 9113 after HPACK, held to the same rules; the PROXY headers in front of either, the first message of a
//! TLS client, and where the packets of any framed protocol end.
//! Whatever could be read in two ways is a [`Refusal`] with its reason; nothing is ever repaired,
//! because what one reader repairs another reads differently, and requests hide in that gap.
//!
//! This crate must never do I/O, read a clock or start a task. A value is read into again and
//! again, so that a warm one allocates nothing, and nothing that a peer sends can make it panic
//! or grow beyond the limits it is called with.
//!
//! ```
//! use evenkeel_wire::{Framing, Limits, Read, Request};
//!
//! let limits = Limits { head_max: 16_384, line_max: 8_192, fields_max: 100 };
//! let bytes = b"POST /a?b HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nxyz";
//! let mut request = Request::default();
//! assert_eq!(request.read(&bytes[..20], &limits)?, Read::Partial);
//! assert_eq!(request.read(bytes, &limits)?, Read::Whole { length: bytes.len() - 3 });
//! assert_eq!(request.authority, b"example.com");
//! assert_eq!(request.target, b"/a?b");
//! assert_eq!(request.framing, Framing::Length(3));
//!
//! let twice = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n";
//! let refusal = request.read(twice, &limits).unwrap_err();
//! assert_eq!(refusal.reason.as_str(), "content-length-repeated");
//! # Ok::<(), evenkeel_wire::Refusal>(())
//! ```

mod authority;
mod chars;
mod chunked;
mod client_hello;
mod fields;
mod frames;
mod framing;
mod h2;
mod head;
mod known;
mod method;
mod packet;
mod proxy;
mod refusal;
mod request;
mod response;
mod target;
mod trace_parent;

pub use authority::is_authority;
pub use chars::{is_name, is_value};
pub use chunked::{ChunkLimits, Chunked, Step, write_chunk_size};
pub use client_hello::{
    CLIENT_HELLO_BYTES_MAX, CLIENT_HELLO_MAX, ClientHello, ClientHelloRead, ClientHelloRefusal,
    read_client_hello,
};
pub use fields::{Field, Fields, elements};
pub use frames::{FrameHead, FrameKind, Frames};
pub use framing::{Framing, Version};
pub use h2::Pseudo;
pub use head::{Limits, Read};
pub use known::Known;
pub use method::Method;
pub use packet::{
    DELIMITER_MAX, LengthField, LengthKind, PacketCut, PacketProgress, PacketRead, PacketRefusal,
    Packets,
};
pub use proxy::{
    PROXY_HEADER_MAX, ProxyHeader, ProxyOrigin, ProxyRead, ProxyRefusal, read_proxy_header, tlv,
    write_proxy_v1, write_proxy_v2,
};
pub use refusal::{Reason, Refusal};
pub use request::{Request, Scheme};
pub use response::Response;
pub use trace_parent::TraceParent;
