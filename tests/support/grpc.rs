//! gRPC as it is spoken in the field, on `tonic`: a server whose calls show how they ended, and a client in clear or through TLS.
//! Messages are plain bytes, so that no compiler for their language is needed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest message that both sides take.
const MESSAGE_MAX: usize = 16 << 20;

/// A message is its bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The messages of one direction, as they come from a channel.
pub(crate) struct Messages<T>(pub(crate) mpsc::Receiver<T>);

impl<T> Stream for Messages<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

type Answers = Messages<Result<Bytes, Status>>;

/// What has become of the calls of one server.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) begun: AtomicUsize,
    /// Given up by their client before they were answered.
    pub(crate) given_up: AtomicUsize,
    /// Those that said how long they may take.
    pub(crate) with_deadline: AtomicUsize,
}

/// Counts a call as given up unless it came to its end.
struct Unanswered(Arc<Calls>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(1, SeqCst);
    }
}

/// A server of gRPC; it ends when dropped.
pub(crate) struct GrpcServer {
    pub(crate) address: SocketAddr,
    pub(crate) calls: Arc<Calls>,
    _runtime: Runtime,
}

impl GrpcServer {
    pub(crate) fn start() -> GrpcServer {
        let runtime = runtime();
        let calls = Arc::new(Calls::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let service = Calling(Arc::clone(&calls));
        runtime.spawn(Server::builder().serve_with_incoming(service, incoming));
        GrpcServer { address, calls, _runtime: runtime }
    }
}

/// The service `test.Calls`: each method is one kind of call.
#[derive(Clone)]
struct Calling(Arc<Calls>);

impl Service<http::Request<Body>> for Calling {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let calls = Arc::clone(&self.0);
        calls.begun.fetch_add(1, SeqCst);
        if request.headers().contains_key("grpc-timeout") {
            calls.with_deadline.fetch_add(1, SeqCst);
        }
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Plain)
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX);
            Ok(match request.uri().path() {
                "/test.Calls/Echo" => grpc.unary(Method(echo), request).await,
                "/test.Calls/Fail" => grpc.unary(Method(fail), request).await,
                "/test.Calls/Hang" => {
                    grpc.unary(Method(|_| hang(Arc::clone(&calls))), request).await
                }
                "/test.Calls/Count" => {
                    let count = |asked| count(asked, Arc::clone(&calls));
                    grpc.server_streaming(Method(count), request).await
                }
                "/test.Calls/Join" => grpc.client_streaming(Method(join), request).await,
                "/test.Calls/Talk" => grpc.streaming(Method(talk), request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

/// A function as one method of a service.
struct Method<F>(F);

impl<A, F, Answer, B> Service<Request<A>> for Method<F>
where
    F: FnMut(Request<A>) -> Answer,
    Answer: Future<Output = Result<Response<B>, Status>>,
{
    type Response = Response<B>;
    type Error = Status;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Answer {
        (self.0)(request)
    }
}

/// The same message and the metadata `x-word` back, with a trailer of its own.
async fn echo(asked: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let word = asked.metadata().get("x-word").cloned();
    let mut answer = Response::new(asked.into_inner());
    if let Some(word) = word {
        answer.metadata_mut().insert("x-word", word);
    }
    Ok(answer)
}

/// A status with all that a status can have.
async fn fail(asked: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let message = "it is wrong: 100 % \u{fc}ber\nall";
    let mut status =
        Status::with_details(Code::FailedPrecondition, message, asked.get_ref().clone());
    status.metadata_mut().insert("x-why", "because".parse().expect("a value"));
    Err(status)
}

/// No answer at all.
async fn hang(calls: Arc<Calls>) -> Result<Response<Bytes>, Status> {
    let _unanswered = Unanswered(calls);
    std::future::pending().await
}

/// As many messages as were asked for, until their reader goes.
async fn count(asked: Request<Bytes>, calls: Arc<Calls>) -> Result<Response<Answers>, Status> {
    let number = String::from_utf8_lossy(asked.get_ref()).parse::<u64>();
    let number = number.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let (answers, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        for at in 0..number {
            if answers.send(Ok(Bytes::from(at.to_string()))).await.is_err() {
                drop(Unanswered(calls));
                return;
            }
        }
    });
    Ok(Response::new(Messages(receiver)))
}

/// All messages as one.
async fn join(asked: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let mut messages = asked.into_inner();
    let mut all = Vec::new();
    while let Some(message) = messages.next().await {
        all.extend_from_slice(&message?);
    }
    Ok(Response::new(all.into()))
}

/// Each message back in capitals, as it comes.
async fn talk(asked: Request<Streaming<Bytes>>) -> Result<Response<Answers>, Status> {
    let mut messages = asked.into_inner();
    let (answers, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let capitals = message.map(|message| message.to_ascii_uppercase().into());
            if answers.send(capitals).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(Messages(receiver)))
}

/// A client with one connection, and an event loop of its own.
pub(crate) struct GrpcClient {
    runtime: Runtime,
    channel: Channel,
}

impl GrpcClient {
    /// In clear, by prior knowledge.
    pub(crate) fn connect(door: SocketAddr) -> GrpcClient {
        let endpoint = Endpoint::from_shared(format!("http://{door}")).expect("an address");
        GrpcClient::over(endpoint)
    }

    /// Through TLS, where HTTP/2 is agreed on by ALPN; `pem` vouches for `a.test`.
    pub(crate) fn connect_tls(door: SocketAddr, pem: &str) -> GrpcClient {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)).domain_name("a.test");
        let endpoint = Endpoint::from_shared(format!("https://{door}")).expect("an address");
        GrpcClient::over(endpoint.tls_config(tls).expect("settings of TLS"))
    }

    fn over(endpoint: Endpoint) -> GrpcClient {
        let runtime = runtime();
        let channel = runtime.block_on(endpoint.connect()).expect("connect to the proxy");
        GrpcClient { runtime, channel }
    }

    /// Runs something that calls, for a while at most.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, what).await.expect("in time") })
    }

    /// A way to make calls; the connection is one for all.
    pub(crate) fn caller(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
    }

    /// One message there and one back.
    pub(crate) fn unary(
        &self,
        method: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        self.run(unary(self.caller(), method, request))
    }
}

/// One message there and one back.
pub(crate) async fn unary(
    mut caller: tonic::client::Grpc<Channel>,
    method: &str,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Status> {
    caller.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    caller.unary(request, path(method), Plain).await
}

/// The path of a method of `test.Calls`.
pub(crate) fn path(method: &str) -> PathAndQuery {
    format!("/test.Calls/{method}").parse().expect("a path")
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("an event loop")
}
