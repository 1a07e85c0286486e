//! Numbers that change while running: connections by listener and by end, bytes. Read by the embedding program and by tests.
//! They are plain atomics, added to once when a connection begins and ends, never on the byte path.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::diagnostics;
use super::ended::{Ended, Why};

/// What happened so far, over all workers; every number only grows, except `open`.
#[derive(Debug)]
pub(crate) struct Tally {
    accepted: AtomicU64,
    /// HTTP requests by the hundreds of their status; those without an answer first.
    requests: [AtomicU64; 6],
    ended: [AtomicU64; Why::ALL.len()],
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    left_out: AtomicU64,
    lines_lost: AtomicU64,
    handed_over: AtomicU64,
    taken_over: AtomicU64,
    stalls: AtomicU64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            accepted: AtomicU64::new(0),
            requests: std::array::from_fn(|_| AtomicU64::new(0)),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            lines_lost: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            taken_over: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
        }
    }
}

impl Tally {
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self, record: &Ended) {
        self.bytes_up.fetch_add(record.bytes_up, Relaxed);
        self.bytes_down.fetch_add(record.bytes_down, Relaxed);
        self.ended[record.why as usize].fetch_add(1, Relaxed);
    }

    /// Counts an HTTP request and its bytes.
    pub(crate) fn requested(&self, status: Option<u16>, up: u64, down: u64) {
        let class = status.map_or(0, |status| usize::from(status / 100).min(5));
        self.requests[class].fetch_add(1, Relaxed);
        self.bytes_up.fetch_add(up, Relaxed);
        self.bytes_down.fetch_add(down, Relaxed);
    }

    /// Counts an access line that the config does not want.
    pub(crate) fn left_out(&self) {
        self.left_out.fetch_add(1, Relaxed);
    }

    /// Counts access lines that their target did not take.
    pub(crate) fn access_lines_lost(&self, lines: u64) {
        self.lines_lost.fetch_add(lines, Relaxed);
    }

    /// Counts a connection that goes on in another process.
    pub(crate) fn handed_over(&self) {
        self.handed_over.fetch_add(1, Relaxed);
    }

    /// Counts a connection that began in another process.
    pub(crate) fn taken_over(&self) {
        self.taken_over.fetch_add(1, Relaxed);
    }

    /// Counts a worker that has made no progress for a second.
    pub(crate) fn stalled(&self) {
        self.stalls.fetch_add(1, Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        // Ends are read before beginnings, so that `open` cannot come out negative.
        let ended: Vec<(Why, u64)> =
            Why::ALL.iter().map(|why| (*why, self.ended[*why as usize].load(Relaxed))).collect();
        let finished: u64 = ended.iter().map(|(_, count)| count).sum();
        let handed_over = self.handed_over.load(Relaxed);
        let (accepted, taken_over) = (self.accepted.load(Relaxed), self.taken_over.load(Relaxed));
        Counts {
            accepted,
            open: (accepted + taken_over).saturating_sub(finished + handed_over),
            handed_over,
            taken_over,
            ended,
            requests: std::array::from_fn(|class| self.requests[class].load(Relaxed)),
            bytes_up: self.bytes_up.load(Relaxed),
            bytes_down: self.bytes_down.load(Relaxed),
            access_lines_left_out: self.left_out.load(Relaxed),
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
