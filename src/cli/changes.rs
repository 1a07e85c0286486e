//! What changes the config of a running process: its file, a signal, an operator, and going back when nobody has confirmed in
//! time. All of it happens one after the other, on one thread; while a config waits to be confirmed, no other takes its place.

mod over_api;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, geteuid};
use tokio::sync::{mpsc, oneshot, watch};

use super::reload::Source;
use crate::admin::in_force::InForce;
use crate::admin::message::{Kind, Outcome, Refusal, ReloadOrder, Upgraded};
use crate::admin::{Admin, Opening, Wish, place};
use crate::config::{self, Config};
use crate::keeper;
use crate::process::{HandedOver, HandoverError, Notify, Remote, Successor, lacking};
use crate::upstream::Words;
use crate::{ReloadError, Running};

/// Operators who wait for their turn.
const WISHES_MAX: usize = 16;
/// Times beyond this are not waited for.
const CONFIRM_WITHIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long whoever asked for an upgrade may take to read the answer.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// Everything that a running process is changed by.
#[derive(Debug)]
pub(super) struct Changes {
    source: Option<Source>,
    wishes: mpsc::Receiver<Wish>,
    waiting: Option<Waiting>,
    /// Until when, for those who ask.
    waits_until: watch::Sender<Option<Instant>>,
    /// What is in force; none without a file to go by.
    in_force: Option<watch::Sender<InForce>>,
    wish: mpsc::Sender<Wish>,
    config: config::Admin,
    /// Open for as long as it is kept.
    admin: Option<Admin>,
    /// When it is to be closed.
    closes_at: Option<Instant>,
    successor: Successor,
    upgrading: Option<Upgrading>,
    /// Somebody has yet to read what came of an upgrade.
    owes_an_answer: bool,
    /// The file was to be read while an upgrade was under way.
    reads_later: bool,
    /// The process that serves in the place of this one.
    serves_now: Option<Pid>,
    /// The service manager; none once it is to hear no more.
    manager: Option<Arc<Notify>>,
}

/// An upgrade that is under way.
#[derive(Debug)]
struct Upgrading {
    done: oneshot::Receiver<Result<HandedOver, HandoverError>>,
    /// Who waits for it.
    answer: Option<oneshot::Sender<Result<Upgraded, Refusal>>>,
}

/// A config that is in force and waits to be confirmed.
#[derive(Debug)]
struct Waiting {
    before: Config,
    in_force: Option<InForce>,
    /// What was said of upstreams that it does not have any more.
    words: Vec<(Arc<str>, Words)>,
    within: Duration,
    until: Instant,
}

/// What has come up.
#[derive(Debug)]
pub(super) enum Event {
    /// A file that is watched has changed.
    FileChanged,
    Wished(Wish),
    /// The time to confirm is over.
    Unconfirmed,
    /// An upgrade has come to its end, with or without success.
    Upgraded(Result<HandedOver, HandoverError>),
    /// Whoever asked for an upgrade has had time to read the answer.
    Close,
}

impl Changes {
    /// Nobody is listened to until [`Changes::serve_operators`].
    pub(super) fn new(
        mut source: Option<Source>,
        config: config::Admin,
        successor: Successor,
        manager: Option<Arc<Notify>>,
    ) -> Changes {
        let (wish, wishes) = mpsc::channel(WISHES_MAX);
        let in_force = source.as_mut().and_then(Source::take_in_force).map(watch::Sender::new);
        Changes {
            source,
            in_force,
            wishes,
            waiting: None,
            waits_until: watch::Sender::new(None),
            wish,
            config,
            admin: None,
            closes_at: None,
            successor,
            upgrading: None,
            owes_an_answer: false,
            reads_later: false,
            serves_now: None,
            manager,
        }
    }

    /// Listens to operators from now on, where there is a file to find the process by. The process before may do so still, if
    /// this one `takes_over`.
    pub(super) fn serve_operators(&mut self, running: &Running, takes_over: bool) {
        let (Some(source), Some(in_force)) = (&self.source, &self.in_force) else { return };
        self.admin = Some(Admin::open(Opening {
            sockets: place::sockets(&self.config, source.path(), geteuid().as_raw()),
            config: self.config.clone(),
            remote: running.remote(),
            wishes: self.wish.clone(),
            waits_until: self.waits_until.subscribe(),
            in_force: in_force.subscribe(),
            takes_over,
        }));
    }

