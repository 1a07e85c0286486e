//! A connection between two plain sockets, from the moment both are there: carried to its end, or parked on its way and carried
//! on, here or in another process. What it goes by is kept here, so that no later config changes it.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::relay::{Carried, End, Parked, Relay, Times, Waiting};
use super::{Cut, Kind, Outcome, Scratch, note_end, why};
use crate::observe::ended::{ClientAddress, Ended, Phases, RequestLine, Why};
use crate::observe::sheets::Exchanged;
use crate::socket::Socket;
use crate::upstream::connect::Efforts;
use crate::upstream::{BackendAddress, InFlight};

/// What serving a connection came to.
#[derive(Debug)]
pub(crate) enum Served {
    Ended(Box<Outcome>),
    /// It is asked to go elsewhere, and rests between two reads.
    Parked(Box<Carrying>),
}

/// Two plain sockets and everything that carrying bytes between them goes by.
#[derive(Debug)]
pub(crate) struct Carrying {
    relay: Relay<Socket, Socket>,
    place: InFlight,
    efforts: Efforts,
    connected_at: Instant,
    times: Times,
    keep: usize,
    /// The request that it began with, if there was one.
    request: Option<Box<Begun>>,
}

/// A request that became a tunnel, here or in another process.
#[derive(Debug)]
struct Begun {
    told: Tunnelled,
    /// What it takes until the tunnel has ended, such as its place on a route.
    _held: Option<Box<dyn Debug>>,
}

/// A request that became a tunnel, for the record that it leaves at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Tunnelled {
    pub(crate) listener: String,
    pub(crate) client: ClientAddress,
    pub(crate) status: u16,
    pub(crate) line: RequestLine,
    #[serde(skip, default = "Instant::now")]
    pub(crate) began: Instant,
    #[serde(default)]
    pub(crate) began_ago: Duration,
}

/// The same without its sockets, its place and the bytes that wait, as another process is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CarriedOn {
    pub(crate) upstream: String,
    pub(crate) backend: BackendAddress,
    relay: Parked,
    #[serde(default)]
    efforts: Efforts,
    #[serde(default)]
    connected_ago: Duration,
    #[serde(default)]
    idle_timeout: Option<Duration>,
    #[serde(default)]
    only_client_counts: bool,
    /// How much longer it may take at most.
    #[serde(default)]
    time_left: Option<Duration>,
    #[serde(default = "buffer_max")]
    buffer_max: usize,
    #[serde(default)]
    request: Option<Box<Tunnelled>>,
}

impl CarriedOn {
    /// Whether it began as a request of HTTP.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.request.is_some()
    }
}

/// Where nothing is said: the default of `buffer-max`.
fn buffer_max() -> usize {
    256 * 1024
}

impl Carrying {
    pub(super) fn new(
        relay: Relay<Socket, Socket>,
        place: InFlight,
        efforts: Efforts,
        times: Times,
        keep: usize,
    ) -> Carrying {
        let connected_at = Instant::now();
        Carrying { relay, place, efforts, connected_at, times, keep, request: None }
    }

    /// A tunnel between two plain connections.
    pub(crate) fn tunnel(
        relay: Relay<Socket, Socket>,
        place: InFlight,
        (times, keep): (Times, usize),
        request: Tunnelled,
        held: Option<Box<dyn Debug>>,
    ) -> Carrying {
        let carrying = Carrying::new(relay, place, Efforts::default(), times, keep);
        let begun = Begun { told: request, _held: held };
        Carrying { request: Some(Box::new(begun)), ..carrying }
    }

