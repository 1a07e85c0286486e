//! Who the backends are: what the entries of a config stand for at this moment, and what is known of those addresses already.
//! A backend that comes back, or changes its role, keeps what was known of it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use evenkeel_balance::health::Verdict;

use super::backend::{Channel, Standing};
use super::{Backend, BackendAddress, EntryPlace, Upstream};

/// What the names stand for, and how many backends are in which state; the lock of everything that is not a pick.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// By entry: its backends' addresses; none while a name has never been resolved.
    pub(super) found: Vec<Option<Vec<BackendAddress>>>,
    pub(super) usable: usize,
    pub(super) ejected: usize,
    /// Backends that left while they still had connections: their counts go on when they come back.
    pub(super) gone: Vec<(BackendAddress, Weak<Standing>)>,
    /// Those of the config before, until the first line-up.
    pub(super) former: Vec<Arc<Backend>>,
    /// What another process knew, until the first line-up.
    pub(super) handed: Vec<(BackendAddress, Arc<Standing>)>,
    /// Whether there is no config before.
    pub(super) is_first: bool,
    /// Whether they are reached in the same way as those before.
    pub(super) keeps_channels: bool,
}

/// What is known of an address.
struct Known {
    standing: Arc<Standing>,
    channel: Arc<Channel>,
    /// The backend as which it serves already.
    role: Option<Arc<Backend>>,
}

impl Roster {
    /// Those that serve now, those of the config before, and those that left while they had connections.
    fn known(&mut self, now: &[Arc<Backend>]) -> HashMap<BackendAddress, Known> {
        let gone = self.gone.drain(..).filter_map(|(address, standing)| {
            let standing = standing.upgrade()?;
            Some((address, Known { standing, channel: Arc::default(), role: None }))
        });
        let handed = self.handed.drain(..).map(|(address, standing)| {
            (address, Known { standing, channel: Arc::default(), role: None })
        });
        let keeps_channels = self.keeps_channels;
        let former = self.former.drain(..).map(|backend| {
            let channel =
                if keeps_channels { Arc::clone(backend.channel()) } else { Arc::default() };
            let known = Known { standing: backend.standing(), channel, role: None };
            (backend.address.clone(), known)
        });
        let now = now.iter().map(|backend| {
            let (standing, channel) = (backend.standing(), Arc::clone(backend.channel()));
            let known = Known { standing, channel, role: Some(Arc::clone(backend)) };
            (backend.address.clone(), known)
        });
        handed.chain(gone).chain(former).chain(now).collect()
    }
}

impl Upstream {
    /// The IP addresses that an entry stands for, as far as they are known.
    pub(crate) fn found(&self, entry: usize) -> Vec<IpAddr> {
        let roster = self.roster();
        let found = roster.found.get(entry).into_iter().flatten().flatten();
        let ip = |address: &BackendAddress| match address {
            BackendAddress::Ip(address) => Some(address.ip()),
            BackendAddress::Unix(_) => None,
        };
        found.filter_map(ip).collect()
    }

    /// The backends in configured order; those known already are taken over with all their counts.
    pub(super) fn assemble(&self, roster: &mut Roster) -> Vec<Arc<Backend>> {
        let old = self.line_up.load();
        let known = roster.known(&old.backends);
        let words = self.said();
        let mut seen = HashSet::new();
        let mut backends = Vec::new();
        for (entry, addresses) in self.rules.entries.iter().zip(&roster.found) {
            for address in
                addresses.iter().flatten().filter(|address| seen.insert((*address).clone()))
            {
                let word = words.of(address);
                let fresh = |standing, channel| {
                    let known = (standing, channel);
                    Arc::new(Backend::new(address.clone(), entry, word, known, self))
                };
                let verdict = match known.get(address) {
                    Some(Known { role: Some(backend), .. }) if backend.serves_as(entry, word) => {
                        backends.push(Arc::clone(backend));
                        continue;
                    }
                    // In a new config, by an operator's word, or as a name now stands for the address of another entry, it has another role.
                    Some(Known { standing, channel, .. }) => {
                        backends.push(fresh(Arc::clone(standing), Arc::clone(channel)));
                        continue;
                    }
                    // One that comes later starts slowly; those of the start all share the load from the beginning.
                    None if old.pending && roster.is_first => Verdict::new(self.now()),
                    None => Verdict::joining(self.now()),
                };
                backends.push(fresh(Standing::new(verdict), Arc::default()));
            }
        }
        let left = known.into_iter().filter(|(address, _)| !seen.contains(address));
        let left = left.map(|(address, known)| (address, Arc::downgrade(&known.standing)));
        roster.gone = left.collect();
        backends
    }
}

/// The addresses of a place that need not be looked up.
pub(super) fn at_once(place: &EntryPlace) -> Option<Vec<BackendAddress>> {
    match place {
        EntryPlace::At(address) => Some(vec![address.clone()]),
        EntryPlace::Named { .. } => None,
    }
}
