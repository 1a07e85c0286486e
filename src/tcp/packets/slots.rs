//! What becomes of one client's packets, in the order in which it sent them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::observe::ended::Why;
use crate::upstream::queue::NoPlace;
use crate::upstream::{Backend, InFlight};

/// An end, and what is said of it.
pub(super) type End = (Why, Option<String>);

/// What is known of a packet.
#[derive(Debug)]
pub(super) enum Slot {
    UnderWay,
    /// Some of its replies have come: these wait, and those before them may have been passed on.
    Begun {
        replies: Vec<u8>,
        are_passed: bool,
    },
    /// Its reply has come, and waits for those before it.
    Reply(Box<[u8]>),
    /// It was lost, and with it all that come after.
    Lost(End),
}

/// A packet on its way to a reply.
#[derive(Debug)]
pub(super) struct Course {
    /// Which of the client's it is.
    pub(super) number: u64,
    /// Where it belongs, for hashing algorithms; all else of that is its client's.
    pub(super) key: u64,
    /// What its reply is known by; nothing where replies are in order.
    pub(super) id: Box<[u8]>,
    /// When it must have its reply.
    pub(super) due: Instant,
    /// Backends that have failed it.
    pub(super) tried: Vec<Arc<Backend>>,
    /// How often it has been lost.
    pub(super) losses: u32,
}

/// A packet without a backend.
pub(super) struct Homeless {
    pub(super) course: Course,
    pub(super) packet: Box<[u8]>,
}

pub(super) struct Waiting {
    pub(super) packet: Homeless,
    pub(super) place: Pin<Box<dyn Future<Output = Result<InFlight, NoPlace>>>>,
}

/// The packets of a client that have no reply yet, and those whose replies wait for theirs.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: VecDeque<Slot>,
    /// The number of the first.
    oldest: u64,
    /// Bytes of replies in them.
    held: usize,
}

impl Slot {
    fn held(&self) -> usize {
        match self {
            Slot::Reply(reply) => reply.len(),
            Slot::Begun { replies, .. } => replies.len(),
            Slot::UnderWay | Slot::Lost(_) => 0,
        }
    }
}

