//! Decisions as people and scripts see them: one row for each pick, with the names that its numbers stand for.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::read::{Chronicle, Entry};
use super::record::{Pick, RequestKey};

/// One decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DecisionRow {
    /// Milliseconds since 1970, with a fraction.
    pub(crate) at_ms: f64,
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
            at_ms: millis(pick.at),
            listener: listener.cloned().unwrap_or_default(),
            route: Some(pick.asker.route).filter(|route| *route > 0),
            client: pick.asker.client.map(|client| client.to_string()),
            request: pick.asker.request.map(|request| request.to_string()),
            upstream: line_up.map(|line_up| line_up.upstream.clone()).unwrap_or_default(),
            backend: pick.picked.map(|index| name(index).to_owned()),
            outcome: pick.outcome.as_str().to_owned(),
            tried: pick.tried.len(),
            by_session: pick.preferred.is_some() && pick.preferred == pick.picked,
            ticket: pick.ticket,
            lasted_ms: end.map(|end| millis(end.saturating_sub(pick.at))),
            plan: pick.asker.plan,
        }
    }
}
