//! Where a request belongs: the key for hashing, the backend that has its session, the share of a split it was given
//! before. Cookies that say so are ours: they are taken out of the request, and set anew in the answer when needed.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use evenkeel_balance::{Algorithm, Ask, Loads, Member, Table};
use evenkeel_wire::{Fields, Known, Request};
use tokio::time::Instant;

use super::Action;
use super::forward::Order;
use super::key::{cookie, key_part, remove_cookie};
use super::record::Told;
use super::session::{Next, Session};
use crate::observe::ended::Why;
use crate::observe::journal::{self, Asker, RequestKey};
use crate::upstream::cookie::{Cookie, CookieRules, Identity, Seen, time_of_day};
use crate::upstream::{Affinity, InFlight, Upstream};

/// Upstreams that share the requests of a route; `U` is the upstream, or its name.
#[derive(Debug, Clone)]
pub(crate) struct Split<U> {
    shares: Vec<Share<U>>,
    turns: Table,
    ticket: Arc<AtomicU64>,
    cookie_rules: Option<CookieRules>,
    cookie: Option<Cookie>,
}

impl<U> Split<U> {
    /// Whom it leads to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &U> {
        self.shares.iter().map(|share| &share.to)
    }
}

#[derive(Debug, Clone)]
struct Share<U> {
    to: U,
    name: Arc<str>,
    /// What stands for it in the cookie.
    identity: Option<Identity>,
}

impl<U> Split<U> {
    /// The same with the upstreams found by their names, and with the key of its cookie. Only that can fail.
    pub(crate) fn with<V>(&self, find: impl Fn(&U) -> V) -> io::Result<Split<V>> {
        let cookie = self.cookie_rules.clone().map(Cookie::open).transpose()?;
        let share = |share: &Share<U>| Share {
            to: find(&share.to),
            name: Arc::clone(&share.name),
            identity: cookie.as_ref().map(|cookie| cookie.identity("upstream", &share.name)),
        };
        Ok(Split {
            shares: self.shares.iter().map(share).collect(),
            turns: self.turns.clone(),
            ticket: Arc::clone(&self.ticket),
            cookie_rules: self.cookie_rules.clone(),
            cookie,
        })
    }

    /// The share of a client that was given one before, or the next one in turn.
    fn choose(&self, seen: Option<Seen>) -> Option<&Share<U>> {
        self.choose_by(seen, || self.ticket.fetch_add(1, Relaxed))
    }

    /// The same, with the ticket as it is had.
    fn choose_by(&self, seen: Option<Seen>, ticket: impl FnOnce() -> u64) -> Option<&Share<U>> {
        let kept = seen.and_then(|seen| {
            self.shares.iter().find(|share| share.identity == Some(seen.identity))
        });
        kept.or_else(|| {
            let ticket = ticket();
            let turn = self.turns.pick(&NoLoad, &Ask { ticket, ..Ask::default() })?;
            self.shares.get(turn as usize)
        })
    }
}

impl Split<Arc<str>> {
    /// Of upstreams by name, with their weights.
    pub(crate) fn new(shares: &[(Arc<str>, u32)], cookie_rules: Option<CookieRules>) -> Self {
        let member = |(index, (name, weight)): (usize, &(Arc<str>, u32))| Member {
            index: index as u32,
            name: name.to_string(),
            weight: *weight,
        };
        let members: Vec<_> = shares.iter().enumerate().map(member).collect();
        let share = |(name, _): &(Arc<str>, u32)| Share {
            to: Arc::clone(name),
            name: Arc::clone(name),
            identity: None,
        };
        Split {
            shares: shares.iter().map(share).collect(),
            turns: Table::build(&Algorithm::RoundRobin, &members),
            ticket: Arc::default(),
            cookie_rules,
            cookie: None,
        }
    }
}

/// What was found out about a request before it is forwarded, and what its client is told with the answer.
#[derive(Debug)]
pub(super) struct Belonging {
    pub(super) affinity: Affinity,
    seen: Option<Seen>,
    client_uses_tls: bool,
    set_cookie: Option<String>,
}

impl Belonging {
    /// Tells the client where it was, unless its cookie says so already.
    pub(super) fn tell(&self, place: &InFlight, fields: &mut Fields) {
        if let Some(set_cookie) = &self.set_cookie {
            fields.push(b"Set-Cookie", set_cookie.as_bytes());
        }
        let (Some(cookie), Some(identity)) = (&place.upstream.cookie, &place.backend.identity)
        else {
            return;
        };
        let knows = |seen: &Seen| seen.identity == *identity && !seen.is_aging;
        if !self.seen.as_ref().is_some_and(knows) {
            let set_cookie = cookie.set(identity, time_of_day(), self.client_uses_tls);
            fields.push(b"Set-Cookie", set_cookie.as_bytes());
        }
    }
}

