//! `evenkeel run`: read the config, start, obey signals, say how it ended.
//! The signals are a promise: HUP reloads, USR2 upgrades, TERM, QUIT and the first INT drain, a second TERM or INT cuts.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::changes::Changes;
use super::daemon::{self, Announcement};
use super::place::Place;
use super::reload::Source;
use super::{ConfigFile, complain, exit, wants_color};
use crate::admin::place;
use crate::config::{self, Config, Loaded, LogFormat};
use crate::keeper;
use crate::observe::diagnostics::{self, Diagnostics};
use crate::observe::log_file::Owner;
use crate::observe::target::To;
use crate::process::starter::Starter;
use crate::process::{Notify, log_owner, log_panics, sandbox};
use crate::{Proxy, Report, Running};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Go into the background once every address is listened on, as with `daemon = true`.
    #[arg(long)]
    daemon: bool,
    /// This is the process in the background.
    #[arg(long = daemon::CHILD, hide = true)]
    in_background: bool,
}

pub(super) fn run(arguments: &Arguments, mut place: Place) -> u8 {
    let loaded = match Config::from_file(&arguments.file.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            place.refuse(&problems.to_string());
            complain(problems.render(wants_color()).trim_end());
            return exit::BAD_CONFIG;
        }
    };
    let is_daemon = arguments.daemon || loaded.config.process.daemon;
    // Who takes over begins where the one before is, also if it is to be a daemon from the next start on.
    if is_daemon && !arguments.in_background && place.before.is_none() {
        return daemon::start(&place.successor.program);
    }
    warn(&loaded, is_daemon);
    let source = Source::new(&arguments.file.config, &loaded);
    if !arguments.in_background {
        return serve(loaded.config, Some(source), place, None);
    }
    // What is relative on the command line is so to where the first process was started.
    place.successor.folder = std::env::current_dir().ok();
    if place.before.is_some() {
        // The one before has cut itself loose already, and nobody waits for this one but that.
        let _ = std::env::set_current_dir("/");
        return serve(loaded.config, Some(source), place, None);
    }
    match Announcement::prepare() {
        Ok(announcement) => serve(loaded.config, Some(source), place, Some(announcement)),
        Err(error) => {
            complain(&format!("evenkeel: go into the background: {error}"));
            exit::NOT_STARTED
        }
    }
}

/// Says what does not keep a config from being used, also what `--daemon` makes of it.
fn warn(loaded: &Loaded, is_daemon: bool) {
    let mut as_daemon = loaded.config.clone();
    as_daemon.process.daemon = true;
    let more = match is_daemon && !loaded.config.process.daemon {
        true => as_daemon.verify_or_problems().ok(),
        false => None,
    };
    let warnings = more.as_ref().unwrap_or(&loaded.warnings);
    if !warnings.is_empty() {
        complain(warnings.render(wants_color()).trim_end());
    }
}

/// Serves a config until a signal ends it; where it came from a file, that may be read again.
pub(super) fn serve(
    config: Config,
    source: Option<Source>,
    place: Place,
    announcement: Option<Announcement>,
) -> u8 {
    let settings = diagnostics::Settings {
        level: config.log.level.to_string(),
        json: config.log.format == LogFormat::Json,
        to: To::of_diagnostics(&config.log),
        owner: log_owner(&config),
    };
    let (admin, becomes) = (config.admin.clone(), log_owner(&config));
    let names: Vec<String> = config.tcp.keys().chain(config.http.keys()).cloned().collect();
    let proxy = match Proxy::new(config) {
        Ok(proxy) => proxy,
        Err(problems) => {
            place.refuse(&problems.to_string());
            complain(problems.render(wants_color()).trim_end());
            return exit::BAD_CONFIG;
        }
    };
    log_panics();
    let config = (source, admin, becomes);
    let started = start(proxy, settings, &names, config, (place, announcement));
    let (orders, running, changes, mut surroundings) = match started {
        Ok(started) => started,
        Err(why) => {
            complain(&format!("evenkeel: {why}"));
            return exit::NOT_STARTED;
        }
    };
    match orders.obey(running, changes, &mut surroundings) {
        Report { cut: 0 } => tracing::info!("stopped; every connection had ended"),
        Report { cut } => tracing::warn!(cut, "stopped; open connections were cut"),
    }
    exit::FINE
}

/// Whom a running proxy tells what.
struct Surroundings {
    diagnostics: Diagnostics,
    /// The service manager; none from the stop on, since then it is not ready again.
    manager: Option<Arc<Notify>>,
    /// What it is to be told once this process serves for good.
    serving: Option<String>,
}

