//! A request to a backend and its answer back: picked per request, over a kept connection or a fresh one.
//! A request is sent a second time only where its backend provably did not process it.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_wire::Framing;
use tokio::time::Instant;

use super::Edits;
use super::affinity::Belonging;
use super::exchange::{Exchange, Fault, no_answer};
use super::h1::{self, BodyFailed};
use super::headers::{Forwarded, edit, edit_request, strip_request};
use super::pump::Pump;
use super::reach::Reached;
use super::record::Told;
use super::session::{Next, Session};
use super::stream::Stream;
use crate::observe::ended::Why;
use crate::upstream::connect::{ConnectFailed, Efforts};
use crate::upstream::idle::Kept;
use crate::upstream::{InFlight, Upstream};

/// How often a request may go again because the connection that it went out on turned out to be over.
const AGAIN_MAX: u32 = 3;

/// What one try came to; nothing when the backend certainly did not process the request, and it may go again.
type Tried = Option<(Next, Told)>;

/// What a route says about forwarding.
pub(super) struct Order<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) request: &'a Edits,
    pub(super) response: &'a Edits,
    pub(super) response_timeout: Duration,
    pub(super) body_max: u64,
    pub(super) began: Instant,
    /// What a split has to tell the client.
    pub(super) set_cookie: Option<String>,
}

/// One try to have a request answered.
struct Attempt<'a> {
    /// The protocol to switch to.
    upgrade: Option<&'a [u8]>,
    efforts: Efforts,
    may_go_again: bool,
    belonging: &'a Belonging,
}

/// Whether a request may go to a backend a second time.
struct Again {
    /// Requests that the connection had carried before.
    carried: u32,
    may: bool,
}