    /// Carries bytes until an end, or until it is asked to park.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps each argument twice, while it runs"
    )]
    pub(crate) fn carry(
        mut self,
        scratch: &RefCell<Scratch>,
        cut: &Cut,
    ) -> impl Future<Output = Served> {
        async move {
            cut.stay_at(&self.place);
            // Also one that began in another process.
            if self.request.is_some() {
                cut.seen().speaks(Kind::Tunnel);
            }
            cut.can_park(true);
            let end = self.relay.run(scratch, self.keep, &self.times, cut).await;
            match end {
                End::Parked => Served::Parked(Box::new(self)),
                end => Served::Ended(Box::new(self.ended(end))),
            }
        }
    }

    fn ended(self, end: End) -> Outcome {
        let carried = self.relay.carried();
        if let Some(begun) = self.request {
            let request = begun.told;
            // The request itself has been counted at the switch.
            let (up, down) = (carried.up, carried.down);
            self.place.backend.exchanged(&Exchanged { up, down, ..Exchanged::default() });
            let request = Some(Box::new(request.ended(why(end), &self.place, carried)));
            return Outcome { spoke: true, request, ..Outcome::without_backend(why(end), None) };
        }
        note_end(&self.place, end, carried, self.connected_at);
        let backend = Some(Arc::clone(&self.place.backend.name));
        let (why, efforts) = (why(end), self.efforts);
        Outcome { backend, efforts, carried, ..Outcome::without_backend(why, None) }
    }

    /// What it came to where it could not go on.
    pub(crate) fn failed(self, error: &io::Error) -> Outcome {
        let outcome = self.ended(End::Cut);
        Outcome { why: Why::OutOfResources, detail: Some(error.to_string()), ..outcome }
    }

    pub(crate) fn sockets(&self) -> (&Socket, &Socket) {
        (self.relay.client(), self.relay.backend())
    }

    /// What another process must know to carry it on, and the bytes that wait. It can still go on here.
    pub(crate) fn describe(&mut self) -> io::Result<(CarriedOn, Waiting)> {
        let (relay, waiting) = self.relay.park()?;
        let carried_on = CarriedOn {
            upstream: self.place.upstream.rules.name.to_string(),
            backend: self.place.backend.address.clone(),
            efforts: self.efforts,
            connected_ago: self.connected_at.elapsed(),
            idle_timeout: self.times.idle,
            only_client_counts: self.times.only_client_counts,
            time_left: self.times.deadline.map(|at| at.saturating_duration_since(Instant::now())),
            buffer_max: self.keep,
            request: self.request.as_ref().map(|begun| {
                let began_ago = begun.told.began.elapsed();
                Box::new(Tunnelled { began_ago, ..begun.told.clone() })
            }),
            relay,
        };
        Ok((carried_on, waiting))
    }

    /// One that began in another process.
    pub(crate) fn from_elsewhere(
        (client, backend): (Socket, Socket),
        place: InFlight,
        told: CarriedOn,
        waiting: Waiting,
    ) -> Carrying {
        let now = Instant::now();
        let past = |ago| now.checked_sub(ago).unwrap_or(now);
        let times = Times {
            idle: told.idle_timeout,
            only_client_counts: told.only_client_counts,
            deadline: told.time_left.map(|left| now + left),
        };
        Carrying {
            relay: Relay::unparked(client, backend, &told.relay, waiting),
            place,
            efforts: told.efforts,
            connected_at: past(told.connected_ago),
            times,
            keep: told.buffer_max.max(1),
            request: told.request.map(|request| {
                let began = past(request.began_ago);
                let told = Tunnelled { began, ..*request };
                Box::new(Begun { told, _held: None })
            }),
        }
    }
}

impl Tunnelled {
    /// The record at its end.
    fn ended(self, why: Why, place: &InFlight, carried: Carried) -> Ended {
        let total = self.began.elapsed();
        Ended {
            at: SystemTime::now() - total,
            client: self.client,
            listener: self.listener.into(),
            upstream: Arc::clone(&place.upstream.rules.name),
            backend: Some(Arc::clone(&place.backend.name)),
            why,
            detail: None,
            bytes_up: carried.up,
            bytes_down: carried.down,
            phases: Phases { total, ..Phases::default() },
            tried: 0,
            name: None,
            certificate: None,
            request: Some(Box::new(RequestLine { status: Some(self.status), ..self.line })),
        }
    }
}
