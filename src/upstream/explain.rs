//! A pick in words: each backend with its state, its load and what became of it, and why the one was taken. It must never decide
//! anything: what it puts into words comes from [`Upstream::weigh`], which asks the tables that traffic asks.

use std::time::Duration;

use evenkeel_balance::{Algorithm, Outcome, Trace};

use super::pick::Weighed;
use super::tables::{Group, NoPick};
use super::{Affinity, Backend, KeyPart, Upstream};
use crate::observe::journal::BalanceNote;
use crate::observe::reasons::{CandidateRow, Choice, Reasons};

impl Upstream {
    /// Why a connection or request that belongs there would go where it goes, now.
    pub(crate) fn explain(&self, affinity: Affinity) -> Choice {
        let weighed = self.weigh(affinity);
        let names: Vec<&str> = weighed.backends.iter().map(|backend| &*backend.name).collect();
        let rows = weighed.backends.iter().enumerate();
        let rows = rows.map(|(index, backend)| self.row(&weighed, index as u32, backend, &names));
        let name_of = |index: u32| names.get(index as usize).map(|name| (*name).to_owned());
        Choice {
            upstream: self.rules.name.to_string(),
            balance: BalanceNote::from(&self.rules.balance).to_string(),
            key: self.is_hashing().then(|| self.key_in_words(affinity.key)),
            ticket: weighed.ticket,
            session: weighed.session.and_then(name_of),
            candidates: rows.collect(),
            picked: weighed.picked.ok().and_then(name_of),
            why: self.why(&weighed),
        }
    }

    /// The limits on the way to a backend of it.
    pub(crate) fn tell_limits(&self, on_http: bool, into: &mut Reasons) {
        let rules = &self.rules;
        into.limit("connect-timeout", said(rules.connect_timeout));
        into.limit(
            "retries",
            format!("{} further backends, while no byte was sent", rules.retries),
        );
        let queue = format!("{} wait at most {}", rules.queue_max, said(rules.queue_timeout));
        into.limit("queue-max", queue);
        if on_http && let Some(keep) = &rules.keep_alive {
            into.limit("keep-alive", format!("{} idle", said(keep.idle)));
        }
    }

    fn is_hashing(&self) -> bool {
        matches!(self.rules.balance, Algorithm::Hash { .. })
    }

    fn key_in_words(&self, key: u64) -> String {
        let bytes = |name: &[u8]| name.escape_ascii().to_string();
        let by = match &self.rules.key_part {
            KeyPart::Source => "the client's address".to_owned(),
            KeyPart::Name => "the name asked for".to_owned(),
            KeyPart::Header(name) => format!("header {}", bytes(name)),
            KeyPart::Cookie(name) => format!("cookie {}", bytes(name)),
            KeyPart::Path => "the path".to_owned(),
            KeyPart::Uri => "path and query".to_owned(),
            KeyPart::Query(name) => format!("query parameter {}", bytes(name)),
            KeyPart::Packet(_) => "bytes of each packet, which are not known here".to_owned(),
            KeyPart::FirstPacket(_) => {
                "bytes of the first packet, which are not known here".to_owned()
            }
        };
        format!("{by}, as {key:016x}")
    }

    fn row(
        &self,
        weighed: &Weighed,
        index: u32,
        backend: &Backend,
        names: &[&str],
    ) -> CandidateRow {
        let counts = backend.counts(&self.rules.name);
        let picked = weighed.picked == Ok(index);
        let (why, score) = outcome(&weighed.reasons, weighed.picked.ok(), index, names);
        let why = why.unwrap_or_else(|| not_looked_at(counts.state, backend.backup));
        CandidateRow {
            backend: backend.name.to_string(),
            state: counts.state.to_owned(),
            weight: backend.weight,
            backup: backend.backup,
            open: Some(counts.open),
            connections_max: backend.limit(),
            latency_ms: backend.latency(self.now()) * 1000.0,
            score,
            picked,
            why,
        }
    }

    fn why(&self, weighed: &Weighed) -> String {
        let Weighed { preferred, session, picked, ticket, .. } = weighed;
        let lost = if session.is_some() && preferred.is_none() {
            "the backend of its session cannot take it; "
        } else {
            ""
        };
        let index = match picked {
            Ok(index) => *index,
            Err(NoPick::NobodyLeft) => return format!("{lost}no backend is usable"),
            Err(NoPick::AllFull) => {
                return format!(
                    "{lost}every usable backend is at its connections-max: it would wait"
                );
            }
            Err(NoPick::NotYetKnown) => {
                return format!("{lost}no backend is known yet: its name is being looked up");
            }
        };
        if *preferred == Some(index) {
            return "its session is there".to_owned();
        }
        let group = weighed.reasons.last().map(|(group, _)| *group);
        let backup =
            if group == Some(Group::Backup) { "a backup, as no other is usable; " } else { "" };
        let reason = reason(&self.rules.balance, *ticket);
        format!("{lost}{backup}{reason}")
    }
}

/// What became of a backend in the last table that has looked at it, and its score.
pub(super) fn outcome(
    reasons: &[(Group, Trace)],
    picked: Option<u32>,
    index: u32,
    names: &[&str],
) -> (Option<String>, Option<f64>) {
    let steps = reasons.iter().flat_map(|(_, trace)| &trace.steps);
    let mut own = steps.clone().filter(|step| step.index == index);
    let mut score = steps.filter_map(|step| match step.outcome {
        Outcome::LessLoaded { cost, .. } | Outcome::Tied { cost } if step.index == index => {
            Some(cost)
        }
        Outcome::LessLoaded { than, than_cost, .. } if than == index => Some(than_cost),
        // It is as good as the one that was chosen.
        Outcome::Tied { cost } if picked == Some(index) => Some(cost),
        _ => None,
    });
    let name = |index: u32| names.get(index as usize).copied().unwrap_or("another");
    let words = |outcome: Outcome| match outcome {
        Outcome::LessLoaded { cost, than, than_cost } => {
            format!("{} has less to do ({than_cost:.4} against {cost:.4})", name(than))
        }
        other => other.to_string(),
    };
    (own.next_back().map(|step| words(step.outcome)), score.next_back())
}

/// Why a backend that no table has looked at was not: it takes no part, or was not needed.
pub(super) fn not_looked_at(state: &str, is_backup: bool) -> String {
    match state {
        "healthy" if is_backup => "a backup: not asked while others are there".to_owned(),
        "healthy" => "not looked at".to_owned(),
        state => format!("it is {state}"),
    }
}

/// Why a pick by an algorithm came out as it did, in general.
pub(super) fn reason(balance: &Algorithm, ticket: u64) -> String {
    match balance {
        Algorithm::RoundRobin => format!("it is its turn (ticket {ticket})"),
        Algorithm::Random => format!("drawn by chance and weight (ticket {ticket})"),
        Algorithm::LeastConnections => {
            "the fewest open connections by weight; among equals, by turn".to_owned()
        }
        Algorithm::PowerOfTwo => {
            format!("of two drawn by chance, the one with less to do (ticket {ticket})")
        }
        Algorithm::LeastLatency => "the least latency times open connections, by weight".to_owned(),
        Algorithm::First => "the first that can take it".to_owned(),
        Algorithm::Hash { .. } => "its key leads there".to_owned(),
    }
}

/// A time as configs write it.
pub(crate) fn said(time: Duration) -> String {
    format!("{time:?}")
}
