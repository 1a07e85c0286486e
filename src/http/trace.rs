//! The trace of one request: begun when it is known who sent it, told to the backend, and left as a span at its end. Most requests
//! have none; what they bring passes as it is.

use std::borrow::Cow;
use std::time::SystemTime;

use evenkeel_wire::Request;
use tokio::time::Instant;

use super::forwarded::{ip_of, is_in};
use super::record::Told;
use super::session::{Session, path_end};
use crate::observe::traces::{Context, Span};

const TRACEPARENT: &[u8] = b"traceparent";
const TRACESTATE: &[u8] = b"tracestate";

/// The longest text in a span, in letters: clients choose them.
const TEXT_MAX: usize = 512;

impl Session<'_> {
    /// The trace that this request belongs to, if it is to leave a span; whoever is asked hears of it.
    pub(super) fn begin_trace(&mut self) -> Option<Context> {
        let tracer = self.site.tracer.as_ref()?;
        let proxies = &self.site.rules.trusted_proxies;
        let trusted = ip_of(self.client).is_some_and(|peer| is_in(proxies, peer));
        let fields = &mut self.request.fields;
        let said: Vec<_> = fields.named(TRACEPARENT).take(2).collect();
        // Of two, neither can be believed.
        let only = if let [only] = said[..] { Some(only) } else { None };
        let context = tracer.begin(only, trusted)?;
        if context.parent.is_none() {
            // It belongs to a trace that is not this one.
            fields.remove_named(TRACESTATE);
        }
        fields.set(TRACEPARENT, context.told().to_string().as_bytes());
        Some(context)
    }

    /// Leaves its span.
    pub(super) fn end_trace(&self, context: Context, began: Instant, told: &Told) {
        let Some(tracer) = &self.site.tracer else { return };
        let Request { method, target, authority, .. } = &self.request;
        let total = began.elapsed();
        tracer.leave(Span {
            context,
            began: SystemTime::now() - total,
            total,
            first_byte: told.first_byte.map(|at| at.saturating_duration_since(began)),
            listener: self.site.listener.clone(),
            upstream: told.upstream.clone(),
            backend: told.backend.clone(),
            method: text(method.as_bytes()),
            scheme: self.scheme(),
            host: text(authority),
            path: text(&target[..path_end(target)]),
            client: self.caller.address.to_string(),
            request_id: self.request_id.clone(),
            status: told.status,
            why: told.why,
            tried: told.efforts.tried,
        });
    }
}

fn text(bytes: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    text.chars().take(TEXT_MAX).collect()
}
