//! A named group of backends while running: who is usable, which one is next, who waits for a place.
//! Picking takes no lock; only failures, changes of verdict and waiting do, and those are rare.

mod backend;
pub(crate) mod connect;
pub(crate) mod cookie;
mod counted;
pub(crate) mod explain;
pub(crate) mod h2;
mod handed;
pub(crate) mod idle;
pub(crate) mod introduce;
pub(crate) mod key;
mod line_up;
mod noted;
pub(crate) mod outliers;
mod pick;
pub(crate) mod queue;
pub(crate) mod replay;
mod roster;
mod succession;
mod tables;
#[cfg(test)]
mod tests;
mod what_if;
mod word;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use evenkeel_balance::health::{self as verdict, Change, Verdict};
use evenkeel_balance::{Algorithm, Member};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use backend::{Backend, BackendAddress, Channel, INSTANT_RESET};
use cookie::{Cookie, CookieRules, Identity};
pub(crate) use counted::{BackendState, UpstreamState};
use h2::H2;
pub(crate) use handed::UpstreamPast;
use introduce::SendProxy;
pub(crate) use key::KeyPart;
use line_up::{LineUp, by_identity, drained};
use outliers::OutlierRules;
use queue::Queue;
use roster::{Roster, at_once};
use tables::{Members, Tables};
pub(crate) use word::{Said, Saying, Unsaid, Word, Words};

use crate::observe::counts::BackendCounts;
use crate::observe::journal::{self, Asker, Journal, Mark};
use crate::socket::SocketOptions;
use crate::tls::Connector;

/// What was configured for one upstream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) name: Arc<str>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) balance: Algorithm,
    /// HTTP: what decides for hashing.
    pub(crate) key_part: KeyPart,
    /// HTTP: the cookie that keeps a client with its backend.
    pub(crate) sticky: Option<CookieRules>,
    pub(crate) connect_timeout: Duration,
    pub(crate) retries: u32,
    /// HTTP: from sending a request to the first byte of its answer, connecting included.
    pub(crate) response_timeout: Duration,
    /// HTTP: connections kept open between two requests.
    pub(crate) keep_alive: Option<idle::Keep>,
    /// HTTP/2; none where HTTP/1 is spoken.
    pub(crate) h2: Option<H2>,
    pub(crate) queue_max: u32,
    pub(crate) queue_timeout: Duration,
    pub(crate) verdict: verdict::Rules,
    pub(crate) outliers: OutlierRules,
    pub(crate) eject_max_percent: u8,
    pub(crate) fail_open_percent: u8,
    pub(crate) sources: Vec<IpAddr>,
    /// Whether backends are told for whom we connect, and how.
    pub(crate) send_proxy: Option<SendProxy>,
    /// Whether we connect from the client's own address.
    pub(crate) transparent: bool,
    pub(crate) options: SocketOptions,
}

/// One configured backend: an address, or a name behind which there may be many.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) place: EntryPlace,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    pub(crate) connections_max: Option<u32>,
}

/// Where an entry's backends are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EntryPlace {
    At(BackendAddress),
    Named { host: String, port: u16 },
}

/// A group of backends, shared by all workers and the control thread.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) rules: Rules,
    pub(crate) cookie: Option<Cookie>,
    /// Who goes through handshakes with backends; none where they are spoken to in clear.
    pub(crate) tls: Option<Arc<Connector>>,
    line_up: ArcSwap<LineUp>,
    roster: Mutex<Roster>,
    lasting: Arc<Lasting>,
    /// Wakes the control thread to build a new line-up.
    changed: Notify,
    was_all_down: AtomicBool,
}

