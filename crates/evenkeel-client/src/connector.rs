//! How to connect: what is said once, and used for every connection. The order of addresses and the waits between
//! rounds stand here too, and nowhere else, as connections and events share them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::error::Error;
use crate::events::{self, Handler};
use crate::framing::Framing;
use crate::lane::Lane;
use crate::reach::reach;
use crate::tls::Tls;

/// How long one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes that a [`Remote`](crate::Remote) keeps for a peer that does not take them.
const QUEUE_MAX: usize = 1024 * 1024;
/// Longer than anybody waits.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// Connects: to whom is said with each call, how is said before.
///
/// ```no_run
/// use std::time::Duration;
/// use evenkeel_client::{Backoff, Connector, Framing, Tls};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = Connector::new(Framing::length("u32be")?)
///     .timeout(Duration::from_secs(2))
///     .tls(Tls::native()?)
///     .reconnect(Backoff::default());
/// let mut connection = connector.connect(["a.example:9000", "b.example:9000"]).await?;
/// println!("{:?}", connection.request(b"ping").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    plan: Plan,
}

/// All that was said.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) framing: Framing,
    pub(crate) timeout: Duration,
    pub(crate) tls: Option<Tls>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) nodelay: bool,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) queue_max: usize,
}

impl Connector {
    /// Connects for packets that are framed like this.
    #[must_use]
    pub fn new(framing: Framing) -> Connector {
        Connector {
            plan: Plan {
                framing,
                timeout: CONNECT_TIMEOUT,
                tls: None,
                keepalive: None,
                nodelay: true,
                backoff: None,
                queue_max: QUEUE_MAX,
            },
        }
    }

    /// How long connecting may take (500 ms), for each address as it was given: name look-up, TCP and TLS together. A
    /// name with several IP addresses has them tried in turn; each gets an equal share of the time that is left.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Connector {
        self.plan.timeout = limit;
        self
    }

    /// Goes through TLS (off).
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Connector {
        self.plan.tls = Some(tls);
        self
    }

    /// Has the kernel ask idle peers whether they are still there (off). A bare [`Duration`] is [`Keepalive::idle`].
    #[must_use]
    pub fn keepalive(mut self, keepalive: impl Into<Keepalive>) -> Connector {
        self.plan.keepalive = Some(keepalive.into());
        self
    }

    /// Whether small packets leave at once (on) or wait for more (`TCP_NODELAY`).
    #[must_use]
    pub fn nodelay(mut self, nodelay: bool) -> Connector {
        self.plan.nodelay = nodelay;
        self
    }

    /// Connects again after a loss (off): a [`Connection`] with its next call, [`Connector::run`] by itself. Nothing is
    /// sent a second time.
    #[must_use]
    pub fn reconnect(mut self, backoff: Backoff) -> Connector {
        self.plan.backoff = Some(backoff);
        self
    }

    /// Bytes that a [`Remote`](crate::Remote) takes beyond what its peer does (1 MiB); a packet that is larger is taken
    /// when nothing waits.
    #[must_use]
    pub fn queue_max(mut self, bytes: usize) -> Connector {
        self.plan.queue_max = bytes;
        self
    }

    /// Connects to the first of these addresses that can be connected to, each `HOST:PORT`. They are tried in turn, each
    /// with the whole time limit. [`Error::Connect`] tells how each of them failed.
    pub async fn connect(&self, addresses: impl Into<Addresses>) -> Result<Connection, Error> {
        let mut dial = Dial::new(self.plan.clone(), addresses.into())?;
        let lane = dial.connect().await?;
        Ok(Connection::new(dial, lane))
    }

    /// Connects and tells `handler` what happens, until the connection ends; with [`Connector::reconnect`] again and again,
    /// until [`Remote::close`](crate::Remote::close). Gives the handler back.
    ///
    /// A future that is dropped ends the connection without a word to the handler.
    pub async fn run<H: Handler>(&self, addresses: impl Into<Addresses>, handler: H) -> H {
        events::run(self.plan.clone(), addresses.into(), handler).await
    }
}

/// When the kernel asks an idle peer whether it is still there, and when it gives it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first question (60 s); whole seconds.
    pub idle: Duration,
    /// Time between questions (10 s); whole seconds.
    pub interval: Duration,
    /// Questions without an answer, after which the peer is gone (5).
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 5 }
    }
}

impl From<Duration> for Keepalive {
    fn from(idle: Duration) -> Keepalive {
        Keepalive { idle, ..Keepalive::default() }
    }
}

/// One address, `HOST:PORT`, or several.
#[derive(Clone, Debug)]
pub struct Addresses(Vec<String>);

impl From<&str> for Addresses {
    fn from(one: &str) -> Addresses {
        Addresses(vec![one.to_owned()])
    }
}

impl From<String> for Addresses {
    fn from(one: String) -> Addresses {
        Addresses(vec![one])
    }
}

impl From<SocketAddr> for Addresses {
    fn from(one: SocketAddr) -> Addresses {
        Addresses(vec![one.to_string()])
    }
}

impl<A: ToString, const N: usize> From<[A; N]> for Addresses {
    fn from(several: [A; N]) -> Addresses {
        Addresses(several.iter().map(ToString::to_string).collect())
    }
}

impl<A: ToString> From<&[A]> for Addresses {
    fn from(several: &[A]) -> Addresses {
        Addresses(several.iter().map(ToString::to_string).collect())
    }
}

impl<A: ToString> From<Vec<A>> for Addresses {
    fn from(several: Vec<A>) -> Addresses {
        Addresses::from(&several[..])
    }
}

/// Whom to connect to next, and when.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) plan: Arc<Plan>,
    addresses: Vec<String>,
    /// The address to begin with: the one after the last that failed.
    first: usize,
    /// Connects in a row that came to nothing, losses included.
    failures: u32,
}

impl Dial {
    pub(crate) fn new(plan: Plan, addresses: Addresses) -> Result<Dial, Error> {
        plan.framing.verify()?;
        if addresses.0.is_empty() {
            return Err(Error::Unusable("there is no address to connect to".to_owned()));
        }
        Ok(Dial { plan: Arc::new(plan), addresses: addresses.0, first: 0, failures: 0 })
    }

    /// Tries each address once.
    pub(crate) async fn connect(&mut self) -> Result<Lane, Error> {
        let mut failed = Vec::new();
        let count = self.addresses.len();
        for n in 0..count {
            let at = self.first.wrapping_add(n).checked_rem(count).unwrap_or_default();
            let Some(address) = self.addresses.get(at) else { continue };
            if let Some((stream, peer)) = reach(&self.plan, address, &mut failed).await {
                // It is the one that fails next, if ever.
                self.first = at.wrapping_add(1);
                return Ok(Lane::new(stream, peer, self.plan.framing.clone()));
            }
        }
        self.failures = self.failures.saturating_add(1);
        Err(Error::Connect(failed))
    }

    /// Says that a connection was lost, and whether a packet had come over it.
    pub(crate) fn lost(&mut self, was_alive: bool) {
        self.failures = if was_alive { 1 } else { self.failures.saturating_add(1) };
    }

    /// Whether it is to be connected again after a loss.
    pub(crate) fn is_repeated(&self) -> bool {
        self.plan.backoff.is_some()
    }

    /// When the next round may begin, from now.
    pub(crate) fn due(&self) -> Instant {
        let now = Instant::now();
        let wait = self.plan.backoff.map(|backoff| backoff.wait(self.failures, fastrand::f64()));
        // What no clock reaches is as good as never.
        now.checked_add(wait.unwrap_or_default().min(FAR)).unwrap_or(now)
    }
}
