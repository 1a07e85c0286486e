//! Whom a packet that comes is for: the request that waits, a later `recv`, or nobody any more. It must never give the
//! reply to a request that was given up to another one. It does no I/O: packets are handed in, and decisions come out.

use std::collections::VecDeque;

use bytes::Bytes;
use evenkeel_wire::Packets;

use crate::error::Error;
use crate::framing::{Framing, Id};

/// Packets that may wait for `recv` while a request waits for its reply.
const KEPT_MAX: usize = 1024;
/// Their bytes, beyond which no further packet is read.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Requests that may have been given up without an answer.
const OWED_MAX: usize = 1024;

/// Sorts what is received.
#[derive(Debug)]
pub(crate) struct Desk {
    framing: Framing,
    received: Packets,
    /// What is still to be answered, oldest first.
    owed: VecDeque<Owed>,
    /// Requests so far, each of which has its number as its ticket.
    asked: u64,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
}

/// An answer that is still to come.
#[derive(Debug)]
enum Owed {
    /// To a request, which may have been given up.
    Request { ticket: u64, id: Option<Id> },
    /// To so many packets that were only sent.
    Sent { count: u64 },
}

/// What becomes of a packet that was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sorted {
    /// It is the reply to the request that waits.
    Reply(Bytes),
    /// It is for whoever receives.
    Received(Bytes),
    /// Whoever asked for it has given it up.
    Late,
}

impl Desk {
    pub(crate) fn new(framing: Framing) -> Desk {
        let received = framing.received();
        let (owed, kept) = (VecDeque::new(), VecDeque::new());
        Desk { framing, received, owed, asked: 0, kept, kept_bytes: 0 }
    }

    /// A packet is sent that is no request. Without ids its reply comes in its turn, and is for `recv`.
    pub(crate) fn sent(&mut self) {
        if self.framing.has_ids() {
            return;
        }
        match self.owed.back_mut() {
            Some(Owed::Sent { count }) => *count = count.saturating_add(1),
            _ => self.owed.push_back(Owed::Sent { count: 1 }),
        }
    }

    /// A request is about to be sent: its ticket. Unless the reply is collected with it, it is dropped when it comes.
    pub(crate) fn ask(&mut self, packet: &[u8]) -> Result<u64, Error> {
        let id = self.framing.id_of(packet);
        if id.is_none() && self.framing.has_ids() {
            return Err(Error::Unusable("the packet is too short to have an id".to_owned()));
        }
        if self.owed.len() >= OWED_MAX {
            return Err(Error::Full { queue: "requests without an answer", sent: false });
        }
        self.asked = self.asked.saturating_add(1);
        self.owed.push_back(Owed::Request { ticket: self.asked, id });
        Ok(self.asked)
    }

    /// What packets are.
    pub(crate) fn framing(&self) -> &Framing {
        &self.framing
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// Whom a whole packet is for, where the request with this ticket waits, or none.
    pub(crate) fn sort(&mut self, packet: Bytes, waiting: Option<u64>) -> Sorted {
        let answered =
            if self.framing.has_ids() { self.answered_by_id(&packet) } else { self.answered() };
        match answered {
            Some(ticket) if Some(ticket) != waiting => Sorted::Late,
            Some(_) => Sorted::Reply(self.framing.unpack(&self.received, packet)),
            None => Sorted::Received(self.framing.unpack(&self.received, packet)),
        }
    }

    /// The request whose turn it is; none if it is another packet's.
    fn answered(&mut self) -> Option<u64> {
        match self.owed.front_mut()? {
            Owed::Sent { count } if *count > 1 => {
                *count = count.saturating_sub(1);
                return None;
            }
            _ => {}
        }
        match self.owed.pop_front()? {
            Owed::Request { ticket, .. } => Some(ticket),
            Owed::Sent { .. } => None,
        }
    }

    /// The oldest request with the id of this packet.
    fn answered_by_id(&mut self, packet: &[u8]) -> Option<u64> {
        let found = self.framing.id_of(packet)?;
        let has_it =
            |owed: &Owed| matches!(owed, Owed::Request { id: Some(id), .. } if *id == found);
        let at = self.owed.iter().position(has_it)?;
        match self.owed.remove(at)? {
            Owed::Request { ticket, .. } => Some(ticket),
            Owed::Sent { .. } => None,
        }
    }

    /// Keeps a packet for whoever receives.
    pub(crate) fn keep(&mut self, packet: Bytes) {
        self.kept_bytes = self.kept_bytes.saturating_add(packet.len());
        self.kept.push_back(packet);
    }

    /// The packet that was kept first.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let packet = self.kept.pop_front()?;
        self.kept_bytes = self.kept_bytes.saturating_sub(packet.len());
        Some(packet)
    }

    /// Whether nothing more may be read before something is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= KEPT_MAX || self.kept_bytes >= KEPT_BYTES_MAX
    }

    /// The connection is gone, and with it all answers that were to come over it.
    pub(crate) fn forget(&mut self) {
        self.owed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &'static str) -> Sorted {
        Sorted::Reply(Bytes::from(text))
    }

    fn received(text: &'static str) -> Sorted {
        Sorted::Received(Bytes::from(text))
    }

    fn in_order() -> Desk {
        Desk::new(Framing::lines())
    }

    fn by_id() -> Desk {
        Desk::new(Framing::lines().matching(0, 1))
    }

    #[test]
    fn in_order_each_packet_is_owed_one_reply() {
        let mut desk = in_order();
        desk.sent();
        desk.sent();
        let given_up = desk.ask(b"c\n").unwrap();
        desk.sent();
        let waiting = desk.ask(b"e\n").unwrap();
        assert_ne!(given_up, waiting);
        let mut sort = |text: &'static str| desk.sort(Bytes::from(text), Some(waiting));
        assert_eq!(sort("A\n"), received("A"));
        assert_eq!(sort("B\n"), received("B"));
        assert_eq!(sort("C\n"), Sorted::Late);
        assert_eq!(sort("D\n"), received("D"));
        assert_eq!(sort("E\n"), reply("E"));
        assert_eq!(sort("F\n"), received("F"), "nobody asked for it");
    }

    #[test]
    fn by_id_the_older_of_two_is_answered_first() {
        let mut desk = by_id();
        desk.ask(b"1 old\n").unwrap();
        desk.ask(b"2 old\n").unwrap();
        let waiting = desk.ask(b"1 new\n").unwrap();
        let mut sort = |text: &'static str| desk.sort(Bytes::from(text), Some(waiting));
        assert_eq!(sort("3\n"), received("3"));
        assert_eq!(sort("1 a\n"), Sorted::Late);
        assert_eq!(sort("1 b\n"), reply("1 b"));
        assert_eq!(sort("1 c\n"), received("1 c"));
        assert_eq!(sort("2\n"), Sorted::Late);
    }

    #[test]
    fn what_is_owed_has_a_limit() {
        let mut desk = by_id();
        for _ in 0..OWED_MAX {
            desk.sent();
            desk.ask(b"x\n").unwrap();
        }
        assert!(matches!(desk.ask(b"x\n"), Err(Error::Full { sent: false, .. })));
        assert_eq!(desk.sort(Bytes::from("x\n"), None), Sorted::Late);
        desk.ask(b"x\n").unwrap();
    }
}
