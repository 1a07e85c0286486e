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

    /// The one that there was, so that what is counted of a listener goes on with it; or a new one.
    pub(crate) fn follow(before: Option<&Arc<Meter>>, all: &Arc<Tally>) -> Arc<Meter> {
        before.map_or_else(|| Meter::new(all), Arc::clone)
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

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;
    use crate::observe::sheets::{BackendSheet, Exchanged};
    use crate::observe::stripes;

    const REQUESTS: u64 = 5_000_000;

    /// Run with `cargo test --release --lib -- --ignored --nocapture counting_a_request`.
    #[test]
    #[ignore = "prints a figure and promises none"]
    #[expect(clippy::print_stdout, reason = "the figure is what it is run for")]
    fn counting_a_request_takes_some_thirty_nanoseconds() {
        stripes::expect_workers(1);
        stripes::be_worker(0);
        let (meter, backend) = (Meter::new(&Arc::default()), Striped::<BackendSheet>::default());
        let began = Instant::now();
        for number in 0..REQUESTS {
            let took = Duration::from_nanos(black_box(number) * 997 % 50_000_000);
            let (up, down) = (5, 7);
            let begun =
                Exchanged { status: Some(200), first_byte: Some(took), ..Exchanged::default() };
            backend.note(|sheet| sheet.exchanged(&begun));
            let ended = Exchanged { total: Some(took), up, down, ..Exchanged::default() };
            backend.note(|sheet| sheet.exchanged(&ended));
            let (why, status, total) = (Why::Answered, Some(200), took);
            meter.asked(&Asked { why, status, up, down, total });
        }
        let each = began.elapsed().as_nanos() as f64 / REQUESTS as f64;
        println!("{each:.1} ns to count a request with its listener, its backend and the process");
        assert_eq!(meter.reading().requests[2], REQUESTS);
    }

    #[test]
    fn only_what_a_limit_has_refused_counts_as_that() {
        let meter = Meter::new(&Arc::default());
        let (up, down, total) = (0, 0, Duration::ZERO);
        meter.asked(&Asked { why: Why::LimitBody, status: Some(413), up, down, total });
        let request = meter.reading();
        assert_eq!(request.limits[Why::LimitBody as usize], 1);
        assert_eq!(request.limits.iter().sum::<u64>(), 1);
        meter.asked(&Asked { why: Why::Answered, status: Some(200), up, down, total });
        assert_eq!(meter.reading().limits, request.limits);
    }
}
