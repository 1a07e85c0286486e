//! One connection to a backend while packets are under way on it, or about to be: it may still be opening.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::PacketDesk;
use super::buffers::{Inbox, Outbox};
use super::slots::{Course, End};
use crate::link::Link;
use crate::observe::ended::Why;
use crate::tcp::flow::Scratch;
use crate::upstream::connect::{Call, ConnectFailed};
use crate::upstream::idle::{Kept, Quiet};
use crate::upstream::{Backend, InFlight};

/// A connection between two packets, with the room that the last ones needed.
#[derive(Debug)]
pub(super) struct Rested(Box<Lane>);

impl Quiet for Rested {
    fn is_quiet(&mut self) -> bool {
        match &mut self.0.way {
            Way::Open(link) => link.is_quiet(),
            Way::Opening(_) => false,
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("backend", &self.backend.name).finish_non_exhaustive()
    }
}

/// A packet that has no reply yet.
pub(super) struct Owed {
    pub(super) course: Course,
    pub(super) place: InFlight,
    /// Where it stands among all bytes of the lane.
    pub(super) place_in_lane: Range<u64>,
    /// The packet, where it may be sent again after it has gone.
    pub(super) packet: Option<Box<[u8]>>,
    pub(super) sent: Instant,
}

impl Owed {
    /// Bytes of the packet.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.place_in_lane.end - self.place_in_lane.start).unwrap_or(usize::MAX)
    }
}

/// A packet to which a reply has come.
pub(super) enum Answered<'a> {
    /// It was the last.
    Whole(Owed),
    /// More will come.
    Begun(&'a Owed),
}

/// A connection in use.
pub(super) struct Lane {
    pub(super) backend: Arc<Backend>,
    way: Way,
    inbox: Inbox,
    outbox: Outbox,
    /// In the order in which they were sent.
    pub(super) owed: VecDeque<Owed>,
    /// It was not read from, as others were awaited.
    was_skipped: bool,
    /// It was opened a while ago, and nothing has come over it since it was taken out of its rest.
    may_be_stale: bool,
}

enum Way {
    Opening(Pin<Box<dyn Future<Output = Result<Link, ConnectFailed>>>>),
    Open(Link),
}

/// Why a lane can go on no longer.
pub(super) struct Lost {
    pub(super) why: Why,
    pub(super) detail: Option<String>,
}

impl Lost {
    fn new(why: Why, detail: impl Into<String>) -> Lost {
        Lost { why, detail: Some(detail.into()) }
    }

    pub(super) fn end(&self) -> End {
        (self.why, self.detail.clone())
    }
}

impl Lane {
    /// To the backend of a place: what was kept for it, or a connection that is being opened.
    pub(super) fn to(place: &InFlight, desk: &PacketDesk<'_>, now: Instant) -> Box<Lane> {
        let kept = desk.pool.0.borrow_mut().take(&place.backend, now);
        if let Some(Kept { connection: Rested(mut lane), .. }) = kept {
            lane.may_be_stale = true;
            return lane;
        }
        let (inbox, outbox, owed) = Default::default();
        let (way, backend) = (Way::Opening(open(place, desk)), Arc::clone(&place.backend));
        Box::new(Lane {
            backend,
            way,
            inbox,
            outbox,
            owed,
            was_skipped: false,
            may_be_stale: false,
        })
    }

    /// Takes a packet to be sent: at once, if a context is given, as no other follows. Gives where it stands.
    pub(super) fn put(&mut self, cx: Option<&mut Context<'_>>, packet: &[u8]) -> Range<u64> {
        let start = self.outbox.end();
        match (cx, &mut self.way) {
            (Some(cx), Way::Open(link)) => self.outbox.put_last(cx, link, packet),
            _ if self.outbox.is_bulky() => {
                let is_not_gone = |owed: &&Owed| owed.place_in_lane.end > self.outbox.gone();
                let from =
                    self.owed.iter().filter(is_not_gone).map(|owed| owed.place_in_lane.start);
                let from = from.min().unwrap_or(start);
                self.outbox.put_after(from, packet);
            }
            _ => self.outbox.put(packet),
        }
        start..start + packet.len() as u64
    }

    /// A packet that can be sent again: one that has not all gone, or may be repeated.
    pub(super) fn again(&self, owed: &mut Owed) -> Option<Box<[u8]>> {
        let kept = owed.packet.take();
        kept.or_else(|| {
            let unsent = (!self.has_gone(owed)).then(|| self.outbox.slice(&owed.place_in_lane));
            unsent.flatten().map(Box::from)
        })
    }

    /// Whether all of a packet has gone to the backend's kernel: it may have had it.
    pub(super) fn has_gone(&self, owed: &Owed) -> bool {
        owed.place_in_lane.end <= self.outbox.gone()
    }

