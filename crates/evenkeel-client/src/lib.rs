//! A TCP client that speaks in whole packets: messages cut out of a stream by a length, a delimiter or the rules of a
//! protocol. It is what stands at the other end of Evenkeel's packets, and needs no Evenkeel to be of use.
//!
//! [`Framing`] says what a packet is, [`Connector`] how to connect, and a [`Connection`] sends, receives and asks:
//!
//! ```
//! use evenkeel_client::{Connector, Framing};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?;
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await?;
//! #     let mut packet = [0; 9];
//! #     stream.read_exact(&mut packet).await?;
//! #     stream.write_all(&packet).await
//! # });
//! // Four bytes of length, most significant first. `address` echoes.
//! let framing = Framing::length("u32be")?;
//! let mut connection = Connector::new(framing).connect(address).await?;
//! assert_eq!(connection.request(b"hello").await?, "hello");
//! connection.finish().await?;
//! # Ok(())
//! # }
//! ```
//!
//! - **Time limits.** Connecting has one (500 ms, look-up, TCP and TLS together); everything else takes yours:
//!   [`Connection::recv_within`], [`Connection::request_within`], or `tokio::time::timeout` around any call. No call that is given
//!   up loses or tears a packet, and no late reply is taken for another one.
//! - **Replies** are matched to requests by their order, or by an id: [`Framing::matching`].
//! - **Errors** tell the step and the culprit, and whether a repeat is safe: [`Error::was_sent`].
//! - **TLS** by rustls: [`Tls`]. **Reconnecting**: [`Connector::reconnect`]. **Two tasks**: [`Connection::split`].
//! - **tokio-util**: [`PacketCodec`] is a codec for any of its `Framed` types.
//!
//! For those who think in events, a [`Handler`] is told what happens, and [`Connector::run`] does the rest:
//!
//! ```
//! use bytes::Bytes;
//! use evenkeel_client::{Closed, Connector, Error, Framing, Handler, Remote};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! #[derive(Default)]
//! struct Greeter(Vec<String>);
//!
//! impl Handler for Greeter {
//!     fn connected(&mut self, remote: &Remote) {
//!         let _ = remote.send(b"hello");
//!     }
//!     fn received(&mut self, remote: &Remote, packet: Bytes) {
//!         self.0.push(String::from_utf8_lossy(&packet).into_owned());
//!         remote.close();
//!     }
//!     fn failed(&mut self, error: &Error) {
//!         self.0.push(error.to_string());
//!     }
//!     fn closed(&mut self, why: &Closed) {
//!         self.0.push(why.to_string());
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?;
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await?;
//! #     let mut packet = [0; 6];
//! #     stream.read_exact(&mut packet).await?;
//! #     stream.write_all(&packet).await
//! # });
//! let connector = Connector::new(Framing::lines());
//! let greeter = connector.run(address, Greeter::default()).await;
//! assert_eq!(greeter.0, ["hello", "this side closed the connection"]);
//! # Ok(())
//! # }
//! ```
//!
//! It runs within a tokio runtime that has I/O and time enabled. Nothing a peer sends can make it panic or grow without a
//! limit.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod backoff;
mod codec;
mod connection;
mod connector;
mod desk;
mod error;
mod events;
mod framing;
mod halves;
mod lane;
mod reach;
mod stream;
mod tls;

pub use backoff::Backoff;
pub use codec::{PacketCodec, PacketError};
pub use connection::Connection;
pub use connector::{Addresses, Connector, Keepalive};
pub use error::{Error, Step, Unreached};
pub use events::{Closed, Handler, Remote};
pub use framing::Framing;
pub use halves::{Receiver, Sender};
pub use tls::Tls;

/// How packets are cut, in the terms of the crate that cuts them: [`Framing`] can be made from `Packets`.
pub use evenkeel_wire::{LengthField, LengthKind, PacketCut, PacketRefusal, Packets};