/// Starts, and tells whoever waits for it.
fn start(
    proxy: Proxy,
    settings: diagnostics::Settings,
    names: &[String],
    (source, settings_of_admin, becomes): (Option<Source>, config::Admin, Option<Owner>),
    (mut place, announcement): (Place, Option<Announcement>),
) -> Result<(Orders, Running, Changes, Surroundings), Box<dyn std::error::Error>> {
    let mut diagnostics = Diagnostics::take(settings)?;
    // Before anybody can connect: a signal that nobody listens for yet would kill instead of drain.
    let orders = Orders::listen().map_err(|error| format!("signals: {error}"))?;
    // Before rights are given up: its socket may be out of reach then.
    let manager = Notify::from_environment().map(Arc::new);
    if let Some((user, group)) = becomes {
        place::leave_to(user, group);
    }
    let sandbox = proxy.sandbox(&surroundings(source.as_ref(), &settings_of_admin, becomes));
    // While this process has the rights that it needs. The first of a machine has no successor.
    if (becomes.is_some() || sandbox.is_some()) && std::process::id() != 1 {
        let config = source.as_ref().map(Source::path);
        let starter = Starter::begin(&place.successor, config, becomes);
        let starter = starter.map_err(|error| format!("keep rights: {error}"))?;
        let starter = Arc::new(starter);
        place.successor.starter = Some(Arc::clone(&starter));
        keeper::is(Box::new(move |order, fd| starter.ask(order, fd)));
    }
    let running = match &place.before {
        Some(before) => proxy.take_over(before, sandbox)?,
        None => proxy.start_on(place.passed, sandbox)?,
    };
    let takes_over = place.before.is_some();
    drop(place.before);
    diagnostics.begin().map_err(|error| format!("start threads: {error}"))?;
    let mut changes = Changes::new(source, settings_of_admin, place.successor, manager.clone());
    if !takes_over {
        changes.serve_operators(&running, false);
    }
    for name in names {
        let addresses: Vec<_> = running.addresses(name).iter().map(ToString::to_string).collect();
        tracing::info!(listener = %name, "listening on {}", addresses.join(", "));
    }
    if let Some(announcement) = announcement {
        diagnostics.settle();
        announcement.ready().map_err(|error| format!("nobody waits for the start: {error}"))?;
    }
    if let Some(manager) = &manager {
        running.keep_watchdog(Arc::clone(manager));
    }
    let serving = Some(format!("serving {} listeners", names.len()));
    Ok((orders, running, changes, Surroundings { diagnostics, manager, serving }))
}

/// What a process needs beside what its config says.
fn surroundings(
    source: Option<&Source>,
    admin: &config::Admin,
    becomes: Option<Owner>,
) -> sandbox::Surroundings {
    let Some(source) = source else { return sandbox::Surroundings::default() };
    let user = becomes.map_or(rustix::process::geteuid().as_raw(), |(user, _)| user);
    let sockets = place::sockets(admin, source.path(), user);
    if becomes.is_none() {
        place::make_room(&sockets);
    }
    sandbox::Surroundings { config: source.files().to_vec(), sockets }
}

/// The signals that are obeyed, from the moment this exists.
struct Orders {
    runtime: Runtime,
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    reopen: Signal,
    hang_up: Signal,
    upgrade: Signal,
}

impl Orders {
    fn listen() -> std::io::Result<Orders> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let quit = signal(SignalKind::quit())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let reopen = signal(SignalKind::user_defined1())?;
        let hang_up = signal(SignalKind::hangup())?;
        // Unhandled, it would end the process, and every connection with it.
        let upgrade = signal(SignalKind::user_defined2())?;
        drop(context);
        Ok(Orders { runtime, terminate, quit, interrupt, reopen, hang_up, upgrade })
    }

    /// Obeys until the proxy has ended.
    fn obey(
        self,
        mut running: Running,
        mut changes: Changes,
        surroundings: &mut Surroundings,
    ) -> Report {
        let Orders { runtime, mut terminate, mut quit, mut interrupt, .. } = self;
        let (mut reopen, mut hang_up, mut upgrade) = (self.reopen, self.hang_up, self.upgrade);
        let (mut draining, mut settling) = (false, running.settling());
        runtime.block_on(async {
            loop {
                let cut_if_draining = tokio::select! {
                    report = running.ended() => {
                        changes.last_words().await;
                        return report;
                    }
                    _ = settling.wait_for(|settled| *settled), if surroundings.serving.is_some() => {
                        surroundings.serves();
                        if !changes.is_serving_operators() {
                            changes.serve_operators(&running, true);
                        }
                        continue
                    }
                    _ = reopen.recv() => {
                        surroundings.diagnostics.reopen();
                        running.reopen_logs();
                        continue
                    }
                    _ = hang_up.recv() => {
                        changes.read_anew(&running).await;
                        running.reload_certificates();
                        continue
                    }
                    event = changes.next() => match changes.act(event, &running).await {
                        true => false,
                        false => continue,
                    },
                    _ = upgrade.recv() => {
                        changes.upgrade(&running, None);
                        continue
                    }
                    _ = quit.recv() => false,
                    _ = terminate.recv() => true,
                    _ = interrupt.recv() => true,
                };
                if !draining {
                    draining = true;
                    changes.stop_waiting();
                    if let Some(manager) = surroundings.manager.take() {
                        manager.stopping();
                    }
                    running.drain();
                } else if cut_if_draining {
                    running.cut();
                }
            }
        })
    }
}

impl Surroundings {
    /// Tells the service manager, once, that this is the process that serves.
    fn serves(&mut self) {
        if let (Some(manager), Some(serving)) = (&self.manager, self.serving.take()) {
            manager.ready(&serving);
        }
    }
}