impl Slots {
    /// Gives back all room.
    pub(super) fn rest(&mut self) {
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of replies that wait for those before them.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The number of the packet whose replies are the next to be passed on.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Takes in the next packet; gives its number.
    pub(super) fn begin(&mut self, slot: Slot) -> u64 {
        self.held += slot.held();
        self.slots.push_back(slot);
        self.oldest + self.slots.len() as u64 - 1
    }

    pub(super) fn settle(&mut self, number: u64, slot: Slot) {
        if let Some(found) = self.find(number) {
            let (before, now) = (found.held(), slot.held());
            *found = slot;
            self.held = self.held + now - before;
        }
    }

    fn find(&mut self, number: u64) -> Option<&mut Slot> {
        let at = number.checked_sub(self.oldest).and_then(|at| usize::try_from(at).ok())?;
        self.slots.get_mut(at)
    }

    /// Whether it is the first, and no reply waits for its own.
    pub(super) fn is_alone_at_front(&self, number: u64) -> bool {
        number == self.oldest && !matches!(self.slots.get(1), Some(Slot::Reply(_)))
    }

    /// Takes the first if its reply has come.
    pub(super) fn take_reply(&mut self) -> Option<Box<[u8]>> {
        match self.slots.front_mut() {
            Some(Slot::Reply(reply)) => {
                let reply = std::mem::take(reply);
                self.held -= reply.len();
                self.pop();
                Some(reply)
            }
            _ => None,
        }
    }

    /// Takes a reply that is not the last one to its packet; gives it back if it may be passed on at once.
    pub(super) fn begin_reply<'r>(&mut self, number: u64, reply: &'r [u8]) -> Option<&'r [u8]> {
        let is_front = number == self.oldest;
        let slot = self.find(number)?;
        if !matches!(slot, Slot::Begun { .. }) {
            *slot = Slot::Begun { replies: Vec::new(), are_passed: false };
        }
        let Slot::Begun { replies, are_passed } = slot else { return None };
        if is_front {
            *are_passed = true;
            return Some(reply);
        }
        replies.extend_from_slice(reply);
        self.held += reply.len();
        None
    }

    /// Notes that a reply has been passed on whose packet has more to come, in whatever order.
    pub(super) fn note_passed(&mut self, number: u64) {
        self.settle(number, Slot::Begun { replies: Vec::new(), are_passed: true });
    }

    /// Takes the replies that wait of those to the first packet, which has more to come.
    pub(super) fn take_begun(&mut self) -> Option<Vec<u8>> {
        match self.slots.front_mut() {
            Some(Slot::Begun { replies, are_passed }) if !replies.is_empty() => {
                *are_passed = true;
                self.held -= replies.len();
                Some(std::mem::take(replies))
            }
            _ => None,
        }
    }

    /// What waits of its replies, before the last one is added to them.
    pub(super) fn take_waiting(&mut self, number: u64) -> Vec<u8> {
        let replies = match self.find(number) {
            Some(Slot::Begun { replies, .. }) => std::mem::take(replies),
            _ => Vec::new(),
        };
        self.held -= replies.len();
        replies
    }

    /// Whether the client has had a part of its replies.
    pub(super) fn has_passed(&mut self, number: u64) -> bool {
        matches!(self.find(number), Some(Slot::Begun { are_passed: true, .. }))
    }

    /// The end, if the first was lost.
    pub(super) fn lost(&self) -> Option<End> {
        match self.slots.front() {
            Some(Slot::Lost(end)) => Some(end.clone()),
            _ => None,
        }
    }

    /// The first is done with.
    pub(super) fn pop(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.oldest += 1;
            self.held -= slot.held();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_out_in_order_and_a_loss_ends_what_follows() {
        let mut slots = Slots::default();
        let numbers: Vec<u64> = (0..4).map(|_| slots.begin(Slot::UnderWay)).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        slots.settle(1, Slot::Reply((*b"b").into()));
        assert!(slots.take_reply().is_none() && !slots.is_alone_at_front(0));
        slots.settle(0, Slot::Reply((*b"a").into()));
        assert_eq!(slots.take_reply().as_deref(), Some(&b"a"[..]));
        assert_eq!(slots.take_reply().as_deref(), Some(&b"b"[..]));
        assert!(slots.take_reply().is_none() && slots.is_alone_at_front(2));
        slots.settle(3, Slot::Lost((Why::BackendGone, None)));
        assert!(slots.lost().is_none());
        slots.pop();
        assert_eq!(slots.lost(), Some((Why::BackendGone, None)));
        // What is over, or was never begun, changes nothing.
        slots.settle(0, Slot::UnderWay);
        slots.settle(9, Slot::Reply((*b"c").into()));
        assert_eq!((slots.len(), slots.held()), (1, 0));
    }

    #[test]
    fn many_replies_wait_for_those_before_them_and_then_pass_as_they_come() {
        let mut slots = Slots::default();
        for _ in 0..2 {
            slots.begin(Slot::UnderWay);
        }
        assert_eq!(slots.begin_reply(1, b"one"), None);
        assert_eq!(slots.begin_reply(1, b"two"), None);
        assert_eq!((slots.held(), slots.has_passed(1)), (6, false));
        assert_eq!(slots.begin_reply(0, b"now"), Some(&b"now"[..]));
        assert!(slots.has_passed(0) && slots.take_begun().is_none());
        slots.settle(0, Slot::Reply((*b"end").into()));
        assert_eq!(slots.take_reply().as_deref(), Some(&b"end"[..]));
        assert_eq!(slots.take_begun().as_deref(), Some(&b"onetwo"[..]));
        assert!(slots.has_passed(1) && slots.held() == 0);
        assert_eq!(slots.begin_reply(1, b"three"), Some(&b"three"[..]));
        assert_eq!(slots.take_waiting(1), b"");
        slots.settle(1, Slot::Lost((Why::BackendGone, None)));
        assert!(slots.lost().is_some());
    }
}
