//! The tables that backends are picked from, and in which order they are asked: whoever has a session, then the main ones, then
//! the backups. It must never know a backend, only numbers and loads: so traffic, an explanation and a replay share this code.

use evenkeel_balance::{Algorithm, Ask, Loads, Member, Table, Trace};

/// Who takes part in which table, as a line-up makes it of weights and verdicts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) main: Vec<Member>,
    pub(crate) backup: Vec<Member>,
    pub(crate) drained: Vec<Member>,
}

/// What one line-up is picked from.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Over those that are usable now.
    main: Table,
    /// Over usable backups; used when `main` is empty or was tried in vain.
    backup: Table,
    /// Over usable backends without weight: they get nothing new, but who has a session there keeps it.
    drained: Table,
}

/// Why there is no backend to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// None is usable, or every usable one was tried.
    NobodyLeft,
    /// Those left are at their limit.
    AllFull,
    /// None is known yet: a name is still being looked up.
    NotYetKnown,
}

/// A table, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Main,
    Backup,
    Drained,
}

/// How a table is asked: with or without its reasons.
pub(crate) trait Manner {
    fn ask(&mut self, of: Group, table: &Table, loads: &impl Loads, ask: &Ask<'_>) -> Option<u32>;
}

/// Without reasons, as traffic does.
pub(crate) struct Plainly;

impl Manner for Plainly {
    fn ask(&mut self, _: Group, table: &Table, loads: &impl Loads, ask: &Ask<'_>) -> Option<u32> {
        table.pick(loads, ask)
    }
}

/// With the reasons of each table that was asked.
#[derive(Debug, Default)]
pub(crate) struct WithReasons(pub(crate) Vec<(Group, Trace)>);

impl Manner for WithReasons {
    fn ask(&mut self, of: Group, table: &Table, loads: &impl Loads, ask: &Ask<'_>) -> Option<u32> {
        let (answer, trace) = table.explain(loads, ask);
        self.0.push((of, trace));
        answer
    }
}

impl Tables {
    pub(crate) fn build(balance: &Algorithm, members: &Members) -> Tables {
        Tables {
            main: Table::build(balance, &members.main),
            backup: Table::build(balance, &members.backup),
            drained: Table::build(&Algorithm::First, &members.drained),
        }
    }

    /// The one to go to: that of a session first, then any other, then a backup.
    pub(crate) fn pick(
        &self,
        loads: &impl Loads,
        ask: &Ask<'_>,
        how: &mut impl Manner,
    ) -> Option<u32> {
        if ask.preferred.is_some_and(|index| self.drained.takes(loads, ask, index))
            && let Some(kept) = how.ask(Group::Drained, &self.drained, loads, ask)
        {
            return Some(kept);
        }
        let main = how.ask(Group::Main, &self.main, loads, ask);
        let main_is_spent = self.main.is_empty() || !ask.tried.is_empty();
        match main {
            None if main_is_spent => how.ask(Group::Backup, &self.backup, loads, ask),
            main => main,
        }
    }

    /// Whether a session there can go on now.
    pub(crate) fn keeps(&self, loads: &impl Loads, tried: &[u32], index: u32) -> bool {
        let ask = Ask { tried, ..Ask::default() };
        let takes = |table: &Table| table.takes(loads, &ask, index);
        takes(&self.main) || takes(&self.drained) || (self.main.is_empty() && takes(&self.backup))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.backup.is_empty()
    }

    /// Why a pick came to nothing; `pending` is whether somebody may still become known.
    pub(crate) fn why_none(&self, tried: &[u32], pending: bool) -> NoPick {
        if self.is_empty() {
            return if pending { NoPick::NotYetKnown } else { NoPick::NobodyLeft };
        }
        let tables = if self.main.is_empty() { &self.backup } else { &self.main };
        let ask = Ask { tried, ..Ask::default() };
        let is_anybody_left = tables.pick(&EverybodyHasRoom, &ask).is_some();
        if is_anybody_left { NoPick::AllFull } else { NoPick::NobodyLeft }
    }
}

/// Loads under which only what was tried is passed over.
struct EverybodyHasRoom;

impl Loads for EverybodyHasRoom {
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