    /// Whether it has been begun to listen to operators.
    pub(super) fn is_serving_operators(&self) -> bool {
        self.admin.is_some()
    }

    /// Where the dashboard is, if it is listened for over TCP.
    pub(super) fn dashboard(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.over_tcp().first().copied()
    }

    /// What is in force, now and whenever that changes.
    pub(super) fn in_force_from_now_on(&self) -> Option<watch::Receiver<InForce>> {
        self.in_force.as_ref().map(watch::Sender::subscribe)
    }

    /// Waits for something to do.
    pub(super) async fn next(&mut self) -> Event {
        let until = self.waiting.as_ref().map(|waiting| waiting.until);
        let watches = self.waiting.is_none();
        tokio::select! {
            Some(wish) = self.wishes.recv() => Event::Wished(wish),
            () = reached(until) => Event::Unconfirmed,
            done = upgraded(&mut self.upgrading) => Event::Upgraded(done),
            () = reached(self.closes_at) => Event::Close,
            // Meanwhile it is not looked at, and a change is noticed later.
            () = file_changed(&mut self.source), if watches => Event::FileChanged,
        }
    }

    /// Does it; whether the process is to be drained now.
    pub(super) async fn act(&mut self, event: Event, running: &Running) -> bool {
        match event {
            Event::FileChanged => self.read_anew(running).await,
            Event::Unconfirmed => self.go_back(running),
            Event::Wished(Wish::Reload(order, answer)) => {
                let outcome = self.reload(&order, running).await;
                let _ = answer.send(outcome);
            }
            Event::Wished(Wish::Apply { config, mark, answer }) => {
                let _ = answer.send(self.apply(*config, &mark, running).await);
            }
            Event::Wished(Wish::Confirm(answer)) => {
                let _ = answer.send(self.confirm(running));
            }
            Event::Wished(Wish::Upgrade(answer)) => self.upgrade(running, Some(answer)),
            Event::Upgraded(done) => {
                self.note_upgrade(done);
                if std::mem::take(&mut self.reads_later) {
                    Box::pin(self.read_anew(running)).await;
                }
            }
            Event::Close => {
                (self.admin, self.closes_at, self.owes_an_answer) = (None, None, false);
            }
            Event::Wished(Wish::Stop(answer)) => {
                let _ = answer.send(());
                return true;
            }
        }
        false
    }

    /// Reads the file again as nobody in particular has asked for; the log says what came of it.
    pub(super) async fn read_anew(&mut self, running: &Running) {
        if self.source.is_none() {
            return;
        }
        match (&self.upgrading, self.serves_now) {
            // Whoever serves then is to read it.
            (Some(_), _) => self.reads_later = true,
            (None, Some(process)) => tell_to_read(process),
            (None, None) => {
                let _ = self.reload(&ReloadOrder::default(), running).await;
            }
        }
    }

    /// Has everything go on in a new process; the log says what comes of it, and whoever waits for the answer hears it.
    pub(super) fn upgrade(
        &mut self,
        running: &Running,
        answer: Option<oneshot::Sender<Result<Upgraded, Refusal>>>,
    ) {
        let refused = match (&self.waiting, &self.upgrading) {
            (Some(_), _) => "a config waits to be confirmed, which the new process would not know",
            (None, Some(_)) => "an upgrade is under way",
            (None, None) => {
                let done = running.hand_over(self.successor.clone());
                self.upgrading = Some(Upgrading { done, answer });
                return;
            }
        };
        tracing::error!("upgrade refused: {refused}");
        if let Some(answer) = answer {
            let _ = answer.send(Err(Refusal::new(Kind::Refused, refused)));
        }
    }

    fn note_upgrade(&mut self, done: Result<HandedOver, HandoverError>) {
        let answer = self.upgrading.take().and_then(|upgrading| upgrading.answer);
        let mut lost = Vec::new();
        if let Ok(done) = &done {
            lost = self.tell_lost();
            self.serves_now = i32::try_from(done.pid).ok().and_then(Pid::from_raw);
            // The new process has these places now, and says what is to be said.
            self.closes_at = Some(Instant::now() + ANSWERED_WITHIN);
            self.manager = None;
        }
        let Some(answer) = answer else { return };
        // Where it goes on, there is all the time to read it.
        self.owes_an_answer = done.is_ok();
        let done = done.map_err(|error| Refusal::new(Kind::Refused, error.to_string()));
        let _ = answer.send(done.map(|done| Upgraded {
            pid: done.pid,
            handed_over: done.connections,
            left: done.left,
            over_api: lost,
        }));
    }

