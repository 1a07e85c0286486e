//! A connection as its user sees it: packets out, packets in, requests with their replies, and connecting again after a
//! loss. All state lies in the connection and none in a call, so that any call may be given up at any point.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connector::Dial;
use crate::desk::{Desk, Sorted};
use crate::error::{Error, Step};
use crate::halves::{self, Receiver, Sender};
use crate::lane::Lane;

/// A connection in whole packets.
///
/// **Giving up.** Every call may be dropped at any point, by a time limit or a `select!`, and no packet is torn or lost.
/// A `send` that is dropped has either given nothing, or all of its packet, which then leaves with the next call of
/// any kind; a `recv` that is dropped has taken nothing. The reply to a request that was given up is dropped when it comes.
///
/// **After a loss.** The call that notices it says so. Without [`Connector::reconnect`](crate::Connector::reconnect), those
/// after it say [`Error::Closed`]; with it, the next one waits until the backoff allows it and connects again, beginning with
/// the address after the one that failed. Packets that came before the loss are still received first, and nothing is sent
/// twice. Dropping a connection closes it at once; call [`Connection::finish`] first if a `send` may have been given up.
#[derive(Debug)]
pub struct Connection {
    /// None while it is under way.
    dial: Option<Dial>,
    dialing: Option<Dialing>,
    lane: Option<Lane>,
    desk: Desk,
    /// A loss that is still to be told.
    lost: Option<Error>,
    /// Before then, there is no connecting again.
    due: Instant,
    peer: SocketAddr,
    /// Whether a packet has come over this lane.
    is_alive: bool,
    /// Whether the peer has ended in order.
    has_ended: bool,
    has_finished: bool,
}

/// A round of connecting. It outlives the call that began it, so that calls with short time limits get on with it.
struct Dialing(Pin<Box<dyn Future<Output = Dialed> + Send + Sync>>);

/// What a round of connecting came to.
type Dialed = (Dial, Result<Lane, Error>);

impl std::fmt::Debug for Dialing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialing")
    }
}

impl Connection {
    pub(crate) fn new(dial: Dial, lane: Lane) -> Connection {
        Connection {
            desk: Desk::new(dial.plan.framing.clone()),
            dial: Some(dial),
            dialing: None,
            peer: lane.peer,
            lane: Some(lane),
            lost: None,
            due: Instant::now(),
            is_alive: false,
            has_ended: false,
            has_finished: false,
        }
    }

    /// Sends a packet: `body` is all of it but its header or delimiter, unless the framing is
    /// [`whole`](crate::Framing::whole). What would not be one packet is [`Error::Refused`].
    ///
    /// Without [ids](crate::Framing::matching), its reply is the next one that [`Connection::recv`] gives in its turn.
    pub async fn send(&mut self, body: &[u8]) -> Result<(), Error> {
        self.feed(body).await?;
        self.flush().await
    }

    /// The same, leaving it to a later call to send it. Several that are fed share one write.
    pub async fn feed(&mut self, body: &[u8]) -> Result<(), Error> {
        let packet = self.desk.framing().pack(body).map_err(Error::Refused)?;
        poll_fn(|cx| self.poll_room(cx, false)).await?;
        self.put(&packet)?;
        self.desk.sent();
        Ok(())
    }

