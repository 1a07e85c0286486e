//! What can be asked over the admin socket, and who answers. Every order that changes something leaves a line in the log with
//! the process that gave it; an order that cannot be carried out says why, and has changed nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::answer::Answer;
use super::in_force::InForce;
use super::message::{
    BackendOrder, Backends, DiffOrder, JournalAnswer, Kind, ListenerRow, Outcome, Refusal,
    ReloadOrder, Status, Step, Upgraded,
};
use super::openapi;
use super::routes::{self, Does, Found, Missed};
use super::who::Who;
use super::{WaitsUntil, Wish, watch as looks};
use crate::config::{Config, Problems};
use crate::observe::reasons::Reasons;
use crate::process::Remote;
use crate::upstream::{Said, Saying};

/// The largest weight: tables of weights have 65,536 places.
const WEIGHT_MAX: u32 = 65_535;

/// Decisions that are given where no number is asked for, and where too large a one is.
const DECISIONS_DEFAULT: usize = 50;
const DECISIONS_MAX: usize = 10_000;

/// As many are in the state, and for so long it is not looked for others.
const DECISIONS_SHOWN: usize = 100;
const DECISIONS_KEPT: Duration = Duration::from_millis(900);

/// Everything that answers need.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) remote: Remote,
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) waits_until: WaitsUntil,
    pub(super) started: Instant,
    /// Places for those who read events.
    pub(super) readers: Arc<Semaphore>,
    /// The same for those who scrape.
    pub(super) scrapers: Arc<Semaphore>,
    pub(super) in_force: watch::Receiver<InForce>,
    /// Names by which it may be asked over TCP.
    pub(super) hosts: Vec<String>,
    /// The latest decisions, as they were read last: several may look at the same second.
    pub(super) latest: Mutex<Option<(Instant, Value)>>,
}

impl Desk {
    /// Answers one request.
    pub(super) async fn answer(self: &Arc<Self>, head: &Parts, body: &[u8], who: &Who) -> Answer {
        let Found { route, parts } = match routes::find(&head.method, head.uri.path()) {
            Ok(found) => found,
            Err(Missed::Method(known)) => return Answer::only(&known),
            Err(Missed::Path) => {
                return Answer::not(StatusCode::NOT_FOUND, "there is no such path");
            }
        };
        let part = |index: usize| parts.get(index).map(String::as_str).unwrap_or_default();
        let query = head.uri.query().unwrap_or_default();
        let be = |said| Some(Saying::Be(said));
        match route.does {
            Does::Status => Ok(self.status()).into(),
            Does::State | Does::Events | Does::Metrics => looks::answer(route.does, head, self),
            Does::Journal => self.journal(query).await.into(),
            Does::Explain => self.explain(body).await.into(),
            Does::Connections => self.connections(query).await.into(),
            Does::Close => self.close(part(0), who).await.into(),
            Does::Config => self.config(query, who),
            Does::Configured => self.configured(part(0), None),
            Does::ConfiguredOne => self.configured(part(0), Some(part(1))),
            Does::Put => self.change(Step::Put, (part(0), part(1)), (head, body), who).await,
            Does::Patch => self.change(Step::Patch, (part(0), part(1)), (head, body), who).await,
            Does::Remove => self.change(Step::Remove, (part(0), part(1)), (head, body), who).await,
            Does::Batch => self.batch((head, body), who).await,
            Does::Reload => self.reload(body, who).await.into(),
            Does::Diff => self.diff(body).await.into(),
            Does::Confirm => self.confirm(who).await.into(),
            Does::Upgrade => self.upgrade(who).await.into(),
            Does::Drain => self.drain(body, who).await.into(),
            Does::Ready => self.say(be(Said::Ready), body, who).await.into(),
            Does::Down => self.say(be(Said::Down), body, who).await.into(),
            Does::Weight => self.say(None, body, who).await.into(),
            Does::OpenApi => Ok(openapi::description()).into(),
        }
    }

