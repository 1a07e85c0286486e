//! When a request may go to a backend again: where the first certainly did nothing with it, and where its route asks
//! for it and doing it twice means the same as once. Retries are bounded in number and as a share of all requests.

use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_balance::budget::Budget;
use evenkeel_wire::{Framing, Request};
use tokio::time::Instant;

use super::exchange::Fault;
use super::forward::Order;
use super::hold::Held;
use crate::upstream::Upstream;

/// How often a request may go again because its connection turned out to be over, or it was refused unread.
const UNREAD_MAX: u32 = 3;

/// What a route says about retries.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) times: u32,
    /// Where a backend ended before its answer began.
    pub(crate) gone: bool,
    /// Where a backend did not begin to answer within `try_timeout`.
    pub(crate) late: bool,
    /// Where a backend answered with one of these.
    pub(crate) statuses: Vec<RangeInclusive<u16>>,
    pub(crate) try_timeout: Option<Duration>,
    pub(crate) budget: Budget,
}

impl Retry {
    /// When and how often, for people.
    pub(super) fn in_words(&self) -> String {
        let statuses =
            self.statuses.iter().map(|range| format!("{}-{}", range.start(), range.end()));
        let gone = self.gone.then(|| "gone".to_owned());
        let late = self.late.then(|| "late".to_owned());
        let on: Vec<_> = gone.into_iter().chain(late).chain(statuses).collect();
        let each = self.try_timeout.map(|each| format!(", each within {each:?}"));
        format!("{} times, on {}{}", self.times, on.join(", "), each.unwrap_or_default())
    }
}

/// How far one request has come in its tries.
#[derive(Debug)]
pub(super) struct Course<'a> {
    retry: Option<&'a Retry>,
    /// What has been read of its body, for each try.
    pub(super) held: Held,
    /// Whether it means the same twice, and all of it is here.
    repeatable: bool,
    unread: u32,
    retries: u32,
    /// When the backend's time began: with the request, or when what is held of it was there.
    since: Instant,
    /// The same for this try.
    pub(super) began: Instant,
}

impl<'a> Course<'a> {
    pub(super) fn new(order: &Order<'a>, held: Held, request: &Request) -> Course<'a> {
        let is_here = request.framing == Framing::None || held.whole;
        let repeatable = is_here && request.method.is_idempotent() && !request.upgrade;
        if let Some(retry) = order.retry {
            retry.budget.note_request(order.upstream.now());
        }
        let since = if held.bytes.is_empty() { order.began } else { Instant::now() };
        let (unread, retries, began) = (0, 0, since);
        Course { retry: order.retry, held, repeatable, unread, retries, since, began }
    }

    /// Whether a kept connection may be used: one that was over already shows that others may be too.
    pub(super) fn may_use_kept(&self) -> bool {
        self.unread == 0
    }

    /// How long this try may take to begin its answer.
    pub(super) fn limit(&self, order: &Order<'_>) -> Duration {
        let left = order.response_timeout.saturating_sub(self.began - self.since);
        let each = self.retry.filter(|_| self.repeatable).and_then(|retry| retry.try_timeout);
        each.map_or(left, |each| each.min(left))
    }

    /// When this try is late, if nothing has been heard by then.
    pub(super) fn due(&self, order: &Order<'_>) -> Instant {
        self.began + self.limit(order)
    }

    /// Whether the next try goes to somebody else: only where there is anybody. `tried` is how many were passed over.
    pub(super) fn is_elsewhere(&self, tried: usize, upstream: &Upstream) -> bool {
        self.retries > 0 && tried + 1 < upstream.backends().len()
    }

    /// Bytes that the body may have beyond what is held.
    pub(super) fn left(&self, most: u64) -> u64 {
        most.saturating_sub(self.held.bytes.len() as u64)
    }

    /// Whether the request may go again as if it had never been sent. `carried` is how many requests the connection
    /// had carried before, `untouched` whether the client's body has not begun to flow.
    pub(super) fn was_unread(&mut self, fault: &Fault, carried: u32, untouched: bool) -> bool {
        let untouched = untouched || self.held.whole;
        let unread = match fault {
            Fault::Unprocessed => untouched,
            // It may have ended just as it was used.
            Fault::BackendSilent => carried > 0 && self.repeatable,
            _ => false,
        };
        self.unread += u32::from(unread);
        unread && self.unread <= UNREAD_MAX
    }

    /// Whether the route wants another try after a fault, and there may be one.
    pub(super) fn may_retry_after(&mut self, fault: &Fault, upstream: &Upstream) -> bool {
        let wanted = self.retry.is_some_and(|retry| match fault {
            Fault::BackendSilent | Fault::Unprocessed => retry.gone,
            Fault::BackendLate => retry.late,
            _ => false,
        });
        wanted && self.take(upstream)
    }

    /// The same after an answer with this status.
    pub(super) fn may_retry_instead(&mut self, status: u16, upstream: &Upstream) -> bool {
        let is_meant = |retry: &Retry| retry.statuses.iter().any(|range| range.contains(&status));
        self.retry.is_some_and(is_meant) && self.take(upstream)
    }

    fn take(&mut self, upstream: &Upstream) -> bool {
        let Some(retry) = self.retry.filter(|_| self.repeatable) else { return false };
        let may = self.retries < retry.times && retry.budget.take(upstream.now());
        if may {
            self.retries += 1;
            self.began = Instant::now();
        }
        may
    }
}
