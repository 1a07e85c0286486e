//! An upstream that goes on in another process: what is known of its backends, whose turn it is, and places of connections that
//! are carried on. All its moments are on the clock of the upstream, which goes on there where it stands here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use evenkeel_balance::health::{Verdict, VerdictParts};
use serde::{Deserialize, Serialize};

use super::backend::Standing;
use super::word::{Word, Words};
use super::{Backend, BackendAddress, Channel, Entry, EntryPlace, InFlight, Rules, Upstream};
use crate::observe::journal;

/// What another process is told of an upstream, or of a part of its backends. Versions before and after this one read it: what
/// they do not know they pass over, and what is missing has a default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct UpstreamPast {
    pub(crate) name: String,
    /// How far its clock has come.
    age: Duration,
    ticket: u64,
    pub(crate) backends: Vec<(BackendAddress, StandingPast)>,
    /// What names stood for.
    found: Vec<FoundPast>,
    /// What operators have said.
    words: Words,
}

/// What a name stood for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FoundPast {
    host: String,
    port: u16,
    addresses: Vec<BackendAddress>,
}

/// What is known of a backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct StandingPast {
    pub(super) connections: u64,
    pub(super) failures: u64,
    pub(super) requests: u64,
    pub(super) suspect: bool,
    pub(super) connected_at: u64,
    pub(super) failed_at: u64,
    pub(super) latency_stamp: u64,
    pub(super) latency: f64,
    /// Where nothing is said, nothing speaks against it.
    #[serde(with = "VerdictPast", default = "nothing_known")]
    pub(super) verdict: VerdictParts,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VerdictParts", rename_all = "kebab-case")]
struct VerdictPast {
    #[serde(default = "usable")]
    healthy: bool,
    #[serde(default)]
    probes_ok: u32,
    #[serde(default)]
    probes_failed: u32,
    #[serde(default)]
    traffic_failed: u32,
    #[serde(default)]
    ejected_until: Option<Duration>,
    #[serde(default)]
    ejections: u32,
    #[serde(default)]
    usable_since: Duration,
    #[serde(default)]
    ramp_since: Option<Duration>,
}

fn usable() -> bool {
    true
}

fn nothing_known() -> VerdictParts {
    VerdictParts { healthy: true, ..VerdictParts::default() }
}

impl UpstreamPast {
    /// When its clock began, if it goes on in this process.
    pub(super) fn began(&self) -> Option<tokio::time::Instant> {
        tokio::time::Instant::now().checked_sub(self.age)
    }

    /// The same in parts of so many backends at most; one at least.
    pub(crate) fn in_parts(mut self, most: usize) -> Vec<UpstreamPast> {
        let backends = std::mem::take(&mut self.backends);
        if backends.is_empty() {
            return vec![self];
        }
        let part = |backends: &[_]| UpstreamPast { backends: backends.to_vec(), ..self.clone() };
        backends.chunks(most).map(part).collect()
    }

    pub(super) fn words(&self) -> Words {
        self.words.clone()
    }

    pub(super) fn ticket(&self) -> u64 {
        self.ticket
    }

    pub(super) fn standings(&self) -> Vec<(BackendAddress, Arc<Standing>)> {
        let each = self.backends.iter();
        each.map(|(address, past)| (address.clone(), Standing::from_past(past))).collect()
    }

    /// What a place stood for, if it is a name.
    pub(super) fn found(&self, place: &EntryPlace) -> Option<Vec<BackendAddress>> {
        let EntryPlace::Named { host, port } = place else { return None };
        let known = self.found.iter().find(|it| it.host == *host && it.port == *port)?;
        Some(known.addresses.clone())
    }
}

impl Upstream {
    /// What another process is told of it.
    pub(crate) fn past(&self) -> UpstreamPast {
        let roster = self.roster();
        let found = self.rules.entries.iter().zip(&roster.found);
        let found = found.filter_map(|(entry, found)| match (&entry.place, found) {
            (EntryPlace::Named { host, port }, Some(addresses)) => {
                Some(FoundPast { host: host.clone(), port: *port, addresses: addresses.clone() })
            }
            _ => None,
        });
        let found = found.collect();
        drop(roster);
        let backends = self.backends();
        let backends = backends.iter().map(|backend| (backend.address.clone(), backend.past()));
        UpstreamPast {
            name: self.rules.name.to_string(),
            age: self.now(),
            ticket: self.lasting.ticket.load(Relaxed),
            backends: backends.collect(),
            found,
            words: self.said(),
        }
    }

    /// A place for a connection that was made by another process, whatever the limits are.
    pub(crate) fn adopt(self: &Arc<Self>, address: &BackendAddress) -> InFlight {
        let backends = self.backends();
        let known = backends.iter().find(|backend| backend.address == *address);
        let backend = known.map_or_else(|| self.departed_backend(address), Arc::clone);
        backend.take_one_more();
        self.lasting.open.fetch_add(1, Relaxed);
        InFlight { upstream: Arc::clone(self), backend, mark: journal::Mark::default() }
    }

    /// One that is not in the config, or not known yet. It is counted on if it comes back.
    fn departed_backend(&self, address: &BackendAddress) -> Arc<Backend> {
        let mut roster = self.roster();
        let gone = roster.gone.iter().find(|(known, _)| known == address);
        let standing = gone.and_then(|(_, standing)| standing.upgrade()).unwrap_or_else(|| {
            let standing = Standing::new(Verdict::new(self.now()));
            roster.gone.push((address.clone(), Arc::downgrade(&standing)));
            standing
        });
        let place = EntryPlace::At(address.clone());
        let entry = Entry { place, weight: 0, backup: false, connections_max: None };
        let way: Arc<Channel> = Arc::default();
        let word = Word::default();
        Arc::new(Backend::new(address.clone(), &entry, word, (standing, way), self))
    }

    /// One that is not in the config any more, for connections that began when it was; only its name matters.
    pub(crate) fn departed(name: &str, like: &Rules) -> std::io::Result<Arc<Upstream>> {
        let rules = Rules { name: name.into(), entries: Vec::new(), sticky: None, ..like.clone() };
        let upstream = Upstream::new(rules, None, None)?;
        upstream.retire();
        Ok(upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_of_which_no_verdict_is_told_is_usable() {
        for text in ["{}", r#"{"connections":3}"#, r#"{"verdict":{}}"#] {
            let past: StandingPast = serde_json::from_str(text).unwrap();
            assert!(Verdict::from(past.verdict).usable(), "{text}");
        }
    }
}
