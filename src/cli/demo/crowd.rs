//! So many clients a second, on a thread of their own: when each begins is decided here, what it does elsewhere.
//! However slow the proxy is, there are never more of them than a number that the machine carries.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Clients a second that can be chosen.
pub(super) const RATES: [u32; 6] = [10, 20, 50, 100, 200, 500];
/// How long a client waits for what it came for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at the same time, if they pile up because the proxy does not answer.
const CLIENTS_MAX: usize = 2000;

/// Clients that keep coming. Dropping this ends them and closes their connections.
pub(super) struct Crowd {
    rate: Option<watch::Sender<u32>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Starts with so many clients a second; 0 is a pause. Each begins by `begin`, which gets its number.
    pub(super) fn start(
        name: &str,
        per_second: u32,
        begin: impl FnMut(u64, &mut JoinSet<()>) + Send + 'static,
    ) -> io::Result<Crowd> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (rate, rate_seen) = watch::channel(per_second);
        let crowd = evenkeel_balance::hash_bytes(name.as_bytes());
        let body = move || runtime.block_on(drive(crowd, rate_seen, begin));
        let thread = std::thread::Builder::new().name(name.into()).spawn(body)?;
        Ok(Crowd { rate: Some(rate), thread: Some(thread) })
    }

    /// Changes the clients a second; 0 is a pause.
    pub(super) fn set_rate(&self, per_second: u32) {
        if let Some(rate) = &self.rate {
            rate.send_replace(per_second);
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.rate = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the sender of the rate is gone.
async fn drive(
    crowd: u64,
    mut rate: watch::Receiver<u32>,
    mut begin: impl FnMut(u64, &mut JoinSet<()>),
) {
    let mut clients = JoinSet::new();
    let mut number = 0;
    loop {
        let per_second = *rate.borrow_and_update();
        let pause = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        let mut due = Instant::now();
        loop {
            let next = async {
                match pause {
                    Some(_) => sleep_until(due).await,
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
            due += pause.unwrap_or_default().mul_f64(uneven(crowd, number));
            while clients.try_join_next().is_some() {}
            if clients.len() < CLIENTS_MAX {
                number += 1;
                begin(number, &mut clients);
            }
        }
    }
}

/// From 0.5 to 1.5, and 1 on average: two crowds that came like clockwork would take turns, and each meet every second backend only.
fn uneven(crowd: u64, number: u64) -> f64 {
    let hash = evenkeel_balance::hash_bytes(&[crowd, number].map(u64::to_le_bytes).concat());
    0.5 + (hash % 1000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_unevenly_and_still_as_many_as_were_asked_for() {
        let pauses = |crowd| -> Vec<f64> { (0..10_000).map(|at| uneven(crowd, at)).collect() };
        let (first, second) = (pauses(1), pauses(2));
        for pauses in [&first, &second] {
            let average = pauses.iter().sum::<f64>() / pauses.len() as f64;
            assert!((average - 1.0).abs() < 0.02, "{average}");
            assert!(pauses.iter().all(|pause| (0.5..1.5).contains(pause)));
        }
        assert_ne!(first, second);
    }
}
