//! HTTP/2 requests over TLS: some connections with many streams each, every stream asking again as
//! soon as it has its answer. The protocol is the `h2` crate's work, unlike all else here.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::window::{self, Phase, Report, Window};

/// Large enough that no answer ever waits for this side.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 26;
const TICK: Duration = Duration::from_millis(5);
const MOST_FAILURES: u64 = 10_000;

/// How many connections and streams, and what they ask.
pub struct Shape {
    pub to: SocketAddr,
    pub connections: usize,
    pub streams: usize,
    pub path: String,
    /// Length of every answer.
    pub body: usize,
}

/// Runs until the window closes and reports requests answered. `root` is the certificate to trust.
pub fn run(shape: Shape, root: &Path, mut window: Window) -> io::Result<Report> {
    let tls = connector(root).map_err(|error| io::Error::other(error.to_string()))?;
    let run = Rc::new(Run { shape, tls, tally: RefCell::new(Tally::new()) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = LocalSet::new();
    all.block_on(&runtime, async {
        for _ in 0..run.shape.connections {
            spawn_local(run.clone().keep_connected());
        }
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let mut tally = run.tally.borrow_mut();
            if let Some(error) = tally.error.take() {
                return Err(io::Error::other(error));
            }
            match window.phase(Instant::now()) {
                Phase::Go => {}
                Phase::Open => {
                    (tally.answered, tally.failed) = (0, 0);
                    tally.times.reset();
                }
                Phase::Close => return Ok(()),
            }
        }
    })?;
    let tally = run.tally.borrow();
    Ok(window.close(tally.answered, tally.failed, &tally.times))
}

fn connector(root: &Path) -> Result<TlsConnector, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root)?)?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

struct Run {
    shape: Shape,
    tls: TlsConnector,
    tally: RefCell<Tally>,
}

struct Tally {
    answered: u64,
    failed: u64,
    times: Histogram<u64>,
    /// Why the run cannot go on.
    error: Option<String>,
}

impl Tally {
    fn new() -> Tally {
        Tally { answered: 0, failed: 0, times: window::times(), error: None }
    }
}

impl Run {
    /// A server may end a connection after some number of requests: then comes another.
    async fn keep_connected(self: Rc<Run>) {
        loop {
            if let Err(error) = self.clone().connection().await {
                self.tally.borrow_mut().error = Some(error.to_string());
                return;
            }
        }
    }

    async fn connection(self: Rc<Run>) -> Result<(), Box<dyn Error>> {
        let stream = TcpStream::connect(self.shape.to).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from("localhost")?, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("HTTP/2 was not agreed on".into());
        }
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake::<_, Bytes>(stream)
            .await?;
        // How it ended shows in its streams.
        spawn_local(async { drop(connection.await) });
        let mut streams = JoinSet::new();
        for _ in 0..self.shape.streams {
            streams.spawn_local(self.clone().ask_again(requests.clone()));
        }
        drop(requests);
        while streams.join_next().await.is_some() {}
        Ok(())
    }

    /// Until the connection takes no more requests.
    async fn ask_again(self: Rc<Run>, mut requests: SendRequest<Bytes>) {
        let uri = format!("https://localhost{}", self.shape.path);
        while let Ok(ready) = requests.ready().await {
            requests = ready;
            let began = Instant::now();
            let Ok(request) = Request::get(&uri).body(()) else { return };
            let outcome = self.ask(&mut requests, request).await;
            let mut tally = self.tally.borrow_mut();
            match outcome {
                Ok(None) => {
                    tally.answered += 1;
                    window::note(&mut tally.times, began.elapsed());
                }
                Ok(Some(wrong)) => tally.error = Some(format!("wrong answer: {wrong}")),
                Err(error) => {
                    tally.failed += 1;
                    if tally.failed > MOST_FAILURES {
                        tally.error = Some(error.to_string());
                    }
                }
            }
        }
    }

    /// What was wrong with the answer, if anything.
    async fn ask(
        &self,
        requests: &mut SendRequest<Bytes>,
        request: Request<()>,
    ) -> Result<Option<String>, h2::Error> {
        let (response, _) = requests.send_request(request, true)?;
        let response = response.await?;
        if response.status() != StatusCode::OK {
            return Ok(Some(format!("its status is {}", response.status().as_u16())));
        }
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(piece) = body.data().await {
            let piece = piece?.len();
            length += piece;
            body.flow_control().release_capacity(piece)?;
        }
        let wanted = self.shape.body;
        Ok((length != wanted).then(|| format!("its length is {length}, not {wanted}")))
    }
}
