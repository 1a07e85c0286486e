//! What the control thread is asked while it runs: what another config would change, and what to make of an operator's words. It
//! answers from what it owns; a question about a config must never change anything.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::after_restart;
use super::control::Control;
use crate::config::{self, Address, Config, RemovedBackends, changes};
use crate::observe::counts::BackendCounts;
use crate::observe::reasons::{Asked, Reasons};
use crate::upstream::{Backend, Saying, Unsaid, Word, Words};

/// What can be asked.
#[derive(Debug)]
pub(super) enum Question {
    /// What this config would change.
    Compare(Box<Config>, oneshot::Sender<Comparison>),
    /// Why something would go where it goes.
    Explain(Box<Asked>, oneshot::Sender<Result<Reasons, String>>),
    /// The config in force.
    Config(oneshot::Sender<Box<Config>>),
    /// Say something of an upstream, or of one backend of it.
    Say((String, Option<String>), Saying, oneshot::Sender<Result<Vec<BackendCounts>, NotSaid>>),
    /// What was said, by upstream.
    Words(oneshot::Sender<Vec<(Arc<str>, Words)>>),
    /// The same once more, of upstreams that have come back.
    SayAgain(Vec<(Arc<str>, Words)>),
    /// Of backends that have left the config.
    ForgetWordsOfOthers,
}

/// What a config would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// In words, a line each.
    pub(crate) changes: Vec<String>,
    /// The keys of them that take a restart.
    pub(crate) after_restart: Vec<String>,
    /// Whose open connections it touches, where there are any.
    pub(crate) touched: Vec<Touched>,
    /// What an operator has said of backends, and what becomes of that.
    pub(crate) words: Vec<String>,
}

/// Open connections that a config touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Touched {
    /// `tcp.NAME`, `http.NAME`, or `UPSTREAM/BACKEND`.
    pub(crate) of: String,
    /// `changed` or `removed`.
    pub(crate) how: &'static str,
    /// How many there are now.
    pub(crate) open: u32,
    /// What each of them does then, in words.
    pub(crate) then: String,
}

/// Why something was not said of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotSaid {
    /// There are these upstreams only.
    NoUpstream(Vec<String>),
    /// The upstream has these backends only.
    NoBackend(Vec<String>),
    /// So much has been said that no more is kept.
    TooMuch,
    /// The proxy has stopped.
    Stopped,
}

impl Control {
    pub(super) fn answer(&self, question: Question) {
        // Whoever asked may have left; then nobody needs the answer.
        match question {
            Question::Compare(config, answer) => drop(answer.send(self.compare(&config))),
            Question::Explain(asked, answer) => {
                let reasons = self.parts.explain(&asked);
                drop(answer.send(reasons.map(|reasons| self.as_it_serves(reasons))));
            }
            Question::Config(answer) => drop(answer.send(Box::new(self.parts.config.clone()))),
            Question::Say((upstream, backend), saying, answer) => {
                drop(answer.send(self.say(&upstream, backend.as_deref(), saying)));
            }
            Question::Words(answer) => {
                let all = self.parts.upstreams.iter();
                let words = all.map(|upstream| (Arc::clone(&upstream.rules.name), upstream.said()));
                drop(answer.send(words.collect()));
            }
            Question::SayAgain(words) => {
                for (name, words) in words {
                    let mut all = self.parts.upstreams.iter();
                    if let Some(upstream) = all.find(|upstream| upstream.rules.name == name) {
                        upstream.say_again(words);
                    }
                }
            }
            Question::ForgetWordsOfOthers => {
                self.parts.upstreams.iter().for_each(|known| known.forget_words_of_others());
            }
        }
    }

