//! What the journal is told of an upstream: each line-up before anybody is picked from it, so that every pick can be made again.

use std::sync::Arc;

use evenkeel_balance::Member;

use super::tables::Members;
use super::{Backend, Upstream};
use crate::observe::journal::{BackendNote, Journal, LineUpNote};

impl Upstream {
    /// Has its line-ups noted there, from the one in force on.
    pub(crate) fn keep_journal(self: &Arc<Self>, journal: &Arc<Journal>) {
        if self.lasting.journal.set(Arc::clone(journal)).is_ok() {
            self.line_up_anew();
        }
    }

    /// Has everything in force that has been found out so far, without waiting for the control thread.
    pub(crate) fn settle(self: &Arc<Self>) {
        self.line_up_anew();
    }

    /// Notes a line-up that is about to be published; the number under which it is known.
    pub(super) fn noted(&self, backends: &[Arc<Backend>], members: &Members, pending: bool) -> u32 {
        let Some(journal) = self.lasting.journal.get() else { return 0 };
        let pairs = |of: &[Member]| of.iter().map(|one| (one.index, one.weight)).collect();
        let backend = |backend: &Arc<Backend>| BackendNote {
            name: backend.name.to_string(),
            authority: backend.authority.to_string(),
            weight: backend.weight,
            backup: backend.backup,
            most: backend.most(),
            state: backend.counts(&self.rules.name).state.to_owned(),
        };
        journal.note_line_up(LineUpNote {
            line_up: 0,
            at: 0,
            upstream: self.rules.name.to_string(),
            balance: (&self.rules.balance).into(),
            key: format!("{:?}", self.rules.key_part),
            pending,
            backends: backends.iter().map(backend).collect(),
            main: pairs(&members.main),
            backup: pairs(&members.backup),
            drained: pairs(&members.drained),
        })
    }
}
