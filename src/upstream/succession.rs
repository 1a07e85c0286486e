//! The same upstream by a new config. It is built beside the one that serves, takes over at one moment, and is asked from then
//! on for what the old one is asked by connections that began with it.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::cookie::Cookie;
use super::line_up::LineUp;
use super::roster::{Roster, at_once};
use super::{Backend, EntryPlace, Rules, Upstream};
use crate::tls::Connector;

impl Upstream {
    /// The same upstream by a new config: what stays of its backends keeps its verdict, its counts and, if it is reached in
    /// the same way, its kept connections. It is nobody's until [`Upstream::take_over`].
    pub(crate) fn succeed(
        &self,
        rules: Rules,
        tls: Option<Arc<Connector>>,
    ) -> io::Result<Arc<Upstream>> {
        let cookie = rules.sticky.clone().map(Cookie::open).transpose()?;
        let old = self.roster();
        let known = |place: &EntryPlace| {
            let named = self.rules.entries.iter().position(|entry| entry.place == *place);
            named.and_then(|at| old.found[at].clone())
        };
        let found = rules.entries.iter();
        let found = found.map(|entry| at_once(&entry.place).or_else(|| known(&entry.place)));
        let roster = Roster {
            found: found.collect(),
            is_first: false,
            gone: old.gone.clone(),
            former: self.backends(),
            keeps_channels: self.reaches_by(&tls) && self.rules.reach_alike(&rules),
            ..Roster::default()
        };
        drop(old);
        // Who comes later starts slowly.
        let line_up = LineUp { pending: false, ..LineUp::empty(&rules.balance) };
        let lasting = Arc::clone(&self.lasting);
        let upstream = Upstream::with(rules, tls, cookie, lasting, (roster, line_up));
        upstream.line_up_anew();
        Ok(upstream)
    }

    /// It has left the config.
    pub(crate) fn retire(&self) {
        self.lasting.is_retired.store(true, Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.lasting.is_retired.load(Relaxed)
    }

    /// Whether the config in force has this backend.
    pub(crate) fn has(self: &Arc<Self>, backend: &Backend) -> bool {
        let is_it = |known: &Arc<Backend>| known.is(backend);
        !self.is_retired() && self.newest().backends().iter().any(is_it)
    }

    /// Whether its backends are gone to in the same way, as far as TLS is concerned.
    pub(crate) fn reaches_by(&self, other: &Option<Arc<Connector>>) -> bool {
        match (&self.tls, other) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// From now on it is the one of the config in force: those before it leave verdicts, and who waits, to it.
    pub(crate) fn take_over(self: &Arc<Self>) {
        *self.lasting.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(self);
        // What happened while it was built is looked at once it is looked after, and who waits may find a place.
        self.changed.notify_one();
    }

    /// The same upstream by the config in force; itself, if that has none of its name.
    pub(crate) fn newest(self: &Arc<Self>) -> Arc<Upstream> {
        self.newer().unwrap_or_else(|| Arc::clone(self))
    }

    /// The one that has taken over from it.
    pub(super) fn newer(&self) -> Option<Arc<Upstream>> {
        let newest = self.lasting.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.upgrade().filter(|newest| !std::ptr::eq(&raw const **newest, self))
    }
}

impl Rules {
    /// Whether a connection to a backend is the same by these rules as by those.
    fn reach_alike(&self, other: &Rules) -> bool {
        self.h2 == other.h2
            && self.sources == other.sources
            && self.send_proxy == other.send_proxy
            && self.transparent == other.transparent
            && self.options == other.options
    }
}
