//! TCP listeners: connect a backend for an accepted client, relay, and say how it ended.
//! It is handed its rules and its upstream; it must never look at the config or the plan.

mod carrying;
mod cut;
mod flow;
pub(crate) mod packets;
pub(crate) mod relay;
mod seen;
mod side;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::link::Link;
use crate::observe::ended::{Ended, Why};
use crate::observe::journal::Asker;
use crate::observe::sheets::Exchanged;
use crate::route::{StreamAsk, StreamConditions};
use crate::upstream::connect::{Call, ConnectFailed, Connected, Efforts};
use crate::upstream::{Affinity, INSTANT_RESET, InFlight, Upstream};
pub(crate) use carrying::{CarriedOn, Carrying, Served, Tunnelled};
pub(crate) use cut::Cut;
pub(crate) use flow::Scratch;
use relay::{Carried, End, Relay, Side, Times};
pub(crate) use seen::{Kind, Seen};

/// What was configured for one TCP listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) only_client_counts: bool,
    pub(crate) max_duration: Option<Duration>,
    pub(crate) buffer_max: usize,
    /// How long a ClientHello may take that is only looked at.
    pub(crate) hello_timeout: Duration,
    /// What is known of packets; none where bytes pass as they are.
    pub(crate) packets: Option<Box<packets::Framed>>,
}

/// What all connections of one TCP listener share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) rules: Rules,
    /// Tried in order.
    pub(crate) routes: Vec<(StreamConditions, Arc<Upstream>)>,
    /// Where connections go that no route takes.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// Where clients go that do not speak TLS, while routes look at what TLS clients ask for.
    pub(crate) plain: Option<Arc<Upstream>>,
    /// The plan and the listener, by their numbers.
    pub(crate) place: Asker,
}

impl Site {
    /// One that leads nowhere, of a listener that is not there any more.
    pub(crate) fn closed() -> Site {
        let rules = Rules {
            idle_timeout: None,
            only_client_counts: false,
            max_duration: None,
            buffer_max: 0,
            hello_timeout: Duration::ZERO,
            packets: None,
        };
        let place = Asker::default();
        Site { rules, routes: Vec::new(), upstream: None, plain: None, place }
    }

    /// Whether it must be known what a client asks for before it goes anywhere.
    pub(crate) fn looks_first(&self) -> bool {
        !self.routes.is_empty() || self.plain.is_some()
    }

    /// Where a connection goes, and by which route, counted from 1; by none where no route takes it.
    pub(crate) fn find(&self, ask: &StreamAsk<'_>) -> Option<(&Arc<Upstream>, u16)> {
        let mut routes = (1_u16..).zip(&self.routes);
        let taken = routes.find(|(_, (conditions, _))| conditions.hold(ask));
        let taken = taken.map(|(number, (_, upstream))| (upstream, number));
        taken.or_else(|| Some((self.upstream.as_ref()?, 0)))
    }
}

/// What the service of one connection came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) why: Why,
    pub(crate) detail: Option<String>,
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) efforts: Efforts,
    pub(crate) carried: Carried,
    /// Whether requests were served, each with a record of its own.
    pub(crate) spoke: bool,
    /// The record of the request that became a tunnel, which ended with it.
    pub(crate) request: Option<Box<Ended>>,
}

/// A client, with what is to be known of it before its first byte.
pub(crate) struct Client {
    pub(crate) link: Link,
    /// Decides for hashing algorithms.
    pub(crate) key: u64,
    /// What its backend wants to hear first.
    pub(crate) told: Option<Box<[u8]>>,
    pub(crate) address: Option<IpAddr>,
    /// The port that it comes from; 0 where that is not known.
    pub(crate) port: u16,
    /// The same for the journal.
    pub(crate) asker: Asker,
}

impl Client {
    /// Where it belongs in an upstream.
    fn affinity(&self) -> Affinity {
        Affinity { key: self.key, session: None, asker: self.asker }
    }
}

/// Serves one client from its first byte to its last, or until it is to go on elsewhere.
pub(crate) fn serve(
    client: Client,
    rules: &Rules,
    upstream: &Arc<Upstream>,
    scratch: &RefCell<Scratch>,
    cut: &Cut,
) -> impl Future<Output = Served> {
    // Boxed, so that what connecting needs is given back before the long life of the relay begins.
    let beginning = Box::pin(begin(client, rules, upstream, scratch, cut));
    async move {
        match beginning.await {
            Ok(carrying) => taken_out(carrying).carry(scratch, cut).await,
            Err(served) => served,
        }
    }
}

/// What is in a box, whose room is given back at once: moved out of it by `*`, it would be kept until its name goes out of scope.
#[expect(clippy::boxed_local, reason = "that it is dropped here is what this is for")]
pub(crate) fn taken_out<T>(boxed: Box<T>) -> T {
    *boxed
}

