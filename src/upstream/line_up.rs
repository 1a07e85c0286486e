//! The backends of one moment, as they are picked from: immutable, replaced whole when anybody comes, goes or changes state.
//! It must never take a lock: every pick of every worker goes through it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::{Algorithm, Loads, Member};
use tokio::time::Instant;

use super::Backend;
use super::cookie::Identity;
use super::tables::{Members, Tables};
use crate::observe::journal::Gauge;

/// The backends as they are picked from; replaced whole.
#[derive(Debug)]
pub(super) struct LineUp {
    /// Under which the journal knows it; 0 where it knows none.
    pub(super) number: u32,
    pub(super) backends: Vec<Arc<Backend>>,
    pub(super) tables: Tables,
    /// Where each stands, by what is said of it in cookies; empty without them.
    pub(super) by_identity: HashMap<Identity, u32>,
    /// Some name has not been resolved yet.
    pub(super) pending: bool,
}

impl LineUp {
    /// Before anybody is known.
    pub(super) fn empty(balance: &Algorithm) -> LineUp {
        LineUp {
            number: 0,
            backends: Vec::new(),
            tables: Tables::build(balance, &Members::default()),
            by_identity: HashMap::new(),
            pending: true,
        }
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
        loads: &impl Loads,
        tried: &[u32],
        identity: &Identity,
    ) -> Option<u32> {
        let index = *self.by_identity.get(identity)?;
        self.tables.keeps(loads, tried, index).then_some(index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
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

impl Gauge for OpenConnections<'_> {
    fn open(&self, index: u32) -> u32 {
        self.backends[index as usize].taken()
    }
    fn most(&self, index: u32) -> u32 {
        self.backends[index as usize].most()
    }
    fn latency(&self, index: u32) -> f64 {
        let now = *self.now.get_or_init(|| self.started.elapsed());
        self.backends[index as usize].latency(now)
    }
    fn total(&self) -> u64 {
        self.total
    }
}

impl Loads for OpenConnections<'_> {
    fn open(&self, index: u32) -> u32 {
        self.backends[index as usize].open()
    }
    fn latency(&self, index: u32) -> f64 {
        Gauge::latency(self, index)
    }
    fn has_room(&self, index: u32) -> bool {
        self.backends[index as usize].has_room()
    }
    fn total_open(&self) -> Option<u64> {
        Some(self.total)
    }
}
