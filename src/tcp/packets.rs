//! Balancing by packet: one client, and each of its packets to the backend whose turn it is, over connections that stay
//! open. Replies go back in the order of the packets. It must never pass on what is not a whole packet, hold more than
//! the largest packet and what one read brings, nor send a packet twice that a backend may have had.

mod buffers;
mod lane;
mod session;
mod slots;
pub(crate) mod who;
pub(crate) mod whole;

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use evenkeel_wire::Packets;
use tokio::time::Instant;

use super::flow::Scratch;
use super::{Client, Cut, Outcome, Rules};
use crate::link::Link;
use crate::upstream::idle::IdleConnections;
use crate::upstream::key::Part;
use crate::upstream::{Affinity, Upstream};
use lane::Rested;
use session::Session;
use who::{PREFIX_BYTES, Who};
use whole::WholeRules;

/// What is done with packets on a listener that knows them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Framed {
    /// All of one connection go to one backend.
    ByConnection(WholeRules),
    /// Each goes to the backend whose turn it is.
    ByPacket(PacketRules),
}

/// What was configured for a listener that balances by packet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PacketRules {
    /// How clients' packets are cut.
    pub(crate) packets: Packets,
    /// How replies are.
    pub(crate) replies: Packets,
    /// What comes back for each packet.
    pub(crate) reply: Reply,
    /// The id that a packet and its reply have in common; none where replies are in order.
    pub(crate) matching: Option<Part>,
    /// A packet that is answered here, and its reply.
    pub(crate) ping: Option<(Vec<u8>, Vec<u8>)>,
    /// The reply to a packet whose own cannot be had.
    pub(crate) error_reply: Option<Vec<u8>>,
    /// Packets of one client that may be under way.
    pub(crate) in_flight_max: usize,
    /// Packets that may be under way on one connection to a backend.
    pub(crate) pipeline_max: usize,
    /// Whether a packet may be sent again when its backend was lost after it had it.
    pub(crate) idempotent: bool,
    /// Whether every packet says who sent it.
    pub(crate) prefixed: bool,
    /// Whether only whole packets keep a client from being idle.
    pub(crate) idle_by_packet: bool,
}

/// What comes back for a packet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Never,
    Once,
    /// Up to the one that is known as the last.
    Until(LastReply),
}

/// What the last reply is known by: any of these bytes at this place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LastReply {
    pub(crate) offset: usize,
    pub(crate) bytes: Vec<Vec<u8>>,
}

impl Reply {
    /// Whether no other reply comes after this one.
    fn ends_with(&self, reply: &[u8]) -> bool {
        let Reply::Until(last) = self else { return true };
        let rest = reply.get(last.offset..).unwrap_or_default();
        last.bytes.iter().any(|bytes| rest.starts_with(bytes))
    }
}

impl PacketRules {
    /// Packets that may be under way on one connection to a backend. Many replies to one packet would be held back with
    /// nobody to take them, if those before it waited behind them.
    fn pipeline_max(&self) -> usize {
        let takes_turns = matches!(self.reply, Reply::Until(_)) && self.matching.is_none();
        if takes_turns { 1 } else { self.pipeline_max }
    }
}

/// One worker's idle connections to backends that take packets.
#[derive(Debug, Default)]
pub(crate) struct PacketPool(RefCell<IdleConnections<Rested>>);

impl PacketPool {
    /// Closes what has been idle for too long, or was ended by its backend.
    pub(crate) fn sweep(&self) {
        self.0.borrow_mut().sweep();
    }

    /// Closes all of them.
    pub(crate) fn close_idle(&self) {
        self.0.borrow_mut().clear();
    }
}

/// What a session needs of its worker and listener.
pub(crate) struct PacketDesk<'a> {
    pub(crate) rules: &'a PacketRules,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) pool: &'a PacketPool,
    pub(crate) scratch: &'a RefCell<Scratch>,
    pub(crate) cut: &'a Cut,
    affinity: Affinity,
    told: Option<Box<[u8]>>,
    client: Option<IpAddr>,
    /// What the bodies of packets begin with, that say who sent them.
    prefix: Option<[u8; PREFIX_BYTES]>,
    /// The most that may be under way of one client, and wait for it, unless it is a single packet.
    buffer_max: usize,
    /// Whether what backends send does not keep a client from being idle.
    only_client_counts: bool,
}

