//! A running proxy as other threads see it and speak to it: what is open, what would change, what an operator says of backends.
//! It is a bundle of shared handles that keeps nothing alive, so that whoever holds one cannot hold up a stop.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::control::Order;
use super::memory::Budget;
use super::pulse::Pulse;
use super::questions::{Comparison, NotSaid, Question};
use super::{Running, Shown};
use crate::config::Config;
use crate::observe::counts::{BackendCounts, Counts, Tally};
use crate::observe::reasons::{Asked, Reasons};
use crate::upstream::{Saying, Words};

/// A running proxy from afar.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    orders: mpsc::UnboundedSender<Order>,
    tally: Arc<Tally>,
    memory: Arc<Budget>,
    pulse: Arc<Pulse>,
    shown: Arc<Mutex<Shown>>,
    is_draining: Arc<AtomicBool>,
}

/// A reading of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerCounts {
    /// As its section is called: `tcp.NAME` or `http.NAME`.
    pub(crate) section: String,
    /// Where it listens.
    pub(crate) addresses: Vec<String>,
    /// Connections that are open.
    pub(crate) open: u32,
}

impl Running {
    /// A handle for another thread.
    pub(crate) fn remote(&self) -> Remote {
        Remote {
            orders: self.orders.clone(),
            tally: Arc::clone(&self.tally),
            memory: Arc::clone(&self.memory),
            pulse: Arc::clone(&self.pulse),
            shown: Arc::clone(&self.shown),
            is_draining: Arc::clone(&self.is_draining),
        }
    }
}

impl Remote {
    /// Whether the whole process is on its way out.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Connections and bytes so far.
    pub(crate) fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// The state of every backend of every upstream.
    pub(crate) fn backends(&self) -> Vec<BackendCounts> {
        self.shown().upstreams.iter().flat_map(|upstream| upstream.counts()).collect()
    }

    /// Every listener.
    pub(crate) fn listeners(&self) -> Vec<ListenerCounts> {
        let shown = self.shown();
        let at = |name: &str| {
            let own = shown.addresses.iter().filter(|(listener, _)| **listener == *name);
            own.map(|(_, address)| address.to_string()).collect()
        };
        let all = shown.listeners.iter().map(|listener| ListenerCounts {
            section: listener.section.clone(),
            addresses: at(&listener.name),
            open: listener.places.taken(),
        });
        all.collect()
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.memory
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What another config would change; nothing, if the proxy has stopped.
    pub(crate) async fn compare(&self, config: Config) -> Option<Comparison> {
        self.ask(|answer| Question::Compare(Box::new(config), answer)).await
    }

    /// The config in force; nothing, if the proxy has stopped.
    pub(crate) async fn config(&self) -> Option<Config> {
        self.ask(Question::Config).await.map(|config| *config)
    }

    /// Says something of an upstream or of a backend of it, and has it in force when this returns.
    pub(crate) async fn say(
        &self,
        upstream: &str,
        backend: Option<&str>,
        saying: Saying,
    ) -> Result<Vec<BackendCounts>, NotSaid> {
        let of = (upstream.to_owned(), backend.map(str::to_owned));
        let said = self.ask(|answer| Question::Say(of, saying, answer)).await;
        said.unwrap_or(Err(NotSaid::Stopped))
    }

    /// Why something would go where it goes, by what serves now; nothing, if the proxy has stopped.
    pub(crate) async fn explain(&self, asked: Asked) -> Option<Result<Reasons, String>> {
        self.ask(|answer| Question::Explain(Box::new(asked), answer)).await
    }

    /// What operators have said, by upstream; nothing, if the proxy has stopped.
    pub(crate) async fn words(&self) -> Option<Vec<(Arc<str>, Words)>> {
        self.ask(Question::Words).await
    }

    /// Has that said again of upstreams which have come back.
    pub(crate) fn say_again(&self, words: Vec<(Arc<str>, Words)>) {
        let _ = self.orders.send(Order::Answer(Question::SayAgain(words)));
    }

    /// Forgets what was said of backends that have left the config for good.
    pub(crate) fn forget_words_of_others(&self) {
        let _ = self.orders.send(Order::Answer(Question::ForgetWordsOfOthers));
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Answer(question(answer))).ok()?;
        answered.await.ok()
    }
}
