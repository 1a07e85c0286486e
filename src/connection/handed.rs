//! A connection that goes on in another process: taken apart here, put together again there. It is no end: the record goes with
//! the connection, and whoever keeps the connection keeps the record. Nothing of it is touched by two processes at once.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::record::Record;
use super::{Desk, Service, ip};
use crate::limits::Admitted;
use crate::observe::ended::{ClientAddress, Why};
use crate::socket::Socket;
use crate::tcp::relay::Waiting;
use crate::tcp::{CarriedOn, Carrying, Cut, Outcome, Served};
use crate::upstream::InFlight;

/// What another process must know of a connection. Versions before and after this one read it: what they do not know they
/// pass over, and what is missing has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Handed {
    pub(crate) listener: String,
    pub(crate) client: ClientAddress,
    pub(crate) carried_on: CarriedOn,
    #[serde(default)]
    destination: Option<SocketAddr>,
    #[serde(default)]
    name: Option<String>,
    /// Since 1970.
    #[serde(default)]
    accepted_at: Duration,
    #[serde(default)]
    accepted_ago: Duration,
}

/// A connection at rest, on its way to another process: copies of its sockets and of the bytes that wait.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) handed: Handed,
    pub(crate) client: OwnedFd,
    pub(crate) backend: OwnedFd,
    pub(crate) waiting: Waiting,
    /// Told when it is there; dropped without a word, it goes on here.
    pub(crate) gone: oneshot::Sender<()>,
}

/// Serves a connection to its end, also if it is to go elsewhere and cannot; none if it has gone.
pub(super) async fn settle(
    mut served: Served,
    record: &Record,
    desk: &Desk,
    cut: &Cut,
) -> Option<Outcome> {
    loop {
        let mut carrying = match served {
            Served::Ended(outcome) => return Some(*outcome),
            Served::Parked(carrying) => carrying,
        };
        // Whoever waits for all that were asked is told by dropping this.
        let asked = cut.take_asked();
        let (gone, has_gone) = oneshot::channel();
        match pack(&mut carrying, record, gone) {
            Ok(Some(parcel)) => {
                if let Some(leaving) = &*desk.leaving.borrow() {
                    let _ = leaving.send(parcel);
                }
            }
            // No descriptor for a copy: it stays.
            Ok(None) => {}
            Err(error) => return Some(carrying.failed(&error)),
        }
        drop(asked);
        if has_gone.await.is_ok() {
            return None;
        }
        served = Box::pin(carrying.carry(&desk.scratch, cut)).await;
    }
}

fn pack(
    carrying: &mut Carrying,
    record: &Record,
    gone: oneshot::Sender<()>,
) -> std::io::Result<Option<Parcel>> {
    let (carried_on, waiting) = carrying.describe()?;
    let (client, backend) = carrying.sockets();
    let copy = |socket: &Socket| socket.as_fd().try_clone_to_owned().ok();
    let (Some(client), Some(backend)) = (copy(client), copy(backend)) else { return Ok(None) };
    let handed = Handed {
        listener: record.service.listener.to_string(),
        client: record.client,
        carried_on,
        destination: record.destination,
        name: record.name.as_deref().map(str::to_owned),
        accepted_at: record.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        accepted_ago: record.began.elapsed(),
    };
    Ok(Some(Parcel { handed, client, backend, waiting, gone }))
}

/// A connection that began in another process, and is ours now.
#[derive(Debug)]
pub(crate) struct Adopted {
    handed: Handed,
    client: OwnedFd,
    backend: OwnedFd,
    waiting: Waiting,
    record: Record,
    admitted: Admitted,
    place: InFlight,
}

impl Adopted {
    /// From here on it leaves its record here.
    pub(crate) fn new(
        handed: Handed,
        (client, backend): (OwnedFd, OwnedFd),
        waiting: Waiting,
        service: &Arc<Service>,
        place: InFlight,
    ) -> Adopted {
        service.tally.taken_over();
        let now = Instant::now();
        let mut record = Record::begin(service, handed.client);
        record.upstream = Some(Arc::clone(&place.upstream.rules.name));
        record.destination = handed.destination;
        record.name = handed.name.as_deref().map(Arc::from);
        record.at = SystemTime::UNIX_EPOCH + handed.accepted_at;
        record.began = now.checked_sub(handed.accepted_ago).unwrap_or(now);
        let admitted = service.door.take_over(ip(handed.client));
        Adopted { handed, client, backend, waiting, record, admitted, place }
    }

    /// Carries it on, to its end or to the next process. Runs on the worker whose event loop shall carry it.
    pub(crate) async fn serve<S>(self, desk: Rc<Desk>, cut: Rc<Cut>, stay: S) {
        let _stay = stay;
        let Adopted { handed, client, backend, waiting, record, admitted, place } = self;
        let sockets = Socket::adopt(client).and_then(|it| Ok((it, Socket::adopt(backend)?)));
        let outcome = match sockets {
            Err(error) => {
                Some(Outcome::without_backend(Why::OutOfResources, Some(error.to_string())))
            }
            Ok(sockets) => {
                let carrying =
                    Carrying::from_elsewhere(sockets, place, &handed.carried_on, waiting);
                drop(handed);
                let served = Box::pin(carrying.carry(&desk.scratch, &cut)).await;
                settle(served, &record, &desk, &cut).await
            }
        };
        drop(admitted);
        match outcome {
            Some(outcome) => record.end(outcome),
            None => record.leave(),
        }
    }
}
