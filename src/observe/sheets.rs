//! What is counted of a listener and of a backend, as one worker writes it, and as it is read: added up over all workers. Every row
//! goes by a closed list, so that nothing a client sends can make one longer.

use std::time::Duration;

use super::count::{Count, Distribution, Times};
use super::ended::{Side, Why};
use super::stripes::Striped;
use crate::tls::HandshakeFlaw;

/// The classes of statuses by their first digit; the first is for requests without an answer.
pub(crate) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The class of a status.
pub(crate) fn class_of(status: Option<u16>) -> usize {
    status.map_or(0, |status| usize::from(status / 100).min(CLASSES.len() - 1))
}

/// Counts by the numbers of a closed list.
#[derive(Debug)]
pub(crate) struct Row<const N: usize>([Count; N]);

impl<const N: usize> Default for Row<N> {
    fn default() -> Row<N> {
        Row(std::array::from_fn(|_| Count::default()))
    }
}

impl<const N: usize> Row<N> {
    /// Counts one more there; what is in no list is nowhere.
    pub(crate) fn count(&self, place: usize) {
        self.0.get(place).into_iter().for_each(|count| count.add(1));
    }

    /// Adds what has been counted.
    pub(crate) fn add_to(&self, sums: &mut [u64; N]) {
        sums.iter_mut().zip(&self.0).for_each(|(sum, count)| *sum += count.value());
    }
}

/// How many ways there are for a connection to end.
pub(crate) const WAYS: usize = Why::ALL.len();

/// Why handshakes with clients came to nothing.
pub(crate) const HANDSHAKE_FLAWS: &[HandshakeFlaw] = HandshakeFlaw::ALL;

/// What one worker has counted of a listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerSheet {
    pub(crate) accepted: Count,
    /// Connections by how they ended.
    pub(crate) ended: Row<WAYS>,
    /// The same of requests.
    pub(crate) answered: Row<WAYS>,
    /// Refusals by a limit, each once, whether a connection or a request met it.
    pub(crate) limits: Row<WAYS>,
    pub(crate) requests: Row<6>,
    pub(crate) bytes_up: Count,
    pub(crate) bytes_down: Count,
    pub(crate) connection_times: Times,
    pub(crate) request_times: Times,
    pub(crate) handshakes: Count,
    pub(crate) handshakes_failed: Row<{ HandshakeFlaw::ALL.len() }>,
}

impl ListenerSheet {
    /// Counts a limit that was met.
    pub(crate) fn limit(&self, why: Why) {
        if why.side() == Side::Limit {
            self.limits.count(why as usize);
        }
    }
}

/// A reading of the same over all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerReading {
    pub(crate) accepted: u64,
    pub(crate) ended: [u64; WAYS],
    pub(crate) answered: [u64; WAYS],
    pub(crate) limits: [u64; WAYS],
    pub(crate) requests: [u64; 6],
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) connection_times: Distribution,
    pub(crate) request_times: Distribution,
    pub(crate) handshakes: u64,
    pub(crate) handshakes_failed: [u64; HandshakeFlaw::ALL.len()],
}

impl ListenerReading {
    pub(crate) fn of(sheets: &Striped<ListenerSheet>) -> ListenerReading {
        let mut all = ListenerReading {
            accepted: 0,
            ended: [0; WAYS],
            answered: [0; WAYS],
            limits: [0; WAYS],
            requests: [0; 6],
            bytes_up: 0,
            bytes_down: 0,
            connection_times: Distribution::default(),
            request_times: Distribution::default(),
            handshakes: 0,
            handshakes_failed: [0; HandshakeFlaw::ALL.len()],
        };
        // Ends before beginnings, so that never more have ended than have come.
        sheets.each(|sheet| sheet.ended.add_to(&mut all.ended));
        sheets.each(|sheet| {
            sheet.answered.add_to(&mut all.answered);
            sheet.limits.add_to(&mut all.limits);
            sheet.requests.add_to(&mut all.requests);
            sheet.handshakes_failed.add_to(&mut all.handshakes_failed);
            all.accepted += sheet.accepted.value();
            all.bytes_up += sheet.bytes_up.value();
            all.bytes_down += sheet.bytes_down.value();
            all.handshakes += sheet.handshakes.value();
            all.connection_times.add(&sheet.connection_times);
            all.request_times.add(&sheet.request_times);
        });
        all
    }
}

/// Why a backend could not be connected to.
pub(crate) const CONNECT_FLAWS: [(Why, &str); 4] = [
    (Why::ConnectRefused, "refused"),
    (Why::ConnectTimeout, "timeout"),
    (Why::ConnectUnreachable, "unreachable"),
    (Why::BackendTls, "tls"),
];

/// What a backend was ejected for.
pub(crate) const EJECTION_CAUSES: [&str; 3] = ["failures", "errors", "slow"];

/// What one worker has counted of a backend.
#[derive(Debug, Default)]
pub(crate) struct BackendSheet {
    pub(crate) connect_times: Times,
    pub(crate) first_byte_times: Times,
    pub(crate) total_times: Times,
    pub(crate) responses: Row<6>,
    pub(crate) bytes_up: Count,
    pub(crate) bytes_down: Count,
    pub(crate) connects_failed: Row<4>,
    pub(crate) ejections: Row<3>,
    pub(crate) checks_passed: Count,
    pub(crate) checks_failed: Count,
}

/// What became of one request, packet or connection at a backend.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Exchanged {
    /// Of a request that was answered.
    pub(crate) status: Option<u16>,
    /// From being sent to the first byte of the answer.
    pub(crate) first_byte: Option<Duration>,
    /// To the end of the answer, or of the connection.
    pub(crate) total: Option<Duration>,
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl BackendSheet {
    /// Takes it in.
    pub(crate) fn exchanged(&self, it: &Exchanged) {
        if it.status.is_some() {
            self.responses.count(class_of(it.status));
        }
        it.first_byte.into_iter().for_each(|took| self.first_byte_times.note(took));
        it.total.into_iter().for_each(|took| self.total_times.note(took));
        self.bytes_up.add(it.up);
        self.bytes_down.add(it.down);
    }

    /// Takes in a failure to connect.
    pub(crate) fn not_connected(&self, why: Why) {
        let known = CONNECT_FLAWS.iter().position(|(flaw, _)| *flaw == why);
        known.into_iter().for_each(|place| self.connects_failed.count(place));
    }
}

/// A reading of the same over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BackendReading {
    pub(crate) connect_times: Distribution,
    pub(crate) first_byte_times: Distribution,
    pub(crate) total_times: Distribution,
    pub(crate) responses: [u64; 6],
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) connects_failed: [u64; 4],
    pub(crate) ejections: [u64; 3],
    pub(crate) checks_passed: u64,
    pub(crate) checks_failed: u64,
}

impl BackendReading {
    pub(crate) fn of(sheets: &Striped<BackendSheet>) -> BackendReading {
        let mut all = BackendReading::default();
        sheets.each(|sheet| {
            all.connect_times.add(&sheet.connect_times);
            all.first_byte_times.add(&sheet.first_byte_times);
            all.total_times.add(&sheet.total_times);
            sheet.responses.add_to(&mut all.responses);
            sheet.connects_failed.add_to(&mut all.connects_failed);
            sheet.ejections.add_to(&mut all.ejections);
            all.bytes_up += sheet.bytes_up.value();
            all.bytes_down += sheet.bytes_down.value();
            all.checks_passed += sheet.checks_passed.value();
            all.checks_failed += sheet.checks_failed.value();
        });
        all
    }
}
