//! One request over one connection to a backend: the body goes up while the answer is waited for and comes down.
//! An answer is passed on only as far as it has one reading, and is never made to look whole when it was not.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use evenkeel_wire::{Framing, Method, Request, Response, Version};
use tokio::time::Instant;

use super::Rules;
use super::alarm::Alarm;
use super::compress::Compress;
use super::h1::{BodyFailed, HeadFailed};
use super::headers::{Onward, strip_response};
use super::local::Local;
use super::pump::{Jam, Pump};
use super::stream::Stream;
use crate::tcp::Cut;

/// Interim answers (1xx) to one request; more are a flood.
pub(super) const INTERIM_MAX: u32 = 32;

/// Why an exchange did not come to its end.
#[derive(Debug)]
pub(super) enum Fault {
    /// The client's body is malformed, or it ended or broke off.
    Client(BodyFailed),
    /// The client reset the connection.
    ClientGone,
    /// The client's body is too long.
    BodyTooLong,
    /// The client sent nothing of its body, or took nothing of the answer, for `idle-timeout`.
    ClientStalled,
    /// The backend ended before its answer began.
    BackendSilent,
    /// The backend certainly did nothing with the request.
    Unprocessed,
    /// The backend's head or body breaks the rules.
    BadAnswer(&'static str),
    /// The backend broke off within its answer.
    BackendGone,
    /// The backend did not answer in time, or stopped within its answer.
    BackendLate,
    /// The answer could not be compressed any further.
    NotCompressed,
    /// The whole request took too long.
    TooLong,
    /// We are stopping.
    Cut,
}

impl Fault {
    /// Whether the backend is to blame, and neither the client nor we.
    pub(super) fn is_of_the_backend(&self) -> bool {
        matches!(
            self,
            Fault::BackendSilent | Fault::BadAnswer(_) | Fault::BackendGone | Fault::BackendLate
        )
    }
}

/// Both sides of one request, and how far it has come.
pub(super) struct Exchange<'a> {
    pub(super) rules: &'a Rules,
    pub(super) local: &'a Local,
    pub(super) cut: &'a Cut,
    pub(super) alarm: &'a mut Alarm,
    pub(super) client: &'a mut Stream,
    pub(super) backend: Stream,
    pub(super) request: &'a Request,
    pub(super) response: &'a mut Response,
    pub(super) up: Pump,
    /// The backend takes no more of the request.
    pub(super) up_broken: bool,
    /// When a byte of a body last moved, or the request began; see `stirred`.
    pub(super) active: Instant,
    /// Whether one has moved since: the clock is read only when somebody is about to wait.
    pub(super) stirred: bool,
    pub(super) response_timeout: Duration,
    pub(super) deadline: Option<Instant>,
}

