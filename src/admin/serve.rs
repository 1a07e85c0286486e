//! Serves the admin socket and the ready listener, on one thread with a loop of its own. Whoever is slow, sends too much or
//! comes too often is refused or has to wait: nothing here may grow with what a client does.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use super::api::Desk;
use super::guard::{self, Token};
use super::page;
use super::ready::{self, Serves};
use super::who::Who;

/// Connections of operators at the same time; further ones wait in the kernel's queue.
const OPERATORS_MAX: usize = 16;
/// The same of those who ask whether it is ready.
const ASKERS_MAX: usize = 64;
/// Configs that are read at the same time, beside the loop.
const READERS_MAX: usize = 2;
/// The longest body: a whole config in TOML.
const BODY_MAX: usize = 16 * 1024 * 1024;
/// The longest head.
const HEAD_MAX: usize = 16 * 1024;
/// How long a head may take, and then a body.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How long everything may take, with a reload that loads much, and an answer that is read slowly.
const DONE_WITHIN: Duration = Duration::from_secs(120);
/// The same for one that goes on; then its reader comes again, or has left without a word.
const FEED_WITHIN: Duration = Duration::from_secs(3600);
/// The pause when accepting has failed, for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What it runs on.
pub(super) fn runtime() -> io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(READERS_MAX).build()
}

/// What is listened on.
pub(super) struct Doors {
    pub(super) socket: Option<std::os::unix::net::UnixListener>,
    /// For operators who have the token.
    pub(super) tcp: Vec<std::net::TcpListener>,
    pub(super) token: Option<Arc<Token>>,
    /// How those over TCP are spoken with; none is in clear.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) asked: Vec<(std::net::TcpListener, Serves)>,
}

impl Doors {
    pub(super) fn is_empty(&self) -> bool {
        self.socket.is_none() && self.tcp.is_empty() && self.asked.is_empty()
    }
}

/// Serves until it is told to stop.
pub(super) fn run(
    runtime: Runtime,
    doors: Doors,
    desk: &Arc<Desk>,
    stopped: oneshot::Receiver<()>,
) {
    let served: io::Result<()> = runtime.block_on(async {
        if let Some(socket) = doors.socket {
            let socket = tokio::net::UnixListener::from_std(socket)?;
            tokio::spawn(operators(socket, Arc::clone(desk)));
        }
        // Of their own: whoever comes over a network leaves those on this machine theirs.
        let places = Arc::new(Semaphore::new(OPERATORS_MAX));
        for (listener, token) in doors.tcp.into_iter().zip(doors.token.iter().cycle()) {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let token = Arc::clone(token);
            let speaks = (token, doors.tls.clone());
            tokio::spawn(from_afar(listener, speaks, Arc::clone(desk), Arc::clone(&places)));
        }
        let places = Arc::new(Semaphore::new(ASKERS_MAX));
        for (listener, serves) in doors.asked {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(askers((listener, serves), Arc::clone(desk), Arc::clone(&places)));
        }
        let _ = stopped.await;
        Ok(())
    });
    if let Err(error) = served {
        tracing::warn!("nobody can speak to this process: {error}");
    }
    // Whatever a config is read from may not answer; that must not hold up a stop.
    runtime.shutdown_background();
}

async fn operators(socket: tokio::net::UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(OPERATORS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let who = Who::of(&stream);
        let desk = Arc::clone(&desk);
        one(stream, place, move |request| {
            let (desk, who) = (Arc::clone(&desk), who.clone());
            async move {
                let (head, body) = request.into_parts();
                let page = page::find(&head.method, head.uri.path());
                if let Some(refusal) = guard::of_another_site(&head, page.is_some()) {
                    return refusal;
                }
                match page {
                    Some(page) => page,
                    None => served(&head, body, &who, &desk).await,
                }
            }
        });
    }
}

/// The same over TCP, for whoever has the token.
async fn from_afar(
    listener: tokio::net::TcpListener,
    (token, tls): (Arc<Token>, Option<TlsAcceptor>),
    desk: Arc<Desk>,
    places: Arc<Semaphore>,
) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let answer = answer_afar(Arc::clone(&desk), Arc::clone(&token), address);
        match tls.clone() {
            None => one(stream, place, answer),
            Some(tls) => drop(tokio::spawn(async move {
                // Whoever fails has been told so by its alert.
                let greeted = tokio::time::timeout(READ_WITHIN, tls.accept(stream)).await;
                if let Ok(Ok(stream)) = greeted {
                    one(stream, place, answer);
                }
            })),
        }
    }
}

/// What whoever comes from this address is answered.
fn answer_afar(
    desk: Arc<Desk>,
    token: Arc<Token>,
    address: SocketAddr,
) -> impl Fn(Request<Incoming>) -> Answering + Send + 'static {
    move |request| {
        let (desk, token) = (Arc::clone(&desk), Arc::clone(&token));
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let page = page::find(&head.method, head.uri.path());
            let refusal = guard::by_another_name(&head, &desk.hosts);
            let refusal = refusal.or_else(|| guard::of_another_site(&head, page.is_some()));
            if let Some(answer) = refusal.or(page) {
                return answer;
            }
            match token.who(&head.headers, address).await {
                Ok(who) => served(&head, body, &who, &desk).await,
                Err(answer) => answer,
            }
        })
    }
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>;

async fn served(head: &Parts, body: Incoming, who: &Who, desk: &Arc<Desk>) -> Answer {
    match whole(body).await {
        Ok(body) => desk.answer(head, &body, who).await,
        Err(refusal) => refusal,
    }
}

async fn askers(
    (listener, serves): (tokio::net::TcpListener, Serves),
    desk: Arc<Desk>,
    places: Arc<Semaphore>,
) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        one(stream, place, move |request| {
            let answer = ready::answer(&request, serves, &desk);
            std::future::ready(answer)
        });
    }
}

/// Serves one request of a connection.
fn one<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: OwnedSemaphorePermit,
    answer: impl Fn(Request<Incoming>) -> F + Send + 'static,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let lasts = Arc::new(AtomicBool::new(false));
    let goes_on = Arc::clone(&lasts);
    // It is kept for as long as the connection lasts: what is written waits in its buffers.
    let held = Arc::new(OnceLock::new());
    let service = service_fn(move |request| {
        let (answer, lasts) = (answer(request), Arc::clone(&lasts));
        let held = Arc::clone(&held);
        async move {
            let mut answer = answer.await;
            answer.take_place().into_iter().for_each(|place| drop(held.set(place)));
            lasts.store(answer.lasts(), Relaxed);
            Ok::<Response<_>, Infallible>(answer.into_response())
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_WITHIN)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::spawn(async move {
        // Whoever has left or sent nonsense has got an answer, or needs none.
        let mut connection = std::pin::pin!(connection);
        let done = tokio::time::timeout(DONE_WITHIN, &mut connection).await;
        if done.is_err() && goes_on.load(Relaxed) {
            let _ = tokio::time::timeout(FEED_WITHIN, connection).await;
        }
        drop(place);
    });
}

/// The body of a request, unless it is too long or comes too slowly.
async fn whole(body: Incoming) -> Result<Vec<u8>, Answer> {
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(Answer::too_long());
    }
    match tokio::time::timeout(READ_WITHIN, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Answer::too_long()),
        Ok(Err(_)) => Err(Answer::not_read()),
        Err(_) => Err(Answer::too_slow()),
    }
}
