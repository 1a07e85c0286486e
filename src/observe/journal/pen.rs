//! The pen of one thread: notes which loads a pick reads, and writes its record into the ring of that thread. It takes no lock and
//! allocates only until its buffers have grown; each load is read once for a pick, so that what is noted is what was decided by.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_balance::Loads;

use super::record::{self, LATENCIES_MAX, Mark, Noted, READS_MAX, Reads};
use super::ring::Ring;

/// The loads of the moment, as they can be read.
pub(crate) trait Gauge {
    fn open(&self, index: u32) -> u32;
    /// How many may be open.
    fn most(&self, index: u32) -> u32;
    /// In seconds.
    fn latency(&self, index: u32) -> f64;
    fn total(&self) -> u64;
}

/// What one thread writes with.
#[derive(Debug)]
pub(crate) struct Pen {
    number: u16,
    parts: RefCell<Parts>,
}

#[derive(Debug)]
struct Parts {
    ring: Ring,
    memo: Memo,
    /// A record in the making.
    record: Vec<u64>,
}

/// What was read for the pick under way.
#[derive(Debug, Default)]
struct Memo {
    /// The number of that pick.
    turn: u32,
    /// By member: for which pick it was read last, and what was open.
    seen: Vec<(u32, u32)>,
    reads: Reads,
}

/// Loads that note what is read of them.
#[derive(Debug)]
pub(crate) struct Reading<'a, G> {
    pen: &'a Pen,
    gauge: &'a G,
}

impl Pen {
    pub(crate) fn new(number: u16, ring: Ring) -> Pen {
        let parts = Parts { ring, memo: Memo::default(), record: Vec::new() };
        Pen { number, parts: RefCell::new(parts) }
    }

    /// Begins another pick.
    pub(crate) fn reading<'a, G: Gauge>(&'a self, gauge: &'a G) -> Reading<'a, G> {
        let memo = &mut self.parts.borrow_mut().memo;
        memo.turn = memo.turn.wrapping_add(1);
        if memo.turn == 0 {
            // What was read four thousand million picks ago must not pass for new.
            memo.seen.clear();
            memo.turn = 1;
        }
        memo.reads.opens.clear();
        memo.reads.latencies.clear();
        memo.reads.total = None;
        memo.reads.is_partial = false;
        Reading { pen: self, gauge }
    }

    /// Writes the record of the pick that was begun last.
    pub(crate) fn note(&self, noted: &Noted<'_>) -> Mark {
        let Parts { ring, memo, record } = &mut *self.parts.borrow_mut();
        let position = ring.position();
        record.clear();
        record::pick(record, now(), position, noted, &memo.reads);
        ring.write(record);
        Mark::new(self.number, position)
    }

    /// Writes that what a pick began is over.
    pub(crate) fn note_end(&self, mark: Mark) {
        let Parts { ring, record, .. } = &mut *self.parts.borrow_mut();
        record.clear();
        record::end(record, now(), ring.position(), mark);
        ring.write(record);
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Memo {
    fn open(&mut self, index: u32, read: impl FnOnce() -> u32) -> u32 {
        let place = index as usize;
        if place >= self.seen.len() {
            self.seen.resize(place + 1, (0, 0));
        }
        let seen = &mut self.seen[place];
        if seen.0 == self.turn {
            return seen.1;
        }
        *seen = (self.turn, read());
        let open = seen.1;
        if self.reads.opens.len() < READS_MAX {
            self.reads.opens.push((index, open));
        } else {
            self.reads.is_partial = true;
        }
        open
    }

    fn latency(&mut self, index: u32, read: impl FnOnce() -> f64) -> f64 {
        let known = self.reads.latencies.iter().find(|(known, _)| *known == index);
        if let Some((_, bits)) = known {
            return f64::from_bits(*bits);
        }
        let latency = read();
        if self.reads.latencies.len() < LATENCIES_MAX {
            self.reads.latencies.push((index, latency.to_bits()));
        } else {
            self.reads.is_partial = true;
        }
        latency
    }
}

impl<G: Gauge> Loads for Reading<'_, G> {
    fn open(&self, index: u32) -> u32 {
        self.pen.parts.borrow_mut().memo.open(index, || self.gauge.open(index))
    }

    fn latency(&self, index: u32) -> f64 {
        self.pen.parts.borrow_mut().memo.latency(index, || self.gauge.latency(index))
    }

    fn has_room(&self, index: u32) -> bool {
        self.open(index) < self.gauge.most(index)
    }

    fn total_open(&self) -> Option<u64> {
        let reads = &mut self.pen.parts.borrow_mut().memo.reads;
        Some(*reads.total.get_or_insert_with(|| self.gauge.total()))
    }
}
