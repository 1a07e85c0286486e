//! The built-in clients of HTTP: every other request goes over HTTP/1.1, on connections that are kept, the others over
//! HTTP/2, on one connection together. Like any client, they know only the proxy's address.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answers::MISSING;
use super::crowd::{Crowd, PATIENCE};

/// Every so many requests, one asks for what no backend has: there is more than one status to see. The number is odd, so
/// that this happens in both versions of HTTP.
const MISSING_EVERY: u64 = 19;

/// The largest answer that is read.
const BODY_MAX: usize = 64 * 1024;

/// All clients of HTTP. Dropping this closes their connections.
pub(super) struct Requests {
    crowd: Crowd,
    shared: Arc<Shared>,
}

/// What the clients have in common.
struct Shared {
    to: SocketAddr,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
    http2: Mutex<Option<SendRequest<Bytes>>>,
    answered: [AtomicU64; 2],
    refused: AtomicU64,
    failed: AtomicU64,
}

/// What the clients met with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// Answered over HTTP/1.1.
    pub(super) http1: u64,
    /// Answered over HTTP/2.
    pub(super) http2: u64,
    /// Of all these: answered with a status from 500 on.
    pub(super) refused: u64,
    /// Not answered.
    pub(super) failed: u64,
}

impl Requests {
    /// Starts with so many requests a second; 0 is a pause.
    pub(super) fn start(to: SocketAddr, per_second: u32) -> io::Result<Requests> {
        let shared = Arc::new(Shared {
            to,
            idle: Mutex::default(),
            http2: Mutex::default(),
            answered: Default::default(),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let all = Arc::clone(&shared);
        let crowd = Crowd::start("demo-requests", per_second, move |number, clients| {
            clients.spawn(Arc::clone(&all).ask(number));
        })?;
        Ok(Requests { crowd, shared })
    }

    /// Changes the requests a second; 0 is a pause.
    pub(super) fn set_rate(&self, per_second: u32) {
        self.crowd.set_rate(per_second);
    }

    /// What the clients met with so far.
    pub(super) fn answers(&self) -> Answers {
        Answers {
            http1: self.shared.answered[0].load(Relaxed),
            http2: self.shared.answered[1].load(Relaxed),
            refused: self.shared.refused.load(Relaxed),
            failed: self.shared.failed.load(Relaxed),
        }
    }
}

impl Shared {
    async fn ask(self: Arc<Self>, number: u64) {
        let path = if number.is_multiple_of(MISSING_EVERY) { MISSING } else { "/" };
        let over_http2 = number.is_multiple_of(2);
        let answer = async {
            if over_http2 { self.over_http2(path).await } else { self.over_http1(path).await }
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(status)) => {
                self.answered[usize::from(over_http2)].fetch_add(1, Relaxed);
                self.refused.fetch_add(u64::from(status >= 500), Relaxed);
            }
            _ => drop(self.failed.fetch_add(1, Relaxed)),
        }
    }

    /// On a kept connection; when that has ended meanwhile, on a fresh one.
    async fn over_http1(&self, path: &str) -> io::Result<u16> {
        let kept = lock(&self.idle).pop();
        if let Some(stream) = kept
            && let Ok(status) = self.exchange(stream, path).await
        {
            return Ok(status);
        }
        let stream = BufReader::new(TcpStream::connect(self.to).await?);
        self.exchange(stream, path).await
    }

    async fn exchange(&self, mut stream: BufReader<TcpStream>, path: &str) -> io::Result<u16> {
        let host = self.to;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: demo\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let (mut length, mut ends) = (0, false);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(broken)?;
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            let lower = line.trim_end().to_ascii_lowercase();
            match lower.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().map_err(|_| broken())?,
                Some(("connection", "close")) => ends = true,
                None if line == "\r\n" => break,
                None => return Err(broken()),
                Some(_) => {}
            }
        }
        if length > BODY_MAX {
            return Err(broken());
        }
        stream.read_exact(&mut vec![0; length]).await?;
        if !ends {
            lock(&self.idle).push(stream);
        }
        Ok(status)
    }

    /// On the connection that all share; when that has ended meanwhile, on a fresh one.
    async fn over_http2(&self, path: &str) -> io::Result<u16> {
        let open = lock(&self.http2).clone();
        if let Some(sender) = open
            && let Ok(status) = self.stream(sender, path).await
        {
            return Ok(status);
        }
        let socket = TcpStream::connect(self.to).await?;
        let (sender, connection) = h2::client::handshake(socket).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        *lock(&self.http2) = Some(sender.clone());
        self.stream(sender, path).await.map_err(io::Error::other)
    }

    async fn stream(&self, sender: SendRequest<Bytes>, path: &str) -> Result<u16, h2::Error> {
        let mut request = http::Request::new(());
        let uri = format!("http://{}{path}", self.to);
        *request.uri_mut() = uri.parse().unwrap_or_default();
        *request.version_mut() = http::Version::HTTP_2;
        let mut sender = sender.ready().await?;
        let (answer, _) = sender.send_request(request, true)?;
        let (head, mut body) = answer.await?.into_parts();
        while let Some(part) = body.data().await {
            body.flow_control().release_capacity(part?.len())?;
        }
        Ok(head.status.as_u16())
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
