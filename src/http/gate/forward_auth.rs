//! Another server is asked first whether a request may pass (forward-auth): what it allows goes on, with headers of its
//! own; what it refuses is answered with its words. A failure of any kind refuses: nothing passes because nobody could
//! be asked. What a client says in the place of those headers is taken away before anything else happens.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use evenkeel_wire::{Fields, Framing, Known, Method, Request, Response};
use tokio::time::Instant;

use crate::config::Forwarding;
use crate::http::exchange::{Fault, INTERIM_MAX, no_answer};
use crate::http::forward::Order;
use crate::http::forwarded::Forwards;
use crate::http::h1::Piece;
use crate::http::headers::{Heading, strip_connection, strip_response};
use crate::http::reach::Reached;
use crate::http::record::Told;
use crate::http::rewrite::Rewrite;
use crate::http::session::{Next, Session};
use crate::http::stream::Stream;
use crate::http::variables::remove_alike;
use crate::http::{Edits, local::Local};
use crate::observe::ended::Why;
use crate::upstream::connect::{ConnectFailed, Efforts};
use crate::upstream::{InFlight, Upstream};

/// How often the question may go again because the connection it went out on turned out to be over.
const AGAIN_MAX: u32 = 3;

/// What was configured for one route; `U` is the upstream, or its name.
#[derive(Debug, Clone)]
pub(crate) struct ForwardAuth<U> {
    pub(crate) upstream: U,
    pub(crate) path: Box<[u8]>,
    /// Fields of the answer that the request gets.
    pub(crate) copy: Vec<Box<[u8]>>,
    pub(crate) answer_max: usize,
}

/// An answer as a whole.
#[derive(Debug, Default)]
struct Answer {
    response: Response,
    body: Vec<u8>,
}

/// Why there is no answer.
enum Failed {
    Unreached(ConnectFailed),
    Late,
    Fault(Fault, Efforts),
    TooLong(Efforts),
}

impl<U> ForwardAuth<U> {
    /// The same with the upstream found by its name.
    pub(in crate::http) fn with<V>(self, find: impl Fn(&U) -> V) -> ForwardAuth<V> {
        let ForwardAuth { upstream, path, copy, answer_max } = self;
        ForwardAuth { upstream: find(&upstream), path, copy, answer_max }
    }
}