impl<'a> PacketDesk<'a> {
    fn new(
        client: Client,
        rules: (&'a Rules, &'a PacketRules),
        upstream: &Arc<Upstream>,
        worker: (&'a RefCell<Scratch>, &'a PacketPool),
        cut: &'a Cut,
    ) -> (PacketDesk<'a>, Link) {
        let affinity = client.affinity();
        let Client { link, told, address, port, .. } = client;
        let desk = PacketDesk {
            rules: rules.1,
            // It may have changed since the client was accepted.
            upstream: upstream.newest(),
            pool: worker.1,
            scratch: worker.0,
            cut,
            affinity,
            told,
            client: address,
            prefix: rules.1.prefixed.then(|| Who::new(address, port).prefix()),
            buffer_max: rules.0.buffer_max,
            only_client_counts: rules.0.only_client_counts,
        };
        (desk, link)
    }
}

impl PacketDesk<'_> {
    /// Where a packet of this key belongs.
    fn affinity_by(&self, key: u64) -> Affinity {
        Affinity { key, ..self.affinity }
    }

    /// Goes by the upstream in force. Where there is none any more, or it wants to hear something else first, the client is
    /// let go after the packets that are under way.
    fn follow(&mut self) {
        let newest = self.upstream.newest();
        if newest.is_retired() || newest.rules.send_proxy != self.upstream.rules.send_proxy {
            return self.cut.ask_to_finish();
        }
        self.upstream = newest;
    }
}

/// Serves one client from its first packet to its last.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps each argument twice, while it runs")]
pub(crate) fn serve<'a>(
    client: Client,
    rules: (&'a Rules, &'a PacketRules),
    upstream: &'a Arc<Upstream>,
    worker: (&'a RefCell<Scratch>, &'a PacketPool),
    cut: &'a Cut,
) -> impl Future<Output = Outcome> + 'a {
    async move {
        cut.want_news();
        let (mut desk, link) = PacketDesk::new(client, rules, upstream, worker, cut);
        let mut session = Session::new(link);
        let times = Times {
            idle: rules.0.idle_timeout,
            deadline: rules.0.max_duration.map(|most| Instant::now() + most),
        };
        let mut timer = pin!(tokio::time::sleep_until(times.due(&session)));
        let (why, detail) = poll_fn(|cx| {
            // The next packet goes by the config in force.
            if cut.take_news() {
                desk.follow();
            }
            loop {
                if let Some(over) = session.turn(cx, &desk) {
                    return Poll::Ready(over);
                }
                let due = times.due(&session);
                // Time limits move with every packet, nearly always further away.
                if due < timer.deadline() {
                    timer.as_mut().reset(due);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let now = Instant::now();
                if now < due {
                    timer.as_mut().reset(due);
                    continue;
                }
                if let Some(over) = session.late(now, &times, &desk) {
                    return Poll::Ready(over);
                }
                timer.as_mut().reset(times.due(&session));
            }
        })
        .await;
        // Boxed, so that an idle client does not carry the room for it.
        Box::pin(session.end(why)).await;
        Outcome {
            backend: session.last_backend(),
            carried: session.carried(),
            ..Outcome::without_backend(why, detail)
        }
    }
}

/// When a session ends by itself.
#[derive(Debug, Clone, Copy)]
struct Times {
    idle: Option<Duration>,
    deadline: Option<Instant>,
}

impl Times {
    /// When to look next.
    fn due(&self, session: &Session) -> Instant {
        let mut due = session.earliest_due();
        // While a packet is under way, its backend's time counts.
        if let (None, Some(idle)) = (due, self.idle) {
            due = Some(session.active() + idle);
        }
        let never = session.active() + Duration::from_secs(86_400 * 365);
        let due = due.unwrap_or(never);
        self.deadline.map_or(due, |deadline| deadline.min(due))
    }
}