    /// The process ends: whoever has asked for that by an upgrade is to hear of it first.
    pub(super) async fn last_words(&mut self) {
        if self.upgrading.is_some() {
            let done = upgraded(&mut self.upgrading).await;
            self.note_upgrade(done);
        }
        if let (true, Some(process)) = (self.reads_later, self.serves_now) {
            tell_to_read(process);
        }
        if self.owes_an_answer {
            reached(self.closes_at).await;
        }
    }

    /// The process is on its way out: the config stays as it is.
    pub(super) fn stop_waiting(&mut self) {
        self.manager = None;
        if self.stop_to_wait().is_some() {
            tracing::info!("stopping: the config that waits to be confirmed stays to the end");
        }
    }

    fn stop_to_wait(&mut self) -> Option<Waiting> {
        self.waits_until.send_replace(None);
        self.waiting.take()
    }

    /// Puts the file into force, or says why not; the log has it too.
    async fn reload(&mut self, order: &ReloadOrder, running: &Running) -> Result<Outcome, Refusal> {
        let manager = self.manager.clone().filter(|_| !order.dry_run);
        manager.iter().for_each(|manager| manager.reloading());
        let mut outcome = self.try_reload(order, running).await;
        manager.iter().for_each(|manager| match &outcome {
            Ok(done) => {
                manager.ready(&format!("serving; reloaded with {} changes", done.changes.len()))
            }
            // It is told by the process that serves.
            Err(Refusal { kind: Kind::Elsewhere, .. }) => {}
            Err(_) => manager.ready("serving; a reload was refused, the log says why"),
        });
        if let Err(refusal) = &mut outcome
            && let Some(reason) = lacking(&refusal.error)
        {
            refusal.error = format!("{}; {reason}", refusal.error);
        }
        if let (Err(refusal), false) = (&outcome, order.dry_run) {
            let said = &refusal.error;
            match (refusal.kind, &self.source) {
                (Kind::Config, Some(source)) => {
                    let file = source.path().display();
                    tracing::error!("reload refused, nothing has changed: {file}\n{said}");
                }
                (Kind::Elsewhere, _) => tracing::info!("reload: {said}"),
                _ => tracing::error!("reload refused, nothing has changed: {said}"),
            }
        }
        outcome
    }

    /// Whether another config may take the place of the one in force now.
    fn may_change(&self) -> Result<(), Refusal> {
        if let Some(waiting) = &self.waiting {
            let left = waiting.until.saturating_duration_since(Instant::now()).as_secs_f64();
            let said = format!(
                "the config of the last reload waits to be confirmed, for {left:.0} s more; \
                 `evenkeel confirm` keeps it, else the one before comes back"
            );
            return Err(Refusal::new(Kind::Refused, said));
        }
        if self.upgrading.is_some() {
            return Err(Refusal::new(Kind::Refused, "an upgrade is under way"));
        }
        Ok(())
    }

    async fn try_reload(
        &mut self,
        order: &ReloadOrder,
        running: &Running,
    ) -> Result<Outcome, Refusal> {
        if !order.dry_run {
            self.may_change()?;
        }
        let within = order.confirm_within_ms.map(Duration::from_millis);
        if within.is_some_and(|within| within.is_zero() || within > CONFIRM_WITHIN_MAX) {
            return Err(Refusal::new(Kind::Order, "the time to confirm is at most a day"));
        }
        let Some(source) = &mut self.source else {
            return Err(Refusal::new(Kind::Refused, "it was not started with a config file"));
        };
        if !order.dry_run {
            source.note();
        }
        let file = source.path().to_owned();
        let loaded = Config::from_file(&file)
            .inspect_err(|_| {
                if !order.dry_run {
                    running.note_refused_reload()
                }
            })
            .map_err(|problems| Refusal::of_config(&problems, order.color))?;
        let remote = running.remote();
        let compared = remote.compare(loaded.config.clone()).await;
        let compared = compared.ok_or_else(Refusal::stopping)?;
        let mut outcome = Outcome::of(compared, &loaded.warnings, order.color);
        outcome.over_api = self.taken_back(&loaded.config);
        if order.dry_run {
            return Ok(outcome);
        }
        if !loaded.warnings.is_empty() {
            tracing::warn!("{}", loaded.warnings);
        }
        let waiting = match within {
            Some(within) => {
                let waiting = Waiting::before(&loaded.config, within, &remote).await?;
                Some(Waiting { in_force: self.in_force(), ..waiting })
            }
            None => None,
        };
        let done = running.reload(loaded.config.clone()).map_err(refusal)?;
        self.source.iter_mut().for_each(|source| source.follow(&loaded));
        self.note_read(&loaded);
        tell(&outcome, &done.changes, &file.display().to_string());
        match waiting {
            None => remote.forget_words_of_others(),
            Some(waiting) => {
                let within = waiting.within;
                tracing::warn!("reload: goes back in {within:?}, unless `evenkeel confirm` comes");
                outcome.confirm_within_ms = order.confirm_within_ms;
                self.waits_until.send_replace(Some(waiting.until));
                self.waiting = Some(waiting);
            }
        }
        Ok(outcome)
    }