/// What an upstream has in common with those that it was in configs before.
#[derive(Debug)]
struct Lasting {
    ticket: AtomicU64,
    source_turn: AtomicUsize,
    /// Open connections over all backends, for bounded load.
    open: AtomicU64,
    queue: Queue,
    counts: counted::UpstreamCounts,
    /// What an operator has said of its backends.
    words: Mutex<Words>,
    started: Instant,
    /// When a lack of our own was last complained of, in seconds of the clock plus one.
    complained: AtomicU64,
    /// It has left the config.
    is_retired: AtomicBool,
    /// The one of the config in force.
    newest: Mutex<Weak<Upstream>>,
    /// Where line-ups are noted.
    journal: OnceLock<Arc<Journal>>,
}

/// Where a connection or request belongs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affinity {
    /// Decides for hashing algorithms.
    pub(crate) key: u64,
    /// The backend that has its session, which comes before all others.
    pub(crate) session: Option<Identity>,
    /// For whom, as the journal tells it.
    pub(crate) asker: Asker,
}

/// A place at a backend, from the pick to the end of the connection; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) backend: Arc<Backend>,
    /// Where the journal has the pick that it came of.
    mark: Mark,
}

impl Upstream {
    /// With what another process knew of it, if it has a past. Fails only for the key of a cookie.
    pub(crate) fn new(
        rules: Rules,
        tls: Option<Arc<Connector>>,
        past: Option<&UpstreamPast>,
    ) -> io::Result<Arc<Upstream>> {
        let lasting = Arc::new(Lasting {
            ticket: AtomicU64::new(past.map_or(0, UpstreamPast::ticket)),
            source_turn: AtomicUsize::new(0),
            open: AtomicU64::new(0),
            queue: Queue::default(),
            counts: counted::UpstreamCounts::default(),
            words: Mutex::new(past.map(UpstreamPast::words).unwrap_or_default()),
            started: past.and_then(UpstreamPast::began).unwrap_or_else(Instant::now),
            complained: AtomicU64::new(0),
            is_retired: AtomicBool::new(false),
            newest: Mutex::default(),
            journal: OnceLock::new(),
        });
        let cookie = rules.sticky.clone().map(Cookie::open).transpose()?;
        let known = |place: &EntryPlace| past.and_then(|past| past.found(place));
        let found = rules.entries.iter();
        let found = found.map(|entry| at_once(&entry.place).or_else(|| known(&entry.place)));
        let roster = Roster {
            found: found.collect(),
            is_first: true,
            handed: past.map(UpstreamPast::standings).unwrap_or_default(),
            ..Roster::default()
        };
        let line_up = LineUp::empty(&rules.balance);
        let upstream = Upstream::with(rules, tls, cookie, lasting, (roster, line_up));
        upstream.take_over();
        upstream.line_up_anew();
        Ok(upstream)
    }

    fn with(
        rules: Rules,
        tls: Option<Arc<Connector>>,
        cookie: Option<Cookie>,
        lasting: Arc<Lasting>,
        (roster, line_up): (Roster, LineUp),
    ) -> Arc<Upstream> {
        Arc::new(Upstream {
            rules,
            cookie,
            tls,
            line_up: ArcSwap::from_pointee(line_up),
            roster: Mutex::new(roster),
            lasting,
            changed: Notify::new(),
            was_all_down: AtomicBool::new(false),
        })
    }

    /// The backends of this moment, in configured order.
    pub(crate) fn backends(&self) -> Vec<Arc<Backend>> {
        self.line_up.load().backends.clone()
    }

    /// Time since this upstream began, the clock of all verdicts.
    pub(crate) fn now(&self) -> Duration {
        self.lasting.started.elapsed()
    }

    /// Replaces what a name stands for; backends that stay keep everything.
    pub(crate) fn set_addresses(&self, entry: usize, addresses: Vec<SocketAddr>) {
        let addresses: Vec<_> = addresses.into_iter().map(BackendAddress::Ip).collect();
        {
            let mut roster = self.roster();
            if roster.found[entry].as_ref() == Some(&addresses) {
                return;
            }
            roster.found[entry] = Some(addresses);
        }
        self.changed.notify_one();
    }