    /// Sends all that was fed. Meanwhile packets are taken in for [`Connection::recv`], 1 MiB of them: a peer that answers
    /// before it reads on goes on reading.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_flush(cx)).await.map_err(Error::after_sending)
    }

    /// The next packet; none when the peer has ended in order, between two packets.
    ///
    /// Replies to requests that were given up are not among them, those to ids that nobody asked for are.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The same within a time, else [`Error::Timeout`]; nothing of a packet is lost then.
    pub async fn recv_within(&mut self, limit: Duration) -> Result<Option<Bytes>, Error> {
        halves::received_within(limit, self.recv()).await
    }

    /// Sends a packet and waits for its reply.
    ///
    /// With [ids](crate::Framing::matching), that is the next packet with the same id; of requests that share one, the
    /// older is answered first. Without, it is the packet whose turn it is, every packet being answered by one, as behind an
    /// Evenkeel with `replies = "one"`. Packets that are for nobody, or for packets sent before, are kept for
    /// [`Connection::recv`], up to 1,024 of them or 1 MiB, beyond which this is [`Error::Full`].
    pub async fn request(&mut self, body: &[u8]) -> Result<Bytes, Error> {
        let packet = self.desk.framing().pack(body).map_err(Error::Refused)?;
        poll_fn(|cx| self.poll_room(cx, true)).await?;
        let ticket = self.desk.ask(&packet)?;
        self.put(&packet)?;
        poll_fn(|cx| self.poll_reply(cx, ticket)).await.map_err(Error::after_sending)
    }

    /// The same within a time, else [`Error::Timeout`]. Its late reply is given to nobody.
    pub async fn request_within(&mut self, body: &[u8], limit: Duration) -> Result<Bytes, Error> {
        let before = self.desk.asked();
        match timeout(limit, self.request(body)).await {
            Ok(reply) => reply,
            Err(_) => {
                let sent = self.desk.asked() != before;
                Err(Error::Timeout { step: Step::Reply, after: limit, sent })
            }
        }
    }

    /// Sends what was fed, and tells the peer that nothing more will come. What it still sends can be received. This
    /// connection is not connected again.
    pub async fn finish(&mut self) -> Result<(), Error> {
        self.has_finished = true;
        poll_fn(|cx| {
            self.read_ahead(cx);
            if let Some(error) = self.lost.take() {
                return Poll::Ready(Err(error));
            }
            let Some(lane) = &mut self.lane else { return Poll::Ready(Err(Error::Closed)) };
            let finished = ready!(lane.poll_finish(cx));
            Poll::Ready(finished.map_err(|error| self.lose(error)))
        })
        .await
        .map_err(Error::after_sending)
    }

    /// Takes it apart, to send and receive in different tasks. Halves are not connected again. A connection that is lost
    /// at this moment is [`Error::Closed`].
    pub fn split(mut self) -> Result<(Sender, Receiver), Error> {
        match self.lane.take() {
            Some(lane) if !self.has_finished => Ok(halves::split(lane, self.desk)),
            _ => Err(self.lost.take().unwrap_or(Error::Closed)),
        }
    }

    /// The other end; of a connection that was lost, the one that it had.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn reconnects(&self) -> bool {
        !self.has_finished && self.dial.as_ref().is_some_and(Dial::is_repeated)
    }

    /// Connects again if need be, and tells a loss that was not told yet.
    fn poll_lane(&mut self, cx: &mut Context<'_>) -> Poll<Result<&mut Lane, Error>> {
        if let Some(error) = self.lost.take() {
            return Poll::Ready(Err(error));
        }
        if self.lane.is_none() {
            let lane = ready!(self.poll_dialing(cx))?;
            self.peer = lane.peer;
            (self.is_alive, self.has_ended) = (false, false);
            self.lane = Some(lane);
        }
        Poll::Ready(self.lane.as_mut().ok_or(Error::Closed))
    }

    fn poll_dialing(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lane, Error>> {
        if self.has_finished {
            return Poll::Ready(Err(Error::Closed));
        }
        let dialing = match (&mut self.dialing, self.dial.take_if(|dial| dial.is_repeated())) {
            (Some(dialing), _) => dialing,
            (None, None) => return Poll::Ready(Err(Error::Closed)),
            (slot, Some(mut dial)) => {
                let due = self.due;
                slot.insert(Dialing(Box::pin(async move {
                    sleep_until(due).await;
                    let lane = dial.connect().await;
                    (dial, lane)
                })))
            }
        };
        let (dial, connected) = ready!(dialing.0.as_mut().poll(cx));
        self.dialing = None;
        if connected.is_err() {
            self.due = dial.due();
        }
        self.dial = Some(dial);
        Poll::Ready(connected)
    }

    /// Room for a packet. Where the peer has ended, none can be answered.
    fn poll_room(&mut self, cx: &mut Context<'_>, is_request: bool) -> Poll<Result<(), Error>> {
        if self.has_finished {
            return Poll::Ready(Err(Error::Closed));
        }
        ready!(self.poll_lane(cx))?;
        self.read_ahead(cx);
        if self.has_ended && (is_request || self.reconnects()) {
            let error = Error::Ended { peer: self.peer, within_packet: false, sent: false };
            if self.reconnects() {
                self.drop_lane();
            }
            return Poll::Ready(Err(error));
        }
        if let Some(error) = self.lost.take() {
            return Poll::Ready(Err(error));
        }
        let Some(lane) = &mut self.lane else { return Poll::Ready(Err(Error::Closed)) };
        let room = ready!(lane.poll_room(cx));
        Poll::Ready(room.map_err(|error| self.lose(error)))
    }

    /// Puts a packet, for which there is room: at once, so that it is whole whatever becomes of the call.
    fn put(&mut self, packet: &[u8]) -> Result<(), Error> {
        self.lane.as_mut().ok_or(Error::Closed)?.put(packet)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.read_ahead(cx);
        if let Some(error) = self.lost.take() {
            return Poll::Ready(Err(error));
        }
        // Nothing waits where nothing is open.
        let Some(lane) = &mut self.lane else { return Poll::Ready(Ok(())) };
        let flushed = ready!(lane.poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.lose(error)))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(packet) = self.desk.take() {
                return Poll::Ready(Ok(Some(packet)));
            }
            if self.has_ended {
                if self.reconnects() {
                    self.drop_lane();
                }
                return Poll::Ready(Ok(None));
            }
            let lane = ready!(self.poll_lane(cx))?;
            match lane.poll_packet(cx) {
                Poll::Ready(packet) => {
                    if let Some(Sorted::Received(packet)) = self.sort(packet, None) {
                        return Poll::Ready(Ok(Some(packet)));
                    }
                }
                // What an earlier call has put goes out meanwhile.
                Poll::Pending => match ready!(lane.poll_flush(cx)) {
                    Ok(()) => return Poll::Pending,
                    Err(error) => self.lost = Some(self.lose(error)),
                },
            }
        }
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>, ticket: u64) -> Poll<Result<Bytes, Error>> {
        loop {
            if let Some(error) = self.lost.take() {
                return Poll::Ready(Err(error));
            }
            if self.has_ended {
                if self.reconnects() {
                    self.drop_lane();
                }
                let error = Error::Ended { peer: self.peer, within_packet: false, sent: true };
                return Poll::Ready(Err(error));
            }
            if self.desk.is_full() {
                return Poll::Ready(Err(Error::Full { queue: "packets to receive", sent: true }));
            }
            let Some(lane) = &mut self.lane else { return Poll::Ready(Err(Error::Closed)) };
            match lane.poll_packet(cx) {
                Poll::Ready(packet) => match self.sort(packet, Some(ticket)) {
                    Some(Sorted::Reply(packet)) => return Poll::Ready(Ok(packet)),
                    Some(Sorted::Received(packet)) => self.desk.keep(packet),
                    Some(Sorted::Late) | None => {}
                },
                Poll::Pending => match ready!(lane.poll_flush(cx)) {
                    Ok(()) => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(self.lose(error))),
                },
            }
        }
    }

    /// Takes in what has come, as far as there is room for it.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while !self.has_ended && !self.desk.is_full() {
            let Some(lane) = &mut self.lane else { return };
            let Poll::Ready(packet) = lane.poll_packet(cx) else { return };
            if let Some(Sorted::Received(packet)) = self.sort(packet, None) {
                self.desk.keep(packet);
            }
        }
    }

    /// Whom something that came is for; none if it is an end, of either kind, which is noted.
    fn sort(
        &mut self,
        packet: Option<Result<Bytes, Error>>,
        waiting: Option<u64>,
    ) -> Option<Sorted> {
        match packet {
            Some(Ok(packet)) => {
                self.is_alive = true;
                Some(self.desk.sort(packet, waiting))
            }
            Some(Err(error)) => {
                self.drop_lane();
                self.lost = Some(error);
                None
            }
            None => {
                self.has_ended = true;
                None
            }
        }
    }

    /// The connection broke while something was sent: keeps what had come before, and gives the error back.
    fn lose(&mut self, error: Error) -> Error {
        self.read_ahead(&mut Context::from_waker(Waker::noop()));
        // What broke it is told once, as the first that was noticed.
        self.lost = None;
        self.drop_lane();
        error
    }

    fn drop_lane(&mut self) {
        if self.lane.take().is_none() {
            return;
        }
        self.has_ended = false;
        self.desk.forget();
        if let Some(dial) = &mut self.dial {
            dial.lost(self.is_alive);
            self.due = dial.due();
        }
    }
}
