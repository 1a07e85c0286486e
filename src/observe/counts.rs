//! Numbers that change while running: connections by listener and by end, bytes. Read by the embedding program and by tests.
//! Each worker has its own, added to once when a connection or request begins and ends, never on the byte path.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use super::count::Count;
use super::diagnostics;
use super::ended::{Ended, Side, Why};
use super::meter::Asked;
use super::sheets::{Row, WAYS, class_of};
use super::stripes::Striped;

/// What happened so far, over all workers; every number only grows, except `open`.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sums: Striped<Sums>,
    stalls: AtomicU64,
    lines_lost: AtomicU64,
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    /// When the last reload was done, in milliseconds since 1970; 0 if there was none.
    reloaded_at: AtomicU64,
    upgrades: AtomicU64,
    upgrades_failed: AtomicU64,
    spans_sent: AtomicU64,
    spans_lost: AtomicU64,
}

/// What one worker has counted.
#[derive(Debug, Default)]
struct Sums {
    accepted: Count,
    /// HTTP requests by the hundreds of their status; those without an answer first.
    requests: Row<6>,
    ended: Row<WAYS>,
    /// HTTP requests by how they ended.
    answered: Row<WAYS>,
    /// Refusals by a limit, each once.
    limits: Row<WAYS>,
    bytes_up: Count,
    bytes_down: Count,
    left_out: Count,
    handed_over: Count,
    taken_over: Count,
}

/// Ends by the number of their reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reasons {
    /// Of HTTP requests.
    pub(crate) answered: [u64; WAYS],
    /// Of connections and requests, by a limit.
    pub(crate) limits: [u64; WAYS],
}

/// What has become of the process itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) reloads: u64,
    pub(crate) reloads_refused: u64,
    /// In milliseconds since 1970.
    pub(crate) reloaded_at: Option<u64>,
    pub(crate) upgrades: u64,
    pub(crate) upgrades_failed: u64,
    /// Access lines that could not be written.
    pub(crate) lines_lost: u64,
    /// Spans that a collector has taken.
    pub(crate) spans_sent: u64,
    /// Spans that it has not, or that did not even get so far.
    pub(crate) spans_lost: u64,
}

impl Tally {
    pub(crate) fn accepted(&self) {
        self.sums.note(|sums| sums.accepted.add(1));
    }

    /// Counts the end of a connection, whose requests may have been counted already.
    pub(crate) fn ended(&self, record: &Ended, by_request: bool) {
        self.sums.note(|sums| {
            sums.bytes_up.add(record.bytes_up);
            sums.bytes_down.add(record.bytes_down);
            sums.ended.count(record.why as usize);
            if !by_request && record.why.side() == Side::Limit {
                sums.limits.count(record.why as usize);
            }
        });
    }

    /// Counts an HTTP request and its bytes.
    pub(crate) fn asked(&self, asked: &Asked) {
        self.sums.note(|sums| {
            sums.requests.count(class_of(asked.status));
            sums.answered.count(asked.why as usize);
            if asked.why.side() == Side::Limit {
                sums.limits.count(asked.why as usize);
            }
            sums.bytes_up.add(asked.up);
            sums.bytes_down.add(asked.down);
        });
    }

    /// Counts an access line that the config does not want.
    pub(crate) fn left_out(&self) {
        self.sums.note(|sums| sums.left_out.add(1));
    }

    /// Counts access lines that were wanted, and could not be written.
    pub(crate) fn lines_lost(&self, count: u64) {
        self.lines_lost.fetch_add(count, Relaxed);
    }

    /// Counts spans that were sent, and such that were lost.
    pub(crate) fn spans(&self, sent: u64, lost: u64) {
        self.spans_sent.fetch_add(sent, Relaxed);
        self.spans_lost.fetch_add(lost, Relaxed);
    }

    /// Counts a connection that goes on in another process.
    pub(crate) fn handed_over(&self) {
        self.sums.note(|sums| sums.handed_over.add(1));
    }

    /// Counts a connection that began in another process.
    pub(crate) fn taken_over(&self) {
        self.sums.note(|sums| sums.taken_over.add(1));
    }

    /// Counts a worker that has made no progress for a second.
    pub(crate) fn stalled(&self) {
        self.stalls.fetch_add(1, Relaxed);
    }

    /// Counts a reload, or one that was refused.
    pub(crate) fn reloaded(&self, is_done: bool) {
        if is_done {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.reloaded_at.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
        }
        let count = if is_done { &self.reloads } else { &self.reloads_refused };
        count.fetch_add(1, Relaxed);
    }

