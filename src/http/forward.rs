//! A request to a backend and its answer back: picked per request, over a kept connection or a fresh one.
//! A request is sent a second time only where its backend provably did not process it.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_wire::Framing;
use tokio::time::Instant;

use super::Edits;
use super::affinity::Belonging;
use super::again::{Course, Retry};
use super::exchange::{Exchange, Fault, no_answer};
use super::forwarded::Forwards;
use super::h1::BodyFailed;
use super::headers::{Heading, strip_request};
use super::mirror::Mirror;
use super::pump::Pump;
use super::reach::{Reach, Reached, keep};
use super::record::Told;
use super::rewrite::Rewrite;
use super::session::{Next, Session};
use super::stream::Stream;
use crate::observe::ended::Why;
use crate::observe::sheets::Exchanged;
use crate::tcp::Cut;
use crate::tls::Agreed;
use crate::upstream::connect::{ConnectFailed, Efforts};
use crate::upstream::introduce::Known;
use crate::upstream::{InFlight, Upstream};

/// What one try came to; nothing when the request may go again.
type Tried = Option<(Next, Told)>;

/// What a route says about forwarding.
pub(super) struct Order<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    /// Path and query where they are not what the client asked for.
    pub(super) target: Option<Vec<u8>>,
    pub(super) rewrite: &'a Rewrite,
    pub(super) forwards: Forwards,
    pub(super) request: &'a Edits,
    pub(super) response: &'a Edits,
    pub(super) response_timeout: Duration,
    pub(super) retry: Option<&'a Retry>,
    /// Bytes of a body that are held before a backend is picked.
    pub(super) hold: u64,
    pub(super) body_max: u64,
    pub(super) began: Instant,
    /// Who gets a copy of some requests.
    pub(super) mirror: Option<&'a Mirror<Arc<Upstream>>>,
    /// What a split has to tell the client.
    pub(super) set_cookie: Option<String>,
}

