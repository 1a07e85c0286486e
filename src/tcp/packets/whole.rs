//! Connections whose packets are known: both sides of the relay pass on whole packets only, and refuse what is none. They
//! must never hold more than one packet and what one read brings. They are sides of the same relay as those of every
//! other connection, so that ends, resets and time limits are the same.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use evenkeel_wire::{PacketProgress, PacketRead, PacketRefusal, Packets};
use tokio::time::Instant;

use super::buffers::Inbox;
use super::who::{PREFIX_BYTES, Prologue, Who};
use crate::link::Link;
use crate::observe::ended::Why;
use crate::socket::Socket;
use crate::tcp::flow::Scratch;
use crate::tcp::relay::{End, Relay, Side, delivered};
use crate::tcp::{Client, Cut, Outcome, Rules, Turns, connect, note_end, why};
use crate::upstream::connect::{Call, Connected};
use crate::upstream::{Affinity, Upstream};

/// Reads for one packet in one turn, before other connections of the worker get theirs.
const READS_PER_TURN: usize = 16;

/// As good as never.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// How packets pass on a listener that balances connections.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WholeRules {
    /// How clients' packets are cut.
    pub(crate) packets: Packets,
    /// How those of backends are.
    pub(crate) replies: Packets,
    /// Whether a packet passes as soon as its length is known.
    pub(crate) stream_large: bool,
    /// Whether every packet says who sent it.
    pub(crate) prefixed: bool,
    /// A packet that backends get first.
    pub(crate) prologue: Option<Prologue>,
    /// Whether only whole packets keep a connection from being idle.
    pub(crate) idle_by_packet: bool,
}

/// A side that passes whole packets on.
#[derive(Debug)]
struct Whole<'a> {
    link: Link,
    packets: &'a Packets,
    streams: bool,
    prefix: Option<[u8; PREFIX_BYTES]>,
    inbox: Inbox,
    /// Whole packets that wait to be passed on, and how far they were.
    out: Vec<u8>,
    taken: usize,
    /// Bytes that are missing of a packet whose beginning has been passed on.
    owed: usize,
    refusal: Option<PacketRefusal>,
    /// It ended within a packet.
    is_torn: bool,
    /// Bytes that have come.
    come: u64,
    idle_by_packet: bool,
    /// What it breaks off is not passed on as an end in order.
    is_backend: bool,
}

impl<'a> Whole<'a> {
    fn new(link: Link, packets: &'a Packets, rules: &WholeRules) -> Whole<'a> {
        let (inbox, out) = Default::default();
        Whole {
            link,
            packets,
            streams: false,
            prefix: None,
            inbox,
            out,
            taken: 0,
            owed: 0,
            refusal: None,
            is_torn: false,
            come: 0,
            idle_by_packet: rules.idle_by_packet,
            is_backend: false,
        }
    }

    /// Reads until a packet is whole, and lends it; it is passed on later like any other. Nothing at the end.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &RefCell<Scratch>,
    ) -> Poll<io::Result<Option<&[u8]>>> {
        let mut scratch = scratch.borrow_mut();
        let count = ready!(self.poll_read(cx, scratch.bytes()))?;
        self.out.splice(..self.taken, scratch.bytes()[..count].iter().copied());
        self.taken = 0;
        let whole = self.packets.read(&self.out, &mut PacketProgress::default());
        let Ok(PacketRead::Whole { length }) = whole else { return Poll::Ready(Ok(None)) };
        Poll::Ready(Ok(Some(&self.out[..length])))
    }

    /// Has what waits to be passed on say who sent it, and what comes after it.
    fn begin_to_prefix(&mut self, prefix: [u8; PREFIX_BYTES]) {
        let waiting = std::mem::take(&mut self.out).split_off(self.taken);
        (self.taken, self.prefix) = (0, Some(prefix));
        let (mut progress, mut rest) = (PacketProgress::default(), &waiting[..]);
        while let Ok(PacketRead::Whole { length }) = self.packets.read(rest, &mut progress) {
            let (packet, behind) = rest.split_at(length);
            if let Err(refusal) = self.packets.write_prefixed(packet, &prefix, &mut self.out) {
                self.refusal = Some(refusal);
                return;
            }
            if behind.is_empty() {
                return;
            }
            rest = behind;
        }
    }

