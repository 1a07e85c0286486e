//! The addresses that are listened on, and how they follow a new config: what is still wanted stays open, whoever is served
//! there; what is new is opened before anything else changes; what is not wanted any more is closed last.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::watch;

use super::parts::Parts;
use super::worker::{Acceptance, Accepting};
use super::{StartError, section};
use crate::config::Address;
use crate::connection::{Service, Slot};
use crate::listen::{self, Bound, BoundAddress, Settings};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Doors(Vec<OpenDoor>);

/// One address that is listened on.
#[derive(Debug)]
struct OpenDoor {
    /// `tcp.NAME` or `http.NAME`.
    section: String,
    listener: Arc<str>,
    /// As it stands in the config.
    wanted: Address,
    address: BoundAddress,
    settings: Settings,
    handles: Vec<OwnedFd>,
    /// None while nobody accepts from it: it was opened by somebody else.
    slot: Option<Arc<Slot>>,
    open: watch::Sender<Accepting>,
}

/// A listening socket that was opened by another process.
#[derive(Debug)]
pub(super) struct Inherited {
    /// Whose it was there, and as what it stood in the config.
    pub(super) section: String,
    pub(super) wanted: Option<Address>,
    /// Whoever opened it keeps its file.
    pub(super) is_lent: bool,
    pub(super) fd: OwnedFd,
}

/// What will be listened on by a new config.
#[derive(Debug, Default)]
pub(super) struct NewDoors {
    /// Those that are open, by their number.
    kept: Vec<(usize, Wish)>,
    fresh: Vec<(Bound, Wish)>,
}

/// Who wants an address.
#[derive(Debug, Clone)]
struct Wish {
    section: String,
    wanted: Address,
    settings: Settings,
    service: Arc<Service>,
}

/// Sockets of addresses that were opened, by worker.
pub(super) type Shares = Vec<Vec<Acceptance>>;

impl OpenDoor {
    /// Whether it is what is wished for. An address whose port the system chose is its listener's own.
    fn is_wanted_by(&self, wish: &Wish) -> bool {
        let is_any = match &wish.wanted {
            Address::Ip(address) => address.port() == 0,
            Address::Port(port) | Address::Name { port, .. } => *port == 0,
            Address::Unix(_) => false,
        };
        self.wanted == wish.wanted && (!is_any || self.section == wish.section)
    }
}

impl Drop for NewDoors {
    fn drop(&mut self) {
        self.fresh.iter().for_each(|(bound, _)| bound.address.remove_socket_file());
    }
}

impl Doors {
    /// Those that another process opened. Nobody accepts from them yet.
    pub(super) fn inherited(all: Vec<Inherited>) -> io::Result<Doors> {
        let mut doors = Vec::<OpenDoor>::new();
        for Inherited { section, wanted, is_lent, fd } in all {
            let address = listen::address_of(&fd, is_lent)?;
            if let Some(known) = doors.iter_mut().find(|door| door.address == address) {
                known.handles.push(fd);
                continue;
            }
            let wanted = wanted.unwrap_or_else(|| address.as_written());
            doors.push(OpenDoor {
                section,
                listener: "".into(),
                wanted,
                address,
                settings: Settings::default(),
                handles: vec![fd],
                slot: None,
                open: watch::channel(Accepting::Here).0,
            });
        }
        Ok(Doors(doors))
    }

    /// What is served by a listener, by its section.
    pub(super) fn slot_of(&self, section: &str) -> Option<&Arc<Slot>> {
        self.0.iter().find(|door| door.section == section)?.slot.as_ref()
    }

