//! A connection taken apart: one half sends, the other receives, each in a task of its own. What had been received for
//! nobody in particular goes along with the receiving half.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream as _};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, FramedRead, FramedWrite};

use crate::codec::{Packed, PacketCodec, PacketError};
use crate::desk::{Desk, Sorted};
use crate::error::{Error, Step};
use crate::framing::Framing;
use crate::lane::Lane;
use crate::stream::Stream;

/// What is received within a time; giving it up loses nothing.
pub(crate) async fn received_within(
    limit: Duration,
    recv: impl Future<Output = Result<Option<Bytes>, Error>>,
) -> Result<Option<Bytes>, Error> {
    match timeout(limit, recv).await {
        Ok(received) => received,
        Err(_) => Err(Error::Timeout { step: Step::Receive, after: limit, sent: false }),
    }
}

/// Takes a connection apart.
pub(crate) fn split(lane: Lane, mut desk: Desk) -> (Sender, Receiver) {
    let peer = lane.peer;
    let framing = desk.framing().clone();
    let mut parts = lane.into_parts();
    // A reader looks at what it begins with only when more has come: whole packets are taken out now.
    let mut failed = None;
    loop {
        match parts.codec.decode(&mut parts.read_buf) {
            Ok(Some(packet)) => match desk.sort(packet, None) {
                Sorted::Received(packet) => desk.keep(packet),
                Sorted::Reply(_) | Sorted::Late => {}
            },
            Ok(None) => break,
            Err(error) => {
                failed = Some(Error::at(Step::Receive, peer, error));
                break;
            }
        }
    }
    let (read, write) = tokio::io::split(parts.io);
    let mut writer = FramedWrite::new(write, PacketCodec::new(framing.clone()));
    *writer.write_buffer_mut() = parts.write_buf;
    let mut reader = FramedRead::new(read, parts.codec);
    *reader.read_buffer_mut() = parts.read_buf;
    let end = failed.map_or(End::NotYet, End::Failing);
    (Sender { writer, framing, peer, is_closed: false }, Receiver { reader, desk, peer, end })
}

/// The half of a connection that sends. The connection stays open as long as either half does; [`Sender::finish`] tells
/// the peer that nothing more will come.
#[derive(Debug)]
pub struct Sender {
    writer: FramedWrite<WriteHalf<Stream>, PacketCodec>,
    framing: Framing,
    peer: SocketAddr,
    is_closed: bool,
}

impl Sender {
    /// As [`Connection::send`](crate::Connection::send): all or nothing, whenever it is given up.
    pub async fn send(&mut self, body: &[u8]) -> Result<(), Error> {
        self.feed(body).await?;
        self.flush().await
    }

    /// The same, leaving it to a later call to send it.
    pub async fn feed(&mut self, body: &[u8]) -> Result<(), Error> {
        if self.is_closed {
            return Err(Error::Closed);
        }
        let packet = self.framing.pack(body).map_err(Error::Refused)?;
        let writer = &mut self.writer;
        let room = poll_fn(|cx| Sink::<Packed<'_>>::poll_ready(Pin::new(&mut *writer), cx)).await;
        let put = room.and_then(|()| Pin::new(writer).start_send(Packed(&packet)));
        put.map_err(|error| self.fail(error))
    }

    /// Sends all that was fed.
    pub async fn flush(&mut self) -> Result<(), Error> {
        if self.is_closed {
            return Err(Error::Closed);
        }
        let writer = &mut self.writer;
        let flushed = poll_fn(|cx| Sink::<Packed<'_>>::poll_flush(Pin::new(&mut *writer), cx));
        let flushed = flushed.await;
        flushed.map_err(|error| self.fail(error).after_sending())
    }

    /// Sends all that was fed, and tells the peer that nothing more will come.
    pub async fn finish(&mut self) -> Result<(), Error> {
        if self.is_closed {
            return Err(Error::Closed);
        }
        let writer = &mut self.writer;
        let closed = poll_fn(|cx| Sink::<Packed<'_>>::poll_close(Pin::new(&mut *writer), cx));
        let closed = closed.await;
        closed.map_err(|error| self.fail(error).after_sending())?;
        self.is_closed = true;
        Ok(())
    }

    /// The other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn fail(&mut self, error: PacketError) -> Error {
        self.is_closed = true;
        Error::at(Step::Send, self.peer, error)
    }
}

/// The half of a connection that receives.
#[derive(Debug)]
pub struct Receiver {
    reader: FramedRead<ReadHalf<Stream>, PacketCodec>,
    desk: Desk,
    peer: SocketAddr,
    end: End,
}

/// How it ended, if it has.
#[derive(Debug)]
enum End {
    NotYet,
    /// The failure is still to be told.
    Failing(Error),
    InOrder,
    Failed,
}

impl Receiver {
    /// As [`Connection::recv`](crate::Connection::recv): the next packet; none when the peer has ended in order.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The same within a time, else [`Error::Timeout`]; nothing of a packet is lost then.
    pub async fn recv_within(&mut self, limit: Duration) -> Result<Option<Bytes>, Error> {
        received_within(limit, self.recv()).await
    }

    /// The other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(packet) = self.desk.take() {
                return Poll::Ready(Ok(Some(packet)));
            }
            match std::mem::replace(&mut self.end, End::Failed) {
                End::NotYet => self.end = End::NotYet,
                End::Failing(error) => return Poll::Ready(Err(error)),
                End::Failed => return Poll::Ready(Err(Error::Closed)),
                End::InOrder => {
                    self.end = End::InOrder;
                    return Poll::Ready(Ok(None));
                }
            }
            match ready!(Pin::new(&mut self.reader).poll_next(cx)) {
                Some(Ok(packet)) => match self.desk.sort(packet, None) {
                    Sorted::Received(packet) => return Poll::Ready(Ok(Some(packet))),
                    Sorted::Reply(_) | Sorted::Late => {}
                },
                Some(Err(error)) => {
                    self.end = End::Failing(Error::at(Step::Receive, self.peer, error));
                }
                None => self.end = End::InOrder,
            }
        }
    }
}