    /// Whether a part of a packet has been passed on, and the rest has not.
    fn is_within(&self) -> bool {
        self.owed > 0 || self.taken > 0
    }

    /// Gives what waits to be passed on.
    fn give(&mut self, into: &mut [u8]) -> usize {
        let waiting = &self.out[self.taken..];
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.out.len() {
            (self.out, self.taken) = (Vec::new(), 0);
        }
        count
    }

    /// Takes in what was read; gives how much of it can be passed on as it lies there. The rest waits, here or for more.
    fn take_in(&mut self, fresh: &[u8]) -> usize {
        let Whole { inbox, packets, prefix, out, .. } = self;
        let in_place = inbox.is_empty() && prefix.is_none();
        let mut passable = 0;
        let mut unprefixed = Ok(());
        let cut = inbox.cut(packets, fresh, |packet, _| {
            match prefix {
                None if in_place => passable += packet.len(),
                None => out.extend_from_slice(packet),
                Some(prefix) => unprefixed = packets.write_prefixed(packet, prefix, out),
            }
            unprefixed.is_ok()
        });
        if let Err(refusal) = cut.and(unprefixed) {
            (self.refusal, self.inbox) = (Some(refusal), Inbox::default());
        } else if self.streams
            && let Some((begun, total)) = self.inbox.take_begun()
        {
            self.owed = total - begun.len();
            if in_place {
                return fresh.len();
            }
            self.out.extend_from_slice(&begun);
        }
        passable
    }

    /// It has ended, or says what is no packet.
    fn end(&mut self) -> io::Result<usize> {
        self.is_torn |= !self.inbox.is_empty() || self.owed > 0;
        self.inbox = Inbox::default();
        let is_broken = self.is_torn || self.refusal.is_some();
        // Whoever has half a packet already must not take it for a whole one.
        if is_broken && (self.is_backend || self.owed > 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(0)
    }

    /// What is wrong with its packets.
    fn complaint(&self) -> Option<String> {
        let torn = self.is_torn.then(|| "it ended within a packet".to_owned());
        self.refusal.map(|refusal| refusal.to_string()).or(torn)
    }
}

impl Side for Whole<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        for _ in 0..READS_PER_TURN {
            if !self.out.is_empty() {
                return Poll::Ready(Ok(self.give(into)));
            }
            if self.refusal.is_some() {
                return Poll::Ready(self.end());
            }
            let room = if self.owed > 0 { into.len().min(self.owed) } else { into.len() };
            let count = ready!(self.link.poll_read(cx, &mut into[..room]))?;
            self.come += count as u64;
            if count == 0 {
                return Poll::Ready(self.end());
            }
            if self.owed > 0 {
                self.owed -= count;
                return Poll::Ready(Ok(count));
            }
            let passable = self.take_in(&into[..count]);
            if passable > 0 {
                return Poll::Ready(Ok(passable));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.link.poll_write(cx, from)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_flush(cx)
    }

    fn poll_last_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Side::poll_last_word(&mut self.link, cx)
    }

    fn finish_writing(&mut self) {
        self.link.finish_writing();
    }

    fn plain(&self) -> Option<&Socket> {
        None
    }

    fn socket(&self) -> &Socket {
        self.link.socket()
    }

    fn come(&self) -> u64 {
        if self.idle_by_packet { 0 } else { self.come }
    }

    fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }
}