    fn confirm(&mut self, running: &Running) -> Result<(), Refusal> {
        if self.stop_to_wait().is_none() {
            return Err(Refusal::new(Kind::Refused, "nothing waits to be confirmed"));
        }
        running.remote().forget_words_of_others();
        tracing::info!("reload: confirmed");
        Ok(())
    }

    /// Puts the config before into force again.
    fn go_back(&mut self, running: &Running) {
        let Some(Waiting { before, in_force, words, within, .. }) = self.stop_to_wait() else {
            return;
        };
        let is_watched = before.process.watch;
        match running.reload(before) {
            Ok(done) => {
                self.note_back(in_force);
                running.remote().say_again(words);
                self.source.iter_mut().for_each(|source| source.watch(is_watched));
                let count = done.changes.len();
                tracing::warn!(
                    "nobody has confirmed within {within:?}: back to the config before; {count} changes"
                );
            }
            Err(error) => tracing::error!(
                "nobody has confirmed within {within:?}, but the config before cannot come back: {error}; \
                 the new one stays"
            ),
        }
    }
}

impl Waiting {
    async fn before(next: &Config, within: Duration, remote: &Remote) -> Result<Waiting, Refusal> {
        let (before, words) = (remote.config().await, remote.words().await);
        let (Some(before), Some(mut words)) = (before, words) else {
            return Err(Refusal::stopping());
        };
        words.retain(|(upstream, _)| !next.upstream.contains_key(&**upstream));
        let in_force = None;
        Ok(Waiting { before, in_force, words, within, until: Instant::now() + within })
    }
}

fn refusal(error: ReloadError) -> Refusal {
    match error {
        ReloadError::Config(problems) => Refusal::of_config(&problems, false),
        ReloadError::Start(error) => Refusal::new(Kind::Start, error.to_string()),
        ReloadError::Stopping => Refusal::stopping(),
        ReloadError::HandedOver => Refusal::new(Kind::Elsewhere, error.to_string()),
    }
}

/// Has the log say what has changed.
fn tell(outcome: &Outcome, changes: &[String], file: &str) {
    for change in changes {
        tracing::info!("reload: {change}");
    }
    for key in &outcome.after_restart {
        tracing::warn!("reload: {key} takes effect with the next start only");
    }
    for word in &outcome.operator {
        tracing::info!("reload: {word}");
    }
    for word in &outcome.over_api {
        tracing::warn!("reload: {word}");
    }
    tracing::info!("reloaded {file}; {} changes", changes.len());
}

/// Has another process read its config again.
fn tell_to_read(process: Pid) {
    tracing::info!("reload: another process has taken over, and is told to");
    if let Err(error) = keeper::have_read(process) {
        tracing::error!("reload: tell process {}: {error}", process.as_raw_nonzero());
    }
}

/// Waits for the end of an upgrade; for ever, if none is under way.
async fn upgraded(upgrading: &mut Option<Upgrading>) -> Result<HandedOver, HandoverError> {
    match upgrading {
        Some(upgrading) => (&mut upgrading.done).await.unwrap_or(Err(HandoverError::Stopping)),
        None => std::future::pending().await,
    }
}

/// Waits for a moment; for ever, if there is none.
async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until a file that is to be watched has changed.
async fn file_changed(source: &mut Option<Source>) {
    match source {
        Some(source) => source.changed().await,
        None => std::future::pending().await,
    }
}