impl Session<'_> {
    /// Forwards the request that has been read, and passes the answer on.
    pub(super) async fn forward(&mut self, order: &Order<'_>) -> (Next, Told) {
        if let Framing::Length(length) = self.request.framing
            && length > order.body_max
        {
            let told = Told::new(Why::LimitBody);
            return self.refuse(413, told);
        }
        let upgrade = self.upgrade_protocol();
        let trusted = self.client_is_trusted();
        strip_request(&mut self.request, trusted);
        let belonging = self.belonging(order.upstream, order.set_cookie.clone());
        let set = self.filled(order.request);
        edit_request(&mut self.request, &order.request.remove, &set);
        let (mut tried, mut efforts) = (Vec::new(), Efforts::default());
        let mut again = 0;
        loop {
            let reached = {
                let reach =
                    self.reach(order, belonging.affinity, &mut tried, &mut efforts, again == 0);
                let patience = tokio::time::timeout_at(order.began + order.response_timeout, reach);
                tokio::select! {
                    biased;
                    reached = patience => reached,
                    () = self.cut.asked() => return (Next::Close(Why::DrainCut), Told::new(Why::DrainCut)),
                }
            };
            let (reached, place) = match reached {
                Ok(Ok(found)) => found,
                Ok(Err(failed)) => return self.not_connected(order, failed),
                Err(_) => {
                    let mut told = self.told(order, Why::ResponseTimeout, efforts);
                    told.detail = Some("no backend could be reached in time".to_owned());
                    return self.refuse(504, told);
                }
            };
            let upgrade = upgrade.as_deref();
            let may_go_again = again < AGAIN_MAX;
            let attempt = Attempt { upgrade, efforts, may_go_again, belonging: &belonging };
            match self.try_at(order, reached, place, attempt).await {
                Some(over) => return over,
                None => again += 1,
            }
        }
    }

    /// Sends the request to one backend.
    async fn try_at(
        &mut self,
        order: &Order<'_>,
        reached: Reached,
        place: InFlight,
        attempt: Attempt<'_>,
    ) -> Tried {
        let Reached { stream: mut backend, carried } = reached;
        let efforts = attempt.efforts;
        let begun = self.begin(&mut backend, attempt.upgrade);
        let may_persist = !self.cut.is_finishing() && self.requests < self.site.rules.requests_max;
        let set = self.filled(order.response);
        let sent = Instant::now();
        let mut exchange = self.exchange(order, backend);
        let asked = match begun {
            Ok(()) => exchange.ask().await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = asked {
            let again = Again { carried, may: attempt.may_go_again };
            return self.not_answered(fault, order, &place, again, efforts);
        }
        let first_byte = Instant::now();
        // While the client was still sending, the backend had nothing to answer.
        let took = first_byte - sent.max(exchange.active);
        place.upstream.note_answer(&place.backend, exchange.response.status, took);
        if exchange.is_switch() {
            attempt.belonging.tell(&place, &mut exchange.response.fields);
            let backend = exchange.backend;
            return Some(self.switch(backend, order, place, efforts));
        }
        let onward = exchange.onward(may_persist);
        edit(&mut exchange.response.fields, &order.response.remove, &set);
        attempt.belonging.tell(&place, &mut exchange.response.fields);
        let answered = exchange.answer(onward).await;
        let Exchange { backend, up, up_broken, .. } = exchange;
        let up_is_done = up.is_done() && !up_broken;
        let told = Told {
            status: Some(self.response.status),
            first_byte: Some(first_byte),
            down: backend.carried(),
            ..self.told_of(order, &place, efforts)
        };
        if let Err(fault) = answered {
            return Some(self.failed(fault, told, true));
        }
        if up_is_done && let Stream::H1(backend) = backend {
            self.keep(backend, carried + 1, &place);
        }
        let next = match (onward.persistent, up_is_done) {
            (true, _) => Next::Request,
            (false, true) => Next::Close(Why::Answered),
            (false, false) => Next::Linger(Why::Answered),
        };
        Some((next, told))
    }

    /// Writes the head of the request.
    fn begin(&self, backend: &mut Stream, upgrade: Option<&[u8]>) -> Result<(), Fault> {
        let forwarded = Forwarded {
            client: &self.peer,
            scheme: self.site.rules.scheme,
            trusted: self.client_is_trusted(),
            request_id: &self.request_id,
        };
        backend.ask(self.local, &self.request, upgrade, &forwarded).map_err(no_answer)
    }

    fn exchange<'e>(&'e mut self, order: &Order<'_>, backend: Stream) -> Exchange<'e> {
        Exchange {
            rules: &self.site.rules,
            local: self.local,
            cut: self.cut,
            alarm: &mut self.alarm,
            client: &mut self.stream,
            backend,
            request: &self.request,
            response: &mut self.response,
            up: Pump::new(order.body_max),
            up_broken: false,
            active: order.began,
            response_timeout: order.response_timeout,
            deadline: self.site.rules.request_timeout.map(|most| order.began + most),
        }
    }

    /// A kept connection may have ended just as it was used: then a request that changes nothing may go again.
    fn not_answered(
        &mut self,
        fault: Fault,
        order: &Order<'_>,
        place: &InFlight,
        again: Again,
        efforts: Efforts,
    ) -> Tried {
        let silent = matches!(fault, Fault::BackendSilent);
        let bodiless = self.request.framing == Framing::None;
        let harmless = bodiless && self.request.method.is_idempotent();
        // A body that has begun to flow cannot flow again.
        let untouched = bodiless || self.stream.carried() == self.carried_before;
        let unprocessed = matches!(fault, Fault::Unprocessed) && untouched;
        if again.may && (unprocessed || (again.carried > 0 && silent && harmless)) {
            return None;
        }
        if again.carried == 0 && silent {
            place.upstream.note_traffic(&place.backend, false);
        }
        if fault.is_of_the_backend() {
            place.upstream.note_no_answer(&place.backend);
        }
        let told = self.told_of(order, place, efforts);
        Some(self.failed(fault, told, false))
    }

    /// Keeps the connection for the next request, unless its backend has said that it ends, or said too much.
    fn keep(&self, mut backend: h1::Stream, requests: u32, place: &InFlight) {
        if let Some(rules) = &place.upstream.rules.keep_alive
            && self.response.persistent
            && backend.input.is_empty()
        {
            backend.rest(self.local);
            let kept = Kept { socket: backend.socket, requests };
            self.local.idle.borrow_mut().keep(&place.backend, kept, rules);
        }
    }

    pub(super) fn told(&self, order: &Order<'_>, why: Why, efforts: Efforts) -> Told {
        let upstream = Some(Arc::clone(&order.upstream.rules.name));
        Told { upstream, efforts, ..Told::new(why) }
    }

    pub(super) fn told_of(&self, order: &Order<'_>, place: &InFlight, efforts: Efforts) -> Told {
        let backend = Some(Arc::clone(&place.backend.name));
        let up = self.stream.carried() - self.carried_before;
        Told { backend, up, ..self.told(order, Why::Answered, efforts) }
    }

    fn not_connected(&mut self, order: &Order<'_>, failed: ConnectFailed) -> (Next, Told) {
        let ConnectFailed { why, detail, backend, efforts } = failed;
        let status = if why == Why::ConnectTimeout { 504 } else { 503 };
        let told = Told { detail, backend, ..self.told(order, why, efforts) };
        self.refuse(status, told)
    }

    /// What a fault means for the client: a refusal while nothing has been said, and else only the end.
    fn failed(&mut self, fault: Fault, mut told: Told, begun: bool) -> (Next, Told) {
        let (why, status, detail) = match fault {
            Fault::Client(BodyFailed::Refused(refusal)) => {
                (Why::BadRequest, Some(refusal.reason.status()), Some(refusal.reason.as_str()))
            }
            Fault::Client(BodyFailed::Cut | BodyFailed::Broken) | Fault::ClientGone => {
                (Why::ClientGone, None, None)
            }
            Fault::BodyTooLong => (Why::LimitBody, Some(413), None),
            Fault::ClientStalled => (Why::IdleTimeout, Some(408), None),
            Fault::BackendSilent => {
                (Why::BackendGone, Some(502), Some("ended before its answer began"))
            }
            Fault::Unprocessed => (Why::BackendGone, Some(502), Some("refused the request unread")),
            Fault::BackendGone => {
                (Why::BackendGone, Some(502), Some("broke off within its answer"))
            }
            Fault::BadAnswer(reason) => (Why::BadResponse, Some(502), Some(reason)),
            Fault::BackendLate => (Why::ResponseTimeout, Some(504), None),
            Fault::TooLong => (Why::RequestTimeout, Some(504), None),
            Fault::Cut => (Why::DrainCut, None, None),
        };
        told.why = why;
        told.detail = detail.map(str::to_owned);
        match status {
            Some(status) if !begun => self.refuse(status, told),
            // What was begun cannot be taken back, and must not look whole.
            _ => (Next::Abort(why), told),
        }
    }
}