    /// Tells how connecting to a backend, or its first moments, went.
    pub(crate) fn note_traffic(&self, backend: &Backend, went_well: bool) {
        if went_well && !backend.is_suspect() {
            return;
        }
        if let Some(newer) = self.newer() {
            return newer.note_traffic(backend, went_well);
        }
        if !self.rules.verdict.passive {
            return;
        }
        let now = self.now();
        self.judge(backend, |rules, verdict, may_eject| {
            // A connection made since the last failure, and not reset at once, breaks the row of failures.
            if backend.note_news(now, !went_well) {
                verdict.traffic(rules, now, true, may_eject);
            }
            verdict.traffic(rules, now, went_well, may_eject)
        });
    }

    /// Lets a verdict change under the one lock that counts who is usable.
    fn judge(
        &self,
        backend: &Backend,
        change: impl FnOnce(&verdict::Rules, &mut Verdict, bool) -> Option<Change>,
    ) -> Option<Change> {
        if let Some(newer) = self.newer() {
            return newer.judge(backend, change);
        }
        let mut roster = self.roster();
        let total = self.line_up.load().backends.len();
        let may_eject =
            verdict::may_eject(total, roster.ejected, roster.usable, self.rules.eject_max_percent);
        let mut verdict = backend.verdict();
        let before = (verdict.usable(), is_ejected(&verdict));
        let change = change(&self.rules.verdict, &mut verdict, may_eject);
        let after = (verdict.usable(), is_ejected(&verdict));
        drop(verdict);
        // A state can change without an event (a check succeeds while the ejection lasts), and one that has
        // left the line-up may still be judged; the next line-up counts anew.
        let count = |known: usize, before, after| {
            (known + usize::from(after)).saturating_sub(usize::from(before))
        };
        if backend.weight > 0 {
            roster.usable = count(roster.usable, before.0, after.0);
        }
        roster.ejected = count(roster.ejected, before.1, after.1);
        drop(roster);
        let change = change?;
        backend.note_change(&change);
        self.tell(backend, &change);
        self.changed.notify_one();
        Some(change)
    }

    fn tell(&self, backend: &Backend, change: &Change) {
        let (upstream, backend) = (&self.rules.name, &backend.name);
        match change {
            Change::WentDown => tracing::warn!(%upstream, %backend, "is down"),
            Change::CameUp => tracing::info!(%upstream, %backend, "is up"),
            Change::Ejected { until, cause } => {
                let seconds = until.saturating_sub(self.now()).as_secs_f64();
                tracing::warn!(%upstream, %backend, "is ejected for {seconds:.0} s: {cause}");
            }
            Change::Returned => tracing::info!(%upstream, %backend, "is back from ejection"),
        }
    }