    /// An explanation with the addresses that are really listened on.
    fn as_it_serves(&self, reasons: Reasons) -> Reasons {
        let name = reasons.listener.split_once('.').map_or("", |(_, name)| name);
        let all = self.doors.addresses().into_iter();
        let own = all.filter(|(listener, _)| **listener == *name);
        let addresses = own.map(|(_, address)| address.to_string()).collect();
        Reasons { live: true, addresses, ..reasons }
    }

    fn say(
        &self,
        upstream: &str,
        backend: Option<&str>,
        saying: Saying,
    ) -> Result<Vec<BackendCounts>, NotSaid> {
        let all = &self.parts.upstreams;
        let Some(upstream) = all.iter().find(|known| *known.rules.name == *upstream) else {
            let names = all.iter().map(|known| known.rules.name.to_string());
            return Err(NotSaid::NoUpstream(names.collect()));
        };
        match upstream.say(backend, saying) {
            Ok(meant) => {
                let name = &upstream.rules.name;
                Ok(meant.iter().map(|backend| backend.counts(name)).collect())
            }
            Err(Unsaid::Unknown(names)) => {
                Err(NotSaid::NoBackend(names.iter().map(ToString::to_string).collect()))
            }
            Err(Unsaid::TooMany) => Err(NotSaid::TooMuch),
        }
    }

    fn compare(&self, new: &Config) -> Comparison {
        let old = &self.parts.config;
        let mut touched = self.touched_by_listener(new);
        let mut words = Vec::new();
        let backends = self.parts.upstreams.iter().flat_map(|upstream| {
            let of_it = upstream.backends().into_iter();
            of_it.map(|backend| (&*upstream.rules.name, backend))
        });
        for (upstream, backend) in backends {
            let stays = new.upstream.get(upstream).is_some_and(|new| has(new, &backend));
            let (of, open) = (format!("{upstream}/{}", backend.name), backend.open());
            if backend.word != Word::default() {
                let then = if stays { "stays so" } else { "leaves the config" };
                words.push(format!("{of}: {} by an operator, {then}", backend.word));
            }
            if !stays && open > 0 {
                let then = match new.process.removed_backends {
                    RemovedBackends::Keep => "goes on".to_owned(),
                    RemovedBackends::Drain => {
                        format!("has {} to end, and is cut then", new.process.drain_timeout)
                    }
                };
                touched.push(Touched { of, how: "removed", open, then });
            }
        }
        let (changes, after_restart) = (changes(old, new), after_restart(old, new));
        Comparison { changes, after_restart, touched, words }
    }

    fn touched_by_listener(&self, new: &Config) -> Vec<Touched> {
        let old = &self.parts.config;
        let mut touched = Vec::new();
        for service in &self.parts.services {
            let name = &*service.listener;
            let (section, is_same, stays, is_http) = match old.tcp.get(name) {
                Some(tcp) => {
                    ("tcp", new.tcp.get(name) == Some(tcp), new.tcp.contains_key(name), false)
                }
                None => {
                    let is_same = new.http.get(name) == old.http.get(name);
                    ("http", is_same, new.http.contains_key(name), true)
                }
            };
            let open = service.door.places().taken();
            if is_same || open == 0 {
                continue;
            }
            let (how, then) = match (stays, is_http) {
                (true, true) => ("changed", "goes by the new config from its next request on"),
                (true, false) => ("changed", "goes on as it began"),
                (false, true) => ("removed", "ends between two requests"),
                (false, false) => ("removed", "goes on to its end"),
            };
            let of = format!("{section}.{name}");
            touched.push(Touched { of, how, open, then: then.to_owned() });
        }
        touched
    }
}

/// Whether a backend is in an upstream as configured; of a name, all addresses that it stands for now are.
fn has(upstream: &config::Upstream, backend: &Backend) -> bool {
    upstream.backends.iter().any(|configured| match &configured.address {
        Address::Port(port) => *backend.name == *format!("127.0.0.1:{port}"),
        Address::Name { .. } => *backend.authority == *configured.address.to_string(),
        address => *backend.name == *address.to_string(),
    })
}
