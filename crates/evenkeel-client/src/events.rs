//! The same client for people who think in events: one task connects, sends what is queued, and tells what happens. Each
//! connect ends in exactly one of `failed` and `closed`; nothing else is ever told in between them and the next connect.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use evenkeel_wire::{PacketRefusal, Packets};
use tokio::time::{sleep_until, timeout};

use crate::connector::{Addresses, Dial, Plan};
use crate::error::Error;
use crate::lane::Lane;

/// Is told what happens to a connection, by [`Connector::run`](crate::Connector::run).
///
/// Every connect ends in exactly one call of `failed` or `closed`: `failed` if it came to nothing, `closed` after
/// `connected` and any number of `received`. The calls are made one after the other, and the connection waits for
/// each of them.
pub trait Handler {
    /// It is open: TLS, if it was asked for, is through.
    fn connected(&mut self, remote: &Remote);
    /// A packet has come.
    fn received(&mut self, remote: &Remote, packet: Bytes);
    /// It could not be opened.
    fn failed(&mut self, error: &Error);
    /// It was open, and is no more.
    fn closed(&mut self, why: &Closed);
}

/// Why a connection that was open has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Closed {
    /// The peer ended it in order, between two packets.
    ByPeer,
    /// The peer ended it in the middle of a packet.
    WithinPacket,
    /// It broke: a reset, a network that is gone, an alert of TLS, an end that TLS does not vouch for.
    Reset(io::Error),
    /// The peer sent what is no packet, or one that is too long.
    BadPacket(PacketRefusal),
    /// [`Remote::close`] was called.
    ByUs,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::ByPeer => f.write_str("the peer ended the connection"),
            Closed::WithinPacket => f.write_str("the peer ended the connection within a packet"),
            Closed::Reset(error) => write!(f, "the connection broke: {error}"),
            Closed::BadPacket(refusal) => write!(f, "the peer sent {refusal}"),
            Closed::ByUs => f.write_str("this side closed the connection"),
        }
    }
}

impl From<Error> for Closed {
    fn from(error: Error) -> Closed {
        match error {
            Error::Lost { cause, .. } => Closed::Reset(cause),
            Error::BadPacket { refusal, .. } => Closed::BadPacket(refusal),
            Error::Ended { within_packet: true, .. } => Closed::WithinPacket,
            Error::Ended { .. } => Closed::ByPeer,
            // No lane says anything else.
            other => Closed::Reset(io::Error::other(other)),
        }
    }
}

/// A connection that is open, for as long as it is; may be kept, cloned, and used from anywhere.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
    /// Which connect of this run it came of.
    number: u64,
    peer: SocketAddr,
}

impl Remote {
    /// Queues a packet, as it is given to [`Connection::send`](crate::Connection::send). It leaves when the peer takes it, or is
    /// lost with the connection.
    ///
    /// [`Error::Full`] where the peer has left too much of the queue ([`Connector::queue_max`](crate::Connector::queue_max)),
    /// [`Error::Closed`] where the connection has ended, [`Error::Refused`] where it is not one packet.
    pub fn send(&self, body: &[u8]) -> Result<(), Error> {
        let packet = self.shared.plan.framing.pack(body).map_err(Error::Refused)?;
        let mut queue = self.shared.lock();
        if queue.open != Some(self.number) || queue.is_closing {
            return Err(Error::Closed);
        }
        let bytes = queue.bytes.saturating_add(packet.len());
        if queue.bytes > 0 && bytes > self.shared.plan.queue_max {
            return Err(Error::Full { queue: "bytes to send", sent: false });
        }
        queue.bytes = bytes;
        queue.packets.push_back(packet.into_owned());
        queue.wake();
        Ok(())
    }

    /// Ends the connection, and the run that it is of: what is queued may still leave, for as long as connecting may
    /// take; nothing more is received.
    pub fn close(&self) {
        let mut queue = self.shared.lock();
        queue.is_closing = true;
        queue.wake();
    }

    /// The other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What remotes and the task of their connection share.
struct Shared {
    plan: Arc<Plan>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The number of the connect that is open.
    open: Option<u64>,
    is_closing: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Shared {
    /// Nothing is done under the lock that could panic; what it guards is whole at any time.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody closes.
    fn poll_closing(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        queue.waker = Some(cx.waker().clone());
        if queue.is_closing { Poll::Ready(()) } else { Poll::Pending }
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        let packet = queue.packets.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(packet.len());
        Some(packet)
    }

    fn open(&self, number: u64) {
        self.lock().open = Some(number);
    }

    /// From now on nothing can be queued; what was is gone.
    fn shut(&self) {
        let mut queue = self.lock();
        queue.open = None;
        queue.packets = VecDeque::new();
        queue.bytes = 0;
    }
}

/// Ends what can be queued also when the run is dropped.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.shut();
    }
}

