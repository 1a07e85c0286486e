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
use super::{Desk, Service, Slot, ip};
use crate::http;
use crate::limits::Admitted;
use crate::link::Link;
use crate::observe::ended::{ClientAddress, Why};
use crate::socket::Socket;
use crate::tcp::relay::Waiting;
use crate::tcp::{CarriedOn, Carrying, Cut, Outcome, Served, taken_out};
use crate::upstream::InFlight;

/// What another process must know of a connection. Versions before and after this one read it: what they do not know they
/// pass over, and what is missing has a default. Which of the last two there is says what is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Handed {
    pub(crate) listener: String,
    pub(crate) client: ClientAddress,
    #[serde(default)]
    destination: Option<SocketAddr>,
    #[serde(default)]
    name: Option<String>,
    /// Since 1970.
    #[serde(default)]
    accepted_at: Duration,
    #[serde(default)]
    accepted_ago: Duration,
    /// Two plain sockets, with bytes between them.
    #[serde(default)]
    pub(crate) carried_on: Option<CarriedOn>,
    /// HTTP between two requests.
    #[serde(default)]
    pub(crate) resting: Option<Resting>,
}

/// A connection that waits for its next request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Resting {
    is_https: bool,
    requests: u32,
    waited: Duration,
}

/// A connection at rest, on its way to another process: copies of its sockets and of the bytes that wait.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) handed: Handed,
    /// The client's, and that of its backend where there is one.
    pub(crate) sockets: Vec<OwnedFd>,
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
        let (carried_on, waiting) = match carrying.describe() {
            Ok(described) => described,
            Err(error) => return Some(carrying.failed(&error)),
        };
        let handed = Handed { carried_on: Some(carried_on), ..record.handed() };
        let (client, backend) = carrying.sockets();
        if has_gone(handed, &[client, backend], waiting, desk, cut).await {
            return None;
        }
        served = Box::pin(carrying.carry(&desk.scratch, cut)).await;
    }
}

/// The same for a client of HTTP.
pub(super) async fn serve_http(
    // Boxed, so that the room for it is given back when it is served.
    mut client: Box<http::Client>,
    (site, slot): (&Arc<http::Site>, &Slot),
    record: &Record,
    desk: &Desk,
    cut: &Cut,
) -> Option<Outcome> {
    let scheme = client.scheme;
    loop {
        let sites = || slot.site();
        match http::serve(taken_out(client), (Arc::clone(site), &sites), &desk.http, cut).await {
            http::Served::Ended(outcome) => return Some(*outcome),
            http::Served::Tunnel(carrying) => {
                let served = Box::pin(carrying.carry(&desk.scratch, cut)).await;
                return Box::pin(settle(served, record, desk, cut)).await;
            }
            http::Served::Resting(socket, before) => {
                let resting = Resting {
                    is_https: scheme == "https",
                    requests: before.requests,
                    waited: before.since.elapsed(),
                };
                let handed = Handed { resting: Some(resting), ..record.handed() };
                let waiting = Waiting { up: before.ahead.clone(), down: Vec::new() };
                if Box::pin(has_gone(handed, &[&socket], waiting, desk, cut)).await {
                    return None;
                }
                let (link, agreed, before) = (Link::Plain(socket), None, Some(before));
                let (address, local) = (record.client, record.destination);
                client = Box::new(http::Client { link, address, local, scheme, agreed, before });
            }
        }
    }
}

/// Offers a connection to another process, and waits until it is there or is to stay.
async fn has_gone(
    handed: Handed,
    sockets: &[&Socket],
    waiting: Waiting,
    desk: &Desk,
    cut: &Cut,
) -> bool {
    // Whoever waits for all that were asked is told by dropping this.
    let asked = cut.take_asked();
    let copies = sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned());
    let (gone, has_gone) = oneshot::channel();
    // Without a descriptor for a copy, or anybody to take it, it stays: then the word that it has gone is dropped here.
    match (copies.collect::<std::io::Result<Vec<_>>>(), &*desk.leaving.borrow()) {
        (Ok(sockets), Some(leaving)) => {
            let _ = leaving.send(Parcel { handed, sockets, waiting, gone });
        }
        _ => drop(gone),
    }
    drop(asked);
    let has_gone = has_gone.await.is_ok();
    if !has_gone {
        // Nobody wants it: it is not offered again and again.
        cut.leave(false);
    }
    has_gone
}

impl Record {
    /// What is told of it elsewhere, whatever is served.
    fn handed(&self) -> Handed {
        Handed {
            listener: self.service.listener.to_string(),
            client: self.client,
            destination: self.destination,
            name: self.name.as_deref().map(str::to_owned),
            accepted_at: self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            accepted_ago: self.began.elapsed(),
            carried_on: None,
            resting: None,
        }
    }

