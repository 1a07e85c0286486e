//! Sends many packets over one connection at a time, so many under way at once and so many a second, and times their
//! replies, which come in order. A connection that is lost is replaced for the packets that are left; none is sent twice.

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel_client::{Connection, Connector, Error, Step};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::outcome::Outcome;
use super::shown;
use crate::cli::say;

/// Packets that go out together where nothing comes back.
const BATCH: usize = 64;

/// What is to be sent, and how.
#[derive(Debug)]
pub(super) struct Load {
    /// As they are given to a connection; sent in turn.
    pub(super) packets: Vec<Vec<u8>>,
    /// How often all of them are sent.
    pub(super) count: u64,
    /// From one packet to the next; none sends as fast as replies come.
    pub(super) interval: Option<Duration>,
    /// Packets under way at once.
    pub(super) pipeline: usize,
    pub(super) awaits_replies: bool,
    /// For each reply.
    pub(super) timeout: Duration,
    /// How long a peer may be silent before it ends, after we have.
    pub(super) parting: Duration,
    pub(super) prints: bool,
}

/// Packets that were sent and not answered, oldest first. Of the oldest, some were given up: their time was up, and a
/// reply that still comes is nobody's.
#[derive(Debug, Default)]
struct UnderWay {
    /// When each was due, which its time counts from, and when it was sent, which its time limit counts from.
    sent: VecDeque<(Instant, Instant)>,
    given_up: usize,
}

impl UnderWay {
    /// Those that still wait.
    fn waiting(&self) -> usize {
        self.sent.len().saturating_sub(self.given_up)
    }

    /// When the oldest of them was sent.
    fn oldest(&self) -> Option<Instant> {
        self.sent.get(self.given_up).map(|(_, sent)| *sent)
    }

    /// A reply has come: how long it took, unless it is nobody's.
    fn answered(&mut self) -> Option<Duration> {
        let (due, _) = self.sent.pop_front()?;
        if self.given_up > 0 {
            self.given_up -= 1;
            return None;
        }
        Some(due.elapsed())
    }
}

impl Load {
    /// Sends everything, and counts what comes of it.
    pub(super) async fn send(&self, connector: &Connector, address: &str, outcome: &mut Outcome) {
        let began = Instant::now();
        while outcome.sent < self.total() {
            // Each connection sends one at least, so that nobody is connected to in vain.
            sleep_until(self.due(outcome.sent, began)).await;
            match connector.connect(address).await {
                Ok(connection) => self.over(connection, began, outcome).await,
                Err(error) => {
                    outcome.fail_by(&error, self.total() - outcome.sent);
                    return;
                }
            }
        }
    }

    fn total(&self) -> u64 {
        self.count.saturating_mul(self.packets.len() as u64)
    }

    /// When the packet with this number is to be sent, counted from 0.
    fn due(&self, number: u64, began: Instant) -> Instant {
        let Some(interval) = self.interval else { return began };
        let after = interval.as_secs_f64() * number as f64;
        let after = Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX);
        began.checked_add(after).unwrap_or(began)
    }

    /// Sends what is left over this connection, as far as it carries.
    async fn over(&self, mut connection: Connection, began: Instant, outcome: &mut Outcome) {
        let mut under_way = UnderWay::default();
        let ended = self.exchange(&mut connection, began, &mut under_way, outcome).await;
        let lost = under_way.waiting() as u64;
        match ended {
            Ok(()) if lost > 0 => {
                let words = format!("{} ended before it answered", connection.peer_addr());
                outcome.fail("ended", lost, &words);
            }
            Ok(()) => part(connection, self.parting).await,
            Err(error) => outcome.fail_by(&error, lost),
        }
    }

    /// Until all is sent and answered, or the peer ends.
    async fn exchange(
        &self,
        connection: &mut Connection,
        began: Instant,
        under_way: &mut UnderWay,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        loop {
            let sending = self.send_due(connection, began, under_way, outcome);
            match timeout(self.timeout, sending).await {
                Ok(sent) => sent?,
                Err(_) => return Err(self.late(Step::Send)),
            }
            let next = (outcome.sent < self.total()).then(|| self.due(outcome.sent, began));
            if !self.awaits_replies {
                *under_way = UnderWay::default();
                let Some(next) = next else { return Ok(()) };
                sleep_until(next).await;
                continue;
            }
            let deadline = under_way.oldest().and_then(|since| since.checked_add(self.timeout));
            let until = match (deadline, next.filter(|_| self.has_room(under_way))) {
                (Some(deadline), Some(next)) => deadline.min(next),
                (Some(until), None) | (None, Some(until)) => until,
                (None, None) => return Ok(()),
            };
            match timeout_at(until, connection.recv()).await {
                Ok(Ok(Some(reply))) => self.answered(&reply, under_way, outcome),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => self.give_up(under_way, outcome),
            }
        }
    }

    fn has_room(&self, under_way: &UnderWay) -> bool {
        // Without replies, so that the time limit of sending is one of few packets.
        let most = if self.awaits_replies { self.pipeline } else { BATCH };
        under_way.waiting() < most
    }

    /// Sends what may be sent now.
    async fn send_due(
        &self,
        connection: &mut Connection,
        began: Instant,
        under_way: &mut UnderWay,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        while outcome.sent < self.total() && self.has_room(under_way) {
            let due = self.due(outcome.sent, began);
            if due > Instant::now() {
                break;
            }
            let turn = outcome.sent.checked_rem(self.packets.len() as u64).unwrap_or_default();
            let Some(packet) = self.packets.get(turn as usize) else { break };
            let now = Instant::now();
            // At a rate, a packet that had to wait for the one before it was late already.
            let due = if self.interval.is_some() { due } else { now };
            outcome.sent += 1;
            under_way.sent.push_back((due, now));
            connection.feed(packet).await?;
        }
        connection.flush().await
    }

    fn answered(&self, reply: &[u8], under_way: &mut UnderWay, outcome: &mut Outcome) {
        let is_late = under_way.given_up > 0;
        if let Some(took) = under_way.answered() {
            outcome.latencies.add(took);
        }
        if self.prints && !is_late {
            say(&shown(reply));
        }
    }

    /// Gives up what has waited for too long.
    fn give_up(&self, under_way: &mut UnderWay, outcome: &mut Outcome) {
        let mut count = 0;
        while under_way.oldest().is_some_and(|since| since.elapsed() >= self.timeout) {
            under_way.given_up += 1;
            count += 1;
        }
        if count > 0 {
            outcome.fail_by(&self.late(Step::Reply), count);
        }
    }

    fn late(&self, step: Step) -> Error {
        Error::Timeout { step, after: self.timeout, sent: true }
    }
}

/// Ends in order, and lets the peer do the same: what it has not read yet would be taken back by closing.
async fn part(mut connection: Connection, patience: Duration) {
    if let Ok(Ok(())) = timeout(patience, connection.finish()).await {
        while let Ok(Some(_)) = connection.recv_within(patience).await {}
    }
}