/// Connects to a backend; both ends of a plain relay, or how everything has ended.
async fn begin(
    client: Client,
    rules: &Rules,
    upstream: &Arc<Upstream>,
    scratch: &RefCell<Scratch>,
    cut: &Cut,
) -> Result<Box<Carrying>, Served> {
    let affinity = client.affinity();
    let Client { link, told, address, .. } = client;
    let accepted = Instant::now();
    let call = Call { affinity, told: told.as_deref(), client: address };
    // Boxed, as a relay that is not plain goes on here.
    let (backend, place, efforts) = match Box::pin(connect(upstream, call, cut)).await {
        Ok(Connected { link, place, efforts }) => (link, place, efforts),
        Err(outcome) => return Err(Served::Ended(Box::new(outcome))),
    };
    let turns = Turns::new(rules, scratch, accepted, cut);
    let (client, backend) = match (link, backend) {
        (Link::Plain(client), Link::Plain(backend)) => {
            let relay = Relay::new(client, backend);
            let carrying = Carrying::new(relay, place, efforts, turns.times, turns.keep);
            return Ok(Box::new(carrying));
        }
        sides => sides,
    };
    cut.stay_at(&place);
    let connected_at = Instant::now();
    let (end, carried) = Box::pin(turns.of(Relay::new(client, backend))).await;
    note_end(&place, end, carried, connected_at);
    Err(Served::Ended(Box::new(Outcome {
        why: why(end),
        detail: None,
        backend: Some(Arc::clone(&place.backend.name)),
        efforts,
        carried,
        spoke: false,
        request: None,
    })))
}

/// What a relay runs by.
struct Turns<'a> {
    scratch: &'a RefCell<Scratch>,
    keep: usize,
    times: Times,
    cut: &'a Cut,
}

impl<'a> Turns<'a> {
    fn new(
        rules: &Rules,
        scratch: &'a RefCell<Scratch>,
        accepted: Instant,
        cut: &'a Cut,
    ) -> Turns<'a> {
        let times = Times {
            idle: rules.idle_timeout,
            only_client_counts: rules.only_client_counts,
            deadline: rules.max_duration.map(|most| accepted + most),
        };
        Turns { scratch, keep: rules.buffer_max, times, cut }
    }

    async fn run<C: Side, B: Side>(&self, relay: &mut Relay<C, B>) -> End {
        relay.run(self.scratch, self.keep, &self.times, self.cut).await
    }

    async fn of<C: Side, B: Side>(&self, mut relay: Relay<C, B>) -> (End, Carried) {
        (self.run(&mut relay).await, relay.carried())
    }
}

/// Connects to a backend, unless the end is asked for first.
async fn connect(
    upstream: &Arc<Upstream>,
    call: Call<'_>,
    cut: &Cut,
) -> Result<Connected, Outcome> {
    let connected = tokio::select! {
        connected = upstream.connect(call) => connected,
        () = cut.asked() => return Err(Outcome::without_backend(Why::DrainCut, None)),
    };
    connected.map_err(Outcome::not_connected)
}

/// A backend that resets at once is failing, one that served is not.
fn note_end(place: &InFlight, end: End, carried: Carried, connected_at: Instant) {
    let silent = carried.up == 0 && carried.down == 0;
    let lasted = connected_at.elapsed();
    place.backend.exchanged(&Exchanged {
        status: None,
        first_byte: carried.first_byte.map(|at| at.saturating_duration_since(connected_at)),
        total: Some(lasted),
        up: carried.up,
        down: carried.down,
    });
    if end == End::BackendReset && silent && lasted < INSTANT_RESET {
        place.upstream.note_traffic(&place.backend, false);
    } else if carried.down > 0 || end == End::BackendFinished {
        place.upstream.note_traffic(&place.backend, true);
    }
}

/// The reason in the record for the end of a relay.
pub(crate) fn why(end: End) -> Why {
    match end {
        End::ClientFinished => Why::ClientFinished,
        End::BackendFinished => Why::BackendFinished,
        End::ClientReset => Why::ClientReset,
        End::BackendReset => Why::BackendReset,
        End::Idle => Why::IdleTimeout,
        End::TooLong => Why::MaxDuration,
        // None is asked to park that cannot.
        End::Cut | End::Parked => Why::DrainCut,
    }
}

impl Outcome {
    fn not_connected(failed: ConnectFailed) -> Outcome {
        let ConnectFailed { why, detail, backend, efforts } = failed;
        Outcome { detail, backend, efforts, ..Outcome::without_backend(why, None) }
    }

    /// The same, with the reason for which it was cut, if it was.
    pub(crate) fn judged(mut self, cut: &Cut) -> Outcome {
        if cut.owes_a_record() {
            self.spoke = false;
        }
        self.why = cut.judged(self.why);
        for request in self.request.iter_mut() {
            request.why = cut.judged(request.why);
        }
        self
    }

    /// An end before any backend was found.
    pub(crate) fn without_backend(why: Why, detail: Option<String>) -> Outcome {
        let (efforts, carried) = (Efforts::default(), Carried::default());
        let (backend, spoke, request) = (None, false, None);
        Outcome { why, detail, backend, efforts, carried, spoke, request }
    }
}