pub(crate) async fn run<H: Handler>(plan: Plan, addresses: Addresses, mut handler: H) -> H {
    let mut dial = match Dial::new(plan, addresses) {
        Ok(dial) => dial,
        Err(error) => {
            handler.failed(&error);
            return handler;
        }
    };
    let shared = Arc::new(Shared { plan: Arc::clone(&dial.plan), queue: Mutex::default() });
    let closing = || poll_fn(|cx| shared.poll_closing(cx));
    for number in 0.. {
        let connected = tokio::select! {
            biased;
            () = closing() => Err(Error::Closed),
            connected = dial.connect() => connected,
        };
        match connected {
            Err(error) => handler.failed(&error),
            Ok(lane) => {
                let remote = Remote { shared: Arc::clone(&shared), number, peer: lane.peer };
                let (was_alive, why) = serve(lane, &remote, &mut handler).await;
                dial.lost(was_alive);
                handler.closed(&why);
            }
        }
        if !dial.is_repeated() {
            break;
        }
        tokio::select! {
            biased;
            () = closing() => break,
            () = sleep_until(dial.due()) => {}
        }
    }
    handler
}

/// What comes next on an open connection.
enum Event {
    Packet(Bytes),
    Ended(Closed),
}

/// Serves one connection to its end: whether a packet has come over it, and why it ended.
async fn serve<H: Handler>(mut lane: Lane, remote: &Remote, handler: &mut H) -> (bool, Closed) {
    let shared = &*remote.shared;
    let received = shared.plan.framing.received();
    shared.open(remote.number);
    let open = Open(shared);
    handler.connected(remote);
    let mut is_alive = false;
    let why = loop {
        match poll_fn(|cx| poll_event(&mut lane, shared, cx)).await {
            Event::Packet(packet) => {
                is_alive = true;
                let packet = body(shared, &received, packet);
                handler.received(remote, packet);
            }
            Event::Ended(why) => break why,
        }
    };
    if matches!(why, Closed::ByUs | Closed::ByPeer) {
        // Whatever comes of it: the connection has ended for the reason that it has.
        let _ = timeout(shared.plan.timeout, part(&mut lane, shared)).await;
    }
    drop(open);
    (is_alive, why)
}

fn body(shared: &Shared, received: &Packets, packet: Bytes) -> Bytes {
    shared.plan.framing.unpack(received, packet)
}

fn poll_event(lane: &mut Lane, shared: &Shared, cx: &mut Context<'_>) -> Poll<Event> {
    if shared.poll_closing(cx).is_ready() {
        return Poll::Ready(Event::Ended(Closed::ByUs));
    }
    let sent = poll_send(lane, shared, cx);
    // What came before it broke is told first.
    match (lane.poll_packet(cx), sent) {
        (Poll::Ready(Some(Ok(packet))), _) => Poll::Ready(Event::Packet(packet)),
        (_, Poll::Ready(Err(error))) | (Poll::Ready(Some(Err(error))), _) => {
            Poll::Ready(Event::Ended(error.into()))
        }
        (Poll::Ready(None), _) => Poll::Ready(Event::Ended(Closed::ByPeer)),
        (Poll::Pending, _) => Poll::Pending,
    }
}

/// Sends what is queued.
fn poll_send(lane: &mut Lane, shared: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    loop {
        ready!(lane.poll_room(cx))?;
        match shared.next() {
            Some(packet) => lane.put(&packet)?,
            None => return lane.poll_flush(cx),
        }
    }
}

/// Ends a connection in order: everything queued, then the end. What still comes is read and dropped, since closing with
/// something unread would take back what the peer has not read.
async fn part(lane: &mut Lane, shared: &Shared) -> Result<(), Error> {
    poll_fn(|cx| poll_send(lane, shared, cx)).await?;
    poll_fn(|cx| lane.poll_finish(cx)).await?;
    while let Some(Ok(_)) = poll_fn(|cx| lane.poll_packet(cx)).await {}
    Ok(())
}
