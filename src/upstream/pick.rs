//! Which backend the next connection, request or packet goes to, and the place that is taken for it there. It takes no lock. An
//! explanation asks the same tables the same question, but takes neither a ticket nor a place.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use evenkeel_balance::{Ask, Trace};

use super::line_up::{LineUp, OpenConnections, seed};
use super::tables::{Group, NoPick, Plainly, WithReasons};
use super::{Affinity, Backend, InFlight, Upstream};
use crate::observe::journal::{self, Noted, Outcome};

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
        self.pick_again(affinity, tried, true)
    }

    /// The same for somebody who may have been told before that there is nothing; `is_told` is whether that is worth a record.
    pub(super) fn pick_again(
        self: &Arc<Self>,
        affinity: Affinity,
        tried: &[Arc<Backend>],
        is_told: bool,
    ) -> Result<InFlight, NoPick> {
        let line_up = self.line_up.load();
        let tried = &line_up.positions(tried)[..];
        let pen = journal::pen();
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
            let picked = match &pen {
                None => line_up.tables.pick(&loads, &ask, &mut Plainly),
                Some(pen) => line_up.tables.pick(&pen.reading(&loads), &ask, &mut Plainly),
            };
            let backend = picked.map(|index| &line_up.backends[index as usize]);
            let taken = backend.filter(|backend| backend.take_place());
            let why_none = || line_up.tables.why_none(tried, line_up.pending);
            let outcome = match (backend, taken) {
                (_, Some(_)) => Ok(Outcome::Taken),
                (Some(_), None) => Ok(Outcome::FilledUp),
                (None, None) => Err(why_none()),
            };
            let mark = pen.as_ref().filter(|_| is_told || outcome.is_ok()).map(|pen| {
                let has_session = session.is_some();
                let outcome = outcome.unwrap_or_else(Outcome::from);
                let (asker, line_up) = (&affinity.asker, line_up.number);
                pen.note(&Noted { asker, line_up, ask: &ask, has_session, picked, outcome })
            });
            outcome?;
            if let Some(backend) = taken {
                self.lasting.open.fetch_add(1, Relaxed);
                let (upstream, backend) = (Arc::clone(self), Arc::clone(backend));
                return Ok(InFlight { upstream, backend, mark: mark.unwrap_or_default() });
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

impl From<NoPick> for Outcome {
    fn from(why: NoPick) -> Outcome {
        match why {
            NoPick::NobodyLeft => Outcome::NobodyLeft,
            NoPick::AllFull => Outcome::AllFull,
            NoPick::NotYetKnown => Outcome::NotYetKnown,
        }
    }
}
