//! WebSocket on `tungstenite`: a backend that gives back what it is told, and a client in clear or through TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use super::tls::Certificates;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a WebSocket runs on.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// A backend that echoes messages; it ends when dropped.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    /// What each client said on closing, and nothing for one that was cut.
    ends: Arc<Mutex<Vec<Option<CloseFrame>>>>,
    _runtime: Runtime,
}

impl Echo {
    /// A message `close CODE WORD` makes it close with these.
    pub(crate) fn start() -> Echo {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let ends = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ends);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let end = echo(stream).await.unwrap_or_default();
                    seen.lock().expect("no panic").push(end);
                });
            }
        });
        Echo { address, ends, _runtime: runtime }
    }

    /// How its connections have ended so far.
    pub(crate) fn ends(&self) -> Vec<Option<CloseFrame>> {
        self.ends.lock().expect("no panic").clone()
    }
}

/// Takes the first subprotocol that is offered.
#[expect(clippy::result_large_err, reason = "the shape is tungstenite's")]
fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get("sec-websocket-protocol");
    let first = offered.and_then(|offered| offered.to_str().ok()?.split(',').next());
    if let Some(first) = first {
        let chosen = first.trim().parse().expect("a value");
        response.headers_mut().insert("sec-websocket-protocol", chosen);
    }
    Ok(response)
}

async fn echo(stream: TcpStream) -> Result<Option<CloseFrame>, Error> {
    let mut socket = accept_hdr_async(stream, choose).await?;
    let mut end = None;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Close(frame) => end = frame,
            Message::Text(text) if text.starts_with("close ") => {
                let mut words = text.split(' ').skip(1);
                let code = words.next().and_then(|code| code.parse::<u16>().ok());
                let reason = words.next().unwrap_or_default().to_owned();
                let code = code.expect("a code").into();
                socket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
            }
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            // A ping is answered by tungstenite itself.
            _ => socket.flush().await?,
        }
    }
    Ok(end)
}

/// Where clients connect to, and how.
pub(crate) struct Clients<'a> {
    pub(crate) runtime: Runtime,
    pub(crate) door: SocketAddr,
    pub(crate) certificates: Option<&'a Certificates>,
}

impl<'a> Clients<'a> {
    pub(crate) fn of(door: SocketAddr, certificates: Option<&'a Certificates>) -> Clients<'a> {
        Clients { runtime: runtime(), door, certificates }
    }

    /// Runs something that talks to the proxy, for a while at most.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, what).await.expect("in time") })
    }

    /// A client that is through its handshake; and the subprotocol agreed on, of the two it has offered.
    pub(crate) async fn connect(&self) -> (Socket, Option<String>) {
        let stream = TcpStream::connect(self.door).await.expect("connect to the proxy");
        let wire: Box<dyn Wire> = match self.certificates {
            None => Box::new(stream),
            Some(certificates) => {
                let settings = certificates.trusted(&["http/1.1"]);
                let name = "a.test".try_into().expect("a name");
                let connector = tokio_rustls::TlsConnector::from(settings);
                Box::new(connector.connect(name, stream).await.expect("a handshake"))
            }
        };
        let mut request =
            tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
                "ws://a.test/chat?room=1",
            )
            .expect("a request");
        let offered = "chat.v2, chat.v1".parse().expect("a value");
        request.headers_mut().insert("sec-websocket-protocol", offered);
        let (socket, answer) = client_async(request, wire).await.expect("a switch of protocols");
        let chosen = answer.headers().get("sec-websocket-protocol");
        (socket, chosen.and_then(|chosen| chosen.to_str().ok()).map(str::to_owned))
    }
}

/// The next message, which must come.
pub(crate) async fn next(socket: &mut Socket) -> Message {
    socket.next().await.expect("a message before the end").expect("no error")
}

/// Sends a message and expects the same back.
pub(crate) async fn assert_echo(socket: &mut Socket, message: Message) {
    socket.send(message.clone()).await.expect("send");
    assert!(next(socket).await == message, "the echo differs");
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("an event loop")
}
