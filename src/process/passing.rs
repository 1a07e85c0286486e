//! The control thread while it hands over: it goes on obeying, keeps everything until the new process is on its own, and then
//! finishes what could not go. Whatever fails before that, it accepts again and goes on.

use std::cell::Cell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::control::{Control, Order, Workers};
use super::doors::Doors;
use super::handover::give::{self, Giving, HandoverError, Successor};
use super::worker::Task;
use super::{HandedOver, ReloadError};
use crate::upstream::Upstream;

/// How long the process before may take to be gone, once another upgrade is asked for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How far a hand-over has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The new process makes ready; giving up harms nobody.
    Before,
    /// We do not accept any more.
    Paused,
    /// The new process accepts.
    Accepted,
}

impl Control {
    /// Goes on in another process, or here.
    pub(super) async fn hand_over(
        &mut self,
        successor: &Successor,
        workers: &Workers,
    ) -> Result<(HandedOver, Giving), HandoverError> {
        self.see_off_before(workers).await;
        if self.before.is_some() {
            return Err(HandoverError::BeforeIsLeft);
        }
        self.attempts += 1;
        tracing::info!("upgrade: starting {}", successor.program.display());
        let stage = Cell::new(Stage::Before);
        let mut stop = None;
        let outcome = {
            let parts = (&self.doors, &self.parts.upstreams[..], workers);
            let giving = give(successor, self.attempts, parts, &stage);
            let mut giving = std::pin::pin!(giving);
            loop {
                tokio::select! {
                    outcome = &mut giving => break outcome,
                    // A stop is the last that matters here.
                    order = self.inbox.recv(), if stop.is_none() => match order {
                        Some(Order::ReopenLogs) => self.parts.log.reopen(),
                        Some(Order::HandOver(_, answer)) => {
                            let _ = answer.send(Err(HandoverError::BeforeIsLeft));
                        }
                        order @ (Some(Order::Drain | Order::Cut) | None) => {
                            stop = Some(order.unwrap_or(Order::Cut));
                            if stage.get() < Stage::Accepted {
                                break Err(HandoverError::Stopping);
                            }
                        }
                        Some(order) => self.postponed.push_back(order),
                    },
                }
            }
        };
        workers.tell_all(|| Task::Hurry(false));
        match outcome {
            Ok(giving) => Ok(self.leave(giving, stop.is_some())),
            Err(error) => {
                if stage.get() >= Stage::Paused {
                    self.accept_again(workers);
                }
                self.postponed.extend(stop);
                Err(error)
            }
        }
    }

    /// Hears the last of the process before this one, which may have ended a moment ago.
    async fn see_off_before(&mut self, workers: &Workers) {
        let _ = tokio::time::timeout(LAST_WORDS, async {
            while let Some(before) = &mut self.before {
                let heard = before.hear().await;
                self.hear_before(heard, Some(workers)).await;
            }
        })
        .await;
    }

    /// From now on the new process is the one that serves.
    fn leave(&mut self, mut giving: Giving, is_to_stop: bool) -> (HandedOver, Giving) {
        let (pid, left) = (giving.pid(), self.shared.tally.counts().open);
        let done = HandedOver { connections: giving.given, left, pid };
        let connections = done.connections;
        tracing::info!(pid, connections, left, "upgrade: handed over; what is left ends here");
        // What came meanwhile is for the one that serves.
        self.successor = giving.process();
        if is_to_stop {
            tracing::info!(pid, "upgrade: it was to stop meanwhile, and so is told to");
            giving.signal(Signal::TERM);
        }
        giving.let_go();
        (done, giving)
    }

    /// Why a reload has changed nothing here; the process that serves instead is told to read its config.
    pub(super) fn not_reloaded(&self) -> ReloadError {
        let Some(successor) = self.successor else { return ReloadError::Stopping };
        match crate::keeper::have_read(successor) {
            Ok(()) => ReloadError::HandedOver,
            Err(_) => ReloadError::Stopping,
        }
    }

    fn accept_again(&mut self, workers: &Workers) {
        match self.doors.resume(workers.count()) {
            Ok(shares) => workers.accept_from(shares),
            Err(error) => tracing::error!("upgrade: cannot accept again: {error}"),
        }
    }

    /// Lets what could not go follow as soon as it can, and end by itself where it never can.
    pub(super) async fn finish(&mut self, mut giving: Giving, workers: &mut Workers) {
        // The files of Unix sockets are the new process's.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).addresses.clear();
        self.doors.let_go();
        workers.stop_accepting();
        let (leaving, mut offered) = mpsc::unbounded_channel();
        workers.tell_all(|| Task::Leave(Some(leaving.clone())));
        drop(leaving);
        workers.tell_all(|| Task::FinishAll);
        let until = Instant::now() + self.parts.plan.drain_timeout;
        loop {
            let parcel = tokio::select! {
                () = workers.ended() => return,
                () = self.cut_order() => return,
                () = tokio::time::sleep_until(until) => {
                    let open = self.shared.tally.counts().open;
                    tracing::warn!(open, "drain-timeout is over: cutting what could not be handed over");
                    return;
                }
                Some(parcel) = offered.recv() => parcel,
            };
            if let Err(error) = giving.follow(parcel, &mut offered).await {
                tracing::warn!("upgrade: nothing more can follow: {error}");
                workers.tell_all(|| Task::Leave(None));
            }
        }
    }
}

/// Starts the new process, and gives it everything that can go.
async fn give(
    successor: &Successor,
    attempt: u64,
    (doors, upstreams, workers): (&Doors, &[Arc<Upstream>], &Workers),
    stage: &Cell<Stage>,
) -> Result<Giving, HandoverError> {
    let mut giving = give::begin(successor, doors, upstreams, attempt).await?;
    // What is queued is left to it.
    stage.set(Stage::Paused);
    doors.pause();
    giving.let_accept().await?;
    stage.set(Stage::Accepted);
    workers.tell_all(|| Task::Hurry(true));
    let passed = async {
        while giving.pass(workers).await? > 0 {}
        Ok(())
    };
    if let Err(error) = passed.await {
        if giving.given == 0 || !giving.is_alive() {
            return Err(error);
        }
        tracing::error!("upgrade: not everything could go: {error}");
    }
    giving.settle().await?;
    Ok(giving)
}
