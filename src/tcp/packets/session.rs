//! One client's packets, from the read to the reply: what is under way, in which order, and what is written when.

mod losses;
mod replies;

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::buffers::{Inbox, Outbox};
use super::lane::{Lane, Owed};
use super::slots::{Course, End, Homeless, Slot, Slots, Waiting};
use super::{PacketDesk, Reply};
use crate::link::Link;
use crate::observe::ended::Why;
use crate::tcp::flow::Scratch;
use crate::tcp::relay::{Carried, delivered, reset_after_delivery};
use crate::upstream::queue::NoPlace;
use crate::upstream::{InFlight, Upstream};

/// Rounds in one turn before other connections of the worker get theirs.
const ROUNDS_PER_TURN: usize = 16;

/// Replies that may wait for a client that does not read, before nothing more is read for it.
const REPLIES_HELD: usize = 64 * 1024;

/// A client and its packets.
pub(super) struct Session {
    client: Link,
    inbox: Inbox,
    outbox: Outbox,
    slots: Slots,
    #[expect(clippy::vec_box, reason = "they move from the idle ones and back, whole")]
    lanes: Vec<Box<Lane>>,
    /// A packet for which no backend has a place.
    waiting: Option<Box<Waiting>>,
    /// A whole packet stays in the inbox.
    is_full: bool,
    /// No more packets come, for this reason.
    over: Option<End>,
    active: Instant,
    carried: Carried,
    last_backend: Option<Arc<str>>,
    /// What the first packet decided for all.
    first_key: Option<u64>,
    /// Bytes of packets that backends have, or are to get.
    under_way: usize,
    /// Backends are not read from, as the client does not take what they sent.
    is_stuck: bool,
}

impl Session {
    pub(super) fn new(client: Link) -> Session {
        let (inbox, outbox, lanes, waiting) = Default::default();
        Session {
            client,
            inbox,
            outbox,
            slots: Slots::default(),
            lanes,
            waiting,
            is_full: false,
            over: None,
            active: Instant::now(),
            carried: Carried::default(),
            last_backend: None,
            first_key: None,
            under_way: 0,
            is_stuck: false,
        }
    }

    pub(super) fn active(&self) -> Instant {
        self.active
    }

    pub(super) fn carried(&self) -> Carried {
        self.carried
    }

    /// The backend of the last reply.
    pub(super) fn last_backend(&self) -> Option<Arc<str>> {
        self.last_backend.clone()
    }

    /// When the first packet under way must have its reply.
    pub(super) fn earliest_due(&self) -> Option<Instant> {
        // Their replies may have come long ago.
        if self.is_stuck {
            return None;
        }
        let under_way =
            self.lanes.iter().filter_map(|lane| lane.owed.front()).map(|owed| owed.course.due);
        under_way.chain(self.waiting.iter().map(|waiting| waiting.packet.course.due)).min()
    }

