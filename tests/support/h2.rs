//! HTTP/2 for tests, on the `h2` crate: a client whose requests run at the same time, and a backend that answers each stream.
//! Both run on a thread of their own with an event loop of their own, so that tests stay plain and can be read from top to bottom.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client with one connection.
pub(crate) struct H2Client {
    pub(crate) runtime: Runtime,
    sender: SendRequest<Bytes>,
}

/// An answer with everything that belongs to it.
#[derive(Debug, Default)]
pub(crate) struct H2Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl H2Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl H2Client {
    /// Connects by prior knowledge.
    pub(crate) fn connect(to: SocketAddr) -> H2Client {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(to).await.expect("connect to the proxy");
            let (sender, connection) = h2::client::handshake(stream).await.expect("a handshake");
            tokio::spawn(async move {
                let _ = connection.await;
            });
            sender
        });
        H2Client { runtime, sender }
    }

    /// A way to begin streams.
    pub(crate) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    /// Runs something that talks to the proxy, for a while at most.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, what).await.expect("in time") })
    }

    pub(crate) fn get(&self, path: &str) -> H2Answer {
        self.send(get(path), None, None).expect("an answer")
    }

    /// Sends a request with a body and trailers, and reads its answer to the end.
    pub(crate) fn send(
        &self,
        request: Request<()>,
        body: Option<Vec<u8>>,
        trailers: Option<HeaderMap>,
    ) -> Result<H2Answer, h2::Error> {
        self.run(exchange(self.sender(), request, body, trailers))
    }
}

/// A GET for a path of `app.test`.
pub(crate) fn get(path: &str) -> Request<()> {
    request("GET", path)
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://app.test{path}");
    Request::builder()
        .method(method)
        .uri(uri)
        .version(http::Version::HTTP_2)
        .body(())
        .expect("a request")
}

/// One request and its answer, on a stream of its own.
pub(crate) async fn exchange(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Vec<u8>>,
    trailers: Option<HeaderMap>,
) -> Result<H2Answer, h2::Error> {
    let mut sender = sender.ready().await?;
    let ends = body.is_none() && trailers.is_none();
    let (answer, mut send) = sender.send_request(request, ends)?;
    if let Some(body) = &body {
        send_all(&mut send, body, trailers.is_none()).await?;
    }
    if let Some(trailers) = trailers {
        send.send_trailers(trailers)?;
    }
    let (head, mut body) = answer.await?.into_parts();
    let mut read =
        H2Answer { status: head.status.as_u16(), fields: head.headers, ..H2Answer::default() };
    (read.body, read.trailers) = read_all(&mut body).await?;
    Ok(read)
}

/// Sends a body as its receiver gives room for it.
pub(crate) async fn send_all(
    send: &mut SendStream<Bytes>,
    body: &[u8],
    ends: bool,
) -> Result<(), h2::Error> {
    let mut rest = Bytes::copy_from_slice(body);
    while !rest.is_empty() {
        send.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else { break };
        let part = rest.split_to(room.min(rest.len()));
        send.send_data(part, false)?;
    }
    if ends { send.send_data(Bytes::new(), true) } else { Ok(()) }
}

/// Reads a body to its end, and its trailers.
pub(crate) async fn read_all(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        bytes.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len())?;
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

/// A request as a backend of HTTP/2 got it.
#[derive(Debug, Clone)]
pub(crate) struct H2Asked {
    pub(crate) method: String,
    pub(crate) uri: http::Uri,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

/// What a backend of HTTP/2 says.
#[derive(Debug, Default, Clone)]
pub(crate) struct H2Reply {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// Before it says anything.
    pub(crate) after: Duration,
}

/// A backend that speaks HTTP/2 without being asked.
pub(crate) struct H2Backend {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<H2Asked>>>,
    accepted: Arc<Mutex<u32>>,
    _runtime: Runtime,
}

impl H2Backend {
    /// Answers each request with what `reply` gives, all streams of a connection at the same time.
    pub(crate) fn answering(
        reply: impl Fn(&H2Asked) -> H2Reply + Send + Sync + 'static,
    ) -> H2Backend {
        let runtime = threaded();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (asked, accepted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (seen, count, reply) = (Arc::clone(&asked), Arc::clone(&accepted), Arc::new(reply));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().expect("no panic") += 1;
                tokio::spawn(serve(stream, Arc::clone(&reply), Arc::clone(&seen)));
            }
        });
        H2Backend { address, asked, accepted, _runtime: runtime }
    }

    /// Answers 200 with the body it was sent.
    pub(crate) fn echoing() -> H2Backend {
        H2Backend::answering(|asked| H2Reply {
            status: 200,
            body: asked.body.clone(),
            ..H2Reply::default()
        })
    }

    pub(crate) fn requests(&self) -> Vec<H2Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    pub(crate) fn accepted(&self) -> u32 {
        *self.accepted.lock().expect("no panic")
    }
}

async fn serve(
    stream: TcpStream,
    reply: Arc<impl Fn(&H2Asked) -> H2Reply + Send + Sync + 'static>,
    seen: Arc<Mutex<Vec<H2Asked>>>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (reply, seen) = (Arc::clone(&reply), Arc::clone(&seen));
        tokio::spawn(async move {
            let _ = answer(request, respond, &*reply, &seen).await;
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    reply: &(impl Fn(&H2Asked) -> H2Reply + Send + Sync),
    seen: &Mutex<Vec<H2Asked>>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let (body, trailers) = read_all(&mut body).await?;
    let method = head.method.to_string();
    let asked = H2Asked { method, uri: head.uri, fields: head.headers, body, trailers };
    let reply = reply(&asked);
    seen.lock().expect("no panic").push(asked);
    tokio::time::sleep(reply.after).await;
    let mut head = Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(reply.status).expect("a status");
    *head.headers_mut() = reply.fields;
    let ends = reply.body.is_empty() && reply.trailers.is_none();
    let mut send = respond.send_response(head, ends)?;
    if !ends {
        send_all(&mut send, &reply.body, reply.trailers.is_none()).await?;
    }
    if let Some(trailers) = reply.trailers {
        send.send_trailers(trailers)?;
    }
    Ok(())
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop")
}

fn threaded() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("an event loop")
}
