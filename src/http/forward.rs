//! A request to a backend and its answer back: picked per request, over a kept connection or a fresh one.
//! A request is sent a second time only where its backend provably did not process it.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_wire::Framing;
use tokio::time::Instant;

use super::Edits;
use super::affinity::Belonging;
use super::exchange::{Exchange, Fault};
use super::h1::{BodyFailed, Pump, Stream};
use super::headers::{
    Forwarded, edit, edit_request, strip_request, strip_response, write_interim, write_request,
};
use super::record::Told;
use super::serve::{Next, Session};
use crate::observe::ended::Why;
use crate::upstream::connect::{ConnectFailed, Efforts, Way};
use crate::upstream::idle::Kept;
use crate::upstream::{InFlight, Upstream};

/// What one try came to; nothing when a kept connection had ended before it could carry the request, and the
/// request may go again.
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
        let mut may_use_kept = true;
        loop {
            let reached = {
                let (local, affinity) = (self.local, belonging.affinity);
                let reach = order.upstream.reach(affinity, &mut tried, &mut efforts, |backend| {
                    if may_use_kept { local.idle.borrow_mut().take(backend) } else { None }
                });
                let patience = tokio::time::timeout_at(order.began + order.response_timeout, reach);
                tokio::select! {
                    biased;
                    reached = patience => reached,
                    () = self.cut.asked() => return (Next::Close(Why::DrainCut), Told::new(Why::DrainCut)),
                }
            };
            let found = match reached {
                Ok(Ok(found)) => found,
                Ok(Err(failed)) => return self.not_connected(order, failed),
                Err(_) => {
                    let mut told = self.told(order, Why::ResponseTimeout, efforts);
                    told.detail = Some("no backend could be reached in time".to_owned());
                    return self.refuse(504, told);
                }
            };
            match self.try_at(order, found, upgrade.as_deref(), efforts, &belonging).await {
                Some(over) => return over,
                None => may_use_kept = false,
            }
        }
    }

    /// Sends the request to one backend.
    async fn try_at(
        &mut self,
        order: &Order<'_>,
        (way, place): (Way<Kept>, InFlight),
        upgrade: Option<&[u8]>,
        efforts: Efforts,
        belonging: &Belonging,
    ) -> Tried {
        let (socket, carried) = match way {
            Way::Fresh(socket) => (socket, 0),
            Way::Kept(Kept { socket, requests }) => (socket, requests),
        };
        let backend = self.begin(Stream::new(socket), upgrade);
        let may_persist = !self.cut.is_finishing() && self.requests < self.site.rules.requests_max;
        let set = self.filled(order.response);
        let sent = Instant::now();
        let mut exchange = self.exchange(order, backend);
        if let Err(fault) = exchange.ask().await {
            return self.not_answered(fault, order, &place, carried, efforts);
        }
        let first_byte = Instant::now();
        // While the client was still sending, the backend had nothing to answer.
        let took = first_byte - sent.max(exchange.active);
        place.upstream.note_answer(&place.backend, exchange.response.status, took);
        if exchange.response.status == 101 {
            belonging.tell(&place, &mut exchange.response.fields);
            let backend = exchange.backend;
            return self.switch(backend, order, place, efforts);
        }
        let onward = exchange.onward(may_persist);
        edit(&mut exchange.response.fields, &order.response.remove, &set);
        belonging.tell(&place, &mut exchange.response.fields);
        let answered = exchange.answer(onward).await;
        let Exchange { backend, up, up_broken, .. } = exchange;
        let up_is_done = up.is_done() && !up_broken;
        let told = Told {
            status: Some(self.response.status),
            first_byte: Some(first_byte),
            down: backend.input.carried,
            ..self.told_of(order, &place, efforts)
        };
        if let Err(fault) = answered {
            return Some(self.failed(fault, told, true));
        }
        if up_is_done {
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
    fn begin(&self, mut backend: Stream, upgrade: Option<&[u8]>) -> Stream {
        let forwarded = Forwarded {
            client: &self.peer,
            scheme: "http",
            trusted: self.client_is_trusted(),
            request_id: &self.request_id,
        };
        let request = &self.request;
        backend.output.begin(self.local, request.framing, |out| {
            write_request(out, request, &request.authority, upgrade, &forwarded);
        });
        backend
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
        carried: u32,
        efforts: Efforts,
    ) -> Tried {
        let silent = matches!(fault, Fault::BackendSilent);
        let harmless = self.request.framing == Framing::None && self.request.method.is_idempotent();
        if carried > 0 && silent && harmless {
            return None;
        }
        if carried == 0 && silent {
            place.upstream.note_traffic(&place.backend, false);
        }
        if fault.is_of_the_backend() {
            place.upstream.note_no_answer(&place.backend);
        }
        let told = self.told_of(order, place, efforts);
        Some(self.failed(fault, told, false))
    }

    /// Keeps the connection for the next request, unless its backend has said that it ends, or said too much.
    fn keep(&self, mut backend: Stream, requests: u32, place: &InFlight) {
        if let Some(rules) = &place.upstream.rules.keep_alive
            && self.response.persistent
            && backend.input.is_empty()
        {
            backend.rest(self.local);
            let kept = Kept { socket: backend.socket, requests };
            self.local.idle.borrow_mut().keep(&place.backend, kept, rules);
        }
    }

    /// Both sides agreed on another protocol: from here on it is bytes.
    fn switch(
        &mut self,
        mut backend: Stream,
        order: &Order<'_>,
        place: InFlight,
        efforts: Efforts,
    ) -> Tried {
        strip_response(&mut self.response, false);
        let response = &self.response;
        self.stream.output.begin(self.local, Framing::None, |out| write_interim(out, response));
        let rest = backend.input.take_rest();
        backend.rest(self.local);
        let told = Told { status: Some(101), ..self.told_of(order, &place, efforts) };
        Some((Next::Tunnel { backend: backend.socket, place, rest }, told))
    }

    fn told(&self, order: &Order<'_>, why: Why, efforts: Efforts) -> Told {
        let upstream = Some(Arc::clone(&order.upstream.rules.name));
        Told { upstream, efforts, ..Told::new(why) }
    }

    fn told_of(&self, order: &Order<'_>, place: &InFlight, efforts: Efforts) -> Told {
        let backend = Some(Arc::clone(&place.backend.name));
        let up = self.stream.input.carried - self.carried_before;
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
