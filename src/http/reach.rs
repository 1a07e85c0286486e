//! The way to a backend for one request: a kept connection, a stream on one that others use too, or a fresh one.
//! It must never open a second connection of HTTP/2 where the first is still being opened and has room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_wire::{Limits, Response};
use tokio::time::Instant;

use super::h1;
use super::h2::{self as multiplexed, Floods, Opening, Place};
use super::local::Local;
use super::stream::Stream;
use crate::link::Link;
use crate::observe::ended::Why;
use crate::upstream::connect::{Call, ConnectFailed, Efforts, Way};
use crate::upstream::idle::{Kept, Quiet};
use crate::upstream::{Affinity, Backend, Channel, InFlight, Upstream};

/// A backend that can be asked.
pub(super) struct Reached {
    pub(super) stream: Stream,
    /// Requests that its connection has carried.
    pub(super) carried: u32,
    /// When it was reached.
    pub(super) at: Instant,
}

/// What there is already.
enum There {
    Kept(Kept<Box<h1::Stream>>),
    Shared(Place),
}

/// Where to look for a way to a backend.
pub(super) struct Reach<'a> {
    pub(super) local: &'a Local,
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) affinity: Affinity,
    /// Of the answer.
    pub(super) limits: Limits,
    /// Whether the request asks for another protocol, which not every backend of HTTP/2 can.
    pub(super) switches: bool,
    /// What a backend wants to hear first on a fresh connection.
    pub(super) told: Option<&'a [u8]>,
    /// For whom.
    pub(super) client: Option<IpAddr>,
}

impl Reach<'_> {
    /// The backend whose turn it is, if a connection to it is kept: nothing has to be waited for then, nor limited in
    /// time. Otherwise its place, if it has one.
    pub(super) fn backend_at_once(
        &self,
        tried: &[Arc<Backend>],
        efforts: &mut Efforts,
        may_use_kept: bool,
    ) -> Result<(Reached, InFlight), Option<InFlight>> {
        if !may_use_kept || self.switches {
            return Err(None);
        }
        let place = self.upstream.place_now(self.affinity, tried).ok_or(None)?;
        let at = Instant::now();
        let reached = match &self.upstream.rules.h2 {
            None => {
                let kept = self.local.idle.borrow_mut().take(&place.backend, at);
                kept.map(|Kept { connection, requests }| Reached {
                    stream: Stream::H1(connection),
                    carried: requests,
                    at,
                })
            }
            Some(h2) => {
                let shared = self.local.shared.borrow_mut().take(&place.backend, h2.streams_max);
                shared.filter(Place::is_open).map(|shared| of_stream(shared, self.limits, at))
            }
        };
        let Some(reached) = reached else { return Err(Some(place)) };
        efforts.tried += 1;
        place.backend.asked();
        Ok((reached, place))
    }

    /// Picks a backend and finds a way to it. `first` is a place that has been taken already.
    pub(super) async fn backend(
        &self,
        mut first: Option<InFlight>,
        tried: &mut Vec<Arc<Backend>>,
        efforts: &mut Efforts,
        may_use_kept: bool,
    ) -> Result<(Reached, InFlight), ConnectFailed> {
        let Reach { local, upstream, affinity, limits, switches, told, client } = *self;
        let call = Call { affinity, told, client };
        let idle = upstream.rules.keep_alive.map_or(Duration::ZERO, |keep| keep.idle);
        loop {
            let mut opening = None;
            let there = |backend: &Arc<Backend>| match &upstream.rules.h2 {
                Some(h2) => {
                    let mut shared = local.shared.borrow_mut();
                    let place = shared.take(backend, h2.streams_max);
                    if place.is_none() {
                        opening = Some(shared.open(backend, idle));
                    }
                    place.map(There::Shared)
                }
                None if may_use_kept => {
                    local.idle.borrow_mut().take(backend, Instant::now()).map(There::Kept)
                }
                None => None,
            };
            let (way, place) = upstream.reach(call, first.take(), tried, efforts, there).await?;
            let reached = match way {
                Way::Kept(There::Kept(Kept { connection, requests })) => {
                    let stream = Stream::H1(connection);
                    Reached { stream, carried: requests, at: Instant::now() }
                }
                Way::Kept(There::Shared(shared)) => {
                    // Given up by whoever was opening it: open another one.
                    if !shared.ready().await {
                        continue;
                    }
                    if switches {
                        shared.settled().await;
                    }
                    of_stream(shared, limits, Instant::now())
                }
                Way::Fresh(link) => match opening {
                    None => {
                        let stream = Stream::h1(link);
                        Reached { stream, carried: 0, at: Instant::now() }
                    }
                    Some(opening) => match greet(link, opening, limits, &place).await {
                        Some(shared) => {
                            if switches {
                                shared.settled().await;
                            }
                            of_stream(shared, limits, Instant::now())
                        }
                        None => return Err(not_greeted(&place, *efforts)),
                    },
                },
            };
            place.backend.asked();
            return Ok((reached, place));
        }
    }
}

impl Quiet for Box<h1::Stream> {
    fn is_quiet(&mut self) -> bool {
        self.socket.is_quiet()
    }
}

