//! What becomes of one client's packets, in the order in which it sent them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::observe::ended::Why;
use crate::upstream::queue::NoPlace;
use crate::upstream::{Affinity, Backend, InFlight};

/// An end, and what is said of it.
pub(super) type End = (Why, Option<String>);

/// What is known of a packet.
#[derive(Debug)]
pub(super) enum Slot {
    UnderWay,
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
    pub(super) affinity: Affinity,
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

    /// Takes in the next packet; gives its number.
    pub(super) fn begin(&mut self, slot: Slot) -> u64 {
        self.slots.push_back(slot);
        self.oldest + self.slots.len() as u64 - 1
    }

    pub(super) fn settle(&mut self, number: u64, slot: Slot) {
        let at = number.checked_sub(self.oldest).and_then(|at| usize::try_from(at).ok());
        if let Some(found) = at.and_then(|at| self.slots.get_mut(at)) {
            *found = slot;
        }
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
                self.pop();
                Some(reply)
            }
            _ => None,
        }
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
        if self.slots.pop_front().is_some() {
            self.oldest += 1;
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
        slots.settle(9, Slot::UnderWay);
        assert_eq!(slots.len(), 1);
    }
}