    /// The same record, here.
    fn resumed(service: &Arc<Service>, handed: &Handed) -> Record {
        let now = Instant::now();
        let mut record = Record::begin(service, handed.client);
        record.destination = handed.destination;
        record.name = handed.name.as_deref().map(Arc::from);
        record.at = SystemTime::UNIX_EPOCH + handed.accepted_at;
        record.began = now.checked_sub(handed.accepted_ago).unwrap_or(now);
        record
    }
}

/// A connection that began in another process, and is ours now.
#[derive(Debug)]
pub(crate) struct Adopted {
    client: OwnedFd,
    waiting: Waiting,
    pub(super) record: Record,
    admitted: Admitted,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Carry { backend: OwnedFd, told: Box<CarriedOn>, place: InFlight },
    Serve { slot: Arc<Slot>, told: Resting },
}

impl Adopted {
    /// One that is relayed. From here on it leaves its record here.
    pub(crate) fn carried(
        mut handed: Handed,
        [client, backend]: [OwnedFd; 2],
        waiting: Waiting,
        service: &Arc<Service>,
        place: InFlight,
    ) -> Option<Adopted> {
        let told = Box::new(handed.carried_on.take()?);
        let upstream = Arc::clone(&place.upstream.rules.name);
        let work = Work::Carry { backend, told, place };
        let mut adopted = Adopted::begin(&handed, client, waiting, service, work);
        adopted.record.upstream = Some(upstream);
        Some(adopted)
    }

    /// One that waits for a request.
    pub(crate) fn resting(
        mut handed: Handed,
        client: OwnedFd,
        waiting: Waiting,
        slot: &Arc<Slot>,
    ) -> Option<Adopted> {
        let told = handed.resting.take()?;
        let work = Work::Serve { slot: Arc::clone(slot), told };
        Some(Adopted::begin(&handed, client, waiting, &slot.now(), work))
    }

    fn begin(
        handed: &Handed,
        client: OwnedFd,
        waiting: Waiting,
        service: &Arc<Service>,
        work: Work,
    ) -> Adopted {
        service.meter.taken_over();
        let record = Record::resumed(service, handed);
        let admitted = service.door.take_over(ip(handed.client));
        Adopted { client, waiting, record, admitted, work }
    }

    /// Serves it, to its end or to the next process. Runs on the worker whose event loop shall carry it.
    pub(crate) async fn serve<S>(self, desk: Rc<Desk>, cut: Rc<Cut>, stay: S) {
        let _stay = stay;
        let Adopted { client, waiting, record, admitted, work } = self;
        let outcome = match Socket::adopt(client) {
            Err(error) => Some(out_of_resources(&error)),
            Ok(client) => Box::pin(work.go_on(client, waiting, &record, &desk, &cut)).await,
        };
        drop(admitted);
        match outcome {
            Some(outcome) => record.end(outcome.judged(&cut)),
            None => record.leave(),
        }
    }
}

fn out_of_resources(error: &std::io::Error) -> Outcome {
    Outcome::without_backend(Why::OutOfResources, Some(error.to_string()))
}

impl Work {
    async fn go_on(
        self,
        client: Socket,
        waiting: Waiting,
        record: &Record,
        desk: &Desk,
        cut: &Cut,
    ) -> Option<Outcome> {
        match self {
            Work::Carry { backend, told, place } => {
                let backend = match Socket::adopt(backend) {
                    Ok(backend) => backend,
                    Err(error) => return Some(out_of_resources(&error)),
                };
                let sockets = (client, backend);
                let carrying = Carrying::from_elsewhere(sockets, place, *told, waiting);
                let served = Box::pin(carrying.carry(&desk.scratch, cut)).await;
                settle(served, record, desk, cut).await
            }
            Work::Serve { slot, told } => {
                let Some(site) = slot.site() else {
                    return Some(Outcome::without_backend(Why::DrainCut, None));
                };
                let now = Instant::now();
                let since = now.checked_sub(told.waited).unwrap_or(now);
                let before = http::Before { ahead: waiting.up, requests: told.requests, since };
                let client = Box::new(http::Client {
                    link: Link::Plain(client),
                    address: record.client,
                    local: record.destination,
                    scheme: if told.is_https { "https" } else { "http" },
                    agreed: None,
                    before: Some(Box::new(before)),
                });
                serve_http(client, (&site, &slot), record, desk, cut).await
            }
        }
    }
}
