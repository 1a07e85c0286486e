//! Counts the connections and requests of one listener, and adds them to those of the process at the same time. It is told once when
//! something begins and once when it ends, never for each byte, and goes on with the same listener of the next config.

use std::sync::Arc;
use std::time::Duration;

use super::counts::Tally;
use super::ended::{Ended, Why};
use super::sheets::{ListenerReading, ListenerSheet, class_of};
use super::stripes::Striped;
use crate::tls::HandshakeFlaw;

/// The counts of one listener, and those of the process that it is a part of.
#[derive(Debug)]
pub(crate) struct Meter {
    all: Arc<Tally>,
    own: Striped<ListenerSheet>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) why: Why,
    /// The one that the client was answered with.
    pub(crate) status: Option<u16>,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) total: Duration,
}

impl Asked {
    /// A request whose record is complete.
    pub(crate) fn of(record: &Ended) -> Asked {
        Asked {
            why: record.why,
            status: record.request.as_deref().and_then(|line| line.status),
            up: record.bytes_up,
            down: record.bytes_down,
            total: record.phases.total,
        }
    }
}

impl Meter {
    /// Of a listener that nothing has been counted of.
    pub(crate) fn new(all: &Arc<Tally>) -> Arc<Meter> {
        Arc::new(Meter { all: Arc::clone(all), own: Striped::default() })
    }

    /// Counts a connection that was accepted.
    pub(crate) fn accepted(&self) {
        self.all.accepted();
        self.own.note(|sheet| sheet.accepted.add(1));
    }

    /// Counts the end of a connection, whose requests may have been counted already.
    pub(crate) fn ended(&self, record: &Ended, by_request: bool) {
        self.all.ended(record, by_request);
        self.own.note(|sheet| {
            sheet.ended.count(record.why as usize);
            sheet.bytes_up.add(record.bytes_up);
            sheet.bytes_down.add(record.bytes_down);
            sheet.connection_times.note(record.phases.total);
            if !by_request {
                sheet.limit(record.why);
            }
        });
    }

    /// Counts the end of an HTTP request.
    pub(crate) fn asked(&self, asked: &Asked) {
        self.all.asked(asked);
        self.own.note(|sheet| {
            sheet.answered.count(asked.why as usize);
            sheet.limit(asked.why);
            sheet.requests.count(class_of(asked.status));
            sheet.bytes_up.add(asked.up);
            sheet.bytes_down.add(asked.down);
            sheet.request_times.note(asked.total);
        });
    }

    /// Counts a handshake, or why there was none.
    pub(crate) fn shaken_hands(&self, outcome: Result<(), HandshakeFlaw>) {
        self.own.note(|sheet| match outcome {
            Ok(()) => sheet.handshakes.add(1),
            Err(flaw) => sheet.handshakes_failed.count(flaw as usize),
        });
    }

    /// Counts a connection that goes on in another process.
    pub(crate) fn handed_over(&self) {
        self.all.handed_over();
    }

    /// Counts a connection that began in another process.
    pub(crate) fn taken_over(&self) {
        self.all.taken_over();
    }

    /// What has been counted of this listener.
    pub(crate) fn reading(&self) -> ListenerReading {
        ListenerReading::of(&self.own)
    }
}
