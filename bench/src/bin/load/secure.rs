//! HTTP/1.1 over TLS: requests over connections that stay, or a new connection with its handshake for each. One suite and
//! one way to agree on keys, the same for every peer; with `resume`, each connection goes on with the session of the last.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

use crate::exchange::{Answer, Exchange};
use crate::window::{self, Phase, Report, Window};
use crate::wire;

const TICK: Duration = Duration::from_millis(5);
const MOST_FAILURES: u64 = 10_000;
/// Source addresses, so that waiting ports never run out.
const SOURCES: u64 = 200;

/// What is asked, by how many at a time, and over what.
pub struct Shape {
    pub to: SocketAddr,
    pub concurrency: usize,
    pub exchange: Exchange,
    pub over: Over,
}

/// What carries a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A connection that stays.
    Kept,
    /// A new one, with a whole handshake.
    New,
    /// A new one that goes on with the session of the last.
    Resumed,
}

/// Runs until the window closes and reports requests answered. `root` is the certificate to trust.
pub fn run(shape: Shape, root: &Path, mut window: Window) -> io::Result<Report> {
    let config = config(root).map_err(|error| io::Error::other(error.to_string()))?;
    let run = Rc::new(Run { shape, config, tally: RefCell::new(Tally::new()) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        for number in 0..run.shape.concurrency {
            spawn_local(run.clone().ask_for_ever(number as u64));
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

/// Holds connections that have been asked once, until told to let go.
pub fn hold(shape: Shape, root: &Path) -> io::Result<()> {
    let config = config(root).map_err(|error| io::Error::other(error.to_string()))?;
    let run = Run { shape, config, tally: RefCell::new(Tally::new()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let held = runtime.block_on(async {
        let tls = run.connector();
        let mut held = Vec::new();
        for number in 0..run.shape.concurrency {
            let mut stream = run.connect(&tls, number as u64).await?;
            run.ask(&mut stream).await?;
            held.push(stream);
        }
        Ok::<_, io::Error>(held)
    })?;
    println!("ready");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    drop(held);
    Ok(())
}

fn config(root: &Path) -> Result<ClientConfig, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root)?)?;
    let provider = CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

struct Run {
    shape: Shape,
    config: ClientConfig,
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
    /// One with sessions of its own, so that nobody takes those of another.
    fn connector(&self) -> TlsConnector {
        let mut config = self.config.clone();
        config.resumption = match self.shape.over {
            Over::Resumed => Resumption::in_memory_sessions(8),
            Over::Kept | Over::New => Resumption::disabled(),
        };
        TlsConnector::from(Arc::new(config))
    }

    async fn ask_for_ever(self: Rc<Run>, mut number: u64) {
        let tls = self.connector();
        let (mut kept, mut begun) = (None, false);
        loop {
            let began = Instant::now();
            let outcome = self.once(&tls, number, &mut kept, begun).await;
            let mut tally = self.tally.borrow_mut();
            match outcome {
                Ok(()) => {
                    tally.answered += 1;
                    window::note(&mut tally.times, began.elapsed());
                    begun = true;
                }
                Err(error) => {
                    tally.failed += 1;
                    kept = None;
                    if tally.failed > MOST_FAILURES {
                        tally.error = Some(error.to_string());
                        return;
                    }
                }
            }
            number += self.shape.concurrency as u64;
        }
    }

    async fn once(
        &self,
        tls: &TlsConnector,
        number: u64,
        kept: &mut Option<TlsStream<TcpStream>>,
        begun: bool,
    ) -> io::Result<()> {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => self.connect(tls, number).await?,
        };
        let kind = stream.get_ref().1.handshake_kind();
        if self.shape.over == Over::Resumed && begun && kind != Some(HandshakeKind::Resumed) {
            return Err(io::Error::other("the session was not gone on with"));
        }
        self.ask(&mut stream).await?;
        if self.shape.over == Over::Kept {
            *kept = Some(stream);
        }
        Ok(())
    }

    async fn connect(&self, tls: &TlsConnector, number: u64) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        let last = 2 + (number % SOURCES) as u8;
        // As many sockets from one address as there are ports, whoever has used them before.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
        let stream = socket.connect(self.shape.to).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        tls.connect(name, stream).await
    }

    async fn ask(&self, stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
        let Exchange { request, awaited } = &self.shape.exchange;
        stream.write_all(request).await?;
        stream.flush().await?;
        let (mut answer, mut scratch) = (Answer::new(*awaited), [0; 32 * 1024]);
        loop {
            match stream.read(&mut scratch).await? {
                0 => return Err(wire::closed()),
                read if answer.take(&scratch[..read])? => return Ok(()),
                _ => {}
            }
        }
    }
}