impl Session<'_> {
    /// Lets the request through if the upstream says so, or answers it.
    pub(in crate::http) async fn ask_first(
        &mut self,
        auth: &ForwardAuth<Arc<Upstream>>,
    ) -> Result<(), (Next, Told)> {
        if self.request.fields.all(Known::Authorization).nth(1).is_some() {
            let detail = Some("authorization-repeated".to_owned());
            return Err(self.refuse(400, Told { detail, ..Told::new(Why::BadRequest) }));
        }
        // What the client names in `Connection` goes now, so that it cannot take away what is added below.
        strip_connection(&mut self.request.fields);
        let question = self.question(auth);
        auth.copy.iter().for_each(|name| remove_alike(&mut self.request.fields, name));
        let (edits, rewrite) = (Edits::default(), Rewrite::default());
        let order = Order {
            upstream: &auth.upstream,
            target: None,
            rewrite: &rewrite,
            forwards: Forwards { x_forwarded: Forwarding::Drop, forwarded: Forwarding::Drop },
            request: &edits,
            response: &edits,
            response_timeout: auth.upstream.rules.response_timeout,
            body_max: 0,
            began: Instant::now(),
        };
        let outcome = {
            let patience = order.began + order.response_timeout;
            let answer =
                tokio::time::timeout_at(patience, self.put_question(&order, &question, auth));
            tokio::select! {
                biased;
                outcome = answer => outcome.unwrap_or(Err(Failed::Late)),
                () = self.cut.asked() => {
                    return Err((Next::Close(Why::DrainCut), Told::new(Why::DrainCut)));
                }
            }
        };
        match outcome {
            Ok((answer, _)) if (200..300).contains(&answer.response.status) => {
                for name in &auth.copy {
                    let values = answer.response.fields.named(name);
                    values.for_each(|value| self.request.fields.push(name, value));
                }
                Ok(())
            }
            Ok((answer, efforts)) => {
                let told = self.told(&order, Why::Unauthorized, efforts);
                Err(self.pass_on(answer, told))
            }
            Err(failed) => Err(self.not_asked(&order, failed)),
        }
    }

    /// A GET that says what was asked, by whom, and with which credentials.
    fn question(&self, auth: &ForwardAuth<Arc<Upstream>>) -> Request {
        let asked = &self.request;
        let mut fields = Fields::default();
        let passed =
            |known: &Known| matches!(known, Known::Authorization | Known::Cookie | Known::Accept);
        for field in asked.fields.iter().filter(|field| passed(&field.known)) {
            fields.push(field.name, field.value);
        }
        if !self.caller.ip.is_empty() {
            fields.push(b"X-Forwarded-For", self.caller.ip.as_bytes());
        }
        fields.push(b"X-Forwarded-Method", asked.method.as_bytes());
        // What is left of these after strangers' were dropped is from a proxy that knows better.
        let proto = asked.fields.first(Known::XForwardedProto);
        let host = asked.fields.first(Known::XForwardedHost);
        fields.push(b"X-Forwarded-Proto", proto.unwrap_or(self.scheme().as_bytes()));
        fields.push(b"X-Forwarded-Host", host.unwrap_or(&asked.authority));
        fields.push(b"X-Forwarded-Uri", &asked.target);
        fields.push(b"X-Request-Id", self.request_id.as_bytes());
        Request { method: Method::Get, target: auth.path.to_vec(), fields, ..Request::default() }
    }

    /// Puts the question to a backend, again where a kept connection had ended before it could be asked.
    async fn put_question(
        &self,
        order: &Order<'_>,
        question: &Request,
        auth: &ForwardAuth<Arc<Upstream>>,
    ) -> Result<(Answer, Efforts), Failed> {
        let (mut tried, mut efforts, mut again) = (Vec::new(), Efforts::default(), 0);
        loop {
            let reached = self.reach(order, &mut tried, &mut efforts, again == 0).await;
            let (Reached { mut stream, carried }, place) = reached.map_err(Failed::Unreached)?;
            let host = place.backend.authority.as_bytes();
            let heading = Heading { target: &question.target, host, upgrade: None };
            let asked = match stream.ask(self.local, question, heading) {
                Ok(()) => {
                    stream.finish(None);
                    self.hear(&mut stream, auth.answer_max).await
                }
                Err(failed) => Err(no_answer(failed)),
            };
            match asked {
                Ok(Some(answer)) => {
                    place.upstream.note_traffic(&place.backend, true);
                    self.keep_after(stream, &answer.response, carried + 1, &place);
                    return Ok((answer, efforts));
                }
                Ok(None) => return Err(Failed::TooLong(efforts)),
                Err(Fault::BackendSilent | Fault::Unprocessed)
                    if carried > 0 && again < AGAIN_MAX =>
                {
                    again += 1;
                }
                Err(fault) => {
                    if matches!(fault, Fault::BackendSilent) {
                        place.upstream.note_traffic(&place.backend, false);
                    }
                    return Err(Failed::Fault(fault, efforts));
                }
            }
        }
    }

    /// Waits for the whole answer; none if its body is larger than `most`.
    async fn hear(&self, stream: &mut Stream, most: usize) -> Result<Option<Answer>, Fault> {
        let limits = &self.site.rules.head;
        let mut answer = Answer::default();
        let mut interim = 0;
        poll_fn(|cx| {
            // Whoever takes no more may have answered before.
            let _ = stream.poll_flush(cx);
            loop {
                let response = &mut answer.response;
                let head = stream.poll_answer(cx, self.local, response, &Method::Get, limits);
                ready!(head).map_err(no_answer)?;
                match response.status {
                    101 => return Poll::Ready(Err(Fault::BadAnswer("switch-not-asked-for"))),
                    200.. => return Poll::Ready(Ok(())),
                    _ => interim += 1,
                }
                if interim > INTERIM_MAX {
                    return Poll::Ready(Err(Fault::BadAnswer("too-many-interim-answers")));
                }
            }
        })
        .await?;
        stream.begin_body(answer.response.framing, limits);
        let body = &mut answer.body;
        let whole = poll_fn(|cx| poll_body(cx, stream, self.local, body, most)).await?;
        Ok(whole.then_some(answer))
    }

    fn keep_after(&self, stream: Stream, response: &Response, carried: u32, place: &InFlight) {
        if let Stream::H1(backend) = stream {
            self.keep(backend, response, carried, place);
        }
    }

    /// Gives the client the answer that refuses it.
    fn pass_on(&mut self, answer: Answer, told: Told) -> (Next, Told) {
        let Answer { mut response, body } = answer;
        strip_response(&mut response, false);
        response.fields.remove(Known::Upgrade);
        let has_body = !matches!(response.status, 204 | 304);
        let is_head = self.request.method == Method::Head;
        response.framing = match has_body && !is_head {
            true => Framing::Length(body.len() as u64),
            false => Framing::None,
        };
        if has_body && is_head {
            response.fields.push(b"Content-Length", body.len().to_string().as_bytes());
        }
        self.response = response;
        let said = if has_body && !is_head { &body[..] } else { &[] };
        self.say(said, told)
    }

    fn not_asked(&mut self, order: &Order<'_>, failed: Failed) -> (Next, Told) {
        let (why, status, detail, efforts) = match failed {
            Failed::Unreached(failed) => return self.not_connected(order, failed),
            Failed::Late => (Why::ResponseTimeout, 504, "forward-auth", Efforts::default()),
            Failed::TooLong(efforts) => {
                (Why::BadResponse, 502, "forward-auth: larger than answer-max", efforts)
            }
            Failed::Fault(Fault::BadAnswer(reason), efforts) => {
                (Why::BadResponse, 502, reason, efforts)
            }
            Failed::Fault(_, efforts) => (Why::BackendGone, 502, "forward-auth", efforts),
        };
        let detail = Some(detail.to_owned());
        let told = Told { detail, ..self.told(order, why, efforts) };
        self.refuse(status, told)
    }
}

/// Reads a body to its end; whether it was not larger than `most`.
fn poll_body(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    local: &Local,
    body: &mut Vec<u8>,
    most: usize,
) -> Poll<Result<bool, Fault>> {
    let mut scratch = local.scratch.borrow_mut();
    loop {
        let piece = ready!(stream.poll_piece(cx, local, &mut scratch[..]));
        match piece.map_err(|_| Fault::BackendGone)? {
            Piece::End => return Poll::Ready(Ok(true)),
            Piece::Data { data, .. } if body.len() + data.len() > most => {
                return Poll::Ready(Ok(false));
            }
            Piece::Data { data, ends } => {
                body.extend_from_slice(data);
                if ends {
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }
}
