//! Decisions as people and scripts see them: one row for each pick, with the names that its numbers stand for.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::notes::{BalanceNote, LineUpNote};
use super::read::{Chronicle, Entry};
use super::record::{Pick, RequestKey};

/// One decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct DecisionRow {
    /// Milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Where its record stands, which no other does: in the ring of this worker, at this place.
    pub(crate) worker: u16,
    pub(crate) position: u64,
    /// `tcp.NAME` or `http.NAME`; empty if its plan is not known any more.
    pub(crate) listener: String,
    /// Counted from 1; none where there are no routes.
    pub(crate) route: Option<u16>,
    pub(crate) client: Option<String>,
    /// The id of the request; `~` before a hash of it, where a proxy in front has chosen it.
    pub(crate) request: Option<String>,
    pub(crate) upstream: String,
    /// Where it went; none where nobody could take it.
    pub(crate) backend: Option<String>,
    /// `taken`, or why nobody was.
    pub(crate) outcome: String,
    /// By what it was decided, in words: `round-robin, turn 7`.
    pub(crate) reason: String,
    /// How many backends had been tried before.
    pub(crate) tried: usize,
    /// Whether it went there for its session.
    pub(crate) by_session: bool,
    pub(crate) ticket: u64,
    /// How long the place was taken; none while it still is, or where that is not known.
    pub(crate) lasted_ms: Option<f64>,
    pub(crate) plan: u32,
}

impl DecisionRow {
    /// Whether it was made for the request of this id.
    pub(crate) fn is_of(&self, id: &str) -> bool {
        let key = RequestKey::of(id).to_string();
        self.request.as_ref().is_some_and(|known| *known == key || *known == id)
    }
}

impl Chronicle {
    /// Every decision, the oldest first.
    pub(crate) fn rows(&self) -> Vec<DecisionRow> {
        let ends = self.entries.iter().filter_map(|entry| match entry {
            Entry::End(end) => Some(((end.worker, end.position), end.at)),
            Entry::Pick(_) => None,
        });
        let ends: HashMap<_, _> = ends.collect();
        self.picks().map(|pick| self.row(pick, &ends)).collect()
    }

    fn row(&self, pick: &Pick, ends: &HashMap<(u16, u64), u64>) -> DecisionRow {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        let line_up = self.line_ups.get(&pick.line_up);
        let plan = self.plans.get(&pick.asker.plan);
        let listener = plan.and_then(|plan| plan.listeners.get(usize::from(pick.asker.listener)));
        let name = |index: u32| line_up.and_then(|line_up| line_up.name(index)).unwrap_or("?");
        let end = ends.get(&(pick.worker, pick.position));
        DecisionRow {
            at_ms: pick.at / 1_000_000,
            worker: pick.worker,
            position: pick.position,
            listener: listener.cloned().unwrap_or_default(),
            route: Some(pick.asker.route).filter(|route| *route > 0),
            client: pick.asker.client.map(|client| client.to_string()),
            request: pick.asker.request.map(|request| request.to_string()),
            upstream: line_up.map(|line_up| line_up.upstream.clone()).unwrap_or_default(),
            backend: pick.picked.map(|index| name(index).to_owned()),
            outcome: pick.outcome.as_str().to_owned(),
            reason: line_up.map(|line_up| reason(line_up, pick)).unwrap_or_default(),
            tried: pick.tried.len(),
            by_session: by_session(pick),
            ticket: pick.ticket,
            lasted_ms: end.map(|end| millis(end.saturating_sub(pick.at))),
            plan: pick.asker.plan,
        }
    }
}

fn by_session(pick: &Pick) -> bool {
    pick.preferred.is_some() && pick.preferred == pick.picked
}

fn reason(line_up: &LineUpNote, pick: &Pick) -> String {
    let balance = &line_up.balance;
    let mut reason = match balance {
        _ if by_session(pick) => "its session".to_owned(),
        BalanceNote::RoundRobin => format!("{balance}, turn {}", pick.ticket),
        BalanceNote::Maglev(_) | BalanceNote::Ring(_) | BalanceNote::Rendezvous(_) => {
            format!("{balance}, key {:016x}", pick.key)
        }
        balance => balance.to_string(),
    };
    if !pick.tried.is_empty() {
        reason += &format!(", after {} others", pick.tried.len());
    }
    reason
}