    /// Moves what can be moved. An end is given once there is one.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>, desk: &PacketDesk<'_>) -> Option<End> {
        let mut scratch = desk.scratch.borrow_mut();
        for _ in 0..ROUNDS_PER_TURN {
            let mut moved = self.poll_waiting(cx, desk);
            moved |= self.poll_lanes(cx, desk, &mut scratch);
            moved |= match self.poll_client(cx, desk, &mut scratch) {
                Ok(moved) => moved,
                Err(over) => return Some(over),
            };
            // What has been asked must be listened for.
            moved |= self.poll_sends(cx, desk);
            let held = self.outbox.waiting();
            match self.outbox.poll_flush(cx, &mut self.client) {
                Poll::Ready(Err(_)) => return Some((Why::ClientReset, None)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            // There is room again for what was not read meanwhile.
            if self.outbox.waiting() < held {
                moved = true;
                if !desk.only_client_counts {
                    self.active = Instant::now();
                }
            }
            if let Some(over) = self.is_over() {
                return Some(over);
            }
            if desk.cut.is_asked(cx) {
                return Some((Why::DrainCut, None));
            }
            if !moved {
                return None;
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Reads from the client, if there is room for more, and sends its packets on their way.
    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        desk: &PacketDesk<'_>,
        scratch: &mut Scratch,
    ) -> Result<bool, End> {
        let at_limit = self.slots.len() >= desk.rules.in_flight_max;
        let is_blocked = self.over.is_some() || self.waiting.is_some() || at_limit;
        if !is_blocked && self.is_full && self.take_packets(cx, desk, &[]) {
            return Ok(true);
        }
        if is_blocked || self.is_full {
            // Nobody reads from it: a reset would go unnoticed.
            let may_look = self.over.is_none() && self.outbox.waiting() == 0;
            if may_look && self.client.poll_broken(cx) {
                return Err((Why::ClientReset, None));
            }
            return Ok(false);
        }
        if self.outbox.waiting() > REPLIES_HELD {
            return Ok(false);
        }
        if desk.cut.is_finishing() && self.inbox.is_empty() {
            self.over = Some((Why::ClientFinished, None));
            return Ok(true);
        }
        let count = match self.client.poll_read(cx, scratch.bytes()) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) => return Err((Why::ClientReset, None)),
        };
        if count == 0 {
            let detail = (!self.inbox.is_empty()).then(|| "it ended within a packet".to_owned());
            self.over = Some((Why::ClientFinished, detail));
            return Ok(true);
        }
        if !desk.rules.idle_by_packet {
            self.active = Instant::now();
        }
        self.carried.up += count as u64;
        let fresh = &scratch.bytes()[..count];
        self.take_packets(cx, desk, fresh);
        Ok(true)
    }

    /// Begins with what has come, as far as there is room; whether anything was done.
    fn take_packets(&mut self, cx: &mut Context<'_>, desk: &PacketDesk<'_>, fresh: &[u8]) -> bool {
        let mut inbox = std::mem::take(&mut self.inbox);
        let (now, mut any) = (Instant::now(), false);
        self.is_full = false;
        let outcome = inbox.cut(&desk.rules.packets, fresh, |packet, is_last| {
            let is_at_limit = self.slots.len() >= desk.rules.in_flight_max
                || self.under_way > 0 && self.under_way + packet.len() > desk.buffer_max;
            let has_room = !is_at_limit && self.waiting.is_none() && self.over.is_none();
            if has_room {
                self.begin(is_last.then_some(&mut *cx), packet, desk, now);
            }
            self.is_full = !has_room;
            any |= has_room;
            has_room
        });
        self.inbox = inbox;
        if let Err(refusal) = outcome {
            self.over = Some((Why::BadPacket, Some(refusal.to_string())));
            any = true;
        }
        any
    }

    /// Begins with a packet of the client.
    fn begin(
        &mut self,
        cx: Option<&mut Context<'_>>,
        packet: &[u8],
        desk: &PacketDesk<'_>,
        now: Instant,
    ) {
        self.active = now;
        if let Some((_, reply)) = desk.rules.ping.as_ref().filter(|(ping, _)| *ping == packet) {
            self.slots.begin(Slot::Reply(reply.as_slice().into()));
            return self.pass_on();
        }
        let key = self.key(packet, desk);
        let id = desk.rules.matching.map(|part| part.of(packet).into()).unwrap_or_default();
        let mut prefixed = Vec::new();
        let packet = match &desk.prefix {
            None => packet,
            Some(prefix) => {
                let packets = &desk.rules.packets;
                if let Err(refusal) = packets.write_prefixed(packet, prefix, &mut prefixed) {
                    self.over = Some((Why::BadPacket, Some(refusal.to_string())));
                    return;
                }
                &prefixed
            }
        };
        let number = self.slots.begin(Slot::UnderWay);
        let due = now + desk.upstream.rules.response_timeout;
        let course = Course { number, key, id, due, tried: Vec::new(), losses: 0 };
        match desk.upstream.place_now(desk.affinity_by(key), &[]) {
            Some(place) => {
                self.send(cx, (packet, place), course, desk, now);
            }
            None => {
                self.wait(Homeless { course, packet: packet.into() }, desk);
            }
        }
    }

    /// Where a packet belongs.
    fn key(&mut self, packet: &[u8], desk: &PacketDesk<'_>) -> u64 {
        let own = desk.upstream.packet_key(packet, &mut self.first_key);
        own.unwrap_or(desk.affinity.key)
    }

    fn wait(&mut self, packet: Homeless, desk: &PacketDesk<'_>) {
        let (upstream, tried) = (Arc::clone(&desk.upstream), packet.course.tried.clone());
        let affinity = desk.affinity_by(packet.course.key);
        let place =
            Box::pin(async move { Upstream::place(&upstream, affinity, &tried, &mut None).await });
        self.waiting = Some(Box::new(Waiting { packet, place }));
    }

    fn send(
        &mut self,
        cx: Option<&mut Context<'_>>,
        (packet, place): (&[u8], InFlight),
        course: Course,
        desk: &PacketDesk<'_>,
        now: Instant,
    ) {
        place.backend.asked();
        let goes = |lane: &&mut Box<Lane>| lane.backend.is(&place.backend) && lane.has_room(desk);
        let found = self.lanes.iter_mut().find(goes);
        let lane = match found {
            Some(lane) => lane,
            None => {
                self.lanes.push(Lane::to(&place, desk, now));
                let last = self.lanes.len() - 1;
                &mut self.lanes[last]
            }
        };
        let place_in_lane = lane.put(cx, packet);
        let kept = desk.rules.idempotent.then(|| packet.into());
        self.under_way += packet.len();
        lane.owed.push_back(Owed { course, place, place_in_lane, packet: kept, sent: now });
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>, desk: &PacketDesk<'_>) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        let Poll::Ready(outcome) = waiting.place.as_mut().poll(cx) else { return false };
        let Some(waiting) = self.waiting.take() else { return false };
        let Homeless { course, packet } = waiting.packet;
        match outcome {
            Ok(place) => {
                self.send(None, (&packet, place), course, desk, Instant::now());
            }
            Err(no_place) => {
                let why = match no_place {
                    NoPlace::NobodyLeft => Why::NoBackend,
                    NoPlace::QueueFull => Why::QueueFull,
                    NoPlace::QueueTimeout => Why::QueueTimeout,
                };
                self.lose(course.number, (why, None), desk);
            }
        }
        true
    }

    /// Writes what is to go to backends, and gives back the connections that have nothing more to do.
    fn poll_sends(&mut self, cx: &mut Context<'_>, desk: &PacketDesk<'_>) -> bool {
        let (mut moved, mut at) = (false, 0);
        while let Some(lane) = self.lanes.get_mut(at) {
            match lane.poll_send(cx) {
                Ok(sent) => moved |= sent,
                Err(why) => {
                    let lane = self.lanes.swap_remove(at);
                    self.lose_lane(*lane, &why, desk);
                    // Those that it has lost may go to one that was looked at already.
                    moved = true;
                    continue;
                }
            }
            if desk.rules.reply == Reply::Never {
                self.forget_sent(at);
            }
            if self.lanes[at].is_done() {
                self.lanes.swap_remove(at).rest(desk, Instant::now());
                continue;
            }
            at += 1;
        }
        moved
    }

    /// Packets without replies are done when they have gone.
    fn forget_sent(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        while let Some(owed) = lane.owed.front()
            && lane.has_gone(owed)
        {
            let Some(owed) = lane.owed.pop_front() else { break };
            self.under_way -= owed.size();
            self.last_backend = Some(Arc::clone(&lane.backend.name));
            self.slots.settle(owed.course.number, Slot::Reply(Box::default()));
        }
        self.pass_on();
    }

    /// The end, once everything before it has been passed on.
    fn is_over(&mut self) -> Option<End> {
        if self.outbox.waiting() > 0 || self.client.holds_back() {
            return None;
        }
        if let Some(end) = self.slots.lost() {
            return Some(end);
        }
        if self.slots.is_empty() && self.lanes.is_empty() {
            self.outbox.rest();
            self.slots.rest();
            return self.over.take();
        }
        None
    }

    /// Ends the connection with the client as its reason demands.
    pub(super) async fn end(&mut self, why: Why) {
        self.lanes.clear();
        self.waiting = None;
        let is_between = self.slots.is_empty() && self.outbox.waiting() == 0;
        match why {
            Why::ClientReset => {}
            Why::ClientFinished | Why::IdleTimeout | Why::MaxDuration | Why::DrainCut
                if is_between =>
            {
                self.client.finish_writing();
            }
            // The replies before it are delivered first.
            Why::BadPacket => {
                delivered(self.client.socket()).await;
                self.client.finish_writing();
            }
            // A packet without its reply: an end in order would say that there is none.
            _ => reset_after_delivery(self.client.socket()).await,
        }
    }
}
