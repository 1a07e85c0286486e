//! Active checks: try each backend on a timer and report what came of it. The verdict is made in `evenkeel-balance`.
//! A check that fails for a lack of our own is no news about the backend and is not reported.

mod http;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

pub(crate) use http::HttpCheck;

use crate::socket::{Socket, own_lack};
use crate::tls::Connector;
use crate::upstream::{Backend, BackendAddress, Upstream};

/// How often the list of backends is compared with the list of checks running.
const LOOK_FOR_CHANGES: Duration = Duration::from_millis(200);

/// What is checked and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probe {
    pub(crate) check: Check,
    pub(crate) port: Option<u16>,
    pub(crate) every: Duration,
    pub(crate) timeout: Duration,
    pub(crate) jitter_percent: u8,
    /// What a backend wants to hear first.
    pub(crate) told: Option<Box<[u8]>>,
}

/// One kind of check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Check {
    Connect,
    Exchange { send: Vec<u8>, expect: Vec<u8> },
    Http(HttpCheck),
}

/// Checks every backend of an upstream for ever, also those that come later. Runs on the control thread.
pub(crate) async fn watch(upstream: Arc<Upstream>, probe: Probe) {
    let probe = Arc::new(probe);
    let mut running: HashMap<usize, Running> = HashMap::new();
    let mut round = 0_u64;
    loop {
        round += 1;
        for backend in upstream.backends() {
            let known = running.entry(Arc::as_ptr(&backend).addr()).or_insert_with(|| {
                let check =
                    check_for_ever(Arc::clone(&upstream), Arc::clone(&backend), Arc::clone(&probe));
                Running { check: tokio::spawn(check), _backend: backend, seen: round }
            });
            known.seen = round;
        }
        running.retain(|_, known| known.seen == round);
        tokio::time::sleep(LOOK_FOR_CHANGES).await;
    }
}

/// A check that runs. It holds its backend, so that the address that names it cannot be another's.
struct Running {
    check: JoinHandle<()>,
    _backend: Arc<Backend>,
    seen: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.check.abort();
    }
}

async fn check_for_ever(upstream: Arc<Upstream>, backend: Arc<Backend>, probe: Arc<Probe>) {
    let mut round = 0_u64;
    loop {
        let began = tokio::time::Instant::now();
        let outcome = match tokio::time::timeout(
            probe.timeout,
            probe.try_once(&backend, upstream.tls.as_deref()),
        )
        .await
        {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        };
        match outcome {
            Ok(()) => {
                let millis = began.elapsed().as_secs_f64() * 1000.0;
                upstream.note_probe(&backend, true, &format!("fine after {millis:.1} ms"));
            }
            Err(error) if own_lack(&error).is_some() => {
                tracing::error!(upstream = %upstream.rules.name, backend = %backend.name, "could not check: {error}");
            }
            Err(error) => upstream.note_probe(&backend, false, &error.to_string()),
        }
        round += 1;
        tokio::time::sleep(probe.pause(&backend.name, round)).await;
    }
}

impl Probe {
    /// `every`, varied by up to the jitter either way.
    fn pause(&self, name: &str, round: u64) -> Duration {
        let mut bytes = name.as_bytes().to_vec();
        bytes.extend(round.to_le_bytes());
        let random = evenkeel_balance::hash_bytes(&bytes) % 2001;
        let factor = 1.0 + f64::from(self.jitter_percent) / 100.0 * (random as f64 / 1000.0 - 1.0);
        self.every.mul_f64(factor)
    }

    async fn try_once(&self, backend: &Backend, tls: Option<&Connector>) -> io::Result<()> {
        match &backend.address {
            BackendAddress::Ip(address) => {
                let address = SocketAddr::new(address.ip(), self.port.unwrap_or(address.port()));
                let stream = TcpStream::connect(address).await?.into_std()?;
                self.begin(stream.into(), &address.to_string(), tls, backend).await
            }
            BackendAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await?.into_std()?;
                self.begin(stream.into(), "localhost", tls, backend).await
            }
        }
    }

    /// Says what is to be said first, and goes through the handshake where traffic does.
    async fn begin(
        &self,
        stream: OwnedFd,
        name: &str,
        tls: Option<&Connector>,
        backend: &Backend,
    ) -> io::Result<()> {
        let mut stream = Socket::adopt(stream)?;
        if let Some(told) = &self.told {
            stream.write_all(told).await?;
        }
        match tls {
            None => self.talk(stream, name).await,
            Some(tls) => {
                let stream = tls.secure_check(stream, backend.host()).await;
                let stream = stream.map_err(|error| io::Error::other(format!("TLS: {error}")))?;
                self.talk(stream, name).await
            }
        }
    }

    async fn talk(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        name: &str,
    ) -> io::Result<()> {
        match &self.check {
            Check::Connect => Ok(()),
            Check::Exchange { send, expect } => {
                stream.write_all(send).await?;
                expect_bytes(&mut stream, expect).await
            }
            Check::Http(check) => check.run(&mut stream, name).await,
        }
    }
}

/// Compares as bytes arrive, so that a wrong answer fails at once and nothing is gathered beyond what is expected.
async fn expect_bytes(stream: &mut (impl AsyncRead + Unpin), expect: &[u8]) -> io::Result<()> {
    let mut got = vec![0; expect.len()];
    let mut filled = 0;
    while filled < expect.len() {
        let count = stream.read(&mut got[filled..]).await?;
        filled += count;
        if count == 0 || !expect.starts_with(&got[..filled]) {
            let got = String::from_utf8_lossy(&got[..filled]).escape_debug().to_string();
            return Err(io::Error::other(format!("answered \"{got}\", not what is expected")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_share_of_the_interval() {
        let probe = Probe {
            check: Check::Connect,
            port: None,
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            jitter_percent: 10,
            told: None,
        };
        let pauses: Vec<_> = (0..100).map(|round| probe.pause("a", round)).collect();
        assert!(pauses.iter().all(|pause| (9.0..=11.0).contains(&pause.as_secs_f64())));
        assert!(pauses.iter().any(|pause| pause != &pauses[0]));
    }
}
