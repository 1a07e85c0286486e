//! The built-in clients: so many a second connect to the proxy, read the greeting, say a line, stay a moment and go.
//! They know only the proxy's address, so that what they meet is what any client would meet.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// Connections a second that can be chosen.
pub(super) const RATES: [u32; 6] = [10, 20, 50, 100, 200, 500];
/// Clients at the same time, if they pile up because the proxy does not answer.
const CLIENTS_MAX: usize = 2000;
/// How long a client waits for its greeting and its echo.
const PATIENCE: Duration = Duration::from_secs(5);

/// All clients, on one thread of their own. Dropping this closes their connections.
pub(super) struct Traffic {
    rate: Option<watch::Sender<u32>>,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (rate, rate_seen) = watch::channel(per_second);
        let tally = Arc::new(Tally::default());
        let shared = Arc::clone(&tally);
        let body = move || runtime.block_on(drive(to, rate_seen, shared));
        let thread = std::thread::Builder::new().name("demo-clients".into()).spawn(body)?;
        Ok(Traffic { rate: Some(rate), tally, thread: Some(thread) })
    }

    /// Changes the connections a second; 0 is a pause.
    pub(super) fn set_rate(&self, per_second: u32) {
        if let Some(rate) = &self.rate {
            rate.send_replace(per_second);
        }
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

impl Drop for Traffic {
    fn drop(&mut self) {
        self.rate = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the sender of the rate is gone.
async fn drive(to: SocketAddr, mut rate: watch::Receiver<u32>, tally: Arc<Tally>) {
    let mut clients = JoinSet::new();
    let mut number = 0;
    loop {
        let per_second = *rate.borrow_and_update();
        let mut beat = (per_second > 0).then(|| interval(Duration::from_secs(1) / per_second));
        loop {
            let next = async {
                match &mut beat {
                    Some(beat) => drop(beat.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = rate.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = next => {}
            }
            while clients.try_join_next().is_some() {}
            if clients.len() < CLIENTS_MAX {
                number += 1;
                clients.spawn(visit(to, stay(number), Arc::clone(&tally)));
            }
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
    let mut line = String::new();
    for to_say in ["", "how are you?\n"] {
        stream.write_all(to_say.as_bytes()).await?;
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(stream)
}
