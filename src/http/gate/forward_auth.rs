//! Another server is asked first whether a request may pass (forward-auth): what it allows goes on, with headers of its
//! own; what it refuses is answered with its words. A failure of any kind refuses: nothing passes because nobody could
//! be asked. What a client says in the place of those headers is taken away before anything else happens.

use std::sync::Arc;

use evenkeel_wire::{Fields, Framing, Known, Method, Request};

use crate::http::exchange::Fault;
use crate::http::headers::{strip_connection, strip_response};
use crate::http::record::Told;
use crate::http::session::{Next, Session};
use crate::http::subrequest::{Answer, Failed, Subrequest};
use crate::http::variables::remove_alike;
use crate::observe::ended::Why;
use crate::upstream::connect::Efforts;
use crate::upstream::{Affinity, Upstream};

/// What was configured for one route; `U` is the upstream, or its name.
#[derive(Debug, Clone)]
pub(crate) struct ForwardAuth<U> {
    pub(crate) upstream: U,
    pub(crate) path: Box<[u8]>,
    /// Fields of the answer that the request gets.
    pub(crate) copy: Vec<Box<[u8]>>,
    pub(crate) answer_max: usize,
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
        let (upstream, mut efforts) = (&auth.upstream, Efforts::default());
        let subrequest = Subrequest {
            local: self.local,
            limits: self.site.rules.head,
            upstream,
            affinity: Affinity {
                key: upstream.source_key(self.client_ip()),
                session: None,
                asker: self.asker(),
            },
            request: &question,
            host: None,
            body: &[],
            answer_max: auth.answer_max,
        };
        let outcome = tokio::select! {
            biased;
            outcome = subrequest.put(&mut efforts) => outcome,
            () = self.cut.asked() => {
                return Err((Next::Close(Why::DrainCut), Told::new(Why::DrainCut)));
            }
        };
        match outcome {
            Ok(answer) if (200..300).contains(&answer.response.status) => {
                for name in &auth.copy {
                    let values = answer.response.fields.named(name);
                    values.for_each(|value| self.request.fields.push(name, value));
                }
                Ok(())
            }
            Ok(answer) => {
                let told = self.told_by(upstream, Why::Unauthorized, efforts);
                Err(self.pass_on(answer, told))
            }
            Err(failed) => Err(self.not_asked(upstream, failed, efforts)),
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

    fn not_asked(
        &mut self,
        upstream: &Arc<Upstream>,
        failed: Failed,
        efforts: Efforts,
    ) -> (Next, Told) {
        let (why, status, detail) = match failed {
            Failed::Unreached(failed) => return self.not_connected(upstream, failed),
            Failed::Late => (Why::ResponseTimeout, 504, "forward-auth"),
            Failed::TooLong => (Why::BadResponse, 502, "larger than answer-max"),
            Failed::Fault(Fault::BadAnswer(reason)) => (Why::BadResponse, 502, reason),
            Failed::Fault(_) => (Why::BackendGone, 502, "forward-auth"),
        };
        let detail = Some(detail.to_owned());
        let told = Told { detail, ..self.told_by(upstream, why, efforts) };
        self.refuse(status, told)
    }
}