    /// Writes what waits, once it is open. Whether anything was written.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        if let Way::Opening(opening) = &mut self.way {
            match opening.as_mut().poll(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(link)) => self.way = Way::Open(link),
                Poll::Ready(Err(failed)) => {
                    return Err(Lost { why: failed.why, detail: failed.detail });
                }
            }
        }
        let Way::Open(link) = &mut self.way else { return Ok(false) };
        let before = self.outbox.gone();
        match self.outbox.poll_flush(cx, link) {
            Poll::Ready(Err(error)) => Err(Lost::new(Why::BackendReset, error.to_string())),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(self.outbox.gone() > before),
        }
    }

    /// Reads once, and hands every reply to `take`, with what it answers and whether no other stands behind it: as its
    /// own, if it is the last to its packet. Whether anything has come.
    pub(super) fn poll_replies(
        &mut self,
        cx: &mut Context<'_>,
        desk: &PacketDesk<'_>,
        scratch: &mut Scratch,
        mut take: impl FnMut(&mut Context<'_>, Answered<'_>, &[u8], bool),
    ) -> Result<bool, Lost> {
        let Way::Open(link) = &mut self.way else { return Ok(false) };
        let bytes = scratch.bytes();
        let count = match link.poll_read(cx, bytes) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => {
                return Err(Lost::new(Why::BackendGone, "it ended the connection"));
            }
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => {
                return Err(Lost::new(Why::BackendReset, error.to_string()));
            }
        };
        self.may_be_stale = false;
        let owed = &mut self.owed;
        let mut unasked = false;
        let cut = self.inbox.cut(&desk.rules.replies, &bytes[..count], |reply, is_last| {
            let at = match desk.rules.matching {
                None => 0,
                Some(part) => {
                    let id = part.of(reply);
                    let at = owed.iter().position(|owed| *owed.course.id == *id);
                    at.unwrap_or(usize::MAX)
                }
            };
            let is_all = desk.rules.reply.ends_with(reply);
            match owed.get_mut(at) {
                None => unasked = true,
                Some(asked) if !is_all => {
                    // What comes shows that more may come.
                    asked.course.due = Instant::now() + desk.upstream.rules.response_timeout;
                    take(cx, Answered::Begun(asked), reply, is_last);
                    // The first is always the first that is due.
                    let renewed = owed.remove(at);
                    owed.extend(renewed);
                }
                Some(_) => {
                    if let Some(asked) = owed.remove(at) {
                        take(cx, Answered::Whole(asked), reply, is_last);
                    }
                }
            }
            true
        });
        match cut {
            Err(refusal) => Err(Lost::new(Why::BadResponse, refusal.as_str())),
            Ok(()) if unasked => Err(Lost::new(Why::BadResponse, "a reply to nothing")),
            Ok(()) => Ok(true),
        }
    }

    /// Whether its backend may have ended it before it could see a packet on it, which is nobody's fault.
    pub(super) fn may_be_stale(&self) -> bool {
        self.may_be_stale
    }

    /// Leaves what it may have to say unread.
    pub(super) fn skip(&mut self) {
        self.was_skipped = true;
    }

    /// Takes it up again, if it was skipped.
    pub(super) fn resume(&mut self, desk: &PacketDesk<'_>) {
        if std::mem::take(&mut self.was_skipped) {
            self.give_time(desk);
        }
    }

    /// It was not read from, and has as much time as if it had just been asked.
    pub(super) fn give_time(&mut self, desk: &PacketDesk<'_>) {
        let due = Instant::now() + desk.upstream.rules.response_timeout;
        self.owed.iter_mut().for_each(|owed| owed.course.due = due);
    }

    /// Bytes of a reply that is not whole.
    pub(super) fn held(&self) -> usize {
        self.inbox.len()
    }

    /// Whether nothing is under way.
    pub(super) fn is_done(&self) -> bool {
        let holds_back = matches!(&self.way, Way::Open(link) if link.holds_back());
        self.owed.is_empty() && self.outbox.waiting() == 0 && !holds_back
    }

    /// Whether another packet may be sent before the first is answered.
    pub(super) fn has_room(&self, desk: &PacketDesk<'_>) -> bool {
        self.owed.len() < desk.rules.pipeline_max()
    }

    /// Gives the connection back for the next packet of whichever client.
    pub(super) fn rest(mut self: Box<Self>, desk: &PacketDesk<'_>, now: Instant) {
        let is_between = self.inbox.is_empty();
        let (Way::Open(link), true) = (&mut self.way, is_between) else { return };
        let Some(rules) = &desk.upstream.rules.keep_alive else {
            link.finish_writing();
            return;
        };
        let backend = Arc::clone(&self.backend);
        // What limits requests on a connection would end one every few milliseconds.
        let kept = Kept { connection: Rested(self), requests: 0 };
        desk.pool.0.borrow_mut().keep(&backend, kept, rules, now);
    }
}

fn open(
    place: &InFlight,
    desk: &PacketDesk<'_>,
) -> Pin<Box<dyn Future<Output = Result<Link, ConnectFailed>>>> {
    let (upstream, backend) = (Arc::clone(&place.upstream), Arc::clone(&place.backend));
    let (affinity, client) = (desk.affinity, desk.client);
    let told = desk.told.clone();
    Box::pin(async move {
        let call = Call { affinity, told: told.as_deref(), client };
        upstream.connect_to(&backend, call).await
    })
}
