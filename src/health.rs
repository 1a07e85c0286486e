//! Active checks: try each backend on a timer and report what came of it. The verdict is made in `evenkeel-balance`.
//! A check that fails for a lack of our own is no news about the backend and is not reported.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::socket::own_lack;
use crate::upstream::{Backend, BackendAddress, Upstream};

/// How often the list of backends is compared with the list of checks running.
const LOOK_FOR_CHANGES: Duration = Duration::from_millis(200);

/// The most that is read of an HTTP answer to find its status line.
const STATUS_LINE_MAX: usize = 1024;

/// What is checked and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probe {
    pub(crate) check: Check,
    pub(crate) port: Option<u16>,
    pub(crate) every: Duration,
    pub(crate) timeout: Duration,
    pub(crate) jitter_percent: u8,
}

/// One kind of check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Check {
    Connect,
    Exchange { send: Vec<u8>, expect: Vec<u8> },
    Http { path: String, host: Option<String>, status: Vec<RangeInclusive<u16>> },
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
        running.retain(|_, known| {
            if known.seen != round {
                known.check.abort();
            }
            known.seen == round
        });
        tokio::time::sleep(LOOK_FOR_CHANGES).await;
    }
}

/// A check that runs. It holds its backend, so that the address that names it cannot be another's.
struct Running {
    check: JoinHandle<()>,
    _backend: Arc<Backend>,
    seen: u64,
}

async fn check_for_ever(upstream: Arc<Upstream>, backend: Arc<Backend>, probe: Arc<Probe>) {
    let mut round = 0_u64;
    loop {
        let outcome =
            match tokio::time::timeout(probe.timeout, probe.try_once(&backend.address)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            };
        match outcome {
            Ok(()) => upstream.note_probe(&backend, true, ""),
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

    async fn try_once(&self, address: &BackendAddress) -> io::Result<()> {
        match address {
            BackendAddress::Ip(address) => {
                let address = SocketAddr::new(address.ip(), self.port.unwrap_or(address.port()));
                self.talk(TcpStream::connect(address).await?, &address.to_string()).await
            }
            BackendAddress::Unix(path) => {
                self.talk(UnixStream::connect(path).await?, "localhost").await
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
            Check::Http { path, host, status } => {
                let host = host.as_deref().unwrap_or(name);
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: evenkeel-health\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).await?;
                let got = read_status(&mut stream).await?;
                if status.iter().any(|range| range.contains(&got)) {
                    Ok(())
                } else {
                    Err(io::Error::other(format!("HTTP status {got}")))
                }
            }
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

/// The status of an HTTP/1 answer (RFC 9112, section 4).
async fn read_status(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u16> {
    let mut head = Vec::new();
    let mut chunk = [0; 256];
    while !head.contains(&b'\n') && head.len() < STATUS_LINE_MAX {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            break;
        }
        head.extend_from_slice(&chunk[..count]);
    }
    parse_status(&head).ok_or_else(|| io::Error::other("the answer is not HTTP/1"))
}

fn parse_status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3)?;
    if rest.get(3).is_some_and(|next| !matches!(next, b' ' | b'\r')) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| (100..=599).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_status_line_has_a_status() {
        assert_eq!(parse_status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(parse_status(b"HTTP/1.0 500\r\n"), Some(500));
        for bad in [
            &b"HTTP/2 200\r\n"[..],
            b"HTTP/1.1 2000 x\r\n",
            b"HTTP/1.1 +20 x\r\n",
            b"SSH-2.0-x\r\n",
            b"",
        ] {
            assert_eq!(parse_status(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn jitter_stays_within_its_share_of_the_interval() {
        let probe = Probe {
            check: Check::Connect,
            port: None,
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            jitter_percent: 10,
        };
        let pauses: Vec<_> = (0..100).map(|round| probe.pause("a", round)).collect();
        assert!(pauses.iter().all(|pause| (9.0..=11.0).contains(&pause.as_secs_f64())));
        assert!(pauses.iter().any(|pause| pause != &pauses[0]));
    }
}