/// Keeps a connection for the next request, unless its backend has said that it ends, or said too much.
pub(super) fn keep(
    local: &Local,
    mut backend: Box<h1::Stream>,
    response: &Response,
    (requests, now): (u32, Instant),
    place: &InFlight,
) {
    if let Some(rules) = &place.upstream.rules.keep_alive
        && response.persistent
        && backend.input.is_empty()
    {
        backend.rest(local);
        let kept = Kept { connection: backend, requests };
        local.idle.borrow_mut().keep(&place.backend, kept, rules, now);
    }
}

fn of_stream(place: Place, limits: Limits, at: Instant) -> Reached {
    let carried = place.requests();
    let stream = multiplexed::Stream::to_backend(place, limits);
    Reached { stream: Stream::H2(Box::new(stream)), carried, at }
}

/// Begins HTTP/2 on a fresh connection, and takes the first place on it.
async fn greet(link: Link, opening: Opening, limits: Limits, to: &InFlight) -> Option<Place> {
    let (sender, greeted) =
        multiplexed::greet(link, limits.head_max, floods(&to.upstream)?).await.ok()?;
    let (upstream, backend) = (Arc::clone(&to.upstream), Arc::clone(&to.backend));
    let place = opening.open(sender);
    let over = place.connection();
    // It ends when the last request on it has, and nobody can begin another.
    tokio::task::spawn_local(async move {
        let patience = upstream.rules.response_timeout;
        if let Err(abuse) = multiplexed::drive(greeted, &over, patience).await {
            let (upstream, backend) = (&upstream.rules.name, &backend.name);
            tracing::warn!(%upstream, %backend, "HTTP/2: it {abuse}; its connection is closed");
        }
        over.retire();
    });
    Some(place)
}

/// How much a backend may send; none where it does not speak HTTP/2.
fn floods(upstream: &Upstream) -> Option<Floods> {
    let h2 = upstream.rules.h2.as_ref()?;
    Some(Floods {
        resets: h2.resets,
        pings: h2.pings,
        settings: h2.settings,
        empty: h2.empty,
        control: h2.control,
        continuations: h2.continuations,
        heads: Some(h2.heads),
    })
}

fn not_greeted(place: &InFlight, efforts: Efforts) -> ConnectFailed {
    place.upstream.note_traffic(&place.backend, false);
    let detail = Some(format!("{} ended before HTTP/2 could begin", place.backend.name));
    let backend = Some(Arc::clone(&place.backend.name));
    ConnectFailed { why: Why::ConnectUnreachable, detail, backend, efforts }
}

/// The connections of HTTP/2 of one worker, by backend.
#[derive(Debug, Default)]
pub(super) struct SharedConnections {
    // By the place in memory of the way to it, which is its own for as long as it is in the value.
    by_backend: HashMap<*const Channel, Connections>,
}

#[derive(Debug)]
struct Connections {
    channel: Arc<Channel>,
    /// How long one may be idle.
    idle: Duration,
    list: Vec<Rc<multiplexed::Shared>>,
    /// How many of them were idle by what was said last.
    told: u32,
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.channel.note_idle(self.told, 0);
    }
}

impl SharedConnections {
    /// A place on a connection that has room, the fullest first so that others can fall idle.
    fn take(&mut self, backend: &Arc<Backend>, streams_max: usize) -> Option<Place> {
        let connections = self.by_backend.get_mut(&Arc::as_ptr(backend.channel()))?;
        connections.list.retain(|shared| !shared.is_over());
        connections.list.iter().find_map(|shared| shared.take(streams_max))
    }

    /// A connection that is about to be opened; whoever comes meanwhile waits for it.
    fn open(&mut self, backend: &Arc<Backend>, idle: Duration) -> Opening {
        let (opening, shared) = Opening::begin();
        let fresh = || Connections {
            channel: Arc::clone(backend.channel()),
            idle,
            list: Vec::new(),
            told: 0,
        };
        self.by_backend
            .entry(Arc::as_ptr(backend.channel()))
            .or_insert_with(fresh)
            .list
            .push(shared);
        opening
    }

    /// Closes what has been idle for as long as its backend's rules say, and forgets what is over.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        self.by_backend.retain(|_, connections| {
            // Nobody else knows the way any more: its backend has left the config.
            let is_orphaned = Arc::strong_count(&connections.channel) == 1;
            let idle = if is_orphaned { Duration::ZERO } else { connections.idle };
            connections.list.retain(|shared| {
                if shared.idle_since().is_some_and(|since| now >= since + idle) {
                    shared.retire();
                }
                !shared.is_over()
            });
            let idle = connections.list.iter().filter(|shared| shared.idle_since().is_some());
            let idle = idle.count() as u32;
            connections.channel.note_idle(std::mem::replace(&mut connections.told, idle), idle);
            !connections.list.is_empty()
        });
    }

    /// No request begins on any of them any more.
    pub(super) fn clear(&mut self) {
        for (_, connections) in self.by_backend.drain() {
            connections.list.iter().for_each(|shared| shared.retire());
        }
    }
}
