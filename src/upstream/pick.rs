//! Which backend the next connection, request or packet goes to, and the place that is taken for it there. It takes no lock. An
//! explanation asks the same tables the same question, but takes neither a ticket nor a place.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use evenkeel_balance::{Ask, Trace};

use super::line_up::{LineUp, OpenConnections, seed};
use super::tables::{Group, NoPick, Plainly, WithReasons};
use super::{Affinity, Backend, InFlight, Upstream};

/// A pick with everything that it was made of.
#[derive(Debug)]
pub(crate) struct Weighed {
    /// All of them, in configured order; numbers below are places in it.
    pub(crate) backends: Vec<Arc<Backend>>,
    pub(crate) ticket: u64,
    /// The backend that has the session and can go on with it.
    pub(crate) preferred: Option<u32>,
    /// The backend that has the session, whether it can or not.
    pub(crate) session: Option<u32>,
    pub(crate) picked: Result<u32, NoPick>,
    /// What each table that was asked has looked at.
    pub(crate) reasons: Vec<(Group, Trace)>,
}

impl Upstream {
    /// Takes the next place by the configured algorithm.
    pub(super) fn pick(
        self: &Arc<Self>,
        affinity: Affinity,
        tried: &[Arc<Backend>],
    ) -> Result<InFlight, NoPick> {
        let line_up = self.line_up.load();
        let tried = &line_up.positions(tried)[..];
        let mut own = None;
        // A chosen backend may fill up between the pick and the taking; then the next pick sees it full.
        loop {
            let loads = self.loads(&line_up);
            let session = affinity.session.as_ref();
            let preferred = session.and_then(|session| line_up.session(&loads, tried, session));
            // Who has a session takes nobody's turn: the turns are for those who come anew.
            let ticket = match preferred {
                None if tried.is_empty() => {
                    *own.get_or_insert_with(|| self.lasting.ticket.fetch_add(1, Relaxed))
                }
                _ => self.lasting.ticket.load(Relaxed),
            };
            let ask = Ask { key: affinity.key, tried, ticket, seed: seed(ticket), preferred };
            let Some(index) = line_up.tables.pick(&loads, &ask, &mut Plainly) else {
                return Err(line_up.tables.why_none(tried, line_up.pending));
            };
            let backend = &line_up.backends[index as usize];
            if backend.take_place() {
                self.lasting.open.fetch_add(1, Relaxed);
                return Ok(InFlight { upstream: Arc::clone(self), backend: Arc::clone(backend) });
            }
        }
    }

    /// What [`Upstream::pick`] would answer now to somebody who has tried nobody yet, and why.
    pub(crate) fn weigh(&self, affinity: Affinity) -> Weighed {
        let line_up = self.line_up.load();
        let loads = self.loads(&line_up);
        let session = affinity.session.as_ref();
        let preferred = session.and_then(|session| line_up.session(&loads, &[], session));
        let ticket = self.lasting.ticket.load(Relaxed);
        let ask = Ask { key: affinity.key, tried: &[], ticket, seed: seed(ticket), preferred };
        let mut reasons = WithReasons::default();
        let picked = line_up.tables.pick(&loads, &ask, &mut reasons);
        Weighed {
            ticket,
            preferred,
            session: session.and_then(|session| line_up.by_identity.get(session).copied()),
            picked: picked.ok_or_else(|| line_up.tables.why_none(&[], line_up.pending)),
            reasons: reasons.0,
            backends: line_up.backends.clone(),
        }
    }

    fn loads<'a>(&self, line_up: &'a LineUp) -> OpenConnections<'a> {
        OpenConnections {
            backends: &line_up.backends,
            total: self.lasting.open.load(Relaxed),
            started: self.lasting.started,
            now: OnceCell::new(),
        }
    }
}