    /// Counts an upgrade by which this process serves, or one that failed.
    pub(crate) fn upgraded(&self, is_done: bool) {
        let count = if is_done { &self.upgrades } else { &self.upgrades_failed };
        count.fetch_add(1, Relaxed);
    }

    /// HTTP requests by how they ended, and refusals by a limit.
    pub(crate) fn reasons(&self) -> Reasons {
        let mut reasons = Reasons { answered: [0; WAYS], limits: [0; WAYS] };
        self.sums.each(|sums| {
            sums.answered.add_to(&mut reasons.answered);
            sums.limits.add_to(&mut reasons.limits);
        });
        reasons
    }

    pub(crate) fn events(&self) -> Events {
        Events {
            reloads: self.reloads.load(Relaxed),
            reloads_refused: self.reloads_refused.load(Relaxed),
            reloaded_at: Some(self.reloaded_at.load(Relaxed)).filter(|at| *at > 0),
            upgrades: self.upgrades.load(Relaxed),
            upgrades_failed: self.upgrades_failed.load(Relaxed),
            lines_lost: self.lines_lost.load(Relaxed),
            spans_sent: self.spans_sent.load(Relaxed),
            spans_lost: self.spans_lost.load(Relaxed),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        // Ends are read before beginnings, so that `open` cannot come out negative.
        let (mut ended, mut handed_over, mut requests) = ([0; WAYS], 0, [0; 6]);
        self.sums.each(|sums| {
            sums.ended.add_to(&mut ended);
            handed_over += sums.handed_over.value();
        });
        self.sums.each(|sums| sums.requests.add_to(&mut requests));
        let sum = |part: fn(&Sums) -> &Count| self.sums.sum(|sums| part(sums).value());
        let (accepted, taken_over) = (sum(|sums| &sums.accepted), sum(|sums| &sums.taken_over));
        let finished: u64 = ended.iter().sum();
        Counts {
            accepted,
            open: (accepted + taken_over).saturating_sub(finished + handed_over),
            handed_over,
            taken_over,
            ended: Why::ALL.iter().copied().zip(ended).collect(),
            requests,
            bytes_up: sum(|sums| &sums.bytes_up),
            bytes_down: sum(|sums| &sums.bytes_down),
            access_lines_left_out: sum(|sums| &sums.left_out),
            access_lines_lost: self.lines_lost.load(Relaxed),
            diagnostics_lost: diagnostics::lost(),
            stalls: self.stalls.load(Relaxed),
        }
    }
}

/// A reading of the counts of a running proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted, refused ones included.
    pub accepted: u64,
    /// Connections that have not ended.
    pub open: u64,
    /// Connections that went on in another process, after an upgrade.
    pub handed_over: u64,
    /// Connections that began in another process, before an upgrade.
    pub taken_over: u64,
    /// Ended connections by reason.
    pub ended: Vec<(Why, u64)>,
    /// HTTP requests by the first digit of the status they were answered with; at 0 those without an answer.
    pub requests: [u64; 6],
    /// Bytes from clients to backends, of ended connections and requests. On HTTP, of bodies.
    pub bytes_up: u64,
    /// Bytes from backends to clients, of ended connections and requests. On HTTP, of bodies.
    pub bytes_down: u64,
    /// Access lines that were not written because of `access-sample` and `access-skip`.
    pub access_lines_left_out: u64,
    /// Access lines that were lost, because what they go to did not take them, or not fast enough.
    pub access_lines_lost: u64,
    /// Lines of diagnostics that were lost in the same way, in this process as a whole.
    pub diagnostics_lost: u64,
    /// How often a worker made no progress for a second; the log says what it was doing.
    pub stalls: u64,
}

impl Counts {
    /// How many connections a fault of ours has ended, each by a panic that the log tells of.
    pub fn panics(&self) -> u64 {
        self.ended_by(Why::InternalError)
    }

    /// How many connections ended for this reason.
    pub fn ended_by(&self, why: Why) -> u64 {
        self.ended.iter().find(|(known, _)| *known == why).map_or(0, |(_, count)| *count)
    }
}

/// A reading of one backend of a running proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendCounts {
    /// The upstream it belongs to.
    pub upstream: String,
    /// Its address.
    pub address: String,
    /// Its weight: the configured one, or one that an operator has set.
    pub weight: u32,
    /// `healthy`, `unhealthy`, `ejected`, `drained`, or `down` by an operator's word.
    pub state: &'static str,
    /// What an operator has said of it, in words; nothing, if nothing was said.
    pub said: Option<String>,
    /// Connections open now.
    pub open: u32,
    /// Connections made to it so far.
    pub connections: u64,
    /// Failures to connect to it so far.
    pub failures: u64,
    /// HTTP requests sent to it so far, also those that it did not answer.
    pub requests: u64,
}
