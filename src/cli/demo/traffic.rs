//! The built-in clients of TCP: each connects to the proxy, says a line, reads greeting and echo, stays a moment and goes.
//! They know only the proxy's address, so that what they meet is what any client would meet.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::crowd::{Crowd, PATIENCE};

/// All clients of TCP. Dropping this closes their connections.
pub(super) struct Traffic {
    crowd: Crowd,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    cut: AtomicU64,
    failed: AtomicU64,
}

/// What the clients met with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Visits {
    /// Were greeted and got their line back.
    pub(super) answered: u64,
    /// Of these: lost their connection before they wanted to go.
    pub(super) cut: u64,
    /// Could not connect, or were not answered.
    pub(super) failed: u64,
}

impl Traffic {
    /// Starts with so many connections a second; 0 is a pause.
    pub(super) fn start(to: SocketAddr, per_second: u32) -> io::Result<Traffic> {
        let tally = Arc::new(Tally::default());
        let shared = Arc::clone(&tally);
        let crowd = Crowd::start("demo-clients", per_second, move |number, clients| {
            clients.spawn(visit(to, stay(number), Arc::clone(&shared)));
        })?;
        Ok(Traffic { crowd, tally })
    }

    /// Changes the connections a second; 0 is a pause.
    pub(super) fn set_rate(&self, per_second: u32) {
        self.crowd.set_rate(per_second);
    }

    /// What the clients met with so far.
    pub(super) fn visits(&self) -> Visits {
        Visits {
            answered: self.tally.answered.load(Relaxed),
            cut: self.tally.cut.load(Relaxed),
            failed: self.tally.failed.load(Relaxed),
        }
    }
}

/// How long a client stays: between 100 and 900 ms, different from one to the next.
fn stay(number: u64) -> Duration {
    Duration::from_millis(100 + evenkeel_balance::hash_bytes(&number.to_le_bytes()) % 800)
}

async fn visit(to: SocketAddr, stay: Duration, tally: Arc<Tally>) {
    let Ok(Ok(mut stream)) = timeout(PATIENCE, be_answered(to)).await else {
        tally.failed.fetch_add(1, Relaxed);
        return;
    };
    tally.answered.fetch_add(1, Relaxed);
    if timeout(stay, stream.read_u8()).await.is_ok() {
        tally.cut.fetch_add(1, Relaxed);
        return;
    }
    let _ = stream.shutdown().await;
    let _ = timeout(PATIENCE, stream.read_u8()).await;
}

async fn be_answered(to: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let mut stream = BufReader::new(TcpStream::connect(to).await?);
    stream.write_all(b"how are you?\n").await?;
    let mut line = String::new();
    for _ in ["the greeting", "the echo"] {
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(stream)
}
