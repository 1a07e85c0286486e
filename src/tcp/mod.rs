//! TCP listeners: connect a backend for an accepted client, relay, and say how it ended.
//! It is handed its rules and its upstream; it must never look at the config or the plan.

mod flow;
pub(crate) mod packets;
pub(crate) mod relay;
mod side;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::link::Link;
use crate::observe::ended::Why;
use crate::route::{StreamAsk, StreamConditions};
use crate::upstream::connect::{Call, ConnectFailed, Connected, Efforts};
use crate::upstream::{Affinity, Backend, INSTANT_RESET, InFlight, Upstream};
pub(crate) use flow::Scratch;
use relay::{Carried, End, Relay, Side, Times};

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
}

impl Site {
    /// Whether it must be known what a client asks for before it goes anywhere.
    pub(crate) fn looks_first(&self) -> bool {
        !self.routes.is_empty() || self.plain.is_some()
    }

    /// Where a connection goes.
    pub(crate) fn find(&self, ask: &StreamAsk<'_>) -> Option<&Arc<Upstream>> {
        let taken = self.routes.iter().find(|(conditions, _)| conditions.hold(ask));
        taken.map(|(_, upstream)| upstream).or(self.upstream.as_ref())
    }
}

/// A request from outside to end a connection, looked at in each turn of its relay.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    asked: Cell<bool>,
    finishing: Cell<bool>,
    /// Whether somebody wants to know of a new plan, and whether there is one.
    wants_news: Cell<bool>,
    has_news: Cell<bool>,
    /// The end is asked for because others need the memory.
    for_memory: Cell<bool>,
    /// When it had a turn last, by the clock of its worker.
    had_turn: Cell<u64>,
    /// Where it stays to its end, once that is known.
    stays_at: RefCell<Option<(Arc<Upstream>, Arc<Backend>)>>,
    waker: RefCell<Option<Waker>>,
}

impl Cut {
    /// Asks the connection to end as soon as nothing is under way on it.
    pub(crate) fn ask_to_finish(&self) {
        self.finishing.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the connection is to end as soon as it can without harm.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.get()
    }

    /// Says that from now on the connection is told of each new plan.
    pub(crate) fn want_news(&self) {
        self.wants_news.set(true);
    }

    /// Tells the connection that what it takes up next is to go by a new plan.
    pub(crate) fn tell_news(&self) {
        if self.wants_news.get() {
            self.has_news.set(true);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether there is a new plan since this was last asked.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news.take()
    }

    /// Says that the connection stays at this backend to its end.
    pub(crate) fn stay_at(&self, place: &InFlight) {
        let at = (Arc::clone(&place.upstream), Arc::clone(&place.backend));
        *self.stays_at.borrow_mut() = Some(at);
    }

    /// Asks the connection to end now if it stays at one of these backends, and that is not in the config again.
    pub(crate) fn ask_if_at(&self, removed: &[Arc<Backend>]) {
        let has_left = |(upstream, backend): &(Arc<Upstream>, Arc<Backend>)| {
            removed.iter().any(|removed| removed.is(backend)) && !upstream.has(backend)
        };
        if self.stays_at.borrow().as_ref().is_some_and(has_left) {
            self.ask();
        }
    }

    /// Notes that the connection has a turn now.
    pub(crate) fn note_turn(&self, now: u64) {
        self.had_turn.set(now);
    }

    /// When it had its last turn, by the clock of its worker.
    pub(crate) fn had_turn(&self) -> u64 {
        self.had_turn.get()
    }

    /// Asks the connection to end because others need the memory: at once, or where something is under way on it
    /// only if it must be. Between two requests it ends in order.
    pub(crate) fn make_room(&self, must_be: bool) {
        if must_be || self.stays_at.borrow().is_some() {
            self.for_memory.set(true);
            self.ask();
        } else {
            self.ask_to_finish();
        }
    }

    /// Asks for the end of a part of a connection whose end was asked for, for the same reason.
    pub(crate) fn ask_as(&self, whole: &Cut) {
        self.for_memory.set(whole.for_memory.get());
        self.ask();
    }

    /// Why a connection really ended of which it is said that it was cut.
    pub(crate) fn judged(&self, why: Why) -> Why {
        if why == Why::DrainCut && self.for_memory.get() { Why::LimitMemory } else { why }
    }

    /// Asks the connection to end now.
    pub(crate) fn ask(&self) {
        self.asked.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the end was asked for; if not, the task of `cx` is woken when it is.
    pub(crate) fn is_asked(&self, cx: &Context<'_>) -> bool {
        if !self.asked.get() {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        self.asked.get()
    }

    /// Waits until the end is asked for.
    pub(crate) async fn asked(&self) {
        std::future::poll_fn(|cx| {
            if self.is_asked(cx) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
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
}

/// Serves one client from its first byte to its last.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps each argument twice, while it runs")]
pub(crate) fn serve(
    client: Client,
    rules: &Rules,
    upstream: &Arc<Upstream>,
    scratch: &RefCell<Scratch>,
    cut: &Cut,
) -> impl Future<Output = Outcome> {
    async move {
        let Client { link, key, told, address, .. } = client;
        let accepted = Instant::now();
        let affinity = Affinity { key, session: None };
        let call = Call { affinity, told: told.as_deref(), client: address };
        // Boxed, so that what connecting needs is given back before the long life of the relay begins.
        let connecting = Box::pin(connect(upstream, call, cut));
        let (backend, place, efforts) = match connecting.await {
            Ok(Connected { link, place, efforts }) => (link, place, efforts),
            Err(outcome) => return outcome,
        };
        cut.stay_at(&place);
        let connected_at = Instant::now();
        let turns = Turns::new(rules, scratch, accepted, cut);
        let (end, carried) = match (link, backend) {
            (Link::Plain(client), Link::Plain(backend)) => {
                turns.of(Relay::new(client, backend)).await
            }
            // Boxed, so that plain relays do not carry the room for it.
            (client, backend) => Box::pin(turns.of(Relay::new(client, backend))).await,
        };
        note_end(&place, end, carried, connected_at);
        Outcome {
            why: why(end),
            detail: None,
            backend: Some(Arc::clone(&place.backend.name)),
            efforts,
            carried,
            spoke: false,
        }
    }
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
    if end == End::BackendReset && silent && connected_at.elapsed() < INSTANT_RESET {
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
        End::Cut => Why::DrainCut,
    }
}

impl Outcome {
    fn not_connected(failed: ConnectFailed) -> Outcome {
        let ConnectFailed { why, detail, backend, efforts } = failed;
        Outcome { why, detail, backend, efforts, carried: Carried::default(), spoke: false }
    }

    /// An end before any backend was found.
    pub(crate) fn without_backend(why: Why, detail: Option<String>) -> Outcome {
        let (efforts, carried) = (Efforts::default(), Carried::default());
        Outcome { why, detail, backend: None, efforts, carried, spoke: false }
    }
}
