//! What can be asked over the admin socket, and who answers. Every order that changes something leaves a line in the log with
//! the process that gave it; an order that cannot be carried out says why, and has changed nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::feed::{Content, Feed};
use super::message::{
    BackendOrder, Backends, DiffOrder, Kind, ListenerRow, Outcome, Refusal, ReloadOrder, Status,
    Upgraded,
};
use super::{WaitsUntil, Wish};
use crate::config::{Config, Problems};
use crate::process::Remote;
use crate::upstream::{Said, Saying};

/// The largest weight: tables of weights have 65,536 places.
const WEIGHT_MAX: u32 = 65_535;

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
}

/// A place of which there are few.
pub(super) type Place = OwnedSemaphorePermit;

/// Who is asking, by what the kernel says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Peer {
    pub(super) fn of(stream: &tokio::net::UnixStream) -> Peer {
        let known = stream.peer_cred().ok();
        Peer {
            uid: known.as_ref().map(tokio::net::unix::UCred::uid),
            pid: known.and_then(|known| known.pid()),
        }
    }

    /// Leaves a line in the log of what it has ordered.
    fn orders(self, what: &str) {
        let uid = self.uid.map_or("unknown".to_owned(), |uid| uid.to_string());
        let pid = self.pid.map_or("unknown".to_owned(), |pid| pid.to_string());
        tracing::info!(%uid, %pid, "admin: {what}");
    }
}

/// What is answered.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Content,
    /// Of a path that is asked for in another way only.
    allow: Option<&'static str>,
    place: Option<Place>,
}

impl Answer {
    pub(super) fn text(status: StatusCode, text: &str) -> Answer {
        Answer { status, ..Answer::of("text/plain; charset=utf-8", text.as_bytes().to_vec()) }
    }

    /// Something to be read.
    pub(super) fn of(content_type: &'static str, body: Vec<u8>) -> Answer {
        let body = Content::Whole(Full::from(body));
        Answer { status: StatusCode::OK, content_type, body, allow: None, place: None }
    }

    /// The same of something large: it holds a place until its connection has ended.
    pub(super) fn large(content_type: &'static str, body: String, place: Place) -> Answer {
        Answer { place: Some(place), ..Answer::of(content_type, body.into_bytes()) }
    }

    /// The place that it holds, for whoever looks after its connection.
    pub(super) fn take_place(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// Something that goes on.
    pub(super) fn feed(feed: Feed) -> Answer {
        let body = Content::Feed(Box::new(feed));
        Answer { body, ..Answer::of("text/event-stream", Vec::new()) }
    }

    /// Whether it goes on.
    pub(super) fn lasts(&self) -> bool {
        matches!(self.body, Content::Feed(_))
    }

    /// To whoever would change what can only be looked at.
    pub(super) fn only_get() -> Answer {
        Answer { allow: Some("GET"), ..wrong_method() }
    }

    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(value).unwrap_or_default();
        Answer { status, ..Answer::of("application/json", body) }
    }

    fn refused(refusal: &Refusal) -> Answer {
        let status = match refusal.kind {
            Kind::Order => StatusCode::BAD_REQUEST,
            Kind::Config => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unknown => StatusCode::NOT_FOUND,
            Kind::Start | Kind::Refused | Kind::Elsewhere => StatusCode::CONFLICT,
        };
        Answer::json(status, refusal)
    }

    pub(super) fn not(status: StatusCode, error: &str) -> Answer {
        Answer { status, ..Answer::refused(&Refusal::new(Kind::Order, error)) }
    }

    pub(super) fn too_long() -> Answer {
        Answer::not(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than any order")
    }

    pub(super) fn too_slow() -> Answer {
        Answer::not(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
    }

    pub(super) fn not_read() -> Answer {
        Answer::not(StatusCode::BAD_REQUEST, "the body could not be read")
    }

    pub(super) fn into_response(self) -> Response<Content> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, http::HeaderValue::from_static(allow));
        }
        response
    }
}

impl<T: Serialize> From<Result<T, Refusal>> for Answer {
    fn from(outcome: Result<T, Refusal>) -> Answer {
        match outcome {
            Ok(value) => Answer::json(StatusCode::OK, &value),
            Err(refusal) => Answer::refused(&refusal),
        }
    }
}

impl Desk {
    /// Answers one request.
    pub(super) async fn answer(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        peer: Peer,
    ) -> Answer {
        let be = |said| Some(Saying::Be(said));
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/v1/status") => Ok(self.status()).into(),
            (&Method::POST, "/v1/reload") => self.reload(body, peer).await.into(),
            (&Method::POST, "/v1/diff") => self.diff(body).await.into(),
            (&Method::POST, "/v1/confirm") => self.confirm(peer).await.into(),
            (&Method::POST, "/v1/upgrade") => self.upgrade(peer).await.into(),
            (&Method::POST, "/v1/drain") => self.drain(body, peer).await.into(),
            (&Method::POST, "/v1/ready") => self.say(be(Said::Ready), body, peer).await.into(),
            (&Method::POST, "/v1/down") => self.say(be(Said::Down), body, peer).await.into(),
            (&Method::POST, "/v1/weight") => self.say(None, body, peer).await.into(),
            (_, "/v1/status") => Answer::only_get(),
            (
                _,
                "/v1/reload" | "/v1/diff" | "/v1/confirm" | "/v1/upgrade" | "/v1/drain"
                | "/v1/ready" | "/v1/down" | "/v1/weight",
            ) => Answer { allow: Some("POST"), ..wrong_method() },
            _ => Answer::not(StatusCode::NOT_FOUND, "there is no such path"),
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

    async fn reload(&self, body: &[u8], peer: Peer) -> Result<Outcome, Refusal> {
        let order: ReloadOrder = read(body)?;
        if !order.dry_run {
            peer.orders("reload");
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
        let comparison = self.remote.compare(config).await.ok_or_else(Refusal::stopping)?;
        Ok(Outcome::of(comparison, &Problems::default(), false))
    }

    async fn confirm(&self, peer: Peer) -> Result<(), Refusal> {
        peer.orders("confirm");
        self.wish(Wish::Confirm).await?
    }

    async fn upgrade(&self, peer: Peer) -> Result<Upgraded, Refusal> {
        peer.orders("upgrade");
        self.wish(Wish::Upgrade).await?
    }

    async fn drain(&self, body: &[u8], peer: Peer) -> Result<Backends, Refusal> {
        let order: BackendOrder = read(body)?;
        match (&order.upstream, order.all) {
            (Some(_), false) => self.say(Some(Saying::Be(Said::Drained)), body, peer).await,
            (None, true) => {
                peer.orders("drain the whole process");
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
        peer: Peer,
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
                peer.orders(&format!("{what} {of}"));
                Ok(Backends { backends: said.into_iter().map(Into::into).collect() })
            }
            Err(not_said) => Err(Refusal::not_said(&not_said, upstream, backend)),
        }
    }

    async fn wish<T>(&self, wish: impl FnOnce(oneshot::Sender<T>) -> Wish) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.wishes.send(wish(answer)).await.map_err(|_| Refusal::stopping())?;
        answered.await.map_err(|_| Refusal::stopping())
    }
}

fn wrong_method() -> Answer {
    Answer::not(StatusCode::METHOD_NOT_ALLOWED, "this path is asked for in another way")
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // An order without a word is one with every default.
    let body = if body.is_empty() { &b"{}"[..] } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Kind::Order, format!("the body is not an order: {error}")))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