impl Session<'_> {
    /// For whom a backend is picked, as the journal tells it.
    pub(super) fn asker(&self) -> Asker {
        let request = journal::is_kept().then(|| RequestKey::of(&self.request_id));
        Asker { route: self.route_number, client: self.client_ip(), request, ..self.site.place }
    }

    /// Where the request belongs in an upstream. `set_cookie` is what a split has to tell its client.
    pub(super) fn belonging(
        &mut self,
        upstream: &Arc<Upstream>,
        set_cookie: Option<String>,
    ) -> Belonging {
        let client_uses_tls = self.client_uses_tls();
        let client = self.client_ip();
        let (affinity, seen) = affinity(&mut self.request, upstream, client);
        let affinity = Affinity { asker: self.asker(), ..affinity };
        Belonging { affinity, seen, client_uses_tls, set_cookie }
    }

    /// Forwards the request to the upstream of a split that it goes to.
    pub(super) async fn forward_share(
        &mut self,
        split: &Split<Arc<Upstream>>,
        action: &Action<Arc<Upstream>>,
        target: Option<Vec<u8>>,
        began: Instant,
    ) -> (Next, Told) {
        let Some((upstream, set_cookie)) = self.share(split) else {
            return self.refuse(503, Told::new(Why::NoBackend));
        };
        let order = Order { set_cookie, ..self.order(action, upstream, target, began) };
        self.forward(&order).await
    }

    /// The upstream of a split that the request goes to, and the cookie that keeps its client there.
    fn share<'s>(
        &mut self,
        split: &'s Split<Arc<Upstream>>,
    ) -> Option<(&'s Arc<Upstream>, Option<String>)> {
        let seen = split.cookie.as_ref().and_then(|cookie| take_cookie(&mut self.request, cookie));
        let share = split.choose(seen)?;
        let knows = |seen: Seen| Some(seen.identity) == share.identity && !seen.is_aging;
        let set_cookie = match (&split.cookie, &share.identity) {
            (Some(cookie), Some(identity)) if !seen.is_some_and(knows) => {
                Some(cookie.set(identity, time_of_day(), self.client_uses_tls()))
            }
            _ => None,
        };
        Some((&share.to, set_cookie))
    }

    /// Whether the client came over TLS, as a proxy in front says that may say so.
    fn client_uses_tls(&self) -> bool {
        // Nobody else's word of it is left in the request.
        let said = self.request.fields.first(Known::XForwardedProto);
        let is_own = self.site.rules.scheme == "https";
        is_own || said.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"))
    }
}

/// Where a request of a client belongs in an upstream, and what its cookie says of that.
pub(super) fn affinity(
    request: &mut Request,
    upstream: &Upstream,
    client: Option<IpAddr>,
) -> (Affinity, Option<Seen>) {
    let key = match key_part(request, &upstream.rules.key_part) {
        Some(bytes) => upstream.key_of(bytes),
        None => upstream.source_key(client),
    };
    let seen = upstream.cookie.as_ref().and_then(|cookie| take_cookie(request, cookie));
    let session = seen.map(|seen| seen.identity);
    (Affinity { key, session, ..Affinity::default() }, seen)
}

/// The upstream of a split that a request would go to now, and whether it has been there. Nobody's turn is taken.
pub(super) fn next_share<'s>(
    split: &'s Split<Arc<Upstream>>,
    request: &mut Request,
) -> Option<(&'s Arc<Upstream>, bool)> {
    let seen = split.cookie.as_ref().and_then(|cookie| take_cookie(request, cookie));
    let share = split.choose_by(seen, || split.ticket.load(Relaxed))?;
    let was_there = seen.is_some_and(|seen| Some(seen.identity) == share.identity);
    Some((&share.to, was_there))
}

/// What a cookie of ours says. It is between the client and us: a backend does not get it.
fn take_cookie(request: &mut Request, cookie_of_ours: &Cookie) -> Option<Seen> {
    let name = cookie_of_ours.rules.name.as_bytes();
    let value = cookie(request, name)?;
    let seen = cookie_of_ours.read(value, time_of_day());
    remove_cookie(request, name);
    seen
}

/// Shares have no load: only their weights count.
struct NoLoad;

impl Loads for NoLoad {
    fn open(&self, _: u32) -> u32 {
        0
    }
    fn latency(&self, _: u32) -> f64 {
        0.0
    }
    fn has_room(&self, _: u32) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(weights: &[(&str, u32)], count: usize) -> String {
        let shares: Vec<(Arc<str>, u32)> =
            weights.iter().map(|(name, weight)| ((*name).into(), *weight)).collect();
        let split = Split::new(&shares, None);
        (0..count).map(|_| split.choose(None).unwrap().name.to_string()).collect()
    }

    #[test]
    fn a_split_is_exact_in_every_round_and_spread_out_in_it() {
        for round in names(&[("b", 95), ("g", 5)], 200).as_bytes().chunks(20) {
            assert_eq!(round.iter().filter(|name| **name == b'g').count(), 1, "{round:?}");
        }
        assert_eq!(names(&[("a", 1), ("b", 0), ("c", 1)], 6), "acacac");
    }
}