    /// The latest decisions, at most so old as the state is told anew.
    pub(super) fn decisions(&self) -> Value {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((read, decisions)) if read.elapsed() < DECISIONS_KEPT => decisions.clone(),
            _ => {
                let rows = self.remote.decisions(DECISIONS_SHOWN);
                let decisions = serde_json::to_value(rows).unwrap_or_default();
                *latest = Some((Instant::now(), decisions.clone()));
                decisions
            }
        }
    }

    fn status(&self) -> Status {
        let counts = self.remote.counts();
        let waits = *self.waits_until.borrow();
        let left = waits.map(|until| until.saturating_duration_since(Instant::now()));
        let listeners = self.remote.listeners().into_iter().map(|listener| ListenerRow {
            name: listener.section,
            addresses: listener.addresses,
            open: listener.open,
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: millis(self.started.elapsed()),
            draining: self.remote.is_draining(),
            confirm_within_ms: left.map(millis),
            open: counts.open,
            accepted: counts.accepted,
            listeners: listeners.collect(),
            backends: self.remote.backends().into_iter().map(Into::into).collect(),
        }
    }

    async fn reload(&self, body: &[u8], who: &Who) -> Result<Outcome, Refusal> {
        let order: ReloadOrder = read(body)?;
        if !order.dry_run {
            who.orders("reload");
        }
        self.wish(|answer| Wish::Reload(order, answer)).await?
    }

    async fn diff(&self, body: &[u8]) -> Result<Outcome, Refusal> {
        let order: DiffOrder = read(body)?;
        // It may name large files, and nobody else is to wait for them.
        let read = tokio::task::spawn_blocking(move || Config::parse(&order.config));
        let config = read.await.map_err(|_| Refusal::stopping())?;
        let config = config.map_err(|problems| {
            let refusal = Refusal::of_config(&problems, false);
            let error = format!("the running process cannot use it:\n{}", refusal.error);
            Refusal { error, ..refusal }
        })?;
        let over_api = self.in_force.borrow().taken_back(&config);
        let comparison = self.remote.compare(config).await.ok_or_else(Refusal::stopping)?;
        Ok(Outcome { over_api, ..Outcome::of(comparison, &Problems::default(), false) })
    }

    async fn journal(&self, query: &str) -> Result<JournalAnswer, Refusal> {
        let wrong = || Refusal::new(Kind::Order, "write ?last=N, with a number");
        let last = match query.strip_prefix("last=") {
            None if query.is_empty() => DECISIONS_DEFAULT,
            None => return Err(wrong()),
            Some(number) => number.parse().map_err(|_| wrong())?,
        };
        let (remote, last) = (self.remote.clone(), DECISIONS_MAX.min(last));
        let read = move || JournalAnswer {
            folder: remote.journal().map(|folder| folder.display().to_string()),
            decisions: remote.decisions(last),
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::stopping())
    }

    async fn explain(&self, body: &[u8]) -> Result<Reasons, Refusal> {
        let reasons = self.remote.explain(read(body)?).await.ok_or_else(Refusal::stopping)?;
        reasons.map_err(|error| Refusal::new(Kind::Order, &error))
    }

    async fn confirm(&self, who: &Who) -> Result<(), Refusal> {
        who.orders("confirm");
        self.wish(Wish::Confirm).await?
    }

    async fn upgrade(&self, who: &Who) -> Result<Upgraded, Refusal> {
        who.orders("upgrade");
        self.wish(Wish::Upgrade).await?
    }

    async fn drain(&self, body: &[u8], who: &Who) -> Result<Backends, Refusal> {
        let order: BackendOrder = read(body)?;
        match (&order.upstream, order.all) {
            (Some(_), false) => self.say(Some(Saying::Be(Said::Drained)), body, who).await,
            (None, true) => {
                who.orders("drain the whole process");
                self.wish(Wish::Stop).await?;
                Ok(Backends::default())
            }
            _ => {
                let error = "name an `upstream`, or say `all` for the whole process";
                Err(Refusal::new(Kind::Order, error))
            }
        }
    }

    /// Says something of backends; without it, the weight of the order.
    async fn say(
        &self,
        saying: Option<Saying>,
        body: &[u8],
        who: &Who,
    ) -> Result<Backends, Refusal> {
        let order: BackendOrder = read(body)?;
        let Some(upstream) = &order.upstream else {
            return Err(Refusal::new(Kind::Order, "the order names no `upstream`"));
        };
        if order.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
            let error = format!("a weight is at most {WEIGHT_MAX}");
            return Err(Refusal::new(Kind::Order, error));
        }
        let saying = saying.unwrap_or(Saying::Weigh(order.weight));
        let backend = order.backend.as_deref();
        let what = match saying {
            Saying::Be(Said::Ready) => "ready".to_owned(),
            Saying::Be(Said::Drained) => "drain".to_owned(),
            Saying::Be(Said::Down) => "down".to_owned(),
            Saying::Weigh(Some(weight)) => format!("weight {weight} for"),
            Saying::Weigh(None) => "the configured weight for".to_owned(),
        };
        let slash = if backend.is_some() { "/" } else { "" };
        let of = format!("{upstream}{slash}{}", backend.unwrap_or_default());
        match self.remote.say(upstream, backend, saying).await {
            Ok(said) => {
                who.orders(&format!("{what} {of}"));
                Ok(Backends { backends: said.into_iter().map(Into::into).collect() })
            }
            Err(not_said) => Err(Refusal::not_said(&not_said, upstream, backend)),
        }
    }

    pub(super) async fn wish<T>(
        &self,
        wish: impl FnOnce(oneshot::Sender<T>) -> Wish,
    ) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.wishes.send(wish(answer)).await.map_err(|_| Refusal::stopping())?;
        answered.await.map_err(|_| Refusal::stopping())
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // An order without a word is one with every default.
    let body = if body.is_empty() { &b"{}"[..] } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Kind::Order, format!("the body is not an order: {error}")))
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