/// Serves one client, whose packets all go to one backend.
pub(crate) async fn serve(
    client: Client,
    (rules, whole): (&Rules, &WholeRules),
    upstream: &Arc<Upstream>,
    scratch: &RefCell<Scratch>,
    cut: &Cut,
) -> Outcome {
    let accepted = Instant::now();
    let Client { link, mut key, told, address, port, asker } = client;
    let mut client = Whole::new(link, &whole.packets, whole);
    if upstream.rules.key_part.is_first_packet() {
        match begin(&mut client, rules, accepted, scratch, cut).await {
            Ok(packet) => key = upstream.packet_key(&packet, &mut None).unwrap_or(key),
            Err((why, detail)) => return Outcome::without_backend(why, detail),
        }
    }
    let who = Who::new(address, port);
    client.streams = whole.stream_large;
    if whole.prefixed {
        client.begin_to_prefix(who.prefix());
    }
    let prologue = match whole.prologue.as_ref().map(|it| it.packet(&whole.packets, &who)) {
        None => Vec::new(),
        Some(Ok(packet)) => packet,
        Some(Err(refusal)) => {
            let detail = format!("its prologue would be {refusal}");
            return Outcome::without_backend(Why::BadPacket, Some(detail));
        }
    };
    let affinity = Affinity { key, session: None, asker };
    let call = Call { affinity, told: told.as_deref(), client: address };
    let Connected { link, place, efforts } = match Box::pin(connect(upstream, call, cut)).await {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let mut backend = Whole::new(link, &whole.replies, whole);
    cut.stay_at(&place);
    (backend.is_backend, backend.streams) = (true, whole.stream_large);
    let connected_at = Instant::now();
    let turns = Turns::new(rules, scratch, accepted, cut);
    let ours = prologue.len() as u64;
    let mut relay = Relay::resumed(client, backend, prologue, Vec::new());
    let end = turns.run(&mut relay).await;
    let mut carried = relay.carried();
    carried.up = carried.up.saturating_sub(ours);
    reset_torn(end, &relay);
    note_end(&place, end, carried, connected_at);
    let (why, detail) = verdict(end, &relay);
    if why == Why::BadPacket {
        // The replies to those before it are delivered first.
        delivered(relay.client().socket()).await;
    }
    let backend = Some(Arc::clone(&place.backend.name));
    Outcome { backend, efforts, carried, ..Outcome::without_backend(why, detail) }
}

/// The first packet of a client.
async fn begin(
    client: &mut Whole<'_>,
    rules: &Rules,
    accepted: Instant,
    scratch: &RefCell<Scratch>,
    cut: &Cut,
) -> Result<Vec<u8>, (Why, Option<String>)> {
    let never = accepted + NEVER;
    let last = rules.max_duration.map_or(never, |most| accepted + most);
    let mut active = accepted;
    loop {
        let come = client.come();
        let due = rules.idle_timeout.map_or(never, |idle| active + idle).min(last);
        let first = poll_fn(|cx| {
            let first = ready!(client.poll_first(cx, scratch));
            Poll::Ready(first.map(|packet| packet.map(<[u8]>::to_vec)))
        });
        let first = tokio::select! {
            first = tokio::time::timeout_at(due, first) => first,
            () = cut.asked() => return Err((Why::DrainCut, None)),
        };
        match first {
            Err(_) if due == last => return Err((Why::MaxDuration, None)),
            // Something has come since then, and that was not long ago.
            Err(_) if client.come() != come => active = Instant::now(),
            Err(_) => return Err((Why::IdleTimeout, None)),
            Ok(Err(_)) => return Err((Why::ClientReset, None)),
            Ok(Ok(Some(packet))) => return Ok(packet),
            Ok(Ok(None)) if client.refusal.is_some() => {
                return Err((Why::BadPacket, client.complaint()));
            }
            Ok(Ok(None)) => return Err((Why::ClientFinished, client.complaint())),
        }
    }
}

/// Whoever has got a part of a packet, whose rest we keep back, must not take it for a whole one.
fn reset_torn(end: End, relay: &Relay<Whole<'_>, Whole<'_>>) {
    if !matches!(end, End::Cut | End::TooLong | End::Idle) {
        return;
    }
    let (is_up_stuck, is_down_stuck) = relay.are_stuck();
    if is_up_stuck || relay.client().is_within() {
        relay.backend().socket().reset_on_close();
    }
    if is_down_stuck || relay.backend().is_within() {
        relay.client().socket().reset_on_close();
    }
}

/// Why a relay of packets has ended.
fn verdict(end: End, relay: &Relay<Whole<'_>, Whole<'_>>) -> (Why, Option<String>) {
    let (client, backend) = (relay.client(), relay.backend());
    match (client.refusal, backend.refusal) {
        (Some(_), _) => (Why::BadPacket, client.complaint()),
        (None, Some(_)) => (Why::BadResponse, backend.complaint()),
        (None, None) => (why(end), client.complaint().or_else(|| backend.complaint())),
    }
}