    /// Every socket, with whose it is, as what it stands in the config, and whether it is lent.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (&str, &Address, bool, BorrowedFd<'_>)> {
        self.0.iter().flat_map(|door| {
            let is_lent = door.address.is_lent();
            let each = door.handles.iter();
            each.map(move |fd| (&*door.section, &door.wanted, is_lent, fd.as_fd()))
        })
    }

    /// Leaves accepting to another process, and what is queued too.
    pub(super) fn pause(&self) {
        self.0.iter().for_each(|door| {
            door.open.send_replace(Accepting::Elsewhere);
        });
    }

    /// Accepts again, or for the first time from sockets that another process opened. Each is accepted from by one worker at
    /// least, and each worker accepts on each address.
    pub(super) fn resume(&mut self, workers: usize) -> io::Result<Shares> {
        let mut shares: Shares = (0..workers).map(|_| Vec::new()).collect();
        for door in &mut self.0 {
            let Some(slot) = &door.slot else { continue };
            let (open, seen) = watch::channel(Accepting::Here);
            door.open = open;
            let count = door.handles.len();
            for turn in 0..workers.max(count) {
                let fd = door.handles[turn % count].try_clone()?;
                let acceptance = Acceptance { fd, slot: Arc::clone(slot), open: seen.clone() };
                shares[turn % workers].push(acceptance);
            }
        }
        Ok(shares)
    }

    /// Opens what a new config wants and is not open yet. Nothing else changes; dropping what comes of it closes it.
    pub(super) fn prepare(&self, parts: &Parts) -> Result<NewDoors, StartError> {
        let mut new = NewDoors::default();
        let claimed = RefCell::new(HashSet::new());
        for (plan, service) in parts.plan.listeners.iter().zip(&parts.services) {
            for wanted in &plan.listen.addresses {
                let service = Arc::clone(service);
                let (wanted, settings) = (wanted.clone(), plan.listen.clone());
                let wish = Wish { section: section(plan), wanted, settings, service };
                let open = self.0.iter().enumerate();
                let same: Vec<_> = open
                    .filter(|(_, door)| door.is_wanted_by(&wish))
                    .map(|(at, _)| at)
                    .filter(|at| claimed.borrow_mut().insert(*at))
                    .collect();
                if !same.is_empty() {
                    new.kept.extend(same.into_iter().map(|at| (at, wish.clone())));
                    continue;
                }
                // An address may be written in another way, or as one of several.
                let found = RefCell::new(Vec::new());
                let is_open = |address: &BoundAddress| {
                    let at = self.0.iter().position(|door| door.address == *address);
                    let at = at.filter(|at| claimed.borrow_mut().insert(*at));
                    found.borrow_mut().extend(at);
                    at.is_some()
                };
                let is_ours = |port| {
                    let ports = self.0.iter().filter_map(|door| door.address.ip());
                    ports.map(|ip| ip.port()).any(|own| own == port)
                };
                let open = (is_open, is_ours);
                let bound = listen::bind(&wish.wanted, &wish.settings, parts.plan.workers, open);
                let bound = bound.map_err(|error| StartError::Listen {
                    listener: section(plan),
                    cause: Box::new(error),
                })?;
                new.kept.extend(found.into_inner().into_iter().map(|at| (at, wish.clone())));
                new.fresh.extend(bound.into_iter().map(|bound| (bound, wish.clone())));
            }
        }
        Ok(new)
    }

    /// Serves by the new config, and closes what it does not want. Gives the sockets that were opened for it.
    pub(super) fn change(&mut self, mut new: NewDoors, workers: usize) -> Shares {
        let mut old: Vec<_> = std::mem::take(&mut self.0).into_iter().map(Some).collect();
        for (at, wish) in std::mem::take(&mut new.kept) {
            let Some(mut door) = old[at].take() else { continue };
            let is_as_wished = door.settings.options == wish.settings.options
                && door.settings.backlog == wish.settings.backlog;
            if !is_as_wished && let Err(error) = wish.settings.apply(&door.handles) {
                tracing::error!("not all socket options of {} could be set: {error}", door.wanted);
            }
            match &door.slot {
                Some(slot) => slot.replace(Arc::clone(&wish.service)),
                None => door.slot = Some(Slot::new(Arc::clone(&wish.service))),
            }
            door.listener = Arc::clone(&wish.service.listener);
            (door.section, door.wanted, door.settings) = (wish.section, wish.wanted, wish.settings);
            self.0.push(door);
        }
        let mut shares: Shares = (0..workers).map(|_| Vec::new()).collect();
        for (bound, wish) in std::mem::take(&mut new.fresh) {
            let (open, seen) = watch::channel(Accepting::Here);
            let Bound { address, sockets, handles } = bound;
            let slot = Slot::new(Arc::clone(&wish.service));
            for (share, fd) in shares.iter_mut().zip(sockets) {
                share.push(Acceptance { fd, slot: Arc::clone(&slot), open: seen.clone() });
            }
            let listener = Arc::clone(&wish.service.listener);
            let Wish { section, wanted, settings, .. } = wish;
            self.0.push(OpenDoor {
                section,
                listener,
                wanted,
                address,
                settings,
                handles,
                slot: Some(slot),
                open,
            });
        }
        for door in old.into_iter().flatten() {
            // Who came in by it goes on with its listener, if that is still there.
            let same = self.0.iter().find(|open| open.section == door.section);
            match (&door.slot, same.and_then(|same| same.slot.as_ref())) {
                (Some(slot), Some(same)) => slot.move_to(Arc::clone(same)),
                (Some(slot), None) => slot.close(),
                (None, _) => {}
            }
            if door.slot.is_none() {
                tracing::warn!("no listener wants the socket on {} that was passed", door.wanted);
            }
            door.open.send_replace(Accepting::NoLonger);
            door.address.remove_socket_file();
        }
        shares
    }

    /// Leaves the sockets to the workers alone, so that they are closed when those stop accepting.
    pub(super) fn let_go(&mut self) {
        self.0.iter_mut().for_each(|door| door.handles = Vec::new());
    }

    /// Where each listener listens.
    pub(super) fn addresses(&self) -> Vec<(Arc<str>, BoundAddress)> {
        self.0.iter().map(|door| (Arc::clone(&door.listener), door.address.clone())).collect()
    }
}
