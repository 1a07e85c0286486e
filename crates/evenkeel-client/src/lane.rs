//! One connection that is open: its bytes, cut into whole packets, and packets on their way out. A packet is put whole or
//! not at all, and what has been put goes out with whichever flush comes next, so that no call that is given up tears one.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Sink, Stream as _};
use tokio_util::codec::{Framed, FramedParts};

use crate::codec::{Packed, PacketCodec};
use crate::error::{Error, Step};
use crate::framing::Framing;
use crate::stream::Stream;

/// An open connection in whole packets.
#[derive(Debug)]
pub(crate) struct Lane {
    framed: Framed<Stream, PacketCodec>,
    pub(crate) peer: SocketAddr,
}

impl Lane {
    pub(crate) fn new(stream: Stream, peer: SocketAddr, framing: Framing) -> Lane {
        Lane { framed: Framed::new(stream, PacketCodec::keeping_whole(framing)), peer }
    }

    /// Waits for room for one more packet.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ready = Sink::<Packed<'_>>::poll_ready(Pin::new(&mut self.framed), cx);
        ready.map_err(|error| Error::at(Step::Send, self.peer, error))
    }

    /// Puts a packet, for which there is room.
    pub(crate) fn put(&mut self, packet: &[u8]) -> Result<(), Error> {
        let put = Pin::new(&mut self.framed).start_send(Packed(packet));
        put.map_err(|error| Error::at(Step::Send, self.peer, error))
    }

    /// Sends all that has been put.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let flushed = Sink::<Packed<'_>>::poll_flush(Pin::new(&mut self.framed), cx);
        flushed.map_err(|error| Error::at(Step::Send, self.peer, error))
    }

    /// Sends all that has been put, and says that nothing more will come.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let finished = Sink::<Packed<'_>>::poll_close(Pin::new(&mut self.framed), cx);
        finished.map_err(|error| Error::at(Step::Send, self.peer, error))
    }

    /// The next packet, whole; none when the peer has ended in order.
    pub(crate) fn poll_packet(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        let next = Pin::new(&mut self.framed).poll_next(cx);
        next.map_err(|error| Error::at(Step::Receive, self.peer, error))
    }

    /// Takes it apart.
    pub(crate) fn into_parts(self) -> FramedParts<Stream, PacketCodec> {
        self.framed.into_parts()
    }
}
