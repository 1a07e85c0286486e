//! The backends of one moment, as they are picked from: immutable, replaced whole when anybody comes, goes or changes state.
//! It must never take a lock: every pick of every worker goes through it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::{Algorithm, Ask, Loads, Member, Table};
use tokio::time::Instant;

use super::Backend;
use super::cookie::Identity;

/// The backends as they are picked from; replaced whole.
#[derive(Debug)]
pub(super) struct LineUp {
    pub(super) backends: Vec<Arc<Backend>>,
    /// Over those that are usable now.
    pub(super) main: Table,
    /// Over usable backups; used when `main` is empty or was tried in vain.
    pub(super) backup: Table,
    /// Over usable backends without weight: they get nothing new, but who has a session there keeps it.
    pub(super) drained: Table,
    /// Where each stands, by what is said of it in cookies; empty without them.
    pub(super) by_identity: HashMap<Identity, u32>,
    /// Some name has not been resolved yet.
    pub(super) pending: bool,
}

/// Why there is no backend to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPick {
    /// None is usable, or every usable one was tried.
    NobodyLeft,
    /// Those left are at their limit.
    AllFull,
    /// None is known yet: a name is still being looked up.
    NotYetKnown,
}

impl LineUp {
    /// Before anybody is known.
    pub(super) fn empty(balance: &Algorithm) -> LineUp {
        LineUp {
            backends: Vec::new(),
            main: Table::build(balance, &[]),
            backup: Table::build(balance, &[]),
            drained: Table::build(&Algorithm::First, &[]),
            by_identity: HashMap::new(),
            pending: true,
        }
    }

    /// The backend to go to: that of a session first, then any other, then a backup.
    pub(super) fn pick(&self, loads: &OpenConnections<'_>, ask: &Ask<'_>) -> Option<u32> {
        let drained = ask.preferred.filter(|index| self.drained.takes(loads, ask, *index));
        drained.or_else(|| self.main.pick(loads, ask)).or_else(|| self.pick_backup(loads, ask))
    }

    /// Where in this line-up the given backends stand; those that have left it are nowhere.
    pub(super) fn positions(&self, backends: &[Arc<Backend>]) -> Vec<u32> {
        let all = self.backends.iter().enumerate();
        let stand = |known: &Arc<Backend>| backends.iter().any(|backend| backend.is(known));
        if backends.is_empty() {
            return Vec::new();
        }
        all.filter(|(_, known)| stand(known)).map(|(index, _)| index as u32).collect()
    }

    /// The backend to prefer, if it can be picked now.
    pub(super) fn session(
        &self,
        loads: &OpenConnections<'_>,
        tried: &[u32],
        identity: &Identity,
    ) -> Option<u32> {
        let index = *self.by_identity.get(identity)?;
        let ask = Ask { tried, ..Ask::default() };
        let takes = |table: &Table| table.takes(loads, &ask, index);
        (takes(&self.main) || takes(&self.drained) || (self.main.is_empty() && takes(&self.backup)))
            .then_some(index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.backup.is_empty()
    }

    fn pick_backup(&self, loads: &OpenConnections<'_>, ask: &Ask<'_>) -> Option<u32> {
        let main_is_spent = self.main.is_empty() || !ask.tried.is_empty();
        if main_is_spent { self.backup.pick(loads, ask) } else { None }
    }

    pub(super) fn why_none(&self, tried: &[u32]) -> NoPick {
        if self.is_empty() {
            return if self.pending { NoPick::NotYetKnown } else { NoPick::NobodyLeft };
        }
        let tables = if self.main.is_empty() { &self.backup } else { &self.main };
        let anybody = EverybodyHasRoom;
        let ask = Ask { tried, ..Ask::default() };
        if tables.pick(&anybody, &ask).is_some() { NoPick::AllFull } else { NoPick::NobodyLeft }
    }
}

/// The usable backends without weight, which only sessions lead to.
pub(super) fn drained(backends: &[Arc<Backend>]) -> Vec<Member> {
    let all = backends.iter().enumerate();
    let chosen = all.filter(|(_, backend)| backend.weight == 0 && backend.identity.is_some());
    let chosen = chosen.filter(|(_, backend)| backend.takes_sessions());
    let member = |index| Member { index: index as u32, name: String::new(), weight: 1 };
    chosen.map(|(index, _)| member(index)).collect()
}

pub(super) fn by_identity(backends: &[Arc<Backend>]) -> HashMap<Identity, u32> {
    let all = backends.iter().enumerate();
    all.filter_map(|(index, backend)| Some((backend.identity?, index as u32))).collect()
}

/// Spreads consecutive tickets over all 64 bits (splitmix64: Steele, Lea, Flood, OOPSLA 2014).
pub(super) fn seed(ticket: u64) -> u64 {
    static START: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0_u8)
    });
    let mut mixed = START.wrapping_add(ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The loads of this moment, as the pick asks for them.
pub(super) struct OpenConnections<'a> {
    pub(super) backends: &'a [Arc<Backend>],
    pub(super) total: u64,
    /// When the clock of the upstream began.
    pub(super) started: Instant,
    /// The time by it, once an algorithm has asked.
    pub(super) now: OnceCell<Duration>,
}

impl Loads for OpenConnections<'_> {
    fn open(&self, index: u32) -> u32 {
        self.backends[index as usize].open()
    }
    fn latency(&self, index: u32) -> f64 {
        let now = *self.now.get_or_init(|| self.started.elapsed());
        self.backends[index as usize].latency(now)
    }
    fn has_room(&self, index: u32) -> bool {
        self.backends[index as usize].has_room()
    }
    fn total_open(&self) -> Option<u64> {
        Some(self.total)
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