impl Exchange<'_> {
    /// Sends the request, and waits for the final head of the answer.
    pub(super) async fn ask(&mut self) -> Result<(), Fault> {
        let mut interim = 0;
        poll_fn(|cx| {
            self.poll_up(cx)?;
            if let Poll::Ready(outcome) = self.poll_answer(cx, &mut interim) {
                return Poll::Ready(outcome);
            }
            if self.up.is_done() && self.client.poll_broken(cx) {
                return Poll::Ready(Err(Fault::ClientGone));
            }
            if self.cut.is_asked(cx) {
                return Poll::Ready(Err(Fault::Cut));
            }
            self.settle(Instant::now);
            let (due, fault) = self.ask_limit();
            self.poll_limit(cx, due, fault)
        })
        .await
    }

    /// Passes the answer on to its end. Its head is in `response`; whether the connection to the client can go on
    /// after it is in `onward`.
    pub(super) async fn answer(
        &mut self,
        onward: &mut Onward,
        compress: Option<&Compress>,
    ) -> Result<(), Fault> {
        let encoder =
            compress.and_then(|rules| rules.begin(self.request, self.response, onward, self.local));
        self.client.answer(self.local, self.response, *onward);
        self.backend.begin_body(self.response.framing, &self.rules.head);
        let mut down = Pump::through(encoder);
        poll_fn(|cx| {
            self.poll_up(cx)?;
            if let Poll::Ready(outcome) = self.poll_down(cx, &mut down) {
                return Poll::Ready(outcome);
            }
            // While the backend is silent nothing is written, so writing does not show that the client has left.
            if self.up.is_done() && self.client.is_flushed() && self.client.poll_broken(cx) {
                return Poll::Ready(Err(Fault::ClientGone));
            }
            if self.cut.is_asked(cx) {
                return Poll::Ready(Err(Fault::Cut));
            }
            self.settle(Instant::now);
            let (due, fault) = self.answer_limit();
            self.poll_limit(cx, due, fault)
        })
        .await
    }

    /// Whether bytes go both ways from here on.
    pub(super) fn is_switch(&self) -> bool {
        let status = self.response.status;
        let connected = self.request.method == Method::Connect && (200..300).contains(&status);
        status == 101 || connected
    }

    /// The answer without its hop-by-hop fields, and how it goes on to the client.
    pub(super) fn onward(&mut self, may_persist: bool) -> Onward {
        let to_head = self.response.status == 304 || matches!(self.request.method, Method::Head);
        strip_response(self.response, to_head);
        let version = self.request.version;
        let bodiless = to_head || self.response.status == 204;
        let framing = match self.response.framing {
            // The end of a stream says it in HTTP/2, and nothing but a length in HTTP/1.
            Framing::None if !bodiless && version != Version::Http2 => Framing::Length(0),
            Framing::Chunked | Framing::UntilClose if version == Version::Http10 => {
                Framing::UntilClose
            }
            Framing::UntilClose => Framing::Chunked,
            framing => framing,
        };
        // A body that is not yet here would be taken for the next request.
        let persistent = may_persist
            && self.request.persistent
            && framing != Framing::UntilClose
            && self.up.is_done();
        Onward { framing, version, persistent }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if self.up.is_done() || self.up_broken {
            return Ok(());
        }
        let before = self.client.carried();
        let outcome = self.up.poll(cx, self.client, &mut self.backend, self.local);
        self.stirred |= self.client.carried() != before;
        match outcome {
            Poll::Pending | Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Jam::From(failed))) => return Err(Fault::Client(failed)),
            Poll::Ready(Err(Jam::TooLong)) => return Err(Fault::BodyTooLong),
            // It may have answered before it closed.
            Poll::Ready(Err(Jam::To | Jam::Coding)) => self.up_broken = true,
        }
        Ok(())
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, interim: &mut u32) -> Poll<Result<(), Fault>> {
        loop {
            let (limits, method) = (&self.rules.head, &self.request.method);
            match self.backend.poll_answer(cx, self.local, self.response, method, limits) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failed)) => return Poll::Ready(Err(no_answer(failed))),
            }
            if self.response.status == 101 {
                let asked = self.request.upgrade && self.up.is_done();
                let unasked = Err(Fault::BadAnswer("switch-not-asked-for"));
                return Poll::Ready(if asked { Ok(()) } else { unasked });
            }
            if self.response.status >= 200 {
                // An extended CONNECT would take any success for the switch.
                let misleads = !self.request.protocol.is_empty() && self.response.status < 300;
                let misled = Err(Fault::BadAnswer("did-not-switch"));
                return Poll::Ready(if misleads { misled } else { Ok(()) });
            }
            *interim += 1;
            if *interim > INTERIM_MAX {
                return Poll::Ready(Err(Fault::BadAnswer("too-many-interim-answers")));
            }
            self.pass_interim(cx);
        }
    }

    /// Interim answers are news, so they go on at once; HTTP/1.0 knows none.
    fn pass_interim(&mut self, cx: &mut Context<'_>) {
        strip_response(self.response, false);
        if self.request.version != Version::Http10 {
            self.client.answer_for_now(cx, self.local, self.response);
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, down: &mut Pump) -> Poll<Result<(), Fault>> {
        let moved = |backend: &Stream, client: &Stream| backend.carried() + client.sent();
        let before = moved(&self.backend, self.client);
        let outcome = down.poll(cx, &mut self.backend, self.client, self.local);
        self.stirred |= moved(&self.backend, self.client) != before;
        outcome.map(|outcome| {
            outcome.map_err(|jam| match jam {
                Jam::From(BodyFailed::Refused(refusal)) => {
                    Fault::BadAnswer(refusal.reason.as_str())
                }
                Jam::From(BodyFailed::Cut | BodyFailed::Broken) | Jam::TooLong => {
                    Fault::BackendGone
                }
                Jam::To => Fault::ClientGone,
                Jam::Coding => Fault::NotCompressed,
            })
        })
    }

    /// Takes `now` for the moment of what has moved before it.
    pub(super) fn settle(&mut self, now: impl FnOnce() -> Instant) {
        if std::mem::take(&mut self.stirred) {
            self.active = now();
        }
    }

    fn poll_limit(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<Instant>,
        fault: Fault,
    ) -> Poll<Result<(), Fault>> {
        if !self.alarm.is_over(cx, due) {
            return Poll::Pending;
        }
        if matches!(fault, Fault::BackendLate) {
            self.backend.retire();
        }
        Poll::Ready(Err(fault))
    }

    /// What may come to an end while the answer is waited for. The backend's time begins anew while the
    /// request is still being sent: an upload may last.
    fn ask_limit(&mut self) -> (Option<Instant>, Fault) {
        let late = (Some(self.active + self.response_timeout), Fault::BackendLate);
        let sending = !self.up.is_done() && !self.up_broken && self.backend.is_flushed();
        let idle = self.rules.idle_timeout.filter(|_| sending);
        let stalled = (idle.map(|idle| self.active + idle), Fault::ClientStalled);
        let whole = (self.deadline, Fault::TooLong);
        soonest([late, stalled, whole])
    }

    fn answer_limit(&mut self) -> (Option<Instant>, Fault) {
        let client_is_slow = !self.client.is_flushed();
        let fault = if client_is_slow { Fault::ClientStalled } else { Fault::BackendLate };
        let idle = (self.rules.idle_timeout.map(|idle| self.active + idle), fault);
        soonest([idle, (self.deadline, Fault::TooLong), (None, Fault::TooLong)])
    }
}

fn soonest(limits: [(Option<Instant>, Fault); 3]) -> (Option<Instant>, Fault) {
    let [first, second, third] = limits;
    let sooner = |a: (Option<Instant>, Fault), b: (Option<Instant>, Fault)| match (a.0, b.0) {
        (Some(one), Some(other)) if other < one => b,
        (None, Some(_)) => b,
        _ => a,
    };
    sooner(sooner(first, second), third)
}

pub(super) fn no_answer(failed: HeadFailed) -> Fault {
    match failed {
        HeadFailed::Ended | HeadFailed::Broken => Fault::BackendSilent,
        HeadFailed::Cut => Fault::BackendGone,
        HeadFailed::Unprocessed => Fault::Unprocessed,
        HeadFailed::CannotSwitch => Fault::BadAnswer("knows-no-extended-connect"),
        HeadFailed::Refused(refusal) => Fault::BadAnswer(refusal.reason.as_str()),
    }
}