/// One try to have a request answered.
struct Attempt<'a> {
    /// The protocol to switch to.
    upgrade: Option<&'a [u8]>,
    efforts: Efforts,
    belonging: &'a Belonging,
    /// Who gets a copy of this request.
    mirror: Option<&'a Mirror<Arc<Upstream>>>,
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
        strip_request(&mut self.request);
        let belonging = self.belonging(order.upstream, order.set_cookie.clone());
        self.stamp(order.forwards);
        self.changes(order.request).apply(&mut self.request.fields);
        let mirror = order.mirror.filter(|mirror| mirror.takes(&self.request));
        let held = match self.hold(order.hold, order.body_max).await {
            Ok(held) => held,
            Err(fault) => {
                let told = self.told(order, Why::Answered, Efforts::default());
                return self.failed(fault, told, false);
            }
        };
        let told = self.told_first(order.upstream);
        let mut course = Course::new(order, held, &self.request);
        let (mut tried, mut efforts) = (Vec::new(), Efforts::default());
        loop {
            let reached = {
                let (local, limits, upstream) = (self.local, self.site.rules.head, order.upstream);
                let (affinity, may_use_kept) = (belonging.affinity, course.may_use_kept());
                let switches = upgrade.is_some();
                let told = told.as_deref();
                let client = self.client_ip();
                let reach = Reach { local, upstream, affinity, limits, switches, told, client };
                match reach.backend_at_once(&tried, &mut efforts, may_use_kept) {
                    Ok(found) => Ok(found),
                    // Boxed, so that a request for which nothing has to be waited does not carry the room for it.
                    Err(first) => {
                        let reach = reach.backend(first, &mut tried, &mut efforts, may_use_kept);
                        Box::pin(in_time(reach, course.due(order), self.cut)).await
                    }
                }
            };
            let (reached, place) = match reached {
                Ok(found) => found,
                Err(Unreached::Failed(failed)) => {
                    return self.not_connected(order.upstream, failed);
                }
                Err(Unreached::Late) => {
                    let mut told = self.told(order, Why::ResponseTimeout, efforts);
                    told.detail = Some("no backend could be reached in time".to_owned());
                    return self.refuse(504, told);
                }
                Err(Unreached::Cut) => {
                    return (Next::Close(Why::DrainCut), Told::new(Why::DrainCut));
                }
            };
            let upgrade = upgrade.as_deref();
            let attempt = Attempt { upgrade, efforts, belonging: &belonging, mirror };
            let backend = Arc::clone(&place.backend);
            match self.try_at(order, reached, place, attempt, &mut course).await {
                Some(over) => return over,
                // Somebody else, if there is anybody.
                None => {
                    order.upstream.note_retry();
                    if course.is_elsewhere(tried.len(), order.upstream) {
                        tried.push(backend);
                    }
                }
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
        course: &mut Course<'_>,
    ) -> Tried {
        let Reached { stream: mut backend, carried, at: sent } = reached;
        let efforts = attempt.efforts;
        let begun = self.begin(&mut backend, order, &place, attempt.upgrade);
        let (cut, may_persist) = (self.cut, self.requests < self.site.rules.requests_max);
        let changes = self.changes(order.response);
        let (compress, sent_before) = (self.compress, self.stream.sent());
        let mut exchange = self.exchange(order, backend, course);
        if let Some(mirror) = attempt.mirror {
            exchange.up.keep_copy(mirror.body_max);
        }
        let asked = match begun {
            Ok(()) => exchange.ask().await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = asked {
            let up = self.stream.carried() - self.carried_before;
            note(&place, sent.elapsed(), (up, 0));
            if course.was_unread(&fault, carried, up == 0) {
                return None;
            }
            return self.not_answered(fault, order, &place, (carried, efforts), course);
        }
        let first_byte = Instant::now();
        exchange.settle(|| first_byte);
        // While the client was still sending, the backend had nothing to answer.
        let took = first_byte - sent.max(exchange.active);
        place.upstream.note_answer(&place.backend, exchange.response.status, first_byte, took);
        if course.may_retry_instead(exchange.response.status, &place.upstream) {
            return None;
        }
        if exchange.is_switch() {
            attempt.belonging.tell(&place, &mut exchange.response.fields);
            let backend = exchange.backend;
            return Some(self.switch(backend, order, place, (efforts, attempt.upgrade)));
        }
        let mut onward = exchange.onward(may_persist && !cut.is_finishing());
        changes.apply(&mut exchange.response.fields);
        attempt.belonging.tell(&place, &mut exchange.response.fields);
        let answered = exchange.answer(&mut onward, compress).await;
        let Exchange { backend, up, up_broken, .. } = exchange;
        let up_is_done = up.is_done() && !up_broken;
        let told = Told {
            status: Some(self.response.status),
            first_byte: Some(first_byte),
            down: self.stream.sent() - sent_before,
            ..self.told_of(order, &place, efforts)
        };
        let now = Instant::now();
        note(&place, now - sent, (told.up, told.down));
        if let Err(fault) = answered {
            return Some(self.failed(fault, told, true));
        }
        self.ended_at = Some(now);
        if up_is_done && let Stream::H1(backend) = backend {
            keep(self.local, backend, &self.response, (carried + 1, now), &place);
        }
        if let (Some(mirror), Some(body)) = (attempt.mirror, up.into_copy()) {
            self.send_copy(mirror, order, body);
        }
        Some((after(onward.persistent, up_is_done), told))
    }

    /// Writes the head of the request.
    fn begin(
        &self,
        backend: &mut Stream,
        order: &Order<'_>,
        place: &InFlight,
        upgrade: Option<&[u8]>,
    ) -> Result<(), Fault> {
        self.cut.seen().is_at(&place.backend);
        let request = &self.request;
        let target = order.target.as_deref().unwrap_or(&request.target);
        let host = order.rewrite.host(request, &place.backend);
        let heading = Heading { target, host, upgrade };
        backend.ask(self.local, request, heading).map_err(no_answer)
    }

    fn exchange<'e>(
        &'e mut self,
        order: &Order<'_>,
        backend: Stream,
        course: &Course<'_>,
    ) -> Exchange<'e> {
        Exchange {
            rules: &self.site.rules,
            local: self.local,
            cut: self.cut,
            alarm: &mut self.alarm,
            client: &mut self.stream,
            backend,
            request: &self.request,
            response: &mut self.response,
            up: Pump::holding(course.held.bytes.clone(), course.left(order.body_max)),
            up_broken: false,
            stirred: false,
            active: course.began,
            response_timeout: course.limit(order),
            deadline: self.site.rules.request_timeout.map(|most| order.began + most),
        }
    }

    /// What a fault of the backend, or of the client, comes to while nothing has been answered.
    fn not_answered(
        &mut self,
        fault: Fault,
        order: &Order<'_>,
        place: &InFlight,
        (carried, efforts): (u32, Efforts),
        course: &mut Course<'_>,
    ) -> Tried {
        if carried == 0 && matches!(fault, Fault::BackendSilent) {
            place.upstream.note_traffic(&place.backend, false);
        }
        if fault.is_of_the_backend() {
            place.upstream.note_no_answer(&place.backend);
        }
        if course.may_retry_after(&fault, &place.upstream) {
            return None;
        }
        let told = self.told_of(order, place, efforts);
        Some(self.failed(fault, told, false))
    }

    /// What a backend wants to hear of this client before anything else.
    fn told_first(&self, upstream: &Upstream) -> Option<Box<[u8]>> {
        let how = upstream.rules.send_proxy.as_ref()?;
        let agreed = self.caller.agreed.as_deref();
        let protocol: Option<&[u8]> = match &self.stream {
            Stream::H1(stream) => stream.socket.protocol(),
            Stream::H2(_) => agreed.map(|_| &b"h2"[..]),
        };
        let known = Known {
            ends: self.client.address().zip(self.connected_to()),
            name: agreed.and_then(|agreed| agreed.name.as_deref()),
            protocol,
            tls: agreed.map(Agreed::known),
            id: Some(&self.request_id),
        };
        Some(how.header(&known))
    }

    fn told(&self, order: &Order<'_>, why: Why, efforts: Efforts) -> Told {
        self.told_by(order.upstream, why, efforts)
    }

    pub(super) fn told_by(&self, upstream: &Arc<Upstream>, why: Why, efforts: Efforts) -> Told {
        let upstream = Some(Arc::clone(&upstream.rules.name));
        Told { upstream, efforts, ..Told::new(why) }
    }

    pub(super) fn told_of(&self, order: &Order<'_>, place: &InFlight, efforts: Efforts) -> Told {
        let backend = Some(Arc::clone(&place.backend.name));
        let up = self.stream.carried() - self.carried_before;
        Told { backend, up, ..self.told(order, Why::Answered, efforts) }
    }

    pub(super) fn not_connected(
        &mut self,
        upstream: &Arc<Upstream>,
        failed: ConnectFailed,
    ) -> (Next, Told) {
        let ConnectFailed { why, detail, backend, efforts } = failed;
        let status = match why {
            Why::ConnectTimeout => 504,
            Why::BackendTls => 502,
            _ => 503,
        };
        let told = Told { detail, backend, ..self.told_by(upstream, why, efforts) };
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
            Fault::NotCompressed => (Why::InternalError, None, Some("could not be compressed")),
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

/// Counts the end of a request at a backend, and the bytes of its bodies.
fn note(place: &InFlight, took: Duration, (up, down): (u64, u64)) {
    let total = Some(took);
    place.backend.exchanged(&Exchanged { total, up, down, ..Exchanged::default() });
}

/// Why no backend was reached.
enum Unreached {
    Failed(ConnectFailed),
    Late,
    Cut,
}

async fn in_time<T>(
    reach: impl Future<Output = Result<T, ConnectFailed>>,
    due: Instant,
    cut: &Cut,
) -> Result<T, Unreached> {
    tokio::select! {
        biased;
        reached = tokio::time::timeout_at(due, reach) => match reached {
            Ok(reached) => reached.map_err(Unreached::Failed),
            Err(_) => Err(Unreached::Late),
        },
        () = cut.asked() => Err(Unreached::Cut),
    }
}

/// What comes after an answer that went to the client as a whole.
fn after(persistent: bool, up_is_done: bool) -> Next {
    match (persistent, up_is_done) {
        (true, _) => Next::Request,
        (false, true) => Next::Close(Why::Answered),
        (false, false) => Next::Linger(Why::Answered),
    }
}
