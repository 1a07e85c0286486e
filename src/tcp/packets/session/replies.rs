//! Replies on their way back: at once, or when those before them have come. Beyond what may wait, only the backend that is
//! awaited is read from.

use std::sync::Arc;
use std::task::Context;

use tokio::time::Instant;

use super::{REPLIES_HELD, Session};
use crate::tcp::flow::Scratch;
use crate::tcp::packets::lane::{Answered, Lane, Owed};
use crate::tcp::packets::slots::Slot;
use crate::tcp::packets::{PacketDesk, Reply};

impl Session {
    /// Takes the replies that have come.
    pub(super) fn poll_lanes(
        &mut self,
        cx: &mut Context<'_>,
        desk: &PacketDesk<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        if self.outbox.waiting() > REPLIES_HELD {
            self.is_stuck = true;
            return false;
        }
        if std::mem::take(&mut self.is_stuck) {
            self.lanes.iter_mut().for_each(|lane| lane.give_time(desk));
        }
        let (mut moved, mut at) = (false, 0);
        let mut lanes = std::mem::take(&mut self.lanes);
        let mut lost = Vec::new();
        let awaits_one = self.awaits_one(&lanes, desk);
        while let Some(lane) = lanes.get_mut(at) {
            if awaits_one && self.waits(lane) {
                lane.skip();
                at += 1;
                continue;
            }
            lane.resume(desk);
            let outcome = lane.poll_replies(cx, desk, scratch, |cx, answered, reply, is_last| {
                let cx = is_last.then_some(cx);
                match answered {
                    Answered::Whole(owed) => self.answer(cx, &owed, reply, desk),
                    Answered::Begun(owed) => self.answer_begun(owed, reply, desk),
                }
            });
            match outcome {
                Ok(some) => moved |= some,
                Err(why) => {
                    lost.push((lanes.swap_remove(at), why));
                    continue;
                }
            }
            at += 1;
        }
        self.lanes = lanes;
        let any_lost = !lost.is_empty();
        for (lane, why) in lost {
            self.lose_lane(*lane, &why, desk);
        }
        moved || any_lost
    }

    /// Whether so many replies wait for the next one that no other is read, but those before it on its connection.
    fn awaits_one(&self, lanes: &[Box<Lane>], desk: &PacketDesk<'_>) -> bool {
        let has_ends = !matches!(desk.rules.reply, Reply::Until(_));
        if desk.rules.matching.is_some() || has_ends && lanes.len() < 2 {
            return false;
        }
        let begun: usize = lanes.iter().map(|lane| lane.held()).sum();
        // Without a lane it waits for a place, which may be one of these. Where replies need not come to an end, nothing is
        // read even so: then it is its own time limit that ends the wait.
        self.slots.held() + begun > desk.buffer_max
            && (!has_ends || !lanes.iter().all(|one| self.waits(one)))
    }

    /// Whether the next reply that can be passed on does not come from there.
    fn waits(&self, lane: &Lane) -> bool {
        let next = self.slots.oldest();
        lane.owed.iter().all(|owed| owed.course.number != next)
    }

    /// Replies that nobody read are not late.
    pub(super) fn give_time_to_unread(&mut self, desk: &PacketDesk<'_>) {
        let mut lanes = std::mem::take(&mut self.lanes);
        if self.awaits_one(&lanes, desk) {
            let unread = lanes.iter_mut().filter(|lane| self.waits(lane));
            unread.for_each(|lane| lane.give_time(desk));
        }
        self.lanes = lanes;
    }

    fn note_reply(&mut self, owed: &Owed, desk: &PacketDesk<'_>, now: Instant) {
        if !desk.only_client_counts {
            self.active = now;
        }
        self.carried.first_byte.get_or_insert(now);
        let name = &owed.place.backend.name;
        if !self.last_backend.as_ref().is_some_and(|known| Arc::ptr_eq(known, name)) {
            self.last_backend = Some(Arc::clone(name));
        }
    }

    /// Passes a packet's last reply on, or keeps it until those before it have come.
    fn answer(
        &mut self,
        cx: Option<&mut Context<'_>>,
        owed: &Owed,
        reply: &[u8],
        desk: &PacketDesk<'_>,
    ) {
        let now = Instant::now();
        self.note_reply(owed, desk, now);
        self.under_way -= owed.size();
        let Owed { place, sent, course, .. } = owed;
        place.upstream.note_reply(&place.backend, now - *sent);
        match cx {
            // It goes as it is, without a copy.
            Some(cx) if course.id.is_empty() && self.slots.is_alone_at_front(course.number) => {
                self.slots.pop();
                self.outbox.put_last(cx, &mut self.client, reply);
                self.carried.down += reply.len() as u64;
            }
            _ if course.id.is_empty() => {
                let mut all = self.slots.take_waiting(course.number);
                all.extend_from_slice(reply);
                self.slots.settle(course.number, Slot::Reply(all.into_boxed_slice()));
            }
            // It says itself what it answers.
            _ => {
                self.slots.settle(course.number, Slot::Reply(Box::default()));
                self.outbox.put(reply);
                self.carried.down += reply.len() as u64;
            }
        }
        self.pass_on();
    }

    /// The same with a reply that others follow.
    fn answer_begun(&mut self, owed: &Owed, reply: &[u8], desk: &PacketDesk<'_>) {
        self.note_reply(owed, desk, Instant::now());
        let number = owed.course.number;
        let passable = if owed.course.id.is_empty() {
            self.slots.begin_reply(number, reply)
        } else {
            self.slots.note_passed(number);
            Some(reply)
        };
        if let Some(reply) = passable {
            self.outbox.put(reply);
            self.carried.down += reply.len() as u64;
        }
    }

    /// Passes on the replies that waited for the one before them.
    pub(super) fn pass_on(&mut self) {
        while let Some(reply) = self.slots.take_reply() {
            self.outbox.put(&reply);
            self.carried.down += reply.len() as u64;
        }
        if let Some(replies) = self.slots.take_begun() {
            self.outbox.put(&replies);
            self.carried.down += replies.len() as u64;
        }
    }
}
