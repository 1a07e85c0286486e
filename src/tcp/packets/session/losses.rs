//! What becomes of packets whose backend is lost, or too late: another backend, a reply of ours, or the end. What a backend
//! may have had goes to no other one, unless doing it twice does no harm.

use std::sync::Arc;

use tokio::time::Instant;

use super::{End, Session};
use crate::observe::ended::Why;
use crate::tcp::packets::lane::{Lane, Lost, Owed};
use crate::tcp::packets::slots::{Course, Homeless, Slot};
use crate::tcp::packets::{PacketDesk, Times};

impl Session {
    /// A packet will have no reply of a backend's.
    pub(super) fn lose(&mut self, number: u64, end: End, desk: &PacketDesk<'_>) {
        let is_begun = self.slots.has_passed(number);
        if let (Some(reply), false) = (&desk.rules.error_reply, is_begun) {
            self.slots.settle(number, Slot::Reply(reply.as_slice().into()));
            return self.pass_on();
        }
        self.slots.settle(number, Slot::Lost(end));
        // What would follow it could not be told from its reply.
        self.over.get_or_insert((Why::ClientFinished, None));
    }

    /// A connection to a backend is lost: what it has not had goes to another one, and so does the rest if that does no
    /// harm.
    pub(super) fn lose_lane(&mut self, mut lane: Lane, lost: &Lost, desk: &PacketDesk<'_>) {
        let now = Instant::now();
        let is_broken = matches!(lost.why, Why::BackendGone | Why::BackendReset);
        let is_stale = is_broken && lane.may_be_stale();
        if is_stale {
            // There may be more that were ended.
            desk.pool.sweep();
        } else if (is_broken || lost.why == Why::BadResponse) && !lane.owed.is_empty() {
            // Connecting notes its own failures.
            desk.upstream.note_traffic(&lane.backend, false);
        }
        for mut owed in std::mem::take(&mut lane.owed) {
            self.under_way -= owed.size();
            let again = lane.again(&mut owed);
            let Owed { mut course, place, .. } = owed;
            drop(place);
            course.due = now + desk.upstream.rules.response_timeout;
            // Each time one such connection is gone, so that they come to an end.
            if !is_stale {
                course.losses += 1;
                course.tried.push(Arc::clone(&lane.backend));
            }
            // Of what the client has had a part of, it must not get another beginning.
            let is_begun = self.slots.has_passed(course.number);
            match again {
                Some(packet) if course.losses <= desk.upstream.rules.retries && !is_begun => {
                    self.slots.settle(course.number, Slot::UnderWay);
                    self.begin_again(packet, course, lost, desk);
                }
                _ => self.lose(course.number, lost.end(), desk),
            }
        }
    }

    /// Finds another backend for a packet.
    fn begin_again(
        &mut self,
        packet: Box<[u8]>,
        course: Course,
        lost: &Lost,
        desk: &PacketDesk<'_>,
    ) {
        match desk.upstream.place_now(desk.affinity_by(course.key), &course.tried) {
            Some(place) => self.send(None, (&packet, place), course, desk, Instant::now()),
            None if self.waiting.is_none() => self.wait(Homeless { course, packet }, desk),
            None => self.lose(course.number, lost.end(), desk),
        }
    }

    /// Some limit of time is over. An end is given if it is that of the session.
    pub(in crate::tcp::packets) fn late(
        &mut self,
        now: Instant,
        times: &Times,
        desk: &PacketDesk<'_>,
    ) -> Option<End> {
        if times.deadline.is_some_and(|deadline| now >= deadline) {
            return Some((Why::MaxDuration, None));
        }
        if self.earliest_due().is_none() {
            let idle = times.idle.is_some_and(|idle| now >= self.active + idle);
            return idle.then_some((Why::IdleTimeout, None));
        }
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.packet.course.due <= now) {
            self.lose(waiting.packet.course.number, (Why::ResponseTimeout, None), desk);
        }
        self.give_time_to_unread(desk);
        let is_late =
            |lane: &mut Box<Lane>| lane.owed.front().is_some_and(|owed| owed.course.due <= now);
        let late: Vec<_> = self.lanes.extract_if(.., is_late).collect();
        for lane in late {
            let detail = Some(format!("no reply from {}", lane.backend.name));
            let lost = Lost { why: Why::ResponseTimeout, detail };
            self.lose_lane(*lane, &lost, desk);
        }
        self.is_over()
    }
}
