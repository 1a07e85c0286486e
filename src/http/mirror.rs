//! Copies of requests for another upstream, to try it with real traffic: a share of them, sent once the client has its
//! answer, by a task of their own. Whatever becomes of a copy, the request it was made of must never notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use evenkeel_wire::{Framing, Known, Method, Request};

use super::forward::Order;
use super::session::Session;
use super::subrequest::Subrequest;
use crate::limits::Places;
use crate::upstream::connect::Efforts;
use crate::upstream::{Affinity, Upstream};

/// The largest body of an answer that is read to its end; beyond it the connection is closed.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What was configured for one route; `U` is the upstream, or its name.
#[derive(Debug, Clone)]
pub(crate) struct Mirror<U> {
    upstream: U,
    share_percent: u8,
    /// The largest body that is copied.
    pub(super) body_max: usize,
    requests_max: u32,
    live: Arc<Live>,
}

#[derive(Debug)]
struct Live {
    requests: AtomicU64,
    copies: Arc<Places>,
}

impl<U> Mirror<U> {
    pub(crate) fn new(
        upstream: U,
        share_percent: u8,
        body_max: usize,
        requests_max: u32,
    ) -> Mirror<U> {
        let copies = Places::new(Some(requests_max));
        let live = Arc::new(Live { requests: AtomicU64::new(0), copies });
        Mirror { upstream, share_percent, body_max, requests_max, live }
    }

    /// The same with the upstream found by its name, and counts of its own.
    pub(super) fn with<V>(self, find: impl Fn(&U) -> V) -> Mirror<V> {
        let Mirror { upstream, share_percent, body_max, requests_max, .. } = self;
        Mirror::new(find(&upstream), share_percent, body_max, requests_max)
    }

    /// Whether this request is copied: it is one of the share, and its body can be held.
    pub(super) fn takes(&self, request: &Request) -> bool {
        let fits = match request.framing {
            Framing::Length(length) => length <= self.body_max as u64,
            Framing::None | Framing::Chunked | Framing::UntilClose => true,
        };
        let switches = request.upgrade || request.method == Method::Connect;
        fits && !switches
            && is_of_share(self.live.requests.fetch_add(1, Relaxed), self.share_percent)
    }
}

/// Whether the request of this number belongs to the share; of a hundred in a row, as many as it says, evenly.
fn is_of_share(number: u64, percent: u8) -> bool {
    (number % 100) * u64::from(percent) % 100 < u64::from(percent)
}

impl Session<'_> {
    /// Sends a copy of the request that was answered, unless too many are on their way.
    pub(super) fn send_copy(
        &self,
        mirror: &Mirror<Arc<Upstream>>,
        order: &Order<'_>,
        body: Vec<u8>,
    ) {
        let Some(place) = mirror.live.copies.take() else { return };
        let Some(local) = self.local.own() else { return };
        let mut request = self.request.clone();
        if let Some(target) = &order.target {
            request.target.clone_from(target);
        }
        if request.framing != Framing::None {
            request.framing = Framing::Length(body.len() as u64);
        }
        // Nobody waits with the body any more.
        request.fields.remove(Known::Expect);
        let host = order.rewrite.same_host(&self.request).map(<[u8]>::to_vec);
        let (upstream, limits) = (Arc::clone(&mirror.upstream), self.site.rules.head);
        let key = upstream.source_key(self.client_ip());
        let affinity = Affinity { key, session: None, asker: self.asker() };
        tokio::task::spawn_local(async move {
            let _place = place;
            let subrequest = Subrequest {
                local: &local,
                limits,
                upstream: &upstream,
                affinity,
                request: &request,
                host: host.as_deref(),
                body: &body,
                answer_max: ANSWER_BYTES_MAX,
            };
            // What comes back is of no interest; what failed has been noted with its backend.
            let _ = subrequest.put(&mut Efforts::default()).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_and_evenly_spread() {
        for percent in 0..=100_u8 {
            let taken = (0..100).filter(|number| is_of_share(*number, percent)).count();
            assert_eq!(taken, usize::from(percent), "{percent}");
        }
        let tenth: Vec<_> = (0..50).filter(|number| is_of_share(*number, 10)).collect();
        assert_eq!(tenth, [0, 10, 20, 30, 40]);
    }
}
