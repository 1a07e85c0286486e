//! What waits on one side of a connection: bytes of a packet that is not whole, and bytes that are not taken yet. Between
//! two packets neither holds anything.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use evenkeel_wire::{PacketProgress, PacketRead, PacketRefusal, Packets};

use crate::link::Link;

/// Room that an empty buffer keeps for the next packets.
const KEPT_ROOM: usize = 4096;

/// What has come and is not done with.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// How many of them are done with: they go when they are most of it.
    done: usize,
    progress: PacketProgress,
}

impl Inbox {
    /// Whether a part of a packet, or more, is there.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Cuts what was there and what has come into packets, for as long as `take` takes them; it is told whether nothing
    /// stands behind. What it does not take stays.
    pub(super) fn cut(
        &mut self,
        packets: &Packets,
        fresh: &[u8],
        mut take: impl FnMut(&[u8], bool) -> bool,
    ) -> Result<(), PacketRefusal> {
        // Whole packets pass from the read to the write without a stop here.
        let is_first = self.bytes.is_empty();
        if !is_first {
            self.extend(fresh);
        }
        let all = if is_first { fresh } else { &self.bytes };
        let mut from = self.done;
        let outcome = loop {
            let rest = &all[from..];
            if rest.is_empty() {
                break Ok(());
            }
            match packets.read(rest, &mut self.progress) {
                Ok(PacketRead::Whole { length }) => {
                    if !take(&rest[..length], rest.len() == length) {
                        break Ok(());
                    }
                    from += length;
                }
                Ok(PacketRead::Partial { .. }) => break Ok(()),
                Err(refusal) => break Err(refusal),
            }
        };
        self.done = 0;
        if is_first {
            self.bytes.extend_from_slice(&fresh[from..]);
        } else if from == self.bytes.len() {
            self.bytes = Vec::new();
        } else if from > self.bytes.len() / 2 {
            self.bytes.drain(..from);
            self.bytes.shrink_to(KEPT_ROOM);
        } else {
            self.done = from;
        }
        outcome
    }

    /// Takes out the beginning of a packet whose length is known; what is missing of it follows. Gives it with the length.
    pub(super) fn take_begun(&mut self) -> Option<(Vec<u8>, usize)> {
        let total = self.progress.total()?;
        let Inbox { mut bytes, done, .. } = std::mem::take(self);
        Some((bytes.split_off(done), total))
    }

    /// Grows as vectors do, but never beyond what is known to come.
    fn extend(&mut self, fresh: &[u8]) {
        if let Some(total) = self.progress.total() {
            let held = self.bytes.len() - self.done;
            let more = total.min(2 * held).saturating_sub(held);
            self.bytes.reserve_exact(more.max(fresh.len()));
        }
        self.bytes.extend_from_slice(fresh);
    }
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// Bytes that were written before those.
    before: u64,
}

impl Outbox {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.put_after(self.gone(), bytes);
    }

    /// The same where what has been written in part may be asked for again, from there on.
    pub(super) fn put_after(&mut self, from: u64, bytes: &[u8]) {
        if self.is_bulky() {
            self.forget(from);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether most of what is held has been written.
    pub(super) fn is_bulky(&self) -> bool {
        self.written > KEPT_ROOM && self.written > self.bytes.len() / 2
    }

    /// Gives back the room of what stands before that, and has been written.
    fn forget(&mut self, before: u64) {
        let gone = usize::try_from(before.saturating_sub(self.before)).unwrap_or(usize::MAX);
        let gone = gone.min(self.written);
        self.bytes.drain(..gone);
        self.before += gone as u64;
        self.written -= gone;
    }

    /// Writes what would be the last to wait, if nothing does; what is not taken waits. An error shows in the next flush.
    pub(super) fn put_last(&mut self, cx: &mut Context<'_>, to: &mut Link, bytes: &[u8]) {
        if self.waiting() > 0 {
            return self.put(bytes);
        }
        let mut written = 0;
        while written < bytes.len() {
            match to.poll_write(cx, &bytes[written..]) {
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        if written == bytes.len() {
            self.before += written as u64;
        } else {
            self.put(bytes);
            self.written = written;
        }
    }

    /// Bytes that have been put and not all written: they stand here until they are.
    pub(super) fn slice(&self, place: &Range<u64>) -> Option<&[u8]> {
        let here = |at: u64| usize::try_from(at.checked_sub(self.before)?).ok();
        self.bytes.get(here(place.start)?..here(place.end)?)
    }

    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Where the next byte that is put stands among all.
    pub(super) fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// Bytes that the writer has taken, of all.
    pub(super) fn gone(&self) -> u64 {
        self.before + self.written as u64
    }

    /// Writes what there is.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Link,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            self.written += ready!(to.poll_write(cx, &self.bytes[self.written..]))?;
        }
        self.before += self.bytes.len() as u64;
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_ROOM {
            self.bytes = Vec::new();
        }
        to.poll_flush(cx)
    }

    /// Gives back all room.
    pub(super) fn rest(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_wire::{LengthField, PacketCut};

    use super::*;

    fn packets() -> Packets {
        Packets { cut: PacketCut::Length(LengthField::new("u8").unwrap()), max: 100 }
    }

    #[test]
    fn what_is_not_taken_stays_and_comes_again_with_what_follows() {
        let mut inbox = Inbox::default();
        let mut found: Vec<Vec<u8>> = Vec::new();
        let stream = b"\x01a\x02bc\x00\x03def";
        inbox
            .cut(&packets(), &stream[..8], |packet, _| {
                let wanted = found.is_empty();
                if wanted {
                    found.push(packet.to_vec());
                }
                wanted
            })
            .unwrap();
        assert!(!inbox.is_empty());
        let mut all = |inbox: &mut Inbox, fresh: &[u8]| {
            inbox
                .cut(&packets(), fresh, |packet, _| {
                    found.push(packet.to_vec());
                    true
                })
                .unwrap();
        };
        all(&mut inbox, &[]);
        all(&mut inbox, &stream[8..]);
        assert!(inbox.is_empty());
        assert_eq!(found.concat(), stream);
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn what_has_been_written_gives_its_room_back_although_more_waits() {
        let mut outbox = Outbox::default();
        outbox.put(&[1; 3000]);
        let second = outbox.end()..outbox.end() + 5000;
        outbox.put(&[2; 5000]);
        outbox.written = 6000;
        // The second has gone in part, and is still there whole.
        outbox.put_after(second.start, &[3; 10]);
        assert_eq!((outbox.bytes.len(), outbox.waiting(), outbox.gone()), (5010, 2010, 6000));
        assert_eq!(outbox.slice(&second), Some(&[2; 5000][..]));
        outbox.written = 5000;
        outbox.put(&[4; 10]);
        assert_eq!((outbox.bytes.len(), outbox.waiting(), outbox.gone()), (20, 20, 8000));
    }

    #[test]
    fn good_packets_before_a_bad_one_are_taken() {
        let mut inbox = Inbox::default();
        let mut count = 0;
        let outcome = inbox.cut(&packets(), b"\x01a\x01b\xff", |_, _| {
            count += 1;
            true
        });
        assert_eq!((outcome, count), (Err(PacketRefusal::TooLong), 2));
    }
}