    /// Builds new line-ups whenever names, verdicts or slow-start weights change. Runs on the control thread for ever.
    pub(crate) async fn keep_up(self: Arc<Self>) {
        loop {
            let next = self.next_event();
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(next) => {}
                () = self.next_comparison() => {
                    self.compare();
                    continue;
                }
            }
            self.let_time_pass();
            self.line_up_anew();
        }
    }

    fn next_event(&self) -> Duration {
        let now = self.now();
        let line_up = self.line_up.load();
        let events = line_up
            .backends
            .iter()
            .filter_map(|backend| backend.verdict().next_event(&self.rules.verdict, now));
        events.min().map_or(Duration::from_secs(3600), |at| {
            at.saturating_sub(now).max(Duration::from_millis(10))
        })
    }

    fn let_time_pass(&self) {
        let now = self.now();
        for backend in &self.line_up.load().backends {
            self.judge(backend, |rules, verdict, _| verdict.tick(rules, now));
        }
    }

    /// Builds the line-up from what is found and judged, and publishes it.
    fn line_up_anew(self: &Arc<Self>) {
        let mut roster = self.roster();
        let backends = self.assemble(&mut roster);
        let pending = roster.found.iter().any(Option::is_none);
        let usable = |backend: &Backend| backend.weight > 0 && backend.verdict().usable();
        roster.usable = backends.iter().filter(|backend| usable(backend)).count();
        roster.ejected = backends.iter().filter(|backend| is_ejected(&backend.verdict())).count();
        let active = backends.iter().filter(|backend| backend.weight > 0).count();
        let open = verdict::fail_open(active, roster.usable, self.rules.fail_open_percent);
        // Big tables take their time; failing connections must not wait for them. Nobody else publishes.
        drop(roster);
        let taking_part =
            |backup: bool| self.members(&backends, backup, |backend| open || usable(backend));
        let (main, backup) = (taking_part(false), taking_part(true));
        let members = Members { main, backup, drained: drained(&backends) };
        let line_up = LineUp {
            number: self.noted(&backends, &members, pending),
            tables: Tables::build(&self.rules.balance, &members),
            by_identity: by_identity(&backends),
            pending,
            backends,
        };
        self.tell_all_down(&line_up);
        self.line_up.store(Arc::new(line_up));
        self.serve_queue();
    }

    fn members(
        &self,
        backends: &[Arc<Backend>],
        backup: bool,
        in_use: impl Fn(&Backend) -> bool,
    ) -> Vec<Member> {
        let now = self.now();
        let chosen = backends.iter().enumerate();
        let chosen = chosen.filter(|(_, backend)| backend.backup == backup && in_use(backend));
        let members: Vec<_> = chosen
            .map(|(index, backend)| {
                // Hundredths give a backend that starts slowly steps between nothing and a weight of 1.
                let weight = backend.weight.saturating_mul(100);
                let weight = backend.verdict().weight_at(&self.rules.verdict, now, weight);
                Member { index: index as u32, name: backend.name.to_string(), weight }
            })
            .collect();
        if members.iter().all(|member| member.weight % 100 == 0) {
            return members
                .into_iter()
                .map(|member| Member { weight: member.weight / 100, ..member })
                .collect();
        }
        members
    }

    fn tell_all_down(&self, line_up: &LineUp) {
        // One that has not taken over says nothing.
        if self.newer().is_some() {
            return;
        }
        let all_down = line_up.is_empty() && !line_up.pending;
        if all_down != self.was_all_down.swap(all_down, Relaxed) {
            let upstream = &self.rules.name;
            if all_down {
                tracing::error!(%upstream, "all backends are down: connections end with no-backend until one is back");
            } else {
                tracing::info!(%upstream, "has a usable backend again");
            }
        }
    }

    /// Whether to complain of a lack of our own: once a second, as it comes with every connection.
    fn may_complain(&self) -> bool {
        let second = self.now().as_secs() + 1;
        self.lasting.complained.swap(second, Relaxed) != second
    }

    /// The source address for the next connection to `to`, in turn, when any of its family is configured.
    fn next_source(&self, to: SocketAddr) -> Option<IpAddr> {
        let fitting =
            || self.rules.sources.iter().filter(|source| source.is_ipv4() == to.is_ipv4());
        let count = fitting().count();
        (count > 0)
            .then(|| self.lasting.source_turn.fetch_add(1, Relaxed) % count)
            .and_then(|turn| fitting().nth(turn).copied())
    }

    pub(crate) fn counts(&self) -> Vec<BackendCounts> {
        let line_up = self.line_up.load();
        line_up.backends.iter().map(|backend| backend.counts(&self.rules.name)).collect()
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.lasting.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_ejected(verdict: &Verdict) -> bool {
    matches!(verdict.state(), verdict::State::Ejected { .. })
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.give_place_back();
        self.upstream.lasting.open.fetch_sub(1, Relaxed);
        journal::note_end(self.mark);
        if self.upstream.lasting.queue.somebody_waits() {
            self.upstream.serve_queue();
        }
    }
}
